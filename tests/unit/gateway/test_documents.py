from __future__ import annotations

import json
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from airflow_knative.gateway.problems import KINDS

if TYPE_CHECKING:
    from collections.abc import Iterator

    import httpx

    from .conftest import Connect

pytestmark = pytest.mark.asyncio


def references(value: Any) -> Iterator[str]:
    if isinstance(value, dict):
        if "$ref" in value:
            yield value["$ref"]
        for item in value.values():
            yield from references(item)
    elif isinstance(value, list):
        for item in value:
            yield from references(item)


async def test_the_openapi_document_is_whole(client: httpx.AsyncClient) -> None:
    response = await client.get("/openapi.json", auth=lambda request: request)
    assert response.headers["content-type"] == "application/json"
    document = response.json()
    assert document["openapi"].startswith("3.1")
    for reference in references(document):
        target = document
        for name in reference.removeprefix("#/").split("/"):
            target = target[name]
    described = {path: set(item) for path, item in document["paths"].items()}
    assert described == {
        "/runWorkflow/{dag_id}": {"post"},
        "/runs/{dag_id}/{run_id}": {"get"},
        "/healthz": {"get"},
        "/readyz": {"get"},
        "/openapi.json": {"get"},
        "/docs": {"get"},
    }


async def test_every_kind_of_problem_is_described(client: httpx.AsyncClient) -> None:
    document = (await client.get("/openapi.json")).json()
    responses = document["paths"]["/runWorkflow/{dag_id}"]["post"]["responses"]
    described = re.findall(r"urn:airflow-knative:problem:([a-z-]+)", json.dumps(responses))
    assert set(described) == set(KINDS) - {"unknown-path", "method-not-allowed"}
    for status in (400, 401, 403, 404, 409, 413, 415, 422, 500, 502, 503, 504):
        assert "application/problem+json" in responses[str(status)]["content"]


async def test_the_limits_of_this_gateway_are_in_the_document(connect: Connect) -> None:
    client = await connect(wait_timeout=77, max_body_bytes=12345)
    text = (await client.get("/openapi.json")).text
    assert "at most 77" in text
    assert "at most 12345 bytes" in text


async def test_the_page_needs_nothing_from_elsewhere(client: httpx.AsyncClient) -> None:
    response = await client.get("/docs", auth=lambda request: request)
    assert response.headers["content-type"] == "text/html; charset=utf-8"
    assert "default-src 'none'" in response.headers["content-security-policy"]
    tags: list[tuple[str, dict[str, str | None]]] = []

    class Collector(HTMLParser):
        def handle_starttag(self, tag: Any, attrs: Any) -> None:
            tags.append((tag, dict(attrs)))

    Collector().feed(response.text)
    assert not any(tag in {"script", "link", "img", "iframe"} for tag, _ in tags)
    assert {attrs["href"] for tag, attrs in tags if tag == "a"} == {"openapi.json"}
    assert "/runWorkflow/{dag_id}" in response.text


async def test_the_documentation_names_every_kind_of_problem() -> None:
    text = (Path(__file__).parents[3] / "docs" / "gateway.md").read_text(encoding="utf-8")
    for kind, (status, _) in KINDS.items():
        assert re.search(rf"^\| {int(status)} \|.*`{kind}`", text, re.MULTILINE), kind
