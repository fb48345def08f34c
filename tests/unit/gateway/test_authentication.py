from __future__ import annotations

import asyncio
import base64
from typing import TYPE_CHECKING

import pytest
from aiohttp import web

from airflow_knative.gateway.auth import Basic, Bearer, TokenCache

from .conftest import ADMIN, Check

if TYPE_CHECKING:
    import httpx

    from .fake_airflow import FakeAirflow

pytestmark = pytest.mark.asyncio


def basic(text: bytes) -> str:
    return "Basic " + base64.b64encode(text).decode()


@pytest.mark.parametrize(
    "header",
    [
        None,
        "",
        "Basic",
        "Basic !!!",
        "Digest username=x",
        "Bearer ",
        "Bearer a\tb",
        basic(b"admin"),
        basic(b":admin"),
        basic(b"admin:"),
        basic(b"\xff:x"),
    ],
)
async def test_calls_without_usable_credentials_never_reach_airflow(
    client: httpx.AsyncClient, airflow: FakeAirflow, problem: Check, header: str | None
) -> None:
    headers = {} if header is None else {"authorization": header}
    for method, path in (("POST", "/runWorkflow/avg"), ("GET", "/runs/avg/x")):
        response = await client.request(method, path, headers=headers, auth=lambda request: request)
        problem(response, 401, "unauthenticated")
        assert response.headers["www-authenticate"].startswith("Basic realm=")
    assert airflow.requests == []


async def test_a_wrong_password(client: httpx.AsyncClient, airflow: FakeAirflow, problem: Check) -> None:
    response = await client.post("/runWorkflow/avg", json={"input": [1]}, auth=("admin", "wrong"))
    assert "www-authenticate" in response.headers
    assert "wrong" not in str(problem(response, 401, "unauthenticated"))
    assert not airflow.runs


async def test_a_right_password_does_not_let_a_wrong_one_in(client: httpx.AsyncClient, problem: Check) -> None:
    assert (await client.post("/runWorkflow/avg", json={"input": [1]})).status_code == 200
    problem(await client.post("/runWorkflow/avg", json={"input": [1]}, auth=("admin", "Admin")), 401, "unauthenticated")


async def test_the_token_is_got_once(client: httpx.AsyncClient, airflow: FakeAirflow) -> None:
    for _ in range(3):
        await client.post("/runWorkflow/avg", json={"input": [1]})
    assert airflow.count("/auth/token") == 1


async def test_concurrent_first_calls_share_one_exchange(client: httpx.AsyncClient, airflow: FakeAirflow) -> None:
    airflow.token_delay = 0.05
    responses = await asyncio.gather(*[client.post("/runWorkflow/avg", json={"input": [1]}) for _ in range(10)])
    assert {response.status_code for response in responses} == {200}
    assert airflow.count("/auth/token") == 1


@pytest.mark.parametrize("refusal", [401, 403])
async def test_a_token_that_airflow_no_longer_takes_is_replaced(
    client: httpx.AsyncClient, airflow: FakeAirflow, refusal: int
) -> None:
    await client.post("/runWorkflow/avg", json={"input": [1]})
    airflow.tokens.clear()
    airflow.refusal = refusal
    assert (await client.post("/runWorkflow/avg", json={"input": [1]})).status_code == 200
    assert airflow.count("/auth/token") == 2


@pytest.mark.parametrize("refusal", [401, 403])
async def test_a_fresh_token_that_airflow_does_not_take_is_not_replaced_for_ever(
    client: httpx.AsyncClient, airflow: FakeAirflow, problem: Check, refusal: int
) -> None:
    airflow.take_tokens = False
    airflow.refusal = refusal
    problem(await client.post("/runWorkflow/avg", json={"input": [1]}), 401, "unauthenticated")
    assert airflow.count("/auth/token") == 2
    assert len(client.gateway.calls._tokens) == 0


async def test_a_changed_password_is_noticed_when_the_token_is_refused(
    client: httpx.AsyncClient, airflow: FakeAirflow, problem: Check
) -> None:
    await client.post("/runWorkflow/avg", json={"input": [1]})
    airflow.users["admin"].password = "new"
    airflow.tokens.clear()
    problem(await client.post("/runWorkflow/avg", json={"input": [1]}), 401, "unauthenticated")


async def test_a_bearer_token_is_passed_on(client: httpx.AsyncClient, airflow: FakeAirflow) -> None:
    token = airflow.issue(airflow.users["admin"])
    response = await client.post(
        "/runWorkflow/avg", json={"input": [1]}, headers={"authorization": f"Bearer {token}"}, auth=lambda r: r
    )
    assert response.status_code == 200
    assert airflow.count("/auth/token") == 0


