from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING, Any

import pytest
import pytest_asyncio

from airflow_knative.errors import AirflowKnativeError
from airflow_knative.executor import endpoints_kubernetes, kubernetes
from airflow_knative.executor.endpoints import Endpoint, NoEndpointError, open_endpoints
from airflow_knative.executor.endpoints_kubernetes import KubernetesEndpoints, read_service
from airflow_knative.executor.kubernetes import ApiError, Cluster, Resource

from .fake_api_server import FakeApiServer, make_certificates

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable
    from pathlib import Path


def service(
    name: str,
    dag_id: str | None,
    task_id: str | None = None,
    *,
    ready: str = "True",
    served: bool = True,
    created: str = "2026-01-01T00:00:00Z",
) -> dict[str, Any]:
    annotations = {"airflow-knative/dag-id": dag_id, "airflow-knative/task-id": task_id}
    url = f"http://{name}.flows.svc.cluster.local"
    return {
        "apiVersion": "serving.knative.dev/v1",
        "kind": "Service",
        "metadata": {
            "name": name,
            "creationTimestamp": created,
            "annotations": {key: value for key, value in annotations.items() if value},
        },
        "spec": {"template": {"spec": {"timeoutSeconds": 480}}},
        "status": {
            "url": f"http://{name}.elsewhere",
            "address": {"url": url},
            "conditions": [
                {"type": "Ready", "status": ready, "reason": "RevisionMissing", "message": "Image cannot be pulled."},
            ],
            "latestCreatedRevisionName": f"{name}-00001",
            **({"latestReadyRevisionName": f"{name}-00001"} if served else {}),
        },
    }


@pytest.fixture
def account(tmp_path: Path) -> Path:
    folder = tmp_path / "account"
    folder.mkdir()
    (folder / "token").write_text("first\n")
    (folder / "namespace").write_text("flows")
    return folder


@pytest_asyncio.fixture
async def server(account: Path) -> AsyncIterator[FakeApiServer]:
    fake = FakeApiServer(make_certificates(account))
    await fake.put(service("airflow-worker-d-t", "d", "t"))
    await fake.put(service("airflow-worker-d", "d"))
    await fake.put(service("somebody-elses", None))
    await fake.start()
    yield fake
    await fake.stop()


@pytest_asyncio.fixture
async def endpoints(server: FakeApiServer, account: Path) -> AsyncIterator[KubernetesEndpoints]:
    async with KubernetesEndpoints(Cluster(server.url, account)) as opened:
        yield opened


