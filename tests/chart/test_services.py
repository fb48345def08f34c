"""The Knative Services, and what the executor knows of them."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from airflow.configuration import conf

from airflow_knative.executor.endpoints_kubernetes import read_service
from airflow_knative.gateway.settings import Settings as GatewaySettings
from airflow_knative.services.model import ServiceSpec
from airflow_knative.services.values import values as rendered_values
from airflow_knative.wire import keys
from airflow_knative.worker.settings import WorkerSettings

from .rendering import EVERYTHING, WORKFLOWS, Chart, Object, environment


def _knative(chart: Chart, values: Object) -> dict[str, Object]:
    return {it["metadata"]["name"]: it for it in chart.render(values) if it["apiVersion"] == "serving.knative.dev/v1"}


def test_an_entry_decides_over_the_defaults(chart: Chart) -> None:
    service = _knative(chart, EVERYTHING)["airflow-worker-etl-load"]
    template = service["spec"]["template"]
    container = template["spec"]["containers"][0]
    ids = {"airflow-knative/dag-id": "Etl", "airflow-knative/task-id": "load"}
    assert service["metadata"]["annotations"] == ids
    assert template["metadata"]["annotations"] == {
        **ids,
        "autoscaling.knative.dev/initial-scale": "1",
        "autoscaling.knative.dev/min-scale": "1",
        "autoscaling.knative.dev/max-scale": "3",
        "autoscaling.knative.dev/target-utilization-percentage": "100",
        "autoscaling.knative.dev/window": "30s",
    }
    assert template["spec"]["containerConcurrency"] == 2
    assert template["spec"]["timeoutSeconds"] == 300
    assert template["spec"]["nodeSelector"] == {"disk": "ssd"}
    assert container["image"] == "registry.example/team/etl:1.2"
    assert container["resources"] == {"requests": {"memory": "1Gi"}}
    assert container["envFrom"] == [{"secretRef": {"name": "s3"}}]
    assert environment(container)["BUCKET"] == "b"


def test_the_defaults_hold_where_an_entry_says_nothing(chart: Chart) -> None:
    service = _knative(chart, EVERYTHING)["airflow-worker-avg"]
    template = service["spec"]["template"]
    container = template["spec"]["containers"][0]
    assert service["metadata"]["annotations"] == {"airflow-knative/dag-id": "avg"}
    assert template["metadata"]["annotations"]["autoscaling.knative.dev/min-scale"] == "0"
    assert template["metadata"]["annotations"]["autoscaling.knative.dev/max-scale"] == "10"
    assert template["metadata"]["annotations"]["autoscaling.knative.dev/window"] == "60s"
    assert template["spec"]["containerConcurrency"] == 1
    assert template["spec"]["timeoutSeconds"] == 600
    assert "envFrom" not in container
    assert "nodeSelector" not in template["spec"]
    assert "AIRFLOW_KNATIVE_WORKER_TASK_ID" not in environment(container)


def test_min_scale_of_zero_wins_over_a_default_of_one(chart: Chart) -> None:
    values = {"workers": {"minScale": 1}, "workflows": [{**WORKFLOWS[1], "minScale": 0}]}
    template = _knative(chart, values)["airflow-worker-avg"]["spec"]["template"]
    assert template["metadata"]["annotations"]["autoscaling.knative.dev/min-scale"] == "0"


def test_a_worker_starts_with_what_it_is_given(chart: Chart) -> None:
    container = _knative(chart, EVERYTHING)["airflow-worker-etl-load"]["spec"]["template"]["spec"]["containers"][0]
    given = {**environment(container), "K_SERVICE": "airflow-worker-etl-load", "PORT": "8080"}
    settings = WorkerSettings.from_environment(given)
    assert (settings.dag_id, settings.task_id, settings.slots) == ("Etl", "load", 2)


@pytest.mark.parametrize(
    ("given", "timeout", "grace"),
    [(None, 600, 540), (None, 86400, 86340), (None, 100, 40), (None, 60, 15), (None, 1, 0), (0, 600, 0), (20, 600, 20)],
)
def test_a_running_task_has_the_pods_own_grace_period(
    chart: Chart, given: int | None, timeout: int, grace: int
) -> None:
    values = {"workers": {"graceSeconds": given}, "workflows": [{**WORKFLOWS[1], "timeoutSeconds": timeout}]}
    service = _knative(chart, {**values, "knative": {"maxRevisionTimeoutSeconds": 86400}})["airflow-worker-avg"]
    container = service["spec"]["template"]["spec"]["containers"][0]
    assert environment(container)["AIRFLOW_KNATIVE_WORKER_GRACE"] == str(grace)


def _settings(chart: Chart, values: Object) -> Object:
    """Airflow's settings of a worker."""
    service = _knative(chart, {"workflows": [WORKFLOWS[1]], **values})["airflow-worker-avg"]
    container = service["spec"]["template"]["spec"]["containers"][0]
    names = [it["name"] for it in container["env"]]
    assert len(names) == len(set(names))
    return {name: value for name, value in environment(container).items() if name.startswith("AIRFLOW__")}


