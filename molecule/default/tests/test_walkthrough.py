# ruff: noqa: D103, INP001, S101 # tests, found by molecule in its own folder
"""The walkthrough of the reference, on a real cluster; the last test uninstalls what the others use."""

from __future__ import annotations

import json
import shutil
import time
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import pytest
from walkthrough import KNATIVE, NAMESPACE, RELEASE, REPOSITORY, Caller, Walkthrough

from conftest import INVENTORY, Cluster, eventually

if TYPE_CHECKING:
    from pathlib import Path

ORDERS = {"1001": 301.27, "1002": 433.21, "1003": 502.22}
_SLOW = 45
# What the namespace may hold, but for what Kubernetes puts into each.
_KINDS = (
    ("Pod", "v1"),
    ("Service", "v1"),
    ("PersistentVolumeClaim", "v1"),
    ("Deployment", "apps/v1"),
    ("StatefulSet", "apps/v1"),
    ("Job", "batch/v1"),
    ("Service", KNATIVE),
    ("Role", "rbac.authorization.k8s.io/v1"),
    ("RoleBinding", "rbac.authorization.k8s.io/v1"),
    ("NetworkPolicy", "networking.k8s.io/v1"),
    ("PodDisruptionBudget", "policy/v1"),
)
GREET = """
import time
from airflow.sdk import dag, task


@dag(schedule=None)
def greet():
    @task(executor_config={"knative": {"env": {"GREETING": "Hello"}}})
    def say(params):
        import os
        time.sleep(params["data"]["seconds"])
        return f"{os.environ['GREETING']} {params['data']['name']}"

    return say()


greet()
"""


@pytest.fixture(scope="module")
def walkthrough(cluster: Cluster) -> Walkthrough:
    return Walkthrough.of(cluster, INVENTORY)


def test_every_pod_runs(cluster: Cluster) -> None:
    pods = cluster.kind("Pod").get(namespace=NAMESPACE).to_dict()["items"]
    phases = [(pod["metadata"]["labels"]["app.kubernetes.io/component"], pod["status"]["phase"]) for pod in pods]
    # Workers come and go as they are called.
    assert {phase for part, phase in phases if part != "worker"} <= {"Running", "Succeeded"}
    parts = {part for part, phase in phases if phase == "Running"}
    assert parts >= {"api-server", "scheduler", "dag-processor", "triggerer", "postgresql", "gateway"}


def test_every_service_is_ready(walkthrough: Walkthrough) -> None:
    services = walkthrough.services()
    assert "airflow-worker-compute-avg-distributed-extract" in services
    assert {name: state for name, state in services.items() if state != "True"} == {}


def test_the_call_of_the_reference(walkthrough: Walkthrough) -> None:
    for temperature in ("first", "second"):
        begin = time.monotonic()
        assert walkthrough.curl("compute_avg_distributed", [1, 2, 3, 4]) == '{"output":2.5}'
        print(f"{temperature} call: {time.monotonic() - begin:.2f} s")  # noqa: T201 # for the record


@pytest.mark.parametrize(
    ("dag_id", "data", "output"),
    [
        ("compute_avg", [1, 2, 3, 4], 2.5),
        ("compute_avg_distributed", [10, -10, 0.5], 0.5 / 3),
        ("etl", ORDERS, {"orders": 3, "total_order_value": 1236.7}),
        ("etl_mapped", ORDERS, {"orders": 3, "total_order_value": 1236.7}),
    ],
)
def test_every_example(walkthrough: Walkthrough, dag_id: str, data: Any, output: Any) -> None:
    assert json.loads(walkthrough.curl(dag_id, data)) == {"output": output}


def test_each_task_ran_in_a_service_of_its_own(walkthrough: Walkthrough) -> None:
    walkthrough.curl("compute_avg_distributed", [1, 2, 3, 4])
    served = {pod["metadata"]["labels"]["serving.knative.dev/service"] for pod in walkthrough.pods("worker")}
    tasks = ("extract", "compute-count", "compute-sum", "do-avg")
    assert served >= {f"airflow-worker-compute-avg-distributed-{task}" for task in tasks}


def test_workers_have_neither_secrets_nor_a_token(walkthrough: Walkthrough) -> None:
    walkthrough.curl("compute_avg", [1])
    pods = walkthrough.pods("worker")
    assert pods
    for pod in pods:
        (worker,) = [found for found in pod["spec"]["containers"] if found["name"] == "worker"]
        assert not [entry for entry in worker["env"] if "secretKeyRef" in (entry.get("valueFrom") or {})]
        assert not [
            entry["name"] for entry in worker["env"] if "DATABASE" in entry["name"] or "SECRET" in entry["name"]
        ]
        assert not worker.get("envFrom")
        assert not [found["name"] for found in pod["spec"]["volumes"] if found.get("secret") or found.get("projected")]
        assert worker["securityContext"]["readOnlyRootFilesystem"]
        assert worker["securityContext"]["runAsUser"] == 50000  # noqa: PLR2004 # the image's user


