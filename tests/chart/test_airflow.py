"""Airflow's own parts: configuration, jobs, logs, probes."""

from __future__ import annotations

import configparser
import re
import subprocess
from pathlib import Path

import pytest
import yaml
from airflow._shared.module_loading import import_string
from airflow.configuration import conf

from airflow_knative import after_database, connect_args, migrations
from airflow_knative.executor.kubernetes import Cluster
from airflow_knative.provider import get_provider_info

from .rendering import EVERYTHING, LEAST, Chart, Object, environment, pods

PARTS = {
    "airflow-api-server": ["api-server"],
    "airflow-scheduler": ["scheduler"],
    "airflow-dag-processor": ["dag-processor"],
    "airflow-triggerer": ["triggerer"],
}


def _config(chart: Chart, values: Object) -> configparser.ConfigParser:
    parser = configparser.ConfigParser()
    parser.read_string(chart.one(values, "ConfigMap", "airflow-config")["data"]["airflow.cfg"])
    return parser


def _job(chart: Chart, values: Object, name: str) -> Object:
    return chart.one(values, "Job", f"airflow-{name}")["spec"]["template"]


def test_airflow_knows_every_option_of_the_configuration(chart: Chart) -> None:
    ours = {
        (section, option) for section, found in get_provider_info()["config"].items() for option in found["options"]
    }
    known = conf.configuration_description
    parser = _config(chart, {})
    unknown = {
        (section, option)
        for section in parser.sections()
        for option in parser[section]
        if option not in known.get(section, {}).get("options", {}) and (section, option) not in ours
    }
    assert unknown == set()


def test_airflow_bears_with_a_silent_database_as_long_as_is_said(chart: Chart) -> None:
    database = _config(chart, {})["database"]
    assert import_string(database["sql_alchemy_connect_args"]) is connect_args.PSYCOPG2
    assert import_string(database["sql_alchemy_connect_args_async"]) is connect_args.ASYNCPG
    kernel = {"config": {"database": dict.fromkeys(database)}}
    assert not _config(chart, kernel).options("database")


def test_the_executor_finds_its_files_where_the_scheduler_mounts_them(chart: Chart) -> None:
    spec = pods(chart.render({}))["airflow-scheduler"]["spec"]
    mounts = {it["name"]: it["mountPath"] for it in spec["containers"][0]["volumeMounts"]}
    sources = {it["name"]: it.get("projected") or it.get("secret") for it in spec["volumes"]}
    knative = _config(chart, {})["knative"]
    assert knative["endpoints"] == "kubernetes:"
    assert Path(mounts["kubernetes-token"]) == Cluster("").account
    token, authority, namespace = sources["kubernetes-token"]["sources"]
    assert token["serviceAccountToken"]["path"] == "token"
    assert authority["configMap"]["items"] == [{"key": "ca.crt", "path": "ca.crt"}]
    assert [it["path"] for it in namespace["downwardAPI"]["items"]] == ["namespace"]
    assert knative["signing_key"] == f"{mounts['signing-key']}/private.pem"
    assert sources["signing-key"]["secretName"] == "airflow-signing-key"
    # The user is not its owner, but in the group of the volume.
    assert sources["signing-key"]["defaultMode"] == 0o440
    assert spec["securityContext"]["fsGroup"] == spec["securityContext"]["runAsGroup"]


@pytest.mark.parametrize("value", [4194304, 2.5, "50%", True, "{{ .Release.Name }}"])
def test_a_value_of_the_configuration_arrives_as_it_is(chart: Chart, value: object) -> None:
    found = _config(chart, {"config": {"knative": {"option": value}}})["knative"]["option"]
    assert found == {True: "true", "{{ .Release.Name }}": "airflow"}.get(value, str(value))  # type: ignore[call-overload]


def test_parts_run_what_they_are_called_and_read_the_configuration(chart: Chart) -> None:
    for name, arguments in PARTS.items():
        container = pods(chart.render({}))[name]["spec"]["containers"][0]
        assert container["args"] == ["python", "-m", after_database.__name__, "airflow", *arguments]
        (mount,) = (it["mountPath"] for it in container["volumeMounts"] if it["name"] == "config")
        assert environment(container)["AIRFLOW_CONFIG"] == f"{mount}/airflow.cfg"
        assert environment(container)["AIRFLOW__DATABASE__SQL_ALCHEMY_CONN"] == {
            "secretKeyRef": {"name": "airflow-metadata", "key": "connection"}
        }