@pytest.fixture(autouse=True)
def in_a_hurry(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(endpoints_kubernetes, "_FIRST_DELAY", 0.01)
    monkeypatch.setattr(endpoints_kubernetes, "_LAST_DELAY", 0.05)
    monkeypatch.setattr(endpoints_kubernetes, "_SHORTEST_WATCH", 0.05)
    monkeypatch.setattr(endpoints_kubernetes, "_RELIST_INTERVAL", 0.0)


async def until(come_true: Callable[[], object]) -> None:
    async with asyncio.timeout(30):
        while not come_true():  # noqa: ASYNC110 - nothing tells
            await asyncio.sleep(0.01)


async def until_watched(server: FakeApiServer) -> None:
    await until(lambda: server.watchers)


async def found(endpoints: KubernetesEndpoints, dag_id: str, task_id: str, name: str) -> Endpoint:
    async with asyncio.timeout(30):
        while True:
            try:
                if (endpoint := endpoints.find(dag_id, task_id)).name == name:
                    return endpoint
            except NoEndpointError:
                pass
            await asyncio.sleep(0.01)


async def why(endpoints: KubernetesEndpoints, dag_id: str, task_id: str, said: str) -> str:
    """The failure of a look-up, once it says what is waited for."""
    async with asyncio.timeout(30):
        while True:
            try:
                endpoints.find(dag_id, task_id)
            except NoEndpointError as error:
                if said in str(error):
                    return str(error)
            await asyncio.sleep(0.01)


def quietly(endpoints: KubernetesEndpoints, dag_id: str, task_id: str) -> str | None:
    """The name of what is known, without a look-up that would have the services listed anew."""
    endpoint = endpoints.known(dag_id, task_id)
    return endpoint and endpoint.name


async def told(endpoints: KubernetesEndpoints, dag_id: str, task_id: str, name: str | None) -> None:
    """Wait until the watch has told."""
    await until(lambda: quietly(endpoints, dag_id, task_id) == name)


async def test_services_are_known_at_once_by_their_annotations(endpoints: KubernetesEndpoints) -> None:
    assert endpoints.find("d", "t") == Endpoint(
        dag_id="d",
        task_id="t",
        name="airflow-worker-d-t",
        url="http://airflow-worker-d-t.flows.svc.cluster.local",
        timeout=480,
        revision="airflow-worker-d-t-00001",
    )
    assert endpoints.find("d", "other").name == "airflow-worker-d"


@pytest.mark.parametrize(
    ("window", "seconds"), [("90s", 90.0), ("1m30s", 90.0), ("1h", 3600.0), ("1500ms", 1.5), (None, 60.0)]
)
def test_what_a_service_can_take_is_known_too(window: str | None, seconds: float) -> None:
    it = service("airflow-worker-d-t", "d", "t")
    it["spec"]["template"]["spec"]["containerConcurrency"] = 4
    it["spec"]["template"]["metadata"] = {"annotations": {"autoscaling.knative.dev/max-scale": "3"}}
    if window:
        it["spec"]["template"]["metadata"]["annotations"]["autoscaling.knative.dev/window"] = window
    read = read_service(it)
    assert read is not None
    assert read.endpoint is not None
    assert (read.endpoint.slots, read.endpoint.max_scale, read.endpoint.window) == (4, 3, seconds)


@pytest.mark.parametrize(
    ("change", "revision"),
    [
        ({}, "one-00001"),
        ({"observedGeneration": 1}, None),
        ({"latestCreatedRevisionName": "one-00002"}, None),
        ({"conditions": [{"type": "Ready", "status": "Unknown"}]}, None),
    ],
    ids=["settled", "changed", "next revision made", "on its way"],
)
def test_what_serves_is_known_only_while_nothing_is_about_to_replace_it(
    change: dict[str, Any], revision: str | None
) -> None:
    it = service("one", "d", "t")
    it["metadata"]["generation"] = 2
    it["status"] |= {"observedGeneration": 2} | change
    read = read_service(it)
    assert read is not None
    assert read.endpoint is not None
    assert read.endpoint.revision == revision


def test_knatives_defaults_hold_where_a_service_says_nothing() -> None:
    read = read_service(service("airflow-worker-d-t", "d", "t"))
    assert read is not None
    assert read.endpoint is not None
    assert (read.endpoint.slots, read.endpoint.max_scale, read.endpoint.window) == (1, 0, 60.0)


async def test_a_task_without_a_service_is_told_what_to_run(endpoints: KubernetesEndpoints) -> None:
    with pytest.raises(NoEndpointError) as caught:
        endpoints.find("e", "x")
    for said in ("task 'x' of DAG 'e'", "namespace flows", "airflow-knative services render", "kubectl -n flows get"):
        assert said in str(caught.value)


async def test_changes_arrive_through_the_watch(server: FakeApiServer, endpoints: KubernetesEndpoints) -> None:
    await until_watched(server)
    await server.put(service("new", "e", "x", ready="Unknown", served=False))
    await told(endpoints, "e", "x", None)
    await server.put(service("new", "e", "x"))
    await told(endpoints, "e", "x", "new")
    await server.delete("new")
    await told(endpoints, "e", "x", None)
    assert server.lists == 1


async def test_a_miss_has_the_services_listed_anew(server: FakeApiServer, endpoints: KubernetesEndpoints) -> None:
    await until_watched(server)
    await server.put_unseen(service("late", "e", "x"))
    await asyncio.sleep(0.05)
    assert quietly(endpoints, "e", "x") is None
    assert (await found(endpoints, "e", "x", "late")).name == "late"
    assert server.lists == 2
    await until_watched(server)
    await server.put(service("after", "f", "y"))
    await told(endpoints, "f", "y", "after")


async def test_what_is_only_looked_up_has_nothing_listed(
    server: FakeApiServer, endpoints: KubernetesEndpoints, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(endpoints_kubernetes, "_RELIST_INTERVAL", 0.0)
    await until_watched(server)
    await server.put(service("ours", "e", "x"))
    await told(endpoints, "e", "x", "ours")
    lists = server.lists
    for _ in range(20):
        assert endpoints.known("e", "of another executor") is None
        await asyncio.sleep(0.01)
    assert server.lists == lists
    assert endpoints.known("e", "x") == endpoints.find("e", "x")


async def test_many_misses_are_one_list(
    server: FakeApiServer, endpoints: KubernetesEndpoints, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(endpoints_kubernetes, "_RELIST_INTERVAL", 0.5)
    await until_watched(server)
    await found_nothing(endpoints, times=50)
    assert server.lists <= 2


async def found_nothing(endpoints: KubernetesEndpoints, *, times: int) -> None:
    for _ in range(times):
        with pytest.raises(NoEndpointError):
            endpoints.find("no", "such")
        await asyncio.sleep(0)


@pytest.mark.parametrize("by_event", [True, False])
async def test_a_forgotten_version_has_the_services_listed_anew(
    server: FakeApiServer, endpoints: KubernetesEndpoints, *, by_event: bool
) -> None:
    await until_watched(server)
    server.expired_by_event = by_event
    await server.put_unseen(service("meanwhile", "e", "x"))
    await server.forget()
    server.disconnect()
    await told(endpoints, "e", "x", "meanwhile")
    assert server.lists == 2


async def test_a_watch_that_breaks_off_goes_on_where_it_was(
    server: FakeApiServer, endpoints: KubernetesEndpoints
) -> None:
    await until_watched(server)
    await server.put(service("first", "e", "x"))
    await told(endpoints, "e", "x", "first")
    server.disconnect()
    await server.put(service("second", "f", "x"))
    await told(endpoints, "f", "x", "second")
    assert server.lists == 1
    assert len(server.watched_from) >= 2
    assert int(server.watched_from[-1]) > int(server.watched_from[0])


async def test_a_bookmark_moves_a_quiet_watch_on(server: FakeApiServer, endpoints: KubernetesEndpoints) -> None:
    await until_watched(server)
    await server.bookmark()
    await asyncio.sleep(0.1)
    server.disconnect()
    await server.put(service("new", "e", "x"))
    await told(endpoints, "e", "x", "new")
    assert server.lists == 1


async def test_a_watch_that_the_server_ends_is_begun_again(
    server: FakeApiServer, account: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(kubernetes, "_WATCH_SECONDS", (1, 1))
    async with KubernetesEndpoints(Cluster(server.url, account)) as endpoints:
        await until(lambda: len(server.watched_from) >= 3)
        await server.put(service("new", "e", "x"))
        await told(endpoints, "e", "x", "new")
        assert server.lists == 1


async def test_a_silent_watch_counts_as_dead(
    server: FakeApiServer, account: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(kubernetes, "_SILENCE", 0.2)
    async with KubernetesEndpoints(Cluster(server.url, account)):
        await until(lambda: len(server.watched_from) >= 3)
    assert server.lists == 1


async def test_long_lists_come_in_pages(server: FakeApiServer, account: Path) -> None:
    server.page = 2
    for number in range(7):
        await server.put(service(f"many-{number}", "many", f"t{number}"))
    async with KubernetesEndpoints(Cluster(server.url, account)) as endpoints:
        assert {endpoints.find("many", f"t{number}").name for number in range(7)} == {
            f"many-{number}" for number in range(7)
        }
    assert server.lists == 5


async def test_a_renewed_token_is_taken_up(
    server: FakeApiServer, endpoints: KubernetesEndpoints, account: Path
) -> None:
    await until_watched(server)
    server.token = "second"
    server.disconnect()
    assert "401: Unauthorized" in await why(endpoints, "e", "x", "401")
    assert endpoints.find("d", "t").name == "airflow-worker-d-t"  # what was seen stays in use
    (account / "token").write_text("second")
    await server.put(service("new", "e", "x"))
    await found(endpoints, "e", "x", "new")


async def test_a_refusal_stands_in_the_failure_and_in_the_log(
    server: FakeApiServer, account: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(endpoints_kubernetes, "_FIRST_LIST", 0.2)
    server.refuse = 403, 'services is forbidden: User "s" cannot list resource "services"'
    with caplog.at_level(logging.ERROR):
        async with KubernetesEndpoints(Cluster(server.url, account)) as endpoints:
            assert 'User "s" cannot list' in await why(endpoints, "d", "t", "403")
            assert sum("cannot list" in it.message for it in caplog.records) == 1
            server.refuse = None
            await found(endpoints, "d", "t", "airflow-worker-d-t")


async def test_another_authority_is_not_trusted(server: FakeApiServer, account: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    other.mkdir()
    make_certificates(other)
    (account / "ca.crt").write_bytes((other / "ca.crt").read_bytes())
    async with Resource(Cluster(server.url, account), "/apis") as resource:
        with pytest.raises(ApiError, match="CERTIFICATE_VERIFY_FAILED"):
            await resource.list()
        with pytest.raises(ApiError, match="CERTIFICATE_VERIFY_FAILED"):
            await anext(resource.watch("1"))


@pytest.mark.parametrize(
    ("changes", "usable"),
    [
        ({"ready": "True"}, True),
        # A new revision is on its way or failed, or there is no room for a pod.
        ({"ready": "Unknown"}, True),
        ({"ready": "False"}, True),
        ({"ready": "Unknown", "served": False}, False),
        ({"ready": "False", "served": False}, False),
    ],
)
async def test_the_conditions_tell_whether_a_service_takes_requests(
    server: FakeApiServer, endpoints: KubernetesEndpoints, changes: dict[str, Any], *, usable: bool
) -> None:
    await server.put(service("new", "e", "x", **changes))
    if usable:
        await found(endpoints, "e", "x", "new")
    else:
        message = await why(endpoints, "e", "x", "not ready")
        assert "new of task 'x' of DAG 'e'" in message
        assert "RevisionMissing: Image cannot be pulled" in message
        assert "kubectl -n flows describe ksvc new" in message


async def test_a_service_without_a_status_or_being_deleted_is_not_used(
    server: FakeApiServer, endpoints: KubernetesEndpoints
) -> None:
    fresh = service("new", "e", "x")
    del fresh["status"]
    await server.put(fresh)
    assert "not made it ready yet" in await why(endpoints, "e", "x", "not ready")
    leaving = service("new", "e", "x")
    leaving["metadata"]["deletionTimestamp"] = "2026-01-01T00:00:00Z"
    await server.put(leaving)
    assert "it is being deleted" in await why(endpoints, "e", "x", "deleted")


async def test_the_newest_of_several_services_of_a_task_is_used(
    server: FakeApiServer, endpoints: KubernetesEndpoints
) -> None:
    await server.put(service("a-newer", "d", "t", created="2026-02-01T00:00:00Z"))
    await found(endpoints, "d", "t", "a-newer")
    await server.put(service("a-newer", "d", "t", created="2026-02-01T00:00:00Z", served=False, ready="False"))
    await found(endpoints, "d", "t", "airflow-worker-d-t")


async def test_a_dags_service_serves_while_its_tasks_own_is_not_ready(
    server: FakeApiServer, endpoints: KubernetesEndpoints
) -> None:
    await server.put(service("airflow-worker-d-t", "d", "t", ready="False", served=False))
    await found(endpoints, "d", "t", "airflow-worker-d")


async def test_outside_of_a_pod_the_mend_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("KUBERNETES_SERVICE_HOST", raising=False)
    for location in ("kubernetes:", "kubernetes://flows"):
        with pytest.raises(AirflowKnativeError, match="works in a pod only"):
            async with open_endpoints(location):
                pass


@pytest.mark.parametrize(("host", "url"), [("10.0.0.1", "https://10.0.0.1:443"), ("fd00::1", "https://[fd00::1]:443")])
def test_the_api_server_of_a_pod_is_found(host: str, url: str) -> None:
    environment = {"KUBERNETES_SERVICE_HOST": host, "KUBERNETES_SERVICE_PORT": "443"}
    assert Cluster.of_this_pod(environment).url == url


def test_a_pod_without_a_token_is_told_so(tmp_path: Path) -> None:
    with pytest.raises(AirflowKnativeError, match=r"namespace cannot be read .* needs the token"):
        KubernetesEndpoints(Cluster("https://127.0.0.1:1", tmp_path))
