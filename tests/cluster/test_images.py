"""The mirror's images load into Docker and their programs say the pinned version."""

from __future__ import annotations

import subprocess
import time
from typing import TYPE_CHECKING

import pytest
from testnodes.docker import docker
from testnodes.errors import NodeError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from testnodes.mirror import Mirror

# Pin, the end of the image's repository, and the arguments that make it tell its version.
_VERSIONS = [
    ("base", "base", ["python3", "--version"]),
    ("kubernetes", "kube-apiserver", ["--version"]),
    ("kubernetes", "kube-controller-manager", ["--version"]),
    ("kubernetes", "kube-scheduler", ["--version"]),
    ("kubernetes", "kube-proxy", ["--version"]),
    ("etcd", "etcd", ["etcd", "--version"]),
    ("coredns", "coredns", ["-version"]),
    ("flannel", "flannel", ["--version"]),
    ("envoy", "envoy", ["--version"]),
    ("registry", "registry", ["/bin/registry", "--version"]),
    ("postgresql", "postgres", ["postgres", "--version"]),
    ("statsd-exporter", "statsd-exporter", ["--version"]),
    ("local-path-provisioner", "local-path-provisioner", ["local-path-provisioner", "--version"]),
    ("busybox", "busybox", ["sh", "-c", "busybox | head -n 1"]),
]


@pytest.fixture
def load(mirror: Mirror) -> Iterator[Callable[[str, str], str]]:
    """Load the image of a pin whose repository ends like this; removed afterwards."""
    loaded: list[str] = []

    def loader(pin: str, ending: str) -> str:
        name = next(name for name in mirror.images(pin) if name.rpartition(":")[0].endswith(f"/{ending}"))
        docker("load", "--input", str(mirror.image(name)))
        loaded.append(name)
        return name

    yield loader
    for name in loaded:
        docker("rmi", "--force", name)


@pytest.mark.parametrize(("pin", "ending", "arguments"), _VERSIONS, ids=[case[1] for case in _VERSIONS])
def test_an_image_runs_the_pinned_version(
    mirror: Mirror, load: Callable[[str, str], str], pin: str, ending: str, arguments: list[str]
) -> None:
    image = load(pin, ending)
    name = f"version-{ending}"
    # A path stands in for the entrypoint.
    program = ["--entrypoint", arguments[0]] if arguments[0].startswith("/") else []
    docker("create", "--name", name, "--network", "none", *program, image, *arguments[len(program) // 2 :])
    try:
        docker("start", "--attach", name)
        answer = _both_streams(name)  # some print their version on the standard error
    finally:
        docker("rm", "--force", "--volumes", name)
    assert mirror.pins[pin].version in answer


def _both_streams(container: str) -> str:
    done = subprocess.run(["docker", "logs", container], check=True, capture_output=True, text=True)
    return done.stdout + done.stderr


def test_postgres_makes_its_database_and_keeps_it(load: Callable[[str, str], str]) -> None:
    image = load("postgresql", "postgres")
    settings = ["--env", "POSTGRES_PASSWORD=secret", "--env", "POSTGRES_USER=airflow", "--env", "POSTGRES_DB=data-base"]
    name = "test-postgres"
    query = ["psql", "--host", "127.0.0.1", "--username", "airflow", "--dbname", "data-base", "--no-psqlrc", "-Atc"]
    try:
        docker("run", "--detach", "--name", name, "--network", "none", *settings, image)
        _wait(name)
        docker("exec", "--env", "PGPASSWORD=secret", name, *query, "CREATE TABLE kept AS SELECT 42 AS answer")
        with pytest.raises(NodeError, match="password authentication failed"):
            docker("exec", "--env", "PGPASSWORD=wrong", name, *query, "SELECT 1")
        assert docker("exec", name, "stat", "-c", "%u", "/var/lib/postgresql/data") == "999"
        docker("restart", "--time", "30", name)
        _wait(name)
        assert docker("exec", "--env", "PGPASSWORD=secret", name, *query, "SELECT answer FROM kept") == "42"
    finally:
        docker("rm", "--force", "--volumes", name)


def test_postgres_asks_for_a_password(load: Callable[[str, str], str]) -> None:
    image = load("postgresql", "postgres")
    with pytest.raises(NodeError, match="POSTGRES_PASSWORD is empty"):
        docker("run", "--rm", "--network", "none", image)


def _wait(name: str) -> None:
    ready = ["pg_isready", "--host", "127.0.0.1", "--username", "airflow"]
    end = time.monotonic() + 60
    while True:
        try:
            docker("exec", name, *ready)
        except NodeError:
            if time.monotonic() > end:
                raise AssertionError(_both_streams(name)) from None
            time.sleep(0.2)
        else:
            return
