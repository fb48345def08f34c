"""What every pod has in common."""

from __future__ import annotations

import json
import re

import pytest

from .rendering import EVERYTHING, LEAST, VALUES, WORKFLOWS, Chart, Object, containers, environment, ours, pods

AIRFLOW = ("airflow-api-server", "airflow-scheduler", "airflow-dag-processor", "airflow-triggerer")


@pytest.mark.parametrize("values", VALUES.values(), ids=VALUES)
def test_pods_meet_pod_security_restricted(chart: Chart, values: Object) -> None:
    for pod in pods(chart.render(values)).values():
        spec = pod["spec"]
        assert not {"hostNetwork", "hostPID", "hostIPC"} & set(spec)
        assert not any("hostPath" in volume for volume in spec.get("volumes", []))
        for container in ours(pod):
            security = container["securityContext"]
            assert security["allowPrivilegeEscalation"] is False
            assert security["capabilities"] == {"drop": ["ALL"]}
            assert security["runAsNonRoot"] is True
            assert security["runAsUser"] > 0
            assert security["seccompProfile"] == {"type": "RuntimeDefault"}
            assert security["readOnlyRootFilesystem"] is True


@pytest.mark.parametrize("values", VALUES.values(), ids=VALUES)
def test_pods_have_resources_and_nobody_but_the_scheduler_a_token_of_kubernetes(chart: Chart, values: Object) -> None:
    objects = chart.render(values)
    accounts = {it["metadata"]["name"] for it in objects if it["kind"] == "ServiceAccount"}
    used = set()
    for name, pod in pods(objects).items():
        assert pod["spec"]["automountServiceAccountToken"] is False
        holders = [it["name"] for it in containers(pod) if "kubernetes.io/serviceaccount" in json.dumps(it)]
        assert holders == (["scheduler"] if name == "airflow-scheduler" else [])
        assert name == "airflow-scheduler" or "serviceAccountToken" not in json.dumps(pod)
        used.add(pod["spec"]["serviceAccountName"])
        for container in ours(pod):
            assert container["resources"]["requests"]["memory"]
            assert container["image"].count(":") == 1
    assert used <= accounts
    assert accounts - used <= {"airflow-worker"}, "an account that nothing runs with"


def test_programs_run_under_the_images_init_and_scripts_under_their_shell(chart: Chart) -> None:
    for pod in pods(chart.render({"workflows": WORKFLOWS})).values():
        for container in ours(pod):
            assert container.get("command", ["sh"])[0] == "sh", container["name"]


@pytest.mark.parametrize(
    ("part", "name", "program"),
    [
        ("apiServer", "airflow-api-server", ["python", "-m", "airflow_knative.after_database", "airflow"]),
        ("gateway", "airflow-workflow-gateway", ["python", "-m", "airflow_knative.gateway"]),
        ("workers", "airflow-worker-avg", ["python", "-m", "airflow_knative.worker"]),
    ],
)
def test_a_command_takes_the_place_of_init_and_program_and_args_follow(
    chart: Chart, part: str, name: str, program: list[str]
) -> None:
    def container(values: Object) -> Object:
        found: Object = pods(chart.render({**values, "workflows": WORKFLOWS}))[name]["spec"]["containers"][0]
        return found

    assert container({part: {"args": ["--given"]}})["args"] == [*program, "--given"]
    given = container({part: {"command": ["wrap"], "args": ["--given"]}})
    assert (given["command"], given["args"]) == (["wrap"], ["--given"])


@pytest.mark.parametrize("values", VALUES.values(), ids=VALUES)
def test_every_mount_has_its_volume(chart: Chart, values: Object) -> None:
    for it in chart.render(values):
        if "template" not in it.get("spec", {}):
            continue
        claims = [claim["metadata"]["name"] for claim in it["spec"].get("volumeClaimTemplates", [])]
        pod = it["spec"]["template"]
        volumes = {volume["name"] for volume in pod["spec"].get("volumes", [])} | set(claims)
        mounts = {mount["name"] for container in containers(pod) for mount in container.get("volumeMounts", [])}
        assert volumes == mounts


@pytest.mark.parametrize("values", VALUES.values(), ids=VALUES)
def test_what_pods_refer_to_is_rendered_or_given(chart: Chart, values: Object) -> None:
    objects = chart.render(values)
    rendered = {it["metadata"]["name"] for it in objects if it["kind"] in {"ConfigMap", "Secret"}}
    given = {"own-fernet", "own-jwt", "own-api", "own-signing", "own-metadata", "own-postgresql", "own-user"}
    for pod in pods(objects).values():
        for volume in pod["spec"].get("volumes", []):
            source = volume.get("configMap", {}).get("name") or volume.get("secret", {}).get("secretName")
            assert source is None or source in rendered | given | {"authority"}
        for container in containers(pod):
            for variable in container.get("env", []):
                reference = variable.get("valueFrom", {}).get("secretKeyRef")
                assert reference is None or reference["name"] in rendered | given | {"conn"}


def test_selectors_match_their_pods_and_no_others(chart: Chart) -> None:
    objects = chart.render(EVERYTHING)
    labels = {name: pod["metadata"]["labels"] for name, pod in pods(objects).items()}
    for it in objects:
        if it["apiVersion"].startswith("serving.knative.dev") or it["kind"] not in {
            *("Service", "Deployment", "StatefulSet", "PodDisruptionBudget", "NetworkPolicy")
        }:
            continue
        spec = it["spec"]
        wanted = spec.get("podSelector", spec.get("selector"))
        wanted = wanted.get("matchLabels", wanted)
        matching = [name for name, found in labels.items() if wanted.items() <= found.items()]
        assert [re.sub(r"-[0-9a-f]{8}$", "", name) for name in matching] == [it["metadata"]["name"]]


