"""The API server from outside, and as many of them as the load needs."""

from __future__ import annotations

import pytest

from .rendering import EVERYTHING, Chart, Object


def test_an_ingress_leads_to_the_api_servers_service(chart: Chart) -> None:
    ingress = chart.one(EVERYTHING, "Ingress", "airflow-api-server")
    assert ingress["metadata"]["annotations"] == {"note": "x"}
    assert ingress["spec"]["ingressClassName"] == "nginx"
    assert ingress["spec"]["tls"] == [{"hosts": ["airflow.example"], "secretName": "airflow-tls"}]
    assert [it["host"] for it in ingress["spec"]["rules"]] == ["airflow.example", "airflow.internal"]
    service = chart.one(EVERYTHING, "Service", "airflow-api-server")
    for rule in ingress["spec"]["rules"]:
        (path,) = rule["http"]["paths"]
        assert (path["path"], path["pathType"]) == ("/", "Prefix")
        backend = path["backend"]["service"]
        assert backend["name"] == service["metadata"]["name"]
        assert backend["port"]["name"] in {it["name"] for it in service["spec"]["ports"]}


def test_an_ingress_without_hosts_takes_every_one(chart: Chart) -> None:
    rules = chart.one({"ingress": {"apiServer": {"enabled": True}}}, "Ingress", "airflow")["spec"]["rules"]
    assert [set(it) for it in rules] == [{"http"}]


def test_an_autoscaler_takes_the_place_of_the_number_of_replicas(chart: Chart) -> None:
    scaler = chart.one(EVERYTHING, "HorizontalPodAutoscaler", "airflow-api-server")["spec"]
    target = chart.one(EVERYTHING, scaler["scaleTargetRef"]["kind"], scaler["scaleTargetRef"]["name"])
    assert "replicas" not in target["spec"]
    assert (scaler["minReplicas"], scaler["maxReplicas"]) == (2, 5)
    assert scaler["metrics"][0]["resource"]["name"] == "cpu"
    assert chart.one({"apiServer": {"replicas": 3}}, "Deployment", "airflow-api-server")["spec"]["replicas"] == 3


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"ingress": {"apiServer": {"hosts": [{"name": "a", "tls": {"enabled": True}}]}}}, "Set it to the Secret"),
        ({"apiServer": {"hpa": {"enabled": True, "minReplicaCount": 9}}}, "minReplicaCount is 9"),
    ],
)
def test_what_cannot_work_is_refused(chart: Chart, values: Object, said: str) -> None:
    assert said in chart.error(values)
