from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
from typer.testing import CliRunner, Result

from airflow_knative.cli import run as run_module
from airflow_knative.cli.app import app
from airflow_knative.errors import AirflowKnativeError

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from .conftest import FakeServer

RUN = ("POST", "/runWorkflow/compute_avg")
RUN_ID = "gateway__1"
ACCEPTED = (202, {"dag_id": "compute_avg", "run_id": RUN_ID, "state": "queued"})
FAILED = {
    "type": "urn:airflow-knative:problem:run-failed",
    "title": "The run failed",
    "status": 422,
    "detail": "Run 'gateway__1' failed.",
    "run_id": RUN_ID,
    "failed_tasks": [{"task_id": "extract", "map_index": -1, "state": "failed", "tries": 2, "error": "ValueError: no"}],
}
STILL = {"title": "The run has not ended yet", "status": 504, "run_id": RUN_ID, "dag_id": "compute_avg"}


def gateway(*finishes: tuple[int, Any]) -> Callable[[dict[str, str], str], tuple[int, Any]]:
    """Answers 202 to respond-async, and these one after the other to calls that wait."""
    left = list(finishes)
    return lambda headers, _: (
        ACCEPTED if headers.get("prefer") == "respond-async" else left.pop(0) if len(left) > 1 else left[0]
    )


@pytest.fixture
def call(server: FakeServer, login: None) -> Callable[..., Result]:
    def invoke(*arguments: str, text: str | None = None) -> Result:
        command = ["run", "compute_avg", "--gateway-url", server.url, *arguments]
        return CliRunner().invoke(app, command, input=text)

    return invoke


def test_the_output_is_printed(server: FakeServer, call: Callable[..., Result]) -> None:
    server.answers[RUN] = gateway((200, {"output": 2.5}))
    result = call("--input", "[1, 2, 3, 4]")
    assert result.exit_code == 0, result.output
    assert result.stdout == "2.5\n"
    assert RUN_ID in result.stderr
    started, finished = server.calls[:2]
    assert started[3] == finished[3] == '{"input":[1, 2, 3, 4]}'
    assert started[2]["idempotency-key"] == finished[2]["idempotency-key"]
    assert started[2]["authorization"].startswith("Basic ")


def test_json_is_one_call_whose_answer_is_printed_as_it_came(server: FakeServer, call: Callable[..., Result]) -> None:
    server.answers[RUN] = (200, '{"output":2.50}')
    result = call("--input", "[1]", "--json")
    assert result.stdout == '{"output":2.50}\n'
    assert [method for method, *_ in server.calls] == ["POST"]


def test_json_of_an_error_is_the_problem_document(server: FakeServer, call: Callable[..., Result]) -> None:
    server.answers[RUN] = (422, FAILED)
    result = call("--input", "[]", "--json")
    assert result.exit_code == 1
    assert json.loads(result.stdout.splitlines()[-1]) == FAILED


def test_a_failed_run_is_explained(server: FakeServer, call: Callable[..., Result]) -> None:
    server.answers[RUN] = gateway((422, FAILED))
    result = call("--input", "[]")
    assert result.exit_code == 1
    assert result.stdout == ""
    assert "The run failed: Run 'gateway__1' failed." in result.stderr
    assert "\nextract: failed after 2 tries: ValueError: no\n" in result.stderr


def test_a_refused_call_is_not_waited_for(server: FakeServer, call: Callable[..., Result]) -> None:
    server.answers[RUN] = (404, {"title": "There is no such workflow", "detail": "none", "status": 404})
    result = call("--input", "[]")
    assert result.exit_code == 1
    assert "There is no such workflow: none" in result.stderr
    assert len(server.calls) == 1


def test_waiting_goes_on_beyond_the_gateways_limit(server: FakeServer, call: Callable[..., Result]) -> None:
    server.answers[RUN] = gateway((504, STILL), (504, STILL), (200, {"output": 7}))
    assert call("--input", "1").stdout == "7\n"


def absence(kind: str, **members: Any) -> tuple[int, Any]:
    return 503, {"type": f"urn:airflow-knative:problem:{kind}", "title": kind, "status": 503, **members}


GOING = absence("shutting-down", run_id=RUN_ID)
OVERLOADED = absence("overloaded")