def test_workers_get_what_tasks_read_of_the_configuration(chart: Chart) -> None:
    more = {
        "api": {"base_url": "https://{{ .Release.Name }}.example/100%"},
        "common.io": {"xcom_objectstorage_threshold": 1048576},
        "core": {"xcom_backend": "a.B", "default_task_retries": 2},
        "email": {"default_email_on_retry": False},
        "logging": {"logging_level": "DEBUG"},
    }
    before, after = _settings(chart, {}), _settings(chart, {"config": more})
    assert {name: value for name, value in after.items() if name not in before} == {
        "AIRFLOW__API__BASE_URL": "https://airflow.example/100%",
        "AIRFLOW__COMMON_IO__XCOM_OBJECTSTORAGE_THRESHOLD": "1048576",
        "AIRFLOW__CORE__DEFAULT_TASK_RETRIES": "2",
        "AIRFLOW__CORE__XCOM_BACKEND": "a.B",
        "AIRFLOW__EMAIL__DEFAULT_EMAIL_ON_RETRY": "false",
        "AIRFLOW__LOGGING__LOGGING_LEVEL": "DEBUG",
    }


def test_they_get_nothing_secret_and_nothing_of_the_database(chart: Chart) -> None:
    """Of all options that Airflow and its providers know, whatever they are set to."""
    known = conf.configuration_description
    refused = {("core", "fernet_key"), ("api", "secret_key"), ("api_auth", "jwt_secret")}
    refused |= {("database", "sql_alchemy_conn"), ("database", "sql_alchemy_conn_async")}
    mine = ("execution_api_server_url", "dags_folder", "executor")
    config: Object = {
        section: {option: "x" for option in found["options"] if (section, option) not in refused and option not in mine}
        for section, found in known.items()
        if section != "knative"
    }
    passed = _settings(chart, {"config": config})
    assert len(passed) > 30
    for section, found in known.items():
        for option, described in found["options"].items():
            name = f"AIRFLOW__{section.upper().replace('.', '_')}__{option.upper()}"
            if described.get("sensitive") or section in {"database", "secrets", "api_auth", "metrics", "smtp"}:
                assert name not in passed
    assert not [name for name in passed if "SECRETS_BACKEND" in name or "REMOTE" in name]
    given = {
        **passed,
        "K_SERVICE": "a",
        "AIRFLOW_KNATIVE_WORKER_DAG_FILE": "a.py",
        "AIRFLOW_KNATIVE_WORKER_DAG_ID": "a",
    }
    assert WorkerSettings.from_environment({**given, "AIRFLOW_KNATIVE_WORKER_PUBLIC_KEY": "/key"})


def test_variables_of_workers_and_of_one_service_have_the_last_word(chart: Chart) -> None:
    name = "AIRFLOW__CORE__XCOM_BACKEND"
    values: Object = {"config": {"core": {"xcom_backend": "a.B"}}}
    assert _settings(chart, values)[name] == "a.B"
    assert _settings(chart, {**values, "workers": {"env": [{"name": name, "value": "c.D"}]}})[name] == "c.D"
    own = [{**WORKFLOWS[1], "env": [{"name": name, "value": "e.F"}]}]
    assert _settings(chart, {**values, "workflows": own})[name] == "e.F"


