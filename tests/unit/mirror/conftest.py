from __future__ import annotations

import textwrap
import threading
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

REPOSITORY = Path(__file__).parents[3]

PINS = """
epoch: 1735689600
platform: linux/amd64
pins:
  tool:
    title: A tool
    version: 4.5.6
    project: https://tool.example
    build: {kind: none, reason: comes with this repository}
    files:
      - {path: "example.com/tool/v{version}/tool", checksum: "{path}.sha256", build: {copy: repo/tool}}
      - path: example.com/tool/v{version}.tgz
        checksum: example.com/tool/SUMS
        build: {archive: {bin/tool: repo/tool}}
    images:
      - {name: "example.com/team/tool:v{version}", aliases: ["example.com/team/tool:latest"], container: tooler,
         files: {/bin/tool: repo/tool}, links: {/bin/other: tool}, entrypoint: [/bin/tool], user: "65532"}
"""


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A repository with one pin that needs nothing built."""
    folder = tmp_path / "root"
    (folder / "mirror").mkdir(parents=True)
    (folder / "mirror" / "pins.yaml").write_text(PINS)
    (folder / "tool").write_text("#!/bin/sh\necho a tool\n")
    (folder / "tool").chmod(0o755)
    return folder


@pytest.fixture
def write_pins(tmp_path: Path) -> Callable[[str], Path]:
    def write(text: str) -> Path:
        path = tmp_path / "pins.yaml"
        path.write_text(
            f"epoch: 1735689600\nplatform: linux/amd64\npins:\n{textwrap.indent(textwrap.dedent(text), '  ')}"
        )
        return path

    return write


class Upstream:
    """A web server on loopback that stands for everything upstream: paths to what they answer."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.answers: dict[str, tuple[int, dict[str, str], bytes]] = {}
        self.requests: list[tuple[str, dict[str, str]]] = []

    def put(self, path: str, body: bytes, kind: str = "application/octet-stream") -> None:
        self.answers[f"/{path}"] = (200, {"Content-Type": kind}, body)


@contextmanager
def _serving() -> Iterator[Upstream]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            upstream.requests.append((self.path, dict(self.headers)))
            status, headers, body = upstream.answers.get(self.path.partition("?")[0], (404, {}, b"not here"))
            begin = int(self.headers.get("Range", "bytes=0-").removeprefix("bytes=").rstrip("-"))
            self.send_response(206 if begin and status == 200 else status)
            for name, value in headers.items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(body) - begin))
            self.end_headers()
            self.wfile.write(body[begin:])

        def log_message(self, *args: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    upstream = Upstream(f"http://127.0.0.1:{server.server_address[1]}")
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield upstream
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


@pytest.fixture
def upstream() -> Iterator[Upstream]:
    with _serving() as made:
        yield made
