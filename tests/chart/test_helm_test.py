"""`helm test`, and what is said after an installation."""

from __future__ import annotations

import json
import shutil
import subprocess
from typing import TYPE_CHECKING

import yaml

from .rendering import CHART, EVERYTHING, KUBERNETES, WORKFLOWS, Chart, Object, environment

if TYPE_CHECKING:
    from pathlib import Path


def _pod(chart: Chart, values: Object) -> Object:
    (pod,) = (it for it in chart.render(values) if it["kind"] == "Pod")
    return pod


def test_it_runs_the_first_workflow_through_the_gateway(chart: Chart) -> None:
    pod = _pod(chart, EVERYTHING)
    container = pod["spec"]["containers"][0]
    assert pod["metadata"]["annotations"]["helm.sh/hook"] == "test"
    program = ["python", "-m", "airflow_knative.cli"]
    assert container["args"] == [*program, "run", "Etl", "--input", "[1, 2, 3, 4]", "--timeout", "300"]
    assert pod["spec"]["activeDeadlineSeconds"] > 300
    variables = environment(container)
    assert variables["AIRFLOW_KNATIVE_GATEWAY_URL"] == "http://airflow-workflow-gateway.flows.svc.cluster.local"
    assert variables["AIRFLOW_KNATIVE_GATEWAY_USER"] == "admin"
    assert variables["AIRFLOW_KNATIVE_GATEWAY_PASSWORD"]["secretKeyRef"]["name"] == "airflow-default-user"


def test_values_say_what_it_runs_and_as_whom(chart: Chart) -> None:
    test = {"dagId": "mine", "input": '{"a": "$(HOME)"}', "user": "eve", "passwordSecretName": "own"}
    container = _pod(chart, {"test": test})["spec"]["containers"][0]
    assert container["args"][4:7] == ["mine", "--input", '{"a": "$$(HOME)"}']
    variables = environment(container)
    assert variables["AIRFLOW_KNATIVE_GATEWAY_USER"] == "eve"
    assert variables["AIRFLOW_KNATIVE_GATEWAY_PASSWORD"]["secretKeyRef"]["name"] == "own"


def test_without_a_workflow_or_a_gateway_there_is_none(chart: Chart) -> None:
    for values in ({}, {"workflows": WORKFLOWS, "gateway": {"enabled": False}}, {"test": {"enabled": False}}):
        assert not any(it["kind"] == "Pod" for it in chart.render(values))


def test_somebody_has_to_log_in(chart: Chart) -> None:
    values = {"workflows": WORKFLOWS, "createUserJob": {"defaultUser": {"enabled": False}}}
    assert "Set test.user and test.passwordSecretName" in chart.error(values)


def _notes(chart: Chart, values: Object, folder: Path) -> str:
    """What `helm install` would say: as a template like any other, for which no cluster has to be there."""
    copy = folder / "chart"
    shutil.copytree(CHART, copy, dirs_exist_ok=True)
    notes = copy / "templates" / "NOTES.txt"
    wrapped = f'{{{{- define "notes" }}}}{notes.read_text()}{{{{ end }}}}notes: {{{{ include "notes" . | toJson }}}}'
    (copy / "templates" / "notes.yaml").write_text(wrapped)
    notes.unlink()
    command = [
        *(str(chart.helm), "template", "airflow", str(copy), "--namespace", "flows", "--show-only"),
        *("templates/notes.yaml", "--kube-version", KUBERNETES, "--values", "-"),
    ]
    done = subprocess.run(command, input=json.dumps(values), capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return str(yaml.safe_load(done.stdout)["notes"])


def test_the_notes_have_the_next_commands_and_warn_of_the_password(chart: Chart, tmp_path: Path) -> None:
    notes = _notes(chart, {"workflows": WORKFLOWS}, tmp_path)
    for said in (
        "helm test airflow -n flows",
        '"$URL/runWorkflow/Etl"',
        "kubectl -n flows wait --for=condition=Ready --timeout=10m ksvc --all",
        "port-forward service/airflow-api-server 8080:8080",
        'WARNING: the user "admin" has the password "admin"',
        "get secret airflow-fernet-key",
        "data-airflow-postgresql-0",
    ):
        assert said in notes
    quiet = _notes(chart, {"createUserJob": {"defaultUser": {"password": "long and secret"}}}, tmp_path)
    assert "WARNING" not in quiet
    assert "long and secret" not in quiet
    assert "services render" in quiet
