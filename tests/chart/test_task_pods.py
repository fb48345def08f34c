"""The pods of KubernetesExecutor beside our own executor."""

from __future__ import annotations

import configparser
import json

import pytest

from .rendering import TASK_PODS, WORKFLOWS, Chart, Object, containers, environment, pods, templates_of_executors
from .test_network import allowed

BOTH = TASK_PODS["config"]["core"]["executor"]


def _executor(name: str) -> Object:
    return {"config": {"core": {"executor": name}}}


def _config(chart: Chart, values: Object) -> configparser.ConfigParser:
    parser = configparser.ConfigParser()
    parser.read_string(chart.one(values, "ConfigMap", "airflow-config")["data"]["airflow.cfg"])
    return parser


@pytest.mark.parametrize(
    "name",
    [
        BOTH,
        "KubernetesExecutor",
        "airflow_knative.executor.KnativeExecutor, pods:KubernetesExecutor",
        "airflow_knative.executor.KnativeExecutor,airflow.providers.cncf.kubernetes.executors.kubernetes_executor.KubernetesExecutor",
    ],
)
def test_an_executor_of_pods_has_its_template(chart: Chart, name: str) -> None:
    assert len(templates_of_executors(chart.render(_executor(name)))) == 1


@pytest.mark.parametrize("values", [{}, _executor("LocalExecutor"), _executor("own.module.OurKubernetesExecutor")])
def test_without_it_nothing_of_it_is_there(chart: Chart, values: Object) -> None:
    objects = chart.render(values)
    assert [it["metadata"]["name"] for it in objects if "task-pod" in json.dumps(it)] == []
    assert "kubernetes_executor" not in _config(chart, values)
    assert "pod-template" not in json.dumps(pods(objects))


def test_the_scheduler_finds_the_template_where_the_configuration_says(chart: Chart) -> None:
    section = _config(chart, TASK_PODS)["kubernetes_executor"]
    assert section["namespace"] == "flows"
    scheduler = pods(chart.render(TASK_PODS))["airflow-scheduler"]["spec"]
    (container,) = (it for it in scheduler["containers"] if it["name"] == "scheduler")
    folder, _, file = section["pod_template_file"].rpartition("/")
    (mount,) = (it for it in container["volumeMounts"] if it["mountPath"] == folder)
    (volume,) = (it for it in scheduler["volumes"] if it["name"] == mount["name"])
    assert file in chart.one(TASK_PODS, "ConfigMap", volume["configMap"]["name"])["data"]


def test_the_configuration_of_it_can_be_changed(chart: Chart) -> None:
    values = {"config": {**TASK_PODS["config"], "kubernetes_executor": {"delete_worker_pods_on_failure": "True"}}}
    section = _config(chart, values)["kubernetes_executor"]
    assert (section["delete_worker_pods_on_failure"], section["delete_worker_pods"]) == ("True", "True")


def test_a_task_holds_no_secret_and_reaches_airflow_by_the_execution_api(chart: Chart) -> None:
    pod = pods(chart.render(TASK_PODS))["airflow-task-pod"]
    (container,) = containers(pod)
    assert container["name"] == "base", "the name that the executor looks for"
    assert "secret" not in json.dumps([container, pod["spec"]["volumes"]]).lower()
    assert environment(container) == {
        "AIRFLOW_HOME": "/opt/airflow",
        "AIRFLOW_CONFIG": "/etc/airflow-knative/config/airflow.cfg",
        "BUCKET": "b",
    }
    url = _config(chart, TASK_PODS)["core"]["execution_api_server_url"]
    assert url == "http://airflow-api-server.flows.svc.cluster.local:8080/execution/"
    assert _config(chart, TASK_PODS)["core"]["dags_folder"] == "/opt/airflow/dags"


def test_a_pod_is_what_values_say(chart: Chart) -> None:
    found = pods(chart.render(TASK_PODS))
    pod = found["airflow-task-pod"]
    assert pod["spec"]["restartPolicy"] == "Never"
    assert pod["spec"]["containers"][0]["image"] == found["airflow-scheduler"]["spec"]["containers"][0]["image"]
    assert pod["spec"]["imagePullSecrets"] == [{"name": "pull"}]
    assert pod["spec"]["nodeSelector"] == {"disk": "large"}
    assert pod["spec"]["tolerations"] == TASK_PODS["tolerations"]
    assert pod["spec"]["priorityClassName"] == "low"
    assert pod["metadata"]["annotations"] == {"note": "x"}
    assert {"team": "data", "kind": "task"}.items() <= pod["metadata"]["labels"].items()


def test_a_configuration_for_pods_does_not_reach_workers(chart: Chart) -> None:
    def workers(values: Object) -> Object:
        found = pods(chart.render({"workflows": WORKFLOWS, **values}))
        return {name: pod for name, pod in found.items() if name.startswith("airflow-worker-")}

    assert workers(_executor(BOTH)) == workers({})


def test_the_schedulers_account_may_have_pods_then_and_nobody_else(chart: Chart) -> None:
    objects = chart.render(TASK_PODS)
    roles = {it["metadata"]["name"]: it["rules"] for it in objects if it["kind"] == "Role"}
    assert roles == {
        "airflow-scheduler": [
            {"apiGroups": ["serving.knative.dev"], "resources": ["services"], "verbs": ["get", "list", "watch"]}
        ],
        "airflow-task-pods": [
            {"apiGroups": [""], "resources": ["pods"], "verbs": ["create", "delete", "get", "list", "patch", "watch"]}
        ],
    }
    account = pods(objects)["airflow-scheduler"]["spec"]["serviceAccountName"]
    for binding in (it for it in objects if it["kind"] == "RoleBinding"):
        assert binding["roleRef"]["name"] == binding["metadata"]["name"]
        assert binding["subjects"] == [{"kind": "ServiceAccount", "name": account, "namespace": "flows"}]
    assert not any(it["kind"].startswith("Cluster") for it in objects)


def test_task_pods_reach_the_api_server_and_nothing_reaches_them(chart: Chart) -> None:
    assert "airflow-task-pod" in allowed(chart, TASK_PODS, "api-server")
    assert "airflow-task-pod" not in allowed(chart, TASK_PODS, "postgresql")
    assert chart.one(TASK_PODS, "NetworkPolicy", "airflow-task-pod")["spec"]["ingress"] == []
