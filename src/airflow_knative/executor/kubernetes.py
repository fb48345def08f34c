"""Listing and watching one kind of object at a Kubernetes API server.

Two requests over aiohttp, which the dispatcher has loaded anyway: a client library brings models of every kind there is
(kubernetes_asyncio: 967 modules, 0.2 s of processor time at each start) and leaves the rules of watching to its caller.
See "Efficient detection of changes" in the Kubernetes API concepts.
"""

from __future__ import annotations

import json
import os
import random
import ssl
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Self

import aiohttp

from airflow_knative.errors import AirflowKnativeError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping

__all__ = ["ApiError", "Cluster", "Event", "ExpiredError", "Resource"]

_ACCOUNT: Final = Path("/var/run/secrets/kubernetes.io/serviceaccount")
_PAGE: Final = 500  # objects
_LIST_TIMEOUT: Final = 30.0  # seconds
_CONNECT_TIMEOUT: Final = 10.0
_WATCH_SECONDS: Final = (240, 360)  # that the server is asked to keep a watch open; spread, so that not all end at once
_SILENCE: Final = 150.0  # seconds without a byte, bookmarks included, after which a watch counts as dead
_LINE_LIMIT: Final = 16 * 1024 * 1024  # bytes of one event; the server's own limit of an object is 1.5 MB
_SHOWN: Final = 300
_GONE: Final = 410


class ApiError(AirflowKnativeError):
    """The API server cannot be reached, or refuses."""


class ExpiredError(ApiError):
    """The server no longer has the history that a watch starts from: list again."""


@dataclass(frozen=True)
class Cluster:
    """How a cluster's API server is reached with a service account.

    The files are read again for every request: the kubelet renews the token.
    """

    url: str
    """Scheme and authority."""
    account: Path = _ACCOUNT
    """Folder with the files `token`, `ca.crt` and `namespace`."""

    @classmethod
    def of_this_pod(cls, environment: Mapping[str, str] = os.environ) -> Self:
        """Return the cluster in which this process runs in a pod.

        Raises:
            AirflowKnativeError: this is no pod.
        """
        host, port = environment.get("KUBERNETES_SERVICE_HOST"), environment.get("KUBERNETES_SERVICE_PORT")
        if not host or not port:
            raise AirflowKnativeError(
                "[knative] endpoints is a form of kubernetes:, which works in a pod only: KUBERNETES_SERVICE_HOST and "
                "KUBERNETES_SERVICE_PORT are not set. Elsewhere name a file: file:///path/to/endpoints.json."
            )
        return cls(f"https://[{host}]:{port}" if ":" in host else f"https://{host}:{port}")

    def read(self, name: str) -> str:
        """Return the text of one of the service account's files.

        Raises:
            ApiError: it cannot be read.
        """
        path = self.account / name
        try:
            return path.read_text().strip()
        except OSError as error:
            raise ApiError(
                f"{path} cannot be read ({error.strerror}): this pod needs the token of its service account."
            ) from error

    def tls(self) -> ssl.SSLContext | bool:
        """Return what verifies the API server.

        Raises:
            ApiError: the certificate authority cannot be read.
        """
        if not self.url.startswith("https:"):
            return True  # of no effect
        path = self.account / "ca.crt"
        try:
            return ssl.create_default_context(cafile=str(path))
        except OSError as error:  # an SSLError is one
            raise ApiError(f"{path} is no certificate authority: {error}") from error


@dataclass(frozen=True)
class Event:
    """One change: `ADDED`, `MODIFIED` or `DELETED`, or a `BOOKMARK` without any."""

    kind: str
    object: dict[str, Any]

    @property
    def version(self) -> str:
        """Where a watch that goes on after this one starts."""
        return str(self.object["metadata"]["resourceVersion"])