def test_logs_are_written_to_the_volume_and_read_at_the_pods_own_name(chart: Chart) -> None:
    folder = _config(chart, {})["logging"]["base_log_folder"]
    for name, port in (("airflow-scheduler", 8793), ("airflow-triggerer", 8794)):
        controller = chart.one({}, "StatefulSet", name)
        container = controller["spec"]["template"]["spec"]["containers"][0]
        assert {"name": "logs", "mountPath": folder} in container["volumeMounts"]
        service = chart.one({}, "Service", controller["spec"]["serviceName"])
        assert service["spec"]["clusterIP"] == "None"
        assert [it["port"] for it in service["spec"]["ports"]] == [port]
        assert controller["spec"]["persistentVolumeClaimRetentionPolicy"]["whenDeleted"] == "Delete"


def test_every_part_is_probed(chart: Chart) -> None:
    for name in PARTS:
        container = pods(chart.render({}))[name]["spec"]["containers"][0]
        ports = {it["name"] for it in container.get("ports", [])}
        for probe in ("startupProbe", "livenessProbe"):
            handler = container[probe]
            assert "exec" in handler or handler["httpGet"]["port"] in ports
        patience = container["startupProbe"]["periodSeconds"] * container["startupProbe"]["failureThreshold"]
        assert patience >= 300
    assert _config(chart, {})["scheduler"]["enable_health_check"] == "True"


def test_values_change_probes_and_leave_the_rest_of_them(chart: Chart) -> None:
    values = {"apiServer": {"livenessProbe": {"periodSeconds": 99}}}
    probe = pods(chart.render(values))["airflow-api-server"]["spec"]["containers"][0]["livenessProbe"]
    assert probe["periodSeconds"] == 99
    assert probe["failureThreshold"] == 6
    assert probe["httpGet"]["path"] == "/api/v2/version"


def test_parts_wait_for_the_migration(chart: Chart) -> None:
    found = {**pods(chart.render({})), "job": _job(chart, {}, "create-user")}
    for name in (*PARTS, "job"):
        (wait,) = found[name]["spec"]["initContainers"]
        assert wait["args"] == ["python", "-m", migrations.__name__]
        assert "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN" in environment(wait)


def test_parts_that_do_not_wait_for_the_migration_do_not_wait_for_the_database(chart: Chart) -> None:
    values = {"apiServer": {"waitForMigrations": {"enabled": False}}}
    spec = pods(chart.render(values))["airflow-api-server"]["spec"]
    assert "initContainers" not in spec
    assert spec["containers"][0]["args"] == ["airflow", "api-server"]


def test_nothing_in_the_configuration_makes_the_wait_for_the_migration_a_costly_one(
    chart: Chart, tmp_path: Path
) -> None:
    file = tmp_path / "airflow.cfg"
    file.write_text(chart.one({}, "ConfigMap", "airflow-config")["data"]["airflow.cfg"])
    assert migrations.wanted_heads({"AIRFLOW_CONFIG": str(file)})


def test_the_migration_installs_the_wake_up_unless_it_is_off(chart: Chart) -> None:
    script = _job(chart, {}, "run-airflow-migrations")["spec"]["containers"][0]["args"][0]
    assert [line.removesuffix(" &&") for line in script.splitlines()] == [
        "airflow db check --retry 60 --retry-delay 2",
        "airflow db migrate",
        "airflow sync-perm",
        "airflow-knative wakeup install",
    ]
    for off in (False, "False", "off"):
        script = _job(chart, {"config": {"knative": {"wakeup": off}}}, "run-airflow-migrations")
        assert "wakeup" not in script["spec"]["containers"][0]["args"][0]


def test_roles_are_written_by_the_jobs_and_not_by_every_start(chart: Chart) -> None:
    assert _config(chart, {})["fab"]["update_fab_perms"] == "False"
    for name in ("run-airflow-migrations", "create-user"):
        variables = environment(_job(chart, {}, name)["spec"]["containers"][0])
        assert variables["AIRFLOW__FAB__UPDATE_FAB_PERMS"] == "True"


def _make_user(container: Object, password: str, users: str) -> list[str]:
    """What the job's script says to a stand-in that shows what it got, and lists users in Airflow's words."""
    listing = f"[ $2 = list ] && {{ echo '{users}'; return; }}"
    shown = 'for it in "$@"; do echo "argument: $it"; done; sed "s/^/typed: /"'
    script = f"airflow() {{ {listing}\n{shown}; }}\n{container['args'][0]}"
    command = [*container["command"], script, *container["args"][1:]]
    done = subprocess.run(command, env={"PASSWORD": password}, capture_output=True, text=True, check=True)
    return done.stdout.splitlines()


