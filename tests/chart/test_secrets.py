"""Secrets: generated, kept apart from everything that is readable, or named by the user."""

from __future__ import annotations

import base64
import json
import re
import subprocess
from typing import TYPE_CHECKING

import pytest
from cryptography.fernet import Fernet
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from .rendering import (
    EVERYTHING,
    EXISTING_SECRETS,
    EXTERNAL_DATABASE,
    VALUES,
    WORKFLOWS,
    Chart,
    Object,
    containers,
    environment,
    pods,
    secret,
)

if TYPE_CHECKING:
    from pathlib import Path

PASSWORDS: Object = {
    "fernetKey": base64.urlsafe_b64encode(b"f" * 32).decode(),
    "jwtSecret": "the-jwt-secret",
    "apiSecretKey": "the-api-secret-key",
    "createUserJob": {"defaultUser": {"password": "the-user-password"}},
    "postgresql": {"auth": {"password": "the-database-password"}},
}


def _secrets(objects: list[Object]) -> set[str]:
    found = {
        base64.b64decode(value).decode() for it in objects if it["kind"] == "Secret" for value in it["data"].values()
    }
    return found | {it.rpartition("://")[2] for it in found if "://" in it}


@pytest.mark.parametrize("values", [PASSWORDS, EVERYTHING, EXTERNAL_DATABASE], ids=["given", "generated", "external"])
def test_no_secret_stands_outside_of_secrets(chart: Chart, values: Object) -> None:
    values = {**values, "createUserJob": {"defaultUser": {"password": "the-user-password"}}}
    objects = chart.render(values)
    secrets = _secrets(objects)
    assert "the-user-password" in secrets
    readable = json.dumps([it for it in objects if it["kind"] != "Secret"])
    for found in secrets:
        assert found not in readable
        assert base64.b64encode(found.encode()).decode() not in readable


def test_every_given_value_reaches_its_secret(chart: Chart) -> None:
    def value(name: str, key: str) -> str:
        return secret(chart.one(PASSWORDS, "Secret", name), key)

    assert value("airflow-fernet-key", "fernet-key") == PASSWORDS["fernetKey"]
    assert value("airflow-jwt-secret", "jwt-secret") == "the-jwt-secret"
    assert value("airflow-api-secret-key", "api-secret-key") == "the-api-secret-key"
    assert value("airflow-default-user", "password") == "the-user-password"
    assert value("airflow-postgresql", "password") == "the-database-password"


def test_generated_secrets_are_long_and_differ_from_one_rendering_to_the_next(chart: Chart) -> None:
    first, second = chart.render({}), chart.render({"labels": {"another": "rendering"}})
    for name, key in (
        ("airflow-jwt-secret", "jwt-secret"),
        ("airflow-api-secret-key", "api-secret-key"),
        ("airflow-fernet-key", "fernet-key"),
        ("airflow-postgresql", "password"),
        ("airflow-signing-key", "private.pem"),
    ):
        one, other = (
            secret(next(it for it in objects if it["kind"] == "Secret" and it["metadata"]["name"] == name), key)
            for objects in (first, second)
        )
        assert len(one) >= 32
        assert one != other


def test_the_generated_fernet_key_encrypts(chart: Chart) -> None:
    key = secret(chart.one({}, "Secret", "airflow-fernet-key"), "fernet-key")
    assert Fernet(key).decrypt(Fernet(key).encrypt(b"x")) == b"x"


@pytest.mark.parametrize("number", range(4))
def test_workers_get_the_public_half_of_the_signing_key(chart: Chart, number: int) -> None:
    values = {"labels": {"number": f"n{number}"}}
    private = serialization.load_pem_private_key(
        secret(chart.one(values, "Secret", "airflow-signing-key"), "private.pem").encode(), password=None
    )
    public = serialization.load_pem_public_key(
        chart.one(values, "ConfigMap", "airflow-signing-key-public")["data"]["public.pem"].encode()
    )
    assert isinstance(private, Ed25519PrivateKey)
    assert isinstance(public, Ed25519PublicKey)
    public.verify(private.sign(b"a request"), b"a request")


def test_the_database_url_is_of_the_embedded_database(chart: Chart) -> None:
    password = secret(chart.one({}, "Secret", "airflow-postgresql"), "password")
    assert secret(chart.one({}, "Secret", "airflow-metadata"), "connection") == (
        f"postgresql+psycopg2://airflow:{password}@airflow-postgresql.flows.svc.cluster.local:5432/airflow"
    )


def test_the_url_of_an_external_database_is_quoted_for_both_drivers(chart: Chart) -> None:
    found = chart.one(EXTERNAL_DATABASE, "Secret", "airflow-metadata")
    place = "air%40flow:p%20w%2F%25@db.example:5432/airflow"
    assert secret(found, "connection") == f"postgresql+psycopg2://{place}?sslmode=require"
    assert secret(found, "connection-async") == f"postgresql+asyncpg://{place}?ssl=require"


