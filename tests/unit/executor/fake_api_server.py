"""A small API server with one collection: versions, pages, watches and expiry as Kubernetes has them.

See "Efficient detection of changes" and "Retrieving large results sets in chunks" in the Kubernetes API concepts.
"""

from __future__ import annotations

import asyncio
import contextlib
import copy
import json
import ssl
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from typing import TYPE_CHECKING, Any

from aiohttp import web
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

if TYPE_CHECKING:
    from pathlib import Path

PATH = "/apis/serving.knative.dev/v1/namespaces/{namespace}/services"
Object = dict[str, Any]


def make_certificates(folder: Path) -> ssl.SSLContext:
    """Write `ca.crt` into a folder, and return a server's side for 127.0.0.1 that it vouches for."""
    now = datetime.now(UTC)
    authority, key = ec.generate_private_key(ec.SECP256R1()), ec.generate_private_key(ec.SECP256R1())
    issuer = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "kubernetes")])
    identifier = x509.SubjectKeyIdentifier.from_public_key(authority.public_key())

    def builder(subject: x509.Name, public: ec.EllipticCurvePublicKey) -> x509.CertificateBuilder:
        return (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(issuer)
            .public_key(public)
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - timedelta(hours=1))
            .not_valid_after(now + timedelta(hours=1))
            .add_extension(x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(identifier), critical=False)
        )

    usage = x509.KeyUsage(
        digital_signature=True,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=True,
        crl_sign=True,
        encipher_only=False,
        decipher_only=False,
    )
    ca = (
        builder(issuer, authority.public_key())
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .add_extension(usage, critical=True)
        .add_extension(identifier, critical=False)
        .sign(authority, hashes.SHA256())
    )
    server = (
        builder(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "kube-apiserver")]), key.public_key())
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ip_address("127.0.0.1"))]), critical=False)
        .sign(authority, hashes.SHA256())
    )
    pem = serialization.Encoding.PEM
    (folder / "ca.crt").write_bytes(ca.public_bytes(pem))
    (folder / "server.crt").write_bytes(server.public_bytes(pem))
    (folder / "server.key").write_bytes(
        key.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(folder / "server.crt", folder / "server.key")
    return context


@dataclass
class _Watch:
    request: web.Request
    news: asyncio.Event = field(default_factory=asyncio.Event)
    broken: bool = False


@dataclass
class FakeApiServer:
    tls: ssl.SSLContext
    namespace: str = "flows"
    token: str = "first"
    page: int = 500
    """Objects in a page at most, whatever is asked for."""
    expired_by_event: bool = True
    """Whether a watch from a forgotten version is answered with an event, as by the watch cache, or with a status."""
    refuse: tuple[int, str] | None = None
    """Status and message of the answer to everything."""
    lists: int = 0
    watched_from: list[str] = field(default_factory=list)
    """The version that each watch began with."""
    url: str = ""
    _objects: dict[str, Object] = field(default_factory=dict)
    _history: list[tuple[int, str, Object]] = field(default_factory=list)
    _version: int = 100
    _forgotten: int = 0
    _watches: list[_Watch] = field(default_factory=list)
    _runner: web.AppRunner = field(init=False)

    async def start(self) -> None:
        app = web.Application()
        app.router.add_get(PATH.format(namespace=self.namespace), self._get)
        self._runner = web.AppRunner(app, shutdown_timeout=0)
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", 0, ssl_context=self.tls)
        await site.start()
        self.url = f"https://127.0.0.1:{self._runner.addresses[0][1]}"

    async def stop(self) -> None:
        self.disconnect()
        await self._runner.cleanup()

    async def put(self, found: Object) -> None:
        name = found["metadata"]["name"]
        await self._change("MODIFIED" if name in self._objects else "ADDED", found)

    async def delete(self, name: str) -> None:
        await self._change("DELETED", self._objects.pop(name))

    async def put_unseen(self, found: Object) -> None:
        """Change an object without telling the watches, as a cache of the server's that lags behind."""
        self._version += 1
        self._objects[found["metadata"]["name"]] = self._stamped(found)

    async def bookmark(self) -> None:
        """Tell the watches how far they are, after changes to what they do not watch."""
        self._version += 10
        self._forgotten = self._version - 1
        await self._tell("BOOKMARK", {"kind": "Service", "metadata": {"resourceVersion": str(self._version)}})

    async def forget(self) -> None:
        """Drop all history, as etcd does after some minutes."""
        self._version += 1
        self._forgotten = self._version
        self._history.clear()

    def disconnect(self) -> None:
        """Break all watches off, in the middle of what they are at."""
        for watch in self._watches:
            watch.broken = True
            watch.news.set()
            if watch.request.transport is not None:
                watch.request.transport.abort()

    @property
    def watchers(self) -> int:
        return len(self._watches)

    def _stamped(self, found: Object) -> Object:
        found = copy.deepcopy(found)
        found["metadata"]["resourceVersion"] = str(self._version)
        return found

    async def _change(self, kind: str, found: Object) -> None:
        self._version += 1
        found = self._stamped(found)
        if kind != "DELETED":
            self._objects[found["metadata"]["name"]] = found
        await self._tell(kind, found)

    async def _tell(self, kind: str, found: Object) -> None:
        self._history.append((self._version, kind, found))
        for watch in self._watches:
            watch.news.set()

    async def _get(self, request: web.Request) -> web.StreamResponse:
        if request.headers.get("authorization") != f"Bearer {self.token}":
            return _status(401, "Unauthorized")
        if self.refuse is not None:
            return _status(*self.refuse)
        if request.query.get("watch"):
            return await self._watch(request)
        self.lists += 1
        return self._list(request)

    def _list(self, request: web.Request) -> web.Response:
        version, _, begin = request.query.get("continue", f"{self._version}/0").partition("/")
        if int(version) < self._forgotten:
            return _status(410, "The provided continue parameter is too old")
        size = min(self.page, int(request.query["limit"]))
        items = sorted(self._objects.items())[int(begin) :]
        metadata: Object = {"resourceVersion": version}
        if len(items) > size:
            metadata["continue"] = f"{version}/{int(begin) + size}"
        body = {"kind": "ServiceList", "metadata": metadata, "items": [found for _, found in items[:size]]}
        return web.json_response(body)

    async def _watch(self, request: web.Request) -> web.StreamResponse:
        version = int(request.query["resourceVersion"])
        self.watched_from.append(str(version))
        assert request.query["allowWatchBookmarks"] == "true"
        message = f"too old resource version: {version} ({self._forgotten})"
        if version < self._forgotten and not self.expired_by_event:
            return _status(410, message)
        response = web.StreamResponse(headers={"content-type": "application/json"})
        await response.prepare(request)
        if version < self._forgotten:
            error = {"kind": "Status", "code": 410, "reason": "Expired", "message": message}
            await response.write(json.dumps({"type": "ERROR", "object": error}).encode() + b"\n")
            return response
        watch = _Watch(request)
        self._watches.append(watch)
        loop = asyncio.get_running_loop()
        until = loop.time() + float(request.query["timeoutSeconds"])
        try:
            while not watch.broken and loop.time() < until:
                watch.news.clear()
                for at, kind, found in list(self._history):
                    if at > version:
                        version = at
                        line = json.dumps({"type": kind, "object": found}).encode() + b"\n"
                        # Chunks end where they will, not where events do.
                        await response.write(line[:20])
                        await asyncio.sleep(0)
                        await response.write(line[20:])
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(watch.news.wait(), until - loop.time())
        except ConnectionError:
            pass
        finally:
            self._watches.remove(watch)
        return response


def _status(code: int, message: str) -> web.Response:
    return web.json_response({"kind": "Status", "code": code, "message": message}, status=code)
