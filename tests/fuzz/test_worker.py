"""A worker's request endpoint: only what the executor signed for it runs, and nothing brings it down."""

from __future__ import annotations

import json
import socket
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx
import psutil
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.fuzz.memory import MIB, resident
from tests.local.workers import Worker, state_of

from airflow_knative.wire import PROBLEM_TYPE, TASK_PATH

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.timeout(600)

# Of a request, whose length is not the same in every run.
ANYWHERE = st.integers(0, 10**6)
PROBE = Path(__file__).parents[1] / "local" / "dags" / "probe.py"
JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**70), 2**70) | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=6,
)


@pytest.fixture(scope="module")
def worker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Worker]:
    """One worker for everything: at the end it has to be as it was at the start."""
    with Worker(tmp_path_factory.mktemp("worker"), PROBE, "probe") as worker:
        worker.http.timeout = httpx.Timeout(300.0)
        assert _works(worker)
        processes = _processes(worker)
        memory = resident(worker.process.pid)
        yield worker
        assert worker.process.poll() is None, worker.log.read_text()
        assert _works(worker)
        assert _processes(worker) == processes, "a process of the worker was replaced"
        assert resident(worker.process.pid) - memory < 150 * MIB
        assert "Traceback" not in worker.log.read_text()


def _works(worker: Worker) -> bool:
    return state_of(worker.run(worker.request("quick", conf={"data": 1}))) == "success"


def _processes(worker: Worker) -> set[int]:
    """The worker's own processes: the main one, its front and its slots."""
    return {child.pid for child in psutil.Process(worker.process.pid).children()}


def _send(worker: Worker, data: bytes) -> bytes:
    """Send bytes as they are; return what comes back until the worker has nothing more to say."""
    answer = b""
    with socket.create_connection(("127.0.0.1", worker.port), timeout=30) as sock:
        try:
            sock.sendall(data)
            sock.shutdown(socket.SHUT_WR)
            while part := sock.recv(65_536):
                answer += part
        except (ConnectionResetError, BrokenPipeError):
            pass
    return answer


def _statuses(answer: bytes) -> set[bytes]:
    return {line.split(b" ")[1] for line in answer.split(b"\r\n") if line.startswith(b"HTTP/1.1 ")}


def _http(body: bytes, **headers: str) -> bytes:
    lines = [f"POST {TASK_PATH} HTTP/1.1", "host: worker", f"content-length: {len(body)}"]
    lines += [f"{name}: {value}" for name, value in headers.items()]
    return "\r\n".join([*lines, "", ""]).encode("latin-1") + body


@st.composite
def _spoiled_http(draw: st.DrawFn) -> bytes:
    """An unsigned request to which something was done."""
    whole = bytearray(_http(draw(JSON.map(lambda value: json.dumps(value).encode()))))
    for _ in range(draw(st.integers(0, 4))):
        at = draw(st.integers(0, len(whole)))
        match draw(st.sampled_from(["insert", "flip", "cut", "repeat"])):
            case "insert":
                extra = draw(
                    st.binary(max_size=30)
                    | st.sampled_from(
                        [
                            b"transfer-encoding: chunked\r\n",
                            b"content-length: 99999999999999999999\r\n",
                            b"content-length: -1\r\n",
                            b"expect: 100-continue\r\n",
                            b"upgrade: websocket\r\nconnection: upgrade\r\n",
                            b"x: " + b"y" * 70_000 + b"\r\n",
                            b"\x00",
                            b"\r\n\r\n",
                            b"FFFFFFFFFFFFFFFFF\r\n",
                        ]
                    )
                )
                whole[at:at] = extra
            case "flip" if at < len(whole):
                whole[at] = draw(st.integers(0, 255))
            case "cut":
                del whole[at:]
            case _:
                whole += whole[at : at + 200]
    return bytes(whole)


@given(data=_spoiled_http() | st.binary(max_size=500))
def test_spoiled_http_is_refused(worker: Worker, data: bytes) -> None:
    for status in _statuses(_send(worker, data)) - {b"100"}:
        # A flipped sign may make a good request for something harmless.
        assert status.startswith(b"4") or (status == b"200" and b"z" in data), status


