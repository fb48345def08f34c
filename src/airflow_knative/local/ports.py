from __future__ import annotations

import contextlib
import errno
import socket

import psutil

from airflow_knative.local.errors import LocalError, PortTakenError
from airflow_knative.local.settings import LAST_PORT, PORTS, LocalSettings

__all__ = ["check_free", "free_port", "free_ports", "sequence"]


def free_port(host: str = "127.0.0.1") -> int:
    """A port that nothing listens on now, chosen by the kernel."""
    return free_ports(1, host)[0]


def free_ports(count: int, host: str = "127.0.0.1") -> list[int]:
    """As many different free ports."""
    with contextlib.ExitStack() as stack:
        ports = []
        for _ in range(count):
            listener = stack.enter_context(socket.socket(_family(host), socket.SOCK_STREAM))
            listener.bind((host, 0))
            ports.append(int(listener.getsockname()[1]))
    return ports


def sequence(base: int, host: str) -> dict[str, int]:
    """All ports of an instance from one number: consecutive from `base`, or any free ones for 0.

    Raises:
        LocalError: The last one would be above 65535.
    """
    if base < 0 or base + len(PORTS) - 1 > LAST_PORT:
        raise LocalError(f"--port-base is {base}; allowed: 0 (any free ports) or 1 to {65536 - len(PORTS)}")
    ports = free_ports(len(PORTS), host) if base == 0 else list(range(base, base + len(PORTS)))
    return {use.field: port for use, port in zip(PORTS, ports, strict=True)}


def check_free(settings: LocalSettings, *, held_by: LocalSettings | None = None) -> None:
    """Look before anything starts whether every port is free.

    Args:
        settings: Those it is to start with.
        held_by: Those it runs with now: what has these ports is to end first.

    Raises:
        PortTakenError: One is not; names the port, who wants it, who has it and the option to change it.
        LocalError: The address is none of this machine's.
    """
    held = set() if held_by is None else {getattr(held_by, use.field) for use in PORTS}
    for use in PORTS:
        port = getattr(settings, use.field)
        with socket.socket(_family(settings.host), socket.SOCK_STREAM) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                # Of a port that is held only the address can be tried.
                probe.bind((settings.host, 0 if port in held else port))
            except OSError as error:
                if error.errno == errno.EADDRINUSE:
                    raise PortTakenError(
                        f"port {port}, wanted by {use.part}, is taken{_owner(port)}; "
                        f"free it or choose another with {use.option} (or all with --port-base)"
                    ) from None
                raise LocalError(
                    f"{use.part} cannot listen on {settings.host} port {port}: {error.strerror}; "
                    f"change --host or {use.option}"
                ) from None


def _owner(port: int) -> str:
    with contextlib.suppress(psutil.Error, OSError):
        for connection in psutil.net_connections("tcp"):
            if connection.status == psutil.CONN_LISTEN and connection.laddr.port == port and connection.pid:
                return f" by process {connection.pid} ({psutil.Process(connection.pid).name()})"
    return ""


def _family(host: str) -> socket.AddressFamily:
    return socket.AF_INET6 if ":" in host else socket.AF_INET