def test_no_user_is_made_where_there_is_one(chart: Chart) -> None:
    container = _job(chart, {}, "create-user")["spec"]["containers"][0]
    said = _make_user(container, "p", users='[{"id": "7", "username": "eve", "roles": ["Admin"]}]')
    assert said == ["There are users, so none is made."]


def test_the_users_password_is_typed_and_no_argument(chart: Chart) -> None:
    values = {"createUserJob": {"defaultUser": {"username": "eve", "lastName": 'O\'Hara "x" $HOME'}}}
    container = _job(chart, values, "create-user")["spec"]["containers"][0]
    assert environment(container)["PASSWORD"] == {"secretKeyRef": {"name": "airflow-default-user", "key": "password"}}
    # A stand-in for the command shows what it would get.
    said = _make_user(container, "p %s\\n w", users="No data found")
    assert said[:4] == ["argument: users", "argument: create", "argument: --role", "argument: Admin"]
    assert 'argument: O\'Hara "x" $HOME' in said
    assert said[-2:] == ["typed: p %s\\n w"] * 2


def test_the_log_groomer_removes_what_is_old(chart: Chart) -> None:
    values = {"scheduler": {"logGroomerSidecar": {"retentionDays": 3, "frequencyMinutes": 5}}}
    groomer = pods(chart.render(values))["airflow-scheduler"]["spec"]["containers"][1]
    assert environment(groomer) == {"LOGS": "/opt/airflow/logs", "RETENTION_DAYS": "3", "FREQUENCY_MINUTES": "5"}
    assert groomer["volumeMounts"] == [{"name": "logs", "mountPath": "/opt/airflow/logs"}]
    subprocess.run(["sh", "-nc", groomer["args"][0]], check=True)
    assert len(pods(chart.render(LEAST))["airflow-scheduler"]["spec"]["containers"]) == 1


def test_the_triggerers_volume_has_a_groomer_of_its_own(chart: Chart) -> None:
    values = {"triggerer": {"logGroomerSidecar": {"retentionDays": 2}}}
    groomer = pods(chart.render(values))["airflow-triggerer"]["spec"]["containers"][1]
    assert groomer["name"] == "triggerer-log-groomer"
    assert environment(groomer)["RETENTION_DAYS"] == "2"
    off = {"triggerer": {"logGroomerSidecar": {"enabled": False}}}
    assert len(pods(chart.render(off))["airflow-triggerer"]["spec"]["containers"]) == 1


def test_a_path_of_airflows_address_is_one_of_its_apis_too(chart: Chart) -> None:
    values = {
        "config": {"api": {"base_url": "https://{{ .Release.Name }}.example/team/"}},
        "clusterDomain": "corp.internal",
    }
    url = "http://airflow-api-server.flows.svc.corp.internal:8080/team"
    assert _config(chart, values)["core"]["execution_api_server_url"] == f"{url}/execution/"
    gateway = chart.one(values, "Service", "airflow-workflow-gateway")["spec"]["template"]["spec"]["containers"][0]
    assert environment(gateway)["AIRFLOW_KNATIVE_GATEWAY_AIRFLOW_URL"] == url
    without = _config(chart, {"config": {"api": {"base_url": "https://airflow.example"}}})
    assert without["core"]["execution_api_server_url"].endswith(".svc.cluster.local:8080/execution/")


def test_metrics_go_to_the_exporter(chart: Chart) -> None:
    metrics = _config(chart, EVERYTHING)["metrics"]
    service = chart.one(EVERYTHING, "Service", "airflow-statsd")
    assert (metrics["statsd_on"], metrics["statsd_host"]) == ("True", service["metadata"]["name"])
    assert metrics["statsd_port"] == str(service["spec"]["ports"][0]["port"])
    mappings = chart.one(EVERYTHING, "ConfigMap", "airflow-statsd")["data"]["mappings.yml"]
    for it in yaml.safe_load(mappings)["mappings"]:
        assert re.fullmatch(r"airflow(\.[a-z_]+)+(\.\*)+", it["match"])
    assert _config(chart, {})["metrics"]["statsd_on"] == "False"


def test_the_embedded_database_writes_to_its_volume_only(chart: Chart) -> None:
    (container,) = pods(chart.render(EVERYTHING))["airflow-postgresql"]["spec"]["containers"]
    variables = environment(container)
    assert variables["PGDATA"].startswith("/var/lib/postgresql/data/")
    assert "POSTGRES_PASSWORD" not in variables
    assert variables["POSTGRES_PASSWORD_FILE"] == "/etc/airflow-knative/postgresql/password"
    assert container["args"] == ["postgres", "-c", "max_connections=200"]
    names = {it["name"] for it in container["volumeMounts"]}
    assert names == {"data", "password", "socket", "tmp", "memory"}
