"""What values may hold, and what is said when they hold something else."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest
import yaml

from airflow_knative import __version__

from .rendering import CHART, WORKFLOWS, Chart, Object

ETL, AVG = WORKFLOWS


def test_the_schema_has_the_keys_of_the_values_and_no_others() -> None:
    schema = json.loads((CHART / "values.schema.json").read_text())
    values = yaml.safe_load((CHART / "values.yaml").read_text())

    def compare(schema: Object, value: Object, path: str) -> None:
        assert schema["additionalProperties"] is False, path
        assert set(schema["properties"]) - {"global"} == set(value), path
        for key, inner in value.items():
            below = schema["properties"][key]
            if isinstance(inner, dict) and isinstance(below.get("properties"), dict) and key != "resources":
                compare(below, inner, f"{path}.{key}")

    compare(schema, values, "")


def test_schema_and_readme_are_the_generated_ones() -> None:
    command = [sys.executable, str(CHART.parent / "generate.py"), "--check"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_the_chart_has_the_version_of_the_package() -> None:
    chart = yaml.safe_load((CHART / "Chart.yaml").read_text())
    assert chart["version"] == chart["appVersion"] == __version__


@pytest.mark.parametrize(
    ("values", "place"),
    [
        ({"schduler": {}}, "schduler"),
        ({"scheduler": {"replica": 1}}, "replica"),
        ({"scheduler": {"replicas": -1}}, "replicas"),
        ({"workflows": [{**AVG, "slots": 1}]}, "slots"),
        ({"workflows": [{"name": "a", "dagId": "b"}]}, "file"),
        ({"workflows": [{**AVG, "name": "Not_A_Label"}]}, "name"),
        ({"workflows": [{**AVG, "windowSeconds": 5}]}, "windowSeconds"),
        ({"workers": {"targetUtilizationPercentage": 0}}, "targetUtilizationPercentage"),
        ({"images": {"airflow": {"digest": "sha256:short"}}}, "digest"),
        ({"fernetKey": "short"}, "fernetKey"),
        ({"env": [{"name": "A", "valu": "x"}]}, "valu"),
    ],
)
def test_the_schema_refuses(chart: Chart, values: Object, place: str) -> None:
    assert place in chart.error(values)


@pytest.mark.parametrize(
    ("values", "said", "mend"),
    [
        ({"config": {"core": {"fernet_key": "x"}}}, "config.core.fernet_key", "Set fernetKey"),
        ({"config": {"database": {"sql_alchemy_conn": "x"}}}, "ConfigMap", "data.metadataSecretName"),
        ({"postgresql": {"enabled": False}}, "no database is named", "data.metadataConnection"),
        ({"data": {"metadataConnection": {"host": "db"}}}, '"db"', "postgresql.enabled=false"),
        ({"postgresql": {"auth": {"existingSecret": "x"}}}, "existingSecret", "Set data.metadataSecretName"),
        ({"signingKey": {"existingSecret": "x"}}, "workers could check nothing", "Set signingKey.publicKey"),
        ({"signingKey": {"publicKey": "x"}}, "fit no private key", "Set both"),
        ({"statsd": {"enabled": True}}, "images.statsd.tag is empty", "Set it"),
        ({"gateway": {"waitTimeoutSeconds": 300}}, "is 300", "Lower"),
        ({"gateway": {"timeoutSeconds": 601}}, "601, above the cluster's maximum of 600", "max-revision-timeout"),
        ({"gateway": {"minScale": 6}}, "gateway.minScale is 6", "Lower"),
        ({"workflows": [AVG, {**ETL, "name": AVG["name"]}]}, '"airflow-worker-avg" belongs to DAG "avg"', "Rename"),
        ({"workflows": [{**AVG, "name": "airflow-workflow-gateway"}]}, "the gateway", "Rename"),
        ({"workflows": [ETL, {**ETL, "name": "other"}]}, 'task "load" of DAG "Etl" has two services', "Remove one"),
        ({"workflows": [{**AVG, "timeoutSeconds": 900}]}, 'DAG "avg" is 900', "knative.maxRevisionTimeoutSeconds"),
        ({"workflows": [{**AVG, "minScale": 11}]}, "minScale of DAG", "Lower"),
        ({"workflows": [{**AVG, "env": [{"name": "PORT"}]}]}, "PORT of DAG", "Remove it"),
        ({"workflows": [AVG], "workers": {"env": [{"name": "AIRFLOW__API_AUTH__X"}]}}, "no worker may hold", "Remove"),
        (
            {"workers": {"kubernetes": {"env": [{"name": "AIRFLOW__CORE__FERNET_KEY"}]}}},
            "the variable AIRFLOW__CORE__FERNET_KEY",
            "Remove it",
        ),
    ],
)
def test_values_that_contradict_each_other_are_refused_with_the_mend(
    chart: Chart, values: Object, said: str, mend: str
) -> None:
    message = chart.error(values)
    assert "validate.yaml" in message
    assert said in message
    assert mend in message


def test_a_longer_timeout_is_taken_where_the_cluster_has_it(chart: Chart) -> None:
    values = {"workflows": [{**AVG, "timeoutSeconds": 3600}], "knative": {"maxRevisionTimeoutSeconds": 3600}}
    assert chart.render(values)
