from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from .deployment import EXAMPLES, Deployment

if TYPE_CHECKING:
    from collections.abc import Iterator

# Started at once; the rest is started by its own test, since it has to be led by the hand.
BATCH = [
    "out_of_time",
    "retries",
    "policies",
    "callbacks",
    "good",
    "trigger_rules",
    "branches",
    "short_circuits",
    "groups",
    "setups",
    "teardown_decides",
    "mapped",
    "mapped_trouble",
    "mapped_groups",
    "sensors",
    "deferrals",
    "triggers",
    "people",
    "xcoms",
    "large_values",
    "params",
    "templates",
    "native_templates",
    "context",
    "settings",
    "produces",
    "pools",
    "priorities",
    "cleared",
]


@pytest.fixture(scope="session")
def deployment(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Deployment]:
    with Deployment(tmp_path_factory.mktemp("semantics")) as deployment:
        _prepare(deployment)
        for dag in BATCH:
            deployment.trigger(
                dag, **({"word": "hello"} if dag in {"templates", "native_templates", "context"} else {})
            )
        for example in EXAMPLES:
            for dag in deployment.dags_of(example):
                deployment.trigger(dag)
        deployment.trigger("many", count=200)
        yield deployment


def _prepare(deployment: Deployment) -> None:
    variables = {"plain": "hello", "settings": '{"a": [1]}', "secret_word": "sesame-of-the-variable"}
    for key, value in variables.items():
        deployment.post("variables", {"key": key, "value": value})
    deployment.post(
        "connections",
        {
            "connection_id": "warehouse",
            "conn_type": "postgres",
            "host": "db.example",
            "login": "reader",
            "password": "sesame-of-the-connection",
            "schema": "facts",
            "extra": '{"sslmode": "require"}',
        },
    )
    for executor in ("knative", "local"):
        deployment.post("pools", {"name": f"one_slot_on_{executor}", "slots": 1})
        deployment.post("pools", {"name": f"two_slots_on_{executor}", "slots": 3})