def test_what_runs_has_an_init_above_it(walkthrough: Walkthrough) -> None:
    """To the kernel a signal that process 1 has no handler for is none: what still starts could not be told to stop."""
    walkthrough.curl("compute_avg", [1])
    found = {}
    for part in ("api-server", "scheduler", "dag-processor", "triggerer", "gateway", "worker"):
        pods = [pod["metadata"]["name"] for pod in walkthrough.pods(part) if pod["status"]["phase"] == "Running"]
        said = walkthrough.kubectl("exec", pods[-1], "-c", part, "--", "cat", "/proc/1/comm")
        found[part] = said.stdout.strip()
    assert found == dict.fromkeys(found, "dumb-init")


def test_no_worker_ever_connects_to_the_database(walkthrough: Walkthrough) -> None:
    walkthrough.curl("compute_avg_distributed", [1, 2, 3, 4])
    said = walkthrough.kubectl("logs", f"{RELEASE}-postgresql-0").stdout
    callers = {word.split("=", 1)[1] for word in said.split() if word.startswith("host=")}
    (api_server,) = [pod["status"]["podIP"] for pod in walkthrough.pods("api-server")]
    assert api_server in callers  # the log has what it is searched for
    # One that has just been made has no address yet.
    workers = {
        pod["status"]["podIP"]: pod["metadata"]["name"]
        for pod in walkthrough.pods("worker")
        if pod["status"].get("podIP")
    }
    assert workers
    assert not {name for address, name in workers.items() if address in callers}


@pytest.mark.parametrize(
    ("verb", "resource", "answer"),
    [
        ("list", "services.serving.knative.dev", "yes"),
        ("watch", "services.serving.knative.dev", "yes"),
        ("patch", "services.serving.knative.dev", "no"),
        ("get", "secrets", "no"),
        ("list", "pods", "no"),
        ("create", "pods", "no"),
        ("get", "nodes", "no"),
    ],
)
def test_what_the_scheduler_may_do(walkthrough: Walkthrough, verb: str, resource: str, answer: str) -> None:
    account = f"system:serviceaccount:{NAMESPACE}:{RELEASE}-scheduler"
    assert walkthrough.kubectl("auth", "can-i", verb, resource, "--as", account).stdout.strip() == answer


def test_a_workflow_is_deployed_and_another_removed_while_runs_go_on(walkthrough: Walkthrough, tmp_path: Path) -> None:
    folder = tmp_path / "workflows"
    shutil.copytree(REPOSITORY / "workflows", folder, ignore=shutil.ignore_patterns("__pycache__", "etl.py"))
    (folder / "greet.py").write_text(GREET)
    with Caller(walkthrough) as caller:
        deployed = walkthrough.deploy(folder)
    assert deployed.returncode == 0, deployed.stdout + deployed.stderr
    assert "/runWorkflow/greet" in deployed.stdout
    caller.expect('{"output":2.5}')
    services = walkthrough.services()
    assert services["airflow-worker-greet-say"] == "True"
    assert not [name for name in services if name.startswith("airflow-worker-etl-") and "mapped" not in name]
    assert walkthrough.curl("greet", {"name": "Ada", "seconds": 0}) == '{"output":"Hello Ada"}'


def test_a_workflow_that_cannot_be_imported_changes_nothing(walkthrough: Walkthrough, tmp_path: Path) -> None:
    before = walkthrough.helm("history", RELEASE, "--output", "json")
    (tmp_path / "broken.py").write_text("from airflow.sdk import dag, nothing_of_this_name\n")
    deployed = walkthrough.deploy(tmp_path)
    assert deployed.returncode != 0
    assert "broken.py" in deployed.stdout
    assert "nothing_of_this_name" in deployed.stdout
    assert walkthrough.helm("history", RELEASE, "--output", "json") == before


def test_an_upgrade_lets_a_running_task_finish(walkthrough: Walkthrough) -> None:
    (chart,) = {found["chart"] for found in json.loads(walkthrough.helm("list", "--output", "json"))}
    package = REPOSITORY / "build" / "airflow" / f"{chart}.tgz"
    changed = ["--set", "config.core.parallelism=96", "--set", "workers.graceSeconds=120"]
    with ThreadPoolExecutor() as pool, Caller(walkthrough) as caller:
        slow = pool.submit(walkthrough.curl, "greet", {"name": "Ada", "seconds": _SLOW})
        eventually(lambda: [pod for pod in walkthrough.pods("worker") if _serves(pod, "airflow-worker-greet-say")])
        walkthrough.helm("upgrade", RELEASE, str(package), "--reuse-values", *changed)
        walkthrough.kubectl("rollout", "status", f"statefulset/{RELEASE}-scheduler", "--timeout", "300s")
        assert slow.result() == '{"output":"Hello Ada"}'
        eventually(lambda: set(walkthrough.services().values()) == {"True"})
    caller.expect('{"output":2.5}')


def _serves(pod: dict[str, Any], service: str) -> bool:
    return bool(
        pod["metadata"]["labels"]["serving.knative.dev/service"] == service and pod["status"]["phase"] == "Running"
    )


def test_uninstalling_leaves_the_database_alone(walkthrough: Walkthrough, cluster: Cluster) -> None:
    walkthrough.helm("uninstall", RELEASE, "--wait")

    def left() -> dict[str, list[str]]:
        return {
            kind: [found.metadata.name for found in cluster.kind(kind, version).get(namespace=NAMESPACE).items]
            for kind, version in _KINDS
        }

    kept = {"PersistentVolumeClaim": [f"data-{RELEASE}-postgresql-0"]}
    eventually(lambda: {kind: names for kind, names in left().items() if names} == kept)
