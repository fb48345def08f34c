from __future__ import annotations

from .rendering import EVERYTHING, WORKFLOWS, Chart, Object, pods


def allowed(chart: Chart, values: Object, target: str) -> set[str]:
    """The pods of the release that a target's NetworkPolicy lets in."""
    policy = chart.one(values, "NetworkPolicy", f"airflow-{target}")["spec"]
    found = set()
    for name, pod in pods(chart.render(values)).items():
        labels = pod["metadata"]["labels"]
        for rule in policy["ingress"]:
            for peer in rule["from"]:
                selector = peer.get("podSelector")
                if selector is None:
                    continue
                (expression,) = selector["matchExpressions"]
                if (
                    selector["matchLabels"].items() <= labels.items()
                    and labels[expression["key"]] in expression["values"]
                ):
                    found.add(name)
    return found


def test_workers_and_the_gateway_do_not_reach_the_database(chart: Chart) -> None:
    clients = allowed(chart, {"workflows": WORKFLOWS}, "postgresql")
    assert {name.rsplit("-", 1)[0] if "-run-" in name or "-create-" in name else name for name in clients} == {
        "airflow-api-server",
        "airflow-create-user",
        "airflow-dag-processor",
        "airflow-run-airflow-migrations",
        "airflow-scheduler",
        "airflow-triggerer",
    }


def test_logs_are_read_by_the_api_server_alone(chart: Chart) -> None:
    assert allowed(chart, {}, "scheduler") == {"airflow-api-server"}
    assert allowed(chart, {}, "triggerer") == {"airflow-api-server"}
    assert chart.one({}, "NetworkPolicy", "airflow-dag-processor")["spec"]["ingress"] == []


def test_a_narrowed_api_server_still_takes_gateway_and_workers(chart: Chart) -> None:
    assert allowed(chart, EVERYTHING, "api-server") == {
        "airflow-workflow-gateway",
        *(it["name"] for it in WORKFLOWS),
    }
    rule = chart.one(EVERYTHING, "NetworkPolicy", "airflow-api-server")["spec"]["ingress"][0]
    assert {"namespaceSelector": {}} in rule["from"]