def test_existing_secrets_take_the_place_of_all(chart: Chart) -> None:
    objects = chart.render(EXISTING_SECRETS)
    assert [it["metadata"]["name"] for it in objects if it["kind"] == "Secret"] == []
    text = json.dumps(objects)
    for name in ("own-fernet", "own-jwt", "own-api", "own-signing", "own-metadata", "own-postgresql", "own-user"):
        assert json.dumps(name) in text


def test_only_the_scheduler_mounts_the_private_key(chart: Chart) -> None:
    holders = {
        name
        for name, pod in pods(chart.render(EVERYTHING)).items()
        if "airflow-signing-key" in json.dumps(pod["spec"].get("volumes", [])).replace("signing-key-public", "")
    }
    assert holders == {"airflow-scheduler"}


@pytest.mark.parametrize("values", VALUES.values(), ids=VALUES)
def test_nothing_is_kept_by_an_uninstallation(chart: Chart, values: Object) -> None:
    assert not [it for it in chart.render(values) if "helm.sh/resource-policy" in it["metadata"].get("annotations", {})]


def test_an_older_volume_gets_the_password_of_the_secret(chart: Chart, tmp_path: Path) -> None:
    """The script, with a stand-in for the server that shows what it would get."""
    values = {"postgresql": {"auth": {"username": 'a"b'}}}
    spec = pods(chart.render(values))["airflow-postgresql"]["spec"]
    (setting,) = spec["initContainers"]
    (tmp_path / "password").write_text("it's \\ $HOME %s")
    (tmp_path / "postgres").write_text('#!/bin/sh\necho "$@" >&2; cat >&2\n')
    (tmp_path / "postgres").chmod(0o755)
    variables = {
        "PATH": f"{tmp_path}:/usr/bin:/bin",
        "PGDATA": str(tmp_path),
        "POSTGRES_USER": environment(setting)["POSTGRES_USER"],
        "POSTGRES_PASSWORD_FILE": str(tmp_path / "password"),
    }

    def run() -> str:
        command = [*setting["command"], *setting["args"]]
        return subprocess.run(command, env=variables, capture_output=True, text=True, check=True).stderr

    assert run() == "", "there is no database yet"
    (tmp_path / "PG_VERSION").write_text("15")
    options, statement = run().splitlines()
    assert options == f"--single -c exit_on_error=on -D {tmp_path} postgres"
    assert statement == """ALTER ROLE "a""b" PASSWORD 'it''s \\ $HOME %s'"""


def test_no_command_line_names_a_variable_that_holds_a_secret(chart: Chart) -> None:
    """Kubernetes puts the value of `$(NAME)` into the arguments, where every process can read it."""
    for pod in pods(chart.render(EVERYTHING)).values():
        for container in containers(pod):
            said = [*container.get("command", []), *container.get("args", [])]
            assert not [it for it in said if re.search(r"(?<!\$)\$\([A-Za-z_][A-Za-z0-9_]*\)", it)]


def _changed(chart: Chart, one: Object, other: Object) -> set[str]:
    """Names of pods and jobs that are not the same."""

    def found(values: Object) -> dict[str, str]:
        objects = chart.render(values)
        jobs = {it["metadata"]["name"]: "" for it in objects if it["kind"] == "Job"}
        return jobs | {name: json.dumps(it, sort_keys=True) for name, it in pods(objects).items()}

    return {re.sub(r"-[0-9a-f]{8}$", "", name) for name, _ in found(one).items() ^ found(other).items()}


AIRFLOW = {"airflow-api-server", "airflow-scheduler", "airflow-dag-processor", "airflow-triggerer"}
JOBS = {"airflow-run-airflow-migrations", "airflow-create-user"}


@pytest.mark.parametrize(
    "given",
    [
        {"data": {"metadataConnection": {"pass": "another"}}},
        {"data": {"metadataConnection": {"host": "another.example"}}},
        {"jwtSecret": "another"},
        {"apiSecretKey": "another"},
    ],
    ids=["password", "host", "jwt", "api"],
)
def test_a_given_secret_that_changes_starts_what_reads_it_anew(chart: Chart, given: Object) -> None:
    connection = {
        **EXTERNAL_DATABASE["data"]["metadataConnection"],
        **given.get("data", {}).get("metadataConnection", {}),
    }
    values = {**EXTERNAL_DATABASE, **given, "data": {"metadataConnection": connection}}
    changed = _changed(chart, EXTERNAL_DATABASE, values)
    assert changed >= AIRFLOW | JOBS


def test_another_database_is_migrated(chart: Chart) -> None:
    assert _changed(chart, {}, EXTERNAL_DATABASE) >= AIRFLOW | JOBS


def test_another_signing_key_starts_workers_and_scheduler_anew(chart: Chart) -> None:
    def signed(key: str) -> Object:
        return {
            **EVERYTHING,
            "signingKey": {"existingSecret": "own", "publicKey": f"-----BEGIN PUBLIC KEY-----\n{key}"},
        }

    changed = _changed(chart, signed("a"), signed("b"))
    assert changed >= {"airflow-scheduler", *(it["name"] for it in WORKFLOWS)}
    assert not changed & {"airflow-api-server", *JOBS}
    assert _changed(chart, EVERYTHING, signed("a")) >= {"airflow-scheduler", *(it["name"] for it in WORKFLOWS)}
