from __future__ import annotations

import re

import pytest

from .rendering import EVERYTHING, EXTERNAL_DATABASE, LEAST, TASK_PODS, VALUES, WORKFLOWS, Chart, Object

ACCOUNTS = {"airflow-api-server", "airflow-dag-processor", "airflow-scheduler", "airflow-worker"}


def _kinds(objects: list[Object]) -> set[tuple[str, str]]:
    return {(it["kind"], re.sub(r"-[0-9a-f]{8}$", "-HASH", it["metadata"]["name"])) for it in objects}


DEFAULTS = {
    *(("ServiceAccount", name) for name in ACCOUNTS),
    ("ServiceAccount", "airflow-create-user"),
    ("ServiceAccount", "airflow-gateway"),
    ("ServiceAccount", "airflow-postgresql"),
    ("ServiceAccount", "airflow-run-airflow-migrations"),
    ("ServiceAccount", "airflow-triggerer"),
    ("Role", "airflow-scheduler"),
    ("RoleBinding", "airflow-scheduler"),
    ("ConfigMap", "airflow-config"),
    ("ConfigMap", "airflow-signing-key-public"),
    ("Secret", "airflow-api-secret-key"),
    ("Secret", "airflow-default-user"),
    ("Secret", "airflow-fernet-key"),
    ("Secret", "airflow-jwt-secret"),
    ("Secret", "airflow-metadata"),
    ("Secret", "airflow-postgresql"),
    ("Secret", "airflow-signing-key"),
    ("Deployment", "airflow-api-server"),
    ("Deployment", "airflow-dag-processor"),
    ("StatefulSet", "airflow-postgresql"),
    ("StatefulSet", "airflow-scheduler"),
    ("StatefulSet", "airflow-triggerer"),
    ("Job", "airflow-create-user-HASH"),
    ("Job", "airflow-run-airflow-migrations-HASH"),
    ("Service", "airflow-api-server"),
    ("Service", "airflow-postgresql"),
    ("Service", "airflow-scheduler"),
    ("Service", "airflow-triggerer"),
    ("Service", "airflow-workflow-gateway"),
    ("PodDisruptionBudget", "airflow-api-server"),
    ("PodDisruptionBudget", "airflow-dag-processor"),
    ("PodDisruptionBudget", "airflow-scheduler"),
    ("PodDisruptionBudget", "airflow-triggerer"),
    ("NetworkPolicy", "airflow-api-server"),
    ("NetworkPolicy", "airflow-create-user"),
    ("NetworkPolicy", "airflow-dag-processor"),
    ("NetworkPolicy", "airflow-postgresql"),
    ("NetworkPolicy", "airflow-run-airflow-migrations"),
    ("NetworkPolicy", "airflow-scheduler"),
    ("NetworkPolicy", "airflow-triggerer"),
}


def test_the_defaults_make_these_objects(chart: Chart) -> None:
    assert _kinds(chart.render({})) == DEFAULTS


def test_everything_adds_what_it_names(chart: Chart) -> None:
    added = {
        ("Pod", "airflow-test"),
        ("NetworkPolicy", "airflow-test"),
        ("Ingress", "airflow-api-server"),
        ("HorizontalPodAutoscaler", "airflow-api-server"),
        ("ConfigMap", "airflow-more"),
        *(("Service", it["name"]) for it in WORKFLOWS),
    } | {(kind, "airflow-statsd") for kind in ("ConfigMap", "Deployment", "NetworkPolicy", "Service", "ServiceAccount")}
    assert _kinds(chart.render(EVERYTHING)) == DEFAULTS | added


def test_a_second_executor_adds_what_its_pods_need(chart: Chart) -> None:
    added = {
        ("ConfigMap", "airflow-pod-template"),
        ("ServiceAccount", "airflow-task-pod"),
        ("NetworkPolicy", "airflow-task-pod"),
        ("Role", "airflow-task-pods"),
        ("RoleBinding", "airflow-task-pods"),
    }
    assert _kinds(chart.render(TASK_PODS)) == DEFAULTS | added


def test_an_external_database_leaves_nothing_of_the_embedded_one(chart: Chart) -> None:
    assert _kinds(chart.render(EXTERNAL_DATABASE)) == {it for it in DEFAULTS if it[1] != "airflow-postgresql"}


def test_what_is_turned_off_is_gone(chart: Chart) -> None:
    gone = re.compile("triggerer|gateway|create-user|default-user|migrations")
    left = {it for it in DEFAULTS if not gone.search(it[1]) and it[0] != "NetworkPolicy"}
    assert _kinds(chart.render(LEAST)) == left


@pytest.mark.parametrize("values", VALUES.values(), ids=VALUES)
def test_no_name_is_used_twice(chart: Chart, values: Object) -> None:
    names = [(it["apiVersion"], it["kind"], it["metadata"]["name"]) for it in chart.render(values)]
    assert len(names) == len(set(names))


def test_labels_are_on_every_object_and_pod(chart: Chart) -> None:
    for it in chart.render(EVERYTHING):
        assert it["metadata"]["labels"]["team"] == "data"
        assert it["metadata"]["labels"]["app.kubernetes.io/instance"] == "airflow"


def test_a_job_gets_a_new_name_with_another_image_and_keeps_it_otherwise(chart: Chart) -> None:
    def names(values: Object) -> set[str]:
        return {it["metadata"]["name"] for it in chart.render(values) if it["kind"] == "Job"}

    same = names({}) & names({"gateway": {"minScale": 2}})
    assert len(same) == 2
    assert not same & names({"images": {"airflow": {"tag": "other"}}})


def test_no_name_of_a_job_is_longer_than_a_label(chart: Chart) -> None:
    jobs = [it["metadata"]["name"] for it in chart.render({"fullnameOverride": "a" * 53}) if it["kind"] == "Job"]
    assert len(jobs) == 2
    for name in jobs:
        assert len(name) <= 63
        assert re.fullmatch(r"a{31,}-(run-airflow-migrations|create-user)-[0-9a-f]{8}", name)


def test_kubernetes_takes_the_other_kind_of_budget_and_strategy(chart: Chart) -> None:
    values = {
        "apiServer": {
            "podDisruptionBudget": {"config": {"minAvailable": 1}},
            "strategy": {"type": "Recreate"},
        }
    }
    budget = chart.one(values, "PodDisruptionBudget", "airflow-api-server")["spec"]
    assert (budget["minAvailable"], budget.get("maxUnavailable")) == (1, None)
    assert chart.one(values, "Deployment", "airflow-api-server")["spec"]["strategy"] == {"type": "Recreate"}


def test_any_host_of_an_ingress_stays_what_it_is(chart: Chart) -> None:
    hosts = [{"name": "*.example.com", "tls": {"enabled": True, "secretName": "123"}}]
    ingress = chart.one({"ingress": {"apiServer": {"enabled": True, "hosts": hosts}}}, "Ingress", "airflow-api-server")
    assert ingress["spec"]["rules"][0]["host"] == "*.example.com"
    assert ingress["spec"]["tls"] == [{"hosts": ["*.example.com"], "secretName": "123"}]
