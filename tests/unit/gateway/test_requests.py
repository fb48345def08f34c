from __future__ import annotations

from typing import TYPE_CHECKING, Any, Never

import pytest

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    import httpx

    from .conftest import Check, Connect
    from .fake_airflow import FakeAirflow

pytestmark = pytest.mark.asyncio

JSON = {"content-type": "application/json"}


@pytest.mark.parametrize(
    ("body", "says"),
    [
        (b"", "empty"),
        (b"{", "not JSON"),
        (b"[1]", "an array"),
        (b"null", "null"),
        (b'"x"', "a text"),
        (b"{}", "no 'input'"),
        (b'{"Input": 1}', "'Input'"),
        (b'{"input": 1, "extra": 2}', "'extra'"),
        (b'{"input": NaN}', "NaN"),
        (b'{"input": -Infinity}', "-Infinity"),
        (b'{"input": 1e999}', "too large"),
        (b'{"input": ' + b"9" * 5000 + b"}", "cannot be read"),
        (b'{"input": ' + b"[" * 100_000 + b"]" * 100_000 + b"}", "too deeply"),
        (b'{"input": "\xff"}', "not UTF-8"),
        (b'{"input": "\\u0000"}', "U+0000"),
        (b'{"input": {"a\\\\\\u0000": 1}}', "U+0000"),
        (b'{"input": "\\ud800"}', "surrogate"),
    ],
)
async def test_bodies_that_are_refused(
    client: httpx.AsyncClient, airflow: FakeAirflow, problem: Check, body: bytes, says: str
) -> None:
    document = problem(await client.post("/runWorkflow/avg", content=body, headers=JSON), 400, "malformed-request")
    assert says in document["detail"]
    assert not airflow.runs


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"content-type": "text/plain"},
        {"content-type": "application/x-www-form-urlencoded", "origin": "https://elsewhere.example"},
        {"content-type": "application/x-www-form-urlencoded", "sec-fetch-site": "cross-site"},
        {"content-type": "application/json; charset=utf-16"},
        {"content-type": "application/json", "content-encoding": "gzip"},
    ],
)
async def test_bodies_that_are_not_said_to_be_json(
    client: httpx.AsyncClient, problem: Check, headers: dict[str, str]
) -> None:
    response = await client.post("/runWorkflow/avg", content=b'{"input":[1]}', headers=headers)
    problem(response, 415, "unsupported-media-type")


@pytest.mark.parametrize(
    "content_type",
    [
        "application/json",
        "Application/JSON; charset=UTF-8",
        "application/vnd.api+json",
        "application/x-www-form-urlencoded",  # curl --data without a header
    ],
)
async def test_content_types_that_are_json(client: httpx.AsyncClient, content_type: str) -> None:
    response = await client.post("/runWorkflow/avg", content=b'{"input":[1]}', headers={"content-type": content_type})
    assert response.status_code == 200


async def test_a_body_that_is_announced_too_large(connect: Connect, problem: Check) -> None:
    client = await connect(max_body_bytes=20)
    document = problem(await client.post("/runWorkflow/avg", json={"input": [1] * 50}), 413, "body-too-large")
    assert document["max_body_bytes"] == 20


async def test_a_body_that_turns_out_too_large(connect: Connect, problem: Check) -> None:
    client = await connect(max_body_bytes=20)

    async def chunks() -> AsyncIterator[bytes]:
        for _ in range(10):
            yield b'{"input":'

    response = await client.post("/runWorkflow/avg", content=chunks(), headers=JSON)
    problem(response, 413, "body-too-large")


async def test_a_body_of_just_the_largest_size(connect: Connect) -> None:
    client = await connect(max_body_bytes=20)
    body = b'{"input":[1,2,3,40]}'
    assert len(body) == 20
    assert (await client.post("/runWorkflow/avg", content=body, headers=JSON)).status_code == 200


@pytest.mark.parametrize(
    ("method", "path", "allowed"),
    [
        ("GET", "/runWorkflow/avg", {"POST"}),
        ("OPTIONS", "/runWorkflow/avg", {"POST"}),
        ("POST", "/runs/avg/x", {"GET", "HEAD"}),
        ("DELETE", "/healthz", {"GET", "HEAD"}),
        ("TRACE", "/docs", {"GET", "HEAD"}),
    ],
)
async def test_methods_that_a_path_does_not_take(
    client: httpx.AsyncClient, problem: Check, method: str, path: str, allowed: set[str]
) -> None:
    response = await client.request(method, path)
    problem(response, 405, "method-not-allowed")
    assert set(response.headers["allow"].split(", ")) == allowed


async def test_head_of_what_only_takes_a_post(client: httpx.AsyncClient) -> None:
    response = await client.head("/runWorkflow/avg")
    assert (response.status_code, response.headers["allow"]) == (405, "POST")
    assert response.headers["content-type"] == "application/problem+json"


@pytest.mark.parametrize(
    "path",
    [
        "/",
        "/nope",
        "/runWorkflow",
        "/runWorkflow/",
        "//runWorkflow/avg",
        "/runWorkflow//avg",
        "/runWorkflow/avg/",
        "/runs/avg",
        "/docs/",
        "/runs//x",
    ],
)
async def test_paths_with_nothing_there(
    client: httpx.AsyncClient, airflow: FakeAirflow, problem: Check, path: str
) -> None:
    document = problem(await client.post(f"http://gateway{path}", json={"input": 1}), 404, "unknown-path")
    assert "/runWorkflow/<dag_id>" in document["detail"]
    assert airflow.requests == []


async def test_head_of_what_can_be_got(client: httpx.AsyncClient) -> None:
    for path in ("/healthz", "/docs", "/openapi.json"):
        assert (await client.head(path)).status_code == 200


async def test_a_defect_is_a_problem_document_without_its_cause(
    client: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch, problem: Check
) -> None:
    async def broken(*_arguments: Any) -> Never:
        raise RuntimeError("a secret")

    monkeypatch.setattr(client.gateway.calls, "run_workflow", broken)
    response = await client.post("/runWorkflow/avg", json={"input": 1})
    assert "secret" not in str(problem(response, 500, "internal-error"))
