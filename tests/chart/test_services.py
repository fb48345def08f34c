"""The Knative Services, and what the executor knows of them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import yaml

from airflow_knative.executor.endpoints_kubernetes import read_service
from airflow_knative.gateway.settings import Settings as GatewaySettings
from airflow_knative.services.model import ServiceSpec
from airflow_knative.services.values import values as rendered_values
from airflow_knative.wire import keys
from airflow_knative.worker.settings import WorkerSettings

from .rendering import EVERYTHING, WORKFLOWS, Chart, Object, environment

if TYPE_CHECKING:
    from pathlib import Path


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
    assert settings.max_concurrency == spec["containerConcurrency"]
    assert settings.airflow_patience == 45
    assert settings.unpause is False


def test_the_public_key_is_one_that_workers_read(chart: Chart, tmp_path: Path) -> None:
    file = tmp_path / "public.pem"
    file.write_text(chart.one({}, "ConfigMap", "airflow-signing-key-public")["data"]["public.pem"])
    assert keys.load_public(file)