@given(token=st.text(st.characters(min_codepoint=33, max_codepoint=255), max_size=300), body=JSON)
def test_a_made_up_signature_is_refused(worker: Worker, token: str, body: Any) -> None:
    answer = _send(worker, _http(json.dumps(body).encode(), authorization=f"Bearer {token}"))
    assert _statuses(answer) in ({b"401"}, {b"400"})


@given(data=st.data())
def test_a_good_signature_is_for_its_own_request_only(worker: Worker, data: st.DataObject) -> None:
    request = worker.request("quick", conf={"data": 1})
    body = request.model_dump_json().encode()
    headers = worker.headers(request, body)
    spoiled = bytearray(body)
    at = data.draw(ANYWHERE) % len(body)
    spoiled[at] ^= data.draw(st.integers(1, 255))
    response = worker.http.post(TASK_PATH, content=bytes(spoiled), headers=headers)
    assert (response.status_code, response.headers["content-type"]) == (401, PROBLEM_TYPE)
    token = bytearray(headers["authorization"].encode())
    start, end = len(b"Bearer "), len(token) - 2  # the last sign has bits to spare
    at = start + data.draw(ANYWHERE) % (end - start)
    first, second = data.draw(st.permutations(list(b"abcXYZ019-_.=")).map(lambda signs: signs[:2]))
    token[at] = first if token[at] != first else second
    response = worker.http.post(TASK_PATH, content=body, headers=headers | {"authorization": token.decode()})
    assert response.status_code == 401


@given(data=st.data())
def test_a_signed_request_that_breaks_the_contract_is_refused(worker: Worker, data: st.DataObject) -> None:
    """The executor's key is one thing, what a newer or broken executor writes another."""
    request = worker.request("quick", conf={"data": 1})
    raw = json.loads(request.model_dump_json())
    where = data.draw(st.sampled_from([raw, raw["ti"], raw["inputs"], raw["execution_api"], raw["fence"]]))
    name = data.draw(st.sampled_from(sorted(where)))
    before = where[name]
    change = data.draw(st.sampled_from(["drop", "replace", "add"]))
    if change == "drop":
        del where[name]
    elif change == "replace":
        where[name] = data.draw(JSON)
    else:
        where[f"{name}x"] = before
    body = json.dumps(raw).encode()
    with worker.http.stream(
        "POST", TASK_PATH, content=body, headers=worker.headers(request, body), timeout=60
    ) as response:
        # What is left to chance is whether the changed request is a good one still: then it ends by itself.
        response.read()
        assert response.status_code in {200, 400, 401, 404, 409}


@given(value=JSON)
def test_signed_json_that_is_no_request_is_refused(worker: Worker, value: Any) -> None:
    request = worker.request("quick")
    body = json.dumps(value).encode()
    response = worker.http.post(TASK_PATH, content=body, headers=worker.headers(request, body))
    assert (response.status_code, response.headers["content-type"]) == (400, PROBLEM_TYPE)


def test_too_large_bodies_are_refused_and_leave_nothing_behind(worker: Worker) -> None:
    block = b"x" * MIB

    def endless() -> Iterator[bytes]:
        for _ in range(80):  # beyond the limit of 64 MiB
            yield block

    before = resident(worker.process.pid)
    for _ in range(3):
        response = worker.http.post(TASK_PATH, content=endless())
        assert (response.status_code, response.headers["content-type"]) == (413, PROBLEM_TYPE)
    assert resident(worker.process.pid) - before < 100 * MIB


def test_callers_that_say_nothing_do_not_keep_others_out(worker: Worker) -> None:
    silent = [socket.create_connection(("127.0.0.1", worker.port)) for _ in range(200)]
    try:
        for number, sock in enumerate(silent):
            sock.sendall(_http(b"{}")[: number % 40])
        assert _works(worker)
    finally:
        for sock in silent:
            sock.close()