def test_a_worker_stores_xcoms_where_the_configuration_says(chart: Chart, tmp_path: Path) -> None:
    config = {
        "core": {"xcom_backend": "airflow.providers.common.io.xcom.backend.XComObjectStorageBackend"},
        "common.io": {"xcom_objectstorage_path": f"file://{tmp_path}/store", "xcom_objectstorage_threshold": 10},
    }
    code = (
        "from airflow_knative.worker.lean import import_airflow\n"
        "import_airflow()\n"
        "from airflow.sdk.execution_time.xcom import XCom\n"
        "ids = {'key': 'k', 'task_id': 't', 'dag_id': 'd', 'run_id': 'r', 'map_index': -1}\n"
        "print(XCom.serialize_value('short', **ids), XCom.serialize_value('x' * 99, **ids))\n"
    )
    # Neither the host's settings nor Airflow's file.
    given = {"PATH": os.environ["PATH"], "AIRFLOW_HOME": str(tmp_path), **_settings(chart, {"config": config})}
    done = subprocess.run([sys.executable, "-c", code], env=given, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    short, stored = done.stdout.split()
    assert short == "short"
    assert stored.startswith(f"file://{tmp_path}/store/d/r/t/")
    assert json.loads(Path(stored.removeprefix("file://")).read_text()) == "x" * 99


def test_workers_mount_nothing_but_the_public_key(chart: Chart) -> None:
    for entry in WORKFLOWS:
        spec = _knative(chart, EVERYTHING)[entry["name"]]["spec"]["template"]["spec"]
        assert spec["volumes"] == [
            {"name": "public-key", "configMap": {"name": "airflow-signing-key-public"}},
            {"name": "tmp", "emptyDir": {}},
        ]
        container = spec["containers"][0]
        (mount,) = (it for it in container["volumeMounts"] if it["name"] == "public-key")
        assert environment(container)["AIRFLOW_KNATIVE_WORKER_PUBLIC_KEY"] == f"{mount['mountPath']}/public.pem"
        assert not any("valueFrom" in it for it in container["env"])
        assert not any(it["name"].startswith("AIRFLOW__DATABASE") for it in container["env"])


def test_workers_are_reached_from_inside_only_and_the_gateway_from_outside(chart: Chart) -> None:
    visibility = "networking.knative.dev/visibility"
    for values, gateway in ((EVERYTHING, "cluster-local"), ({"workflows": WORKFLOWS}, None)):
        for name, it in _knative(chart, values).items():
            wanted = gateway if name == "airflow-workflow-gateway" else "cluster-local"
            assert it["metadata"]["labels"].get(visibility) == wanted


def test_the_executor_finds_every_service(chart: Chart) -> None:
    """As it reads them from the watch, once Knative has made them ready."""
    status = {"conditions": [{"type": "Ready", "status": "True"}]}
    found = {}
    for name, it in _knative(chart, EVERYTHING).items():
        address = {"address": {"url": f"http://{name}.flows.svc.cluster.local"}}
        service = read_service({**it, "status": {**status, **address}})
        if service is not None:
            found[name] = service.endpoint
    own, whole = found["airflow-worker-etl-load"], found["airflow-worker-avg"]
    assert own is not None
    assert (own.dag_id, own.task_id, own.name, own.timeout) == ("Etl", "load", "airflow-worker-etl-load", 300)
    assert whole is not None
    assert (whole.dag_id, whole.task_id, whole.timeout) == ("avg", None, 600)
    assert len(found) == len(WORKFLOWS), "the gateway runs no task"


def test_what_services_render_writes_is_what_the_chart_takes(chart: Chart) -> None:
    spec = ServiceSpec(
        name="airflow-worker-a-b",
        dag_id="a",
        task_id="b",
        file="a.py",
        slots=3,
        min_scale=0,
        max_scale=4,
        window=30,
        timeout=120,
        image="registry.example/x:1",
        resources={"requests": {"cpu": "1"}},
        env={"A": "1"},
        secrets=["s"],
        node_selector={"a": "b"},
    )
    service = _knative(chart, yaml.safe_load(rendered_values([spec])))["airflow-worker-a-b"]
    assert service["spec"]["template"]["spec"]["containerConcurrency"] == 3


def test_the_gateway_starts_with_what_it_is_given(chart: Chart) -> None:
    spec = _knative(chart, EVERYTHING)["airflow-workflow-gateway"]["spec"]["template"]["spec"]
    given = environment(spec["containers"][0])
    settings = GatewaySettings.from_environ(given)
    assert str(settings.airflow_url).rstrip("/") == "http://airflow-api-server.flows.svc.cluster.local:8080"
    assert settings.wait_timeout < spec["timeoutSeconds"]
    # The answer begins when the run has ended.
    assert spec["responseStartTimeoutSeconds"] == spec["timeoutSeconds"]
    # Knative waits half a minute until it tells a pod that goes.
    assert settings.grace + 30 < spec["timeoutSeconds"]
    assert settings.max_concurrency == spec["containerConcurrency"]
    assert settings.airflow_patience == 45
    assert settings.unpause is False


def test_the_public_key_is_one_that_workers_read(chart: Chart, tmp_path: Path) -> None:
    file = tmp_path / "public.pem"
    file.write_text(chart.one({}, "ConfigMap", "airflow-signing-key-public")["data"]["public.pem"])
    assert keys.load_public(file)