@dataclass
class Resource:
    """The objects of one kind in a namespace; use as an asynchronous context manager."""

    cluster: Cluster
    path: str
    """Such as `/apis/serving.knative.dev/v1/namespaces/flows/services`."""
    _session: aiohttp.ClientSession = field(init=False, repr=False)

    async def __aenter__(self) -> Self:
        """Open the session."""
        self._session = aiohttp.ClientSession(trust_env=False)
        return self

    async def __aexit__(self, *_exc: object) -> None:
        """Close every connection."""
        await self._session.close()

    async def list(self) -> tuple[list[dict[str, Any]], str]:
        """Return all objects as they are now, and the version from which a watch goes on.

        Raises:
            ApiError: the server cannot be reached, or refuses.
        """
        timeout = aiohttp.ClientTimeout(total=_LIST_TIMEOUT)
        found: list[dict[str, Any]] = []
        query = {"limit": str(_PAGE)}
        while True:
            try:
                async with self._get(query, timeout) as response:
                    page = json.loads(await self._body(response))
                    version = str(page["metadata"]["resourceVersion"])
                    found += page["items"]
                    following = page["metadata"].get("continue")
            except ExpiredError:
                if "continue" not in query:
                    raise
                found, following = [], None  # the pages took too long to be of one version
            except (aiohttp.ClientError, OSError, TimeoutError, ValueError, LookupError, TypeError) as error:
                raise ApiError(f"{self.cluster.url}{self.path} cannot be read: {error!r}") from error
            else:
                if not following:
                    return found, version
            query = {"limit": str(_PAGE)} | ({"continue": following} if following else {})

    async def watch(self, version: str) -> AsyncIterator[Event]:
        """Yield what changes after `version`, until the server or the network ends it.

        Raises:
            ExpiredError: the server has forgotten `version`.
            ApiError: the server cannot be reached, or refuses.
        """
        query = {
            "watch": "1",
            "resourceVersion": version,
            "allowWatchBookmarks": "true",
            "timeoutSeconds": str(random.randint(*_WATCH_SECONDS)),  # noqa: S311
        }
        timeout = aiohttp.ClientTimeout(total=None, sock_connect=_CONNECT_TIMEOUT, sock_read=_SILENCE)
        try:
            async with self._get(query, timeout) as response:
                if response.status != 200:  # noqa: PLR2004
                    await self._body(response)
                async for line in _lines(response):
                    yield _event(json.loads(line))
        except (aiohttp.ClientError, OSError, TimeoutError, ValueError, LookupError, TypeError) as error:
            raise ApiError(f"The watch of {self.cluster.url}{self.path} broke off: {error!r}") from error

    def _get(self, query: dict[str, str], timeout: aiohttp.ClientTimeout) -> Any:
        return self._session.get(
            f"{self.cluster.url}{self.path}",
            params=query,
            headers={"authorization": f"Bearer {self.cluster.read('token')}", "accept": "application/json"},
            ssl=self.cluster.tls(),
            timeout=timeout,
            allow_redirects=False,
        )

    async def _body(self, response: aiohttp.ClientResponse) -> bytes:
        body = await response.read()
        if response.status == 200:  # noqa: PLR2004
            return body
        try:
            said = str(json.loads(body)["message"])
        except (ValueError, LookupError, TypeError):
            said = body[:_SHOWN].decode(errors="replace").strip()
        kind = ExpiredError if response.status == _GONE else ApiError
        raise kind(f"{self.cluster.url}{self.path} answered {response.status}: {said}")


async def _lines(response: aiohttp.ClientResponse) -> AsyncIterator[bytes]:
    rest = b""
    async for chunk in response.content.iter_any():
        *lines, rest = (rest + chunk).split(b"\n")
        for line in lines:
            yield line
        if len(rest) > _LINE_LIMIT:
            raise ValueError(f"an event of more than {_LINE_LIMIT} bytes")


def _event(message: dict[str, Any]) -> Event:
    if message["type"] == "ERROR":
        status = message["object"]
        kind = ExpiredError if status.get("code") == _GONE else ApiError
        raise kind(f"The API server ended the watch: {status.get('code')} {status.get('message')}")
    event = Event(str(message["type"]), message["object"])
    if not event.version:
        raise ValueError(f"an event without a version: {message}")
    return event
