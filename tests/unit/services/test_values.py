from __future__ import annotations

import json

import yaml

from airflow_knative.services.model import ServiceSpec
from airflow_knative.services.values import endpoints, plain, values

BARE = ServiceSpec(name="airflow-worker-d-t", dag_id="d", task_id="t", file="d.py")
FULL = ServiceSpec(
    name="airflow-worker-d",
    dag_id="d",
    file="sub folder/d.py",
    slots=2,
    min_scale=0,
    max_scale=3,
    window=30,
    timeout=900,
    resources={"limits": {"memory": "1Gi"}, "requests": {"nvidia.com/gpu": "1", "cpu": "1"}},
    image="worker:1",
    env={"Z": "yes", "A": 'multi\nline "quoted" \u2028 \U0001f600 \x7f'},
    secrets=["b", "a"],
    node_selector={"kubernetes.io/arch": "amd64"},
)


def test_only_what_the_dag_set_is_rendered() -> None:
    assert yaml.safe_load(values([BARE])) == {
        "workflows": [{"name": "airflow-worker-d-t", "dagId": "d", "taskId": "t", "file": "d.py"}]
    }


def test_everything_keeps_its_type() -> None:
    (entry,) = yaml.safe_load(values([FULL]))["workflows"]
    assert entry == {
        "name": "airflow-worker-d",
        "dagId": "d",
        "file": "sub folder/d.py",
        "containerConcurrency": 2,
        "minScale": 0,
        "maxScale": 3,
        "windowSeconds": 30,
        "timeoutSeconds": 900,
        "image": "worker:1",
        "resources": {"limits": {"memory": "1Gi"}, "requests": {"nvidia.com/gpu": "1", "cpu": "1"}},
        "nodeSelector": {"kubernetes.io/arch": "amd64"},
        "env": [
            {"name": "A", "value": 'multi\nline "quoted" \u2028 \U0001f600 \x7f'},
            {"name": "Z", "value": "yes"},
        ],
        "secrets": ["a", "b"],
    }


def test_values_do_not_depend_on_the_order_in_which_a_dag_says_things() -> None:
    turned = FULL.model_copy(update={"env": dict(reversed(FULL.env.items())), "secrets": ["a", "b"]})
    assert values([FULL]) == values([turned])


def test_no_services_empty_the_list() -> None:
    assert yaml.safe_load(values([])) == {"workflows": []}


def test_endpoints() -> None:
    rendered = json.loads(endpoints([BARE, FULL], host="{name}.ns.example", url="http://127.0.0.1:23001"))
    assert rendered["services"] == [
        {
            "dag_id": "d",
            "task_id": "t",
            "name": "airflow-worker-d-t",
            "url": "http://127.0.0.1:23001",
            "host": "airflow-worker-d-t.ns.example",
            "timeout": 600,
        },
        {
            "dag_id": "d",
            "task_id": None,
            "name": "airflow-worker-d",
            "url": "http://127.0.0.1:23001",
            "host": "airflow-worker-d.ns.example",
            "timeout": 900,
        },
    ]


def test_endpoint_urls_may_have_the_host_in_them() -> None:
    (service,) = json.loads(endpoints([BARE], host="{name}.ns", url="http://{host}:80"))["services"]
    assert service["url"] == "http://airflow-worker-d-t.ns:80"


def test_plain_fills_in_the_defaults() -> None:
    (service,) = json.loads(plain([BARE]))
    assert service["slots"] == 1
    assert service["timeout"] == 600