async def test_a_bearer_token_that_airflow_does_not_take(client: httpx.AsyncClient, problem: Check) -> None:
    response = await client.post(
        "/runWorkflow/avg", json={"input": [1]}, headers={"authorization": "Bearer x.y.z"}, auth=lambda r: r
    )
    problem(response, 401, "unauthenticated")


async def test_an_auth_manager_without_tokens(client: httpx.AsyncClient, airflow: FakeAirflow, problem: Check) -> None:
    airflow.overrides["token"] = lambda _: web.json_response({"detail": "Not Found"}, status=404)
    document = problem(await client.post("/runWorkflow/avg", json={"input": [1]}), 502, "airflow-error")
    assert "FAB" in document["detail"]


async def test_cookies_of_one_caller_do_not_go_to_the_next(client: httpx.AsyncClient, airflow: FakeAirflow) -> None:
    def answer(_request: web.Request) -> web.Response:
        response = web.json_response({"access_token": airflow.issue(airflow.users["admin"])}, status=201)
        response.set_cookie("session", "admins")
        return response

    airflow.overrides["token"] = answer
    await client.post("/runWorkflow/avg", json={"input": [1]})
    assert all("Cookie" not in headers for headers in airflow.headers)


async def test_credentials_do_not_show() -> None:
    assert "hunter2" not in repr(Basic("admin", "hunter2"))
    assert "hunter2" not in repr(Bearer("hunter2"))


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


class Exchange:
    def __init__(self, expires: float | None = None) -> None:
        self.calls: list[str] = []
        self.expires = expires

    async def __call__(self, user: str, _password: str) -> str:
        self.calls.append(user)
        await asyncio.sleep(0)
        claims = {} if self.expires is None else {"exp": self.expires}
        return "h." + base64.urlsafe_b64encode(str(claims).replace("'", '"').encode()).decode() + f".{len(self.calls)}"


async def test_tokens_expire_after_their_time_here() -> None:
    clock, exchange = Clock(), Exchange()
    cache = TokenCache(exchange, size=10, ttl=60, now=clock)
    await cache.get(Basic(*ADMIN))
    clock.now += 59
    await cache.get(Basic(*ADMIN))
    assert len(exchange.calls) == 1
    clock.now += 2
    await cache.get(Basic(*ADMIN))
    assert len(exchange.calls) == 2


async def test_tokens_expire_before_they_do_at_airflow() -> None:
    clock, exchange = Clock(), Exchange(expires=1100.0)
    cache = TokenCache(exchange, size=10, ttl=3600, now=clock)
    await cache.get(Basic(*ADMIN))
    clock.now = 1071.0
    await cache.get(Basic(*ADMIN))
    assert len(exchange.calls) == 2


async def test_the_cache_is_bounded_and_keeps_what_is_used() -> None:
    exchange = Exchange()
    cache = TokenCache(exchange, size=2, ttl=60)
    for user in ("a", "b", "a", "c", "a", "b"):
        await cache.get(Basic(user, "p"))
    assert len(cache) == 2
    assert exchange.calls == ["a", "b", "c", "b"]


async def test_users_and_passwords_do_not_run_into_each_other() -> None:
    exchange = Exchange()
    cache = TokenCache(exchange, size=10, ttl=60)
    await cache.get(Basic("ab", "c"))
    await cache.get(Basic("a", "bc"))
    assert exchange.calls == ["ab", "a"]


async def test_no_password_is_kept() -> None:
    cache = TokenCache(Exchange(), size=10, ttl=60)
    await cache.get(Basic("admin", "hunter2"))
    assert b"hunter2" not in b"".join(cache._tokens)
    assert "hunter2" not in str(vars(cache))


async def test_a_token_that_was_replaced_since_is_not_dropped() -> None:
    cache = TokenCache(Exchange(), size=10, ttl=60)
    credentials = Basic(*ADMIN)
    old = await cache.get(credentials)
    cache.drop(credentials, old)
    new = await cache.get(credentials)
    cache.drop(credentials, old)
    assert await cache.get(credentials) is new


async def test_one_caller_who_hangs_up_does_not_fail_the_others() -> None:
    started, release = asyncio.Event(), asyncio.Event()

    async def exchange(_user: str, _password: str) -> str:
        started.set()
        await release.wait()
        return "token"

    cache = TokenCache(exchange, size=10, ttl=60)
    first = asyncio.create_task(cache.get(Basic(*ADMIN)))
    await started.wait()
    second = asyncio.create_task(cache.get(Basic(*ADMIN)))
    await asyncio.sleep(0)
    first.cancel()
    release.set()
    assert (await second).text == "token"