def test_services_reach_a_port_that_their_pod_has(chart: Chart) -> None:
    objects = chart.render(EVERYTHING)
    templates = pods(objects)
    for it in objects:
        if it["kind"] == "Service" and it["apiVersion"] == "v1":
            named = {
                port["name"]: port["containerPort"]
                for container in templates[it["metadata"]["name"]]["spec"]["containers"]
                for port in container.get("ports", [])
            }
            for port in it["spec"]["ports"]:
                assert named[port["targetPort"]] == port["port"]


def test_extra_values_reach_the_pods(chart: Chart) -> None:
    found = pods(chart.render(EVERYTHING))
    scheduler = found["airflow-scheduler"]["spec"]
    assert [it["name"] for it in scheduler["containers"]] == ["scheduler", "scheduler-log-groomer", "more"]
    assert [it["name"] for it in scheduler["initContainers"]] == ["wait-for-airflow-migrations", "first"]
    assert environment(scheduler["containers"][0])["A"] == "1"
    assert {"name": "extra", "mountPath": "/extra"} in scheduler["containers"][0]["volumeMounts"]
    assert found["airflow-api-server"]["spec"]["priorityClassName"] == "high"
    assert found["airflow-api-server"]["metadata"]["annotations"]["note"] == "x"
    for name in AIRFLOW:
        spec = found[name]["spec"]
        assert spec["nodeSelector"] == {"disk": "ssd"}
        assert spec["tolerations"] == EVERYTHING["tolerations"]
        assert spec["imagePullSecrets"] == [{"name": "pull"}]
        (spread,) = spec["topologySpreadConstraints"]
        labels = found[name]["metadata"]["labels"]
        assert spread["labelSelector"]["matchLabels"].items() <= labels.items()
        assert spread["labelSelector"]["matchLabels"]["app.kubernetes.io/component"] == name.removeprefix("airflow-")
        for container in (it for it in ours(found[name]) if not it["name"].endswith("-log-groomer")):
            assert container["envFrom"] == [{"secretRef": {"name": "airflow-connections"}}]
            assert EVERYTHING["volumeMounts"][0] in container["volumeMounts"]
        variables = environment(spec["containers"][0])
        assert variables["AIRFLOW__CORE__DEFAULT_TIMEZONE"] == "utc"
        assert variables["AIRFLOW_CONN_DB"] == {"secretKeyRef": {"name": "conn", "key": "url"}}


def test_values_for_all_parts_reach_the_jobs(chart: Chart) -> None:
    found = {name[:-9]: pod["spec"] for name, pod in pods(chart.render(EVERYTHING)).items()}
    migration = found["airflow-run-airflow-migrations"]
    assert migration["priorityClassName"] == "high"
    assert environment(migration["containers"][0])["A"] == "1"
    for name in ("airflow-run-airflow-migrations", "airflow-create-user"):
        assert found[name]["nodeSelector"] == {"disk": "ssd"}
        assert found[name]["containers"][0]["envFrom"] == [{"secretRef": {"name": "airflow-connections"}}]
        assert EVERYTHING["volumes"][0] in found[name]["volumes"]


def test_a_changed_configuration_rolls_airflow_and_nothing_else(chart: Chart) -> None:
    def templates(values: Object) -> Object:
        return {
            name: pod for name, pod in pods(chart.render(values)).items() if "-run-" not in name and "-user" not in name
        }

    before, after = templates({}), templates({"config": {"core": {"parallelism": 7}}})
    assert {name for name in before if before[name] != after[name]} == set(AIRFLOW)


def test_a_new_workflow_restarts_nothing_that_runs(chart: Chart) -> None:
    before = pods(chart.render({}))
    after = pods(chart.render({"workflows": EVERYTHING["workflows"]}))
    assert {name: after[name] for name in before} == before


def test_digests_take_precedence_over_tags(chart: Chart) -> None:
    digest = "sha256:" + "0" * 64
    values = {"images": {"airflow": {"repository": "registry.example/a", "tag": "t", "digest": digest}}}
    image = pods(chart.render(values))["airflow-api-server"]["spec"]["containers"][0]["image"]
    assert image == f"registry.example/a@{digest}"


def test_without_persistence_logs_are_in_the_pod(chart: Chart) -> None:
    scheduler = chart.one(LEAST, "StatefulSet", "airflow-scheduler")
    assert "volumeClaimTemplates" not in scheduler["spec"]
    assert {"name": "logs", "emptyDir": {}} in scheduler["spec"]["template"]["spec"]["volumes"]
    assert "initContainers" not in scheduler["spec"]["template"]["spec"]


def test_the_schedulers_account_may_watch_knative_services_and_nothing_else(chart: Chart) -> None:
    objects = chart.render(EVERYTHING)
    (role,) = (it for it in objects if it["kind"] == "Role")
    assert role["rules"] == [
        {"apiGroups": ["serving.knative.dev"], "resources": ["services"], "verbs": ["get", "list", "watch"]}
    ]
    (binding,) = (it for it in objects if it["kind"] == "RoleBinding")
    account = pods(objects)["airflow-scheduler"]["spec"]["serviceAccountName"]
    assert binding["subjects"] == [{"kind": "ServiceAccount", "name": account, "namespace": "flows"}]
    assert binding["roleRef"]["name"] == role["metadata"]["name"]
    assert not any(it["kind"].startswith("Cluster") for it in objects)