@pytest.fixture
def pauses(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Do not wait, but take note of the pauses."""
    taken: list[float] = []
    monkeypatch.setattr(run_module.time, "sleep", taken.append)
    return taken


@pytest.mark.parametrize("json_", [(), ("--json",)])
def test_a_gateway_that_goes_or_has_no_place_is_asked_again(
    server: FakeServer, call: Callable[..., Result], pauses: list[float], json_: tuple[str, ...]
) -> None:
    away = absence("airflow-unavailable", run_id=RUN_ID)
    server.answers[RUN] = gateway(GOING, OVERLOADED, (503, "no healthy upstream"), away, (200, {"output": 7}))
    result = call("--input", "1", *json_)
    assert result.exit_code == 0, result.output
    assert result.stdout.splitlines()[-1] == ('{"output":7}' if json_ else "7")
    assert pauses == [0.5, 1.0, 2.0, 4.0]
    assert len({headers["idempotency-key"] for method, _, headers, _ in server.calls if method == "POST"}) == 1


def test_patience_with_a_gateway_has_an_end(
    server: FakeServer, call: Callable[..., Result], pauses: list[float]
) -> None:
    server.answers[RUN] = gateway(GOING)
    result = call("--input", "1")
    assert result.exit_code == 1
    assert "shutting-down" in result.stderr
    assert pauses == [0.5, 1.0, 2.0, 4.0, 8.0]


def test_gateways_that_waited_before_they_ended_are_not_counted(
    server: FakeServer, call: Callable[..., Result], pauses: list[float], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(run_module, "_LASTING", 0.0)
    server.answers[RUN] = gateway(*[GOING] * 9, (200, {"output": 7}))
    assert call("--input", "1").stdout == "7\n"
    assert pauses == [0.5] * 9


def test_a_gateway_without_a_place_for_a_first_call_is_not_waited_for(
    server: FakeServer, call: Callable[..., Result], pauses: list[float]
) -> None:
    server.answers[RUN] = OVERLOADED
    assert call("--input", "1", "--json").exit_code == 1
    assert call("--input", "1").exit_code == 1
    assert pauses == []
    assert len(server.calls) == 2


def test_an_absence_does_not_outlast_the_timeout(
    server: FakeServer, call: Callable[..., Result], pauses: list[float]
) -> None:
    server.answers[RUN] = gateway(GOING)
    result = call("--input", "1", "--timeout", "1", "--json")
    assert result.exit_code == 1
    assert json.loads(result.stdout) == GOING[1]
    assert pauses == []


def test_the_timeout_is_the_gateways_to_keep(server: FakeServer, call: Callable[..., Result]) -> None:
    server.answers[RUN] = (504, STILL)
    result = call("--input", "1", "--timeout", "1", "--json")
    assert result.exit_code == 1
    assert json.loads(result.stdout) == STILL
    assert server.calls[-1][2]["prefer"] == "wait=1"


def test_the_callers_own_key_is_used(server: FakeServer, call: Callable[..., Result]) -> None:
    server.answers[RUN] = (200, {"output": None})
    assert call("--input", "1", "--idempotency-key", "my-key", "--json").exit_code == 0
    assert server.calls[0][2]["idempotency-key"] == "my-key"


def test_input_from_a_file_and_from_standard_input(
    server: FakeServer, call: Callable[..., Result], tmp_path: Path
) -> None:
    server.answers[RUN] = (200, {"output": None})
    file = tmp_path / "input.json"
    file.write_text('{"a": 1}')
    assert call("--input", f"@{file}", "--json").exit_code == 0
    assert call("--input", "-", "--json", text="[2]").exit_code == 0
    assert [body for *_, body in server.calls] == ['{"input":{"a": 1}}', '{"input":[2]}']


@pytest.mark.parametrize(
    ("raw", "said"), [("hello", "needs quotes"), ("[1", "is no JSON"), ("@/nope", "cannot be read")]
)
def test_input_that_is_no_json(call: Callable[..., Result], server: FakeServer, raw: str, said: str) -> None:
    result = call("--input", raw)
    assert result.exit_code == 2
    assert said in " ".join(result.stderr.replace("│", " ").split())
    assert not server.calls


def test_no_gateway(server: FakeServer, call: Callable[..., Result]) -> None:
    command = ["run", "x", "--input", "1", "--gateway-url", "http://127.0.0.1:1"]
    result = CliRunner().invoke(app, command)
    assert isinstance(result.exception, AirflowKnativeError)
    assert "http://127.0.0.1:1" in str(result.exception)
    result = CliRunner().invoke(app, [*command, "--json"])
    assert result.exit_code == 1
    assert "http://127.0.0.1:1" in json.loads(result.stdout)["detail"]


def test_tasks_are_shown_when_airflow_is_known(
    server: FakeServer, call: Callable[..., Result], monkeypatch: pytest.MonkeyPatch
) -> None:
    instance = {
        "task_id": "extract",
        "state": "success",
        "start_date": "2026-01-01T00:00:00Z",
        "end_date": "2026-01-01T00:00:01.5Z",
        "try_number": 1,
    }
    base = "/api/v2/dags/compute_avg"
    server.answers |= {
        RUN: gateway((200, {"output": 1})),
        ("POST", "/auth/token"): (201, {"access_token": "t"}),
        ("GET", f"{base}/tasks"): (200, {"tasks": [{"task_id": "extract", "downstream_task_ids": []}]}),
        ("GET", f"{base}/dagRuns/{RUN_ID}/taskInstances"): (200, {"task_instances": [instance], "total_entries": 1}),
    }
    result = call("--input", "1", "--airflow-url", server.url)
    assert "extract: success, 1.50 s" in result.stderr
    assert result.stdout == "1\n"


def test_a_gateway_that_goes_away_for_a_moment_is_asked_again(monkeypatch: pytest.MonkeyPatch) -> None:
    from airflow_knative.cli.gateway import Answer, GatewayUnreachableError  # noqa: PLC0415

    answers: list[Any] = [GatewayUnreachableError("gone"), Answer(200, '{"output":1}', {})]  # type: ignore[arg-type]

    class Once:
        def finish(self, *_: Any) -> Any:
            answer = answers.pop(0)
            if isinstance(answer, Exception):
                raise answer
            return answer

    monkeypatch.setattr(run_module.time, "sleep", lambda _: None)
    assert run_module._finish(Once(), "d", "{}", "k", None, started=True).status == 200  # type: ignore[arg-type]
    answers = [GatewayUnreachableError("never there")]
    with pytest.raises(GatewayUnreachableError):
        run_module._finish(Once(), "d", "{}", "k", None, started=False)  # type: ignore[arg-type]
