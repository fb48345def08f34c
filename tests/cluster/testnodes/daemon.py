"""A Docker daemon of our own where none runs, and the host as it was when it stops."""

from __future__ import annotations

import os
import shutil
import subprocess
import time
from pathlib import Path

from testnodes.background import Background
from testnodes.docker import succeeds
from testnodes.errors import NodeError

__all__ = ["ensure", "stop_if_ours"]

_DAEMON = Background("dockerd")
_FORWARD = Path("/proc/sys/net/ipv4/ip_forward")
_BRIDGE = Path("/sys/class/net/docker0")
_START = 60.0


def ensure() -> bool:
    """Start ``dockerd`` unless a daemon answers already.

    Returns:
        whether it was started here (now, or by an earlier call that has not been stopped).

    Raises:
        NodeError: it cannot be started.
    """
    if succeeds("version"):
        return _DAEMON.said is not None
    if os.geteuid():
        raise NodeError("no Docker daemon answers, and only root can start one")
    if shutil.which("dockerd") is None:
        raise NodeError("no Docker daemon answers and there is no dockerd; install the Debian package docker.io")
    _DAEMON.stop()  # one that died
    rules = ""
    if shutil.which("iptables-save"):
        rules = subprocess.run(["iptables-save"], capture_output=True, check=False, text=True).stdout
    keep = {"forward": _FORWARD.read_text().strip(), "rules": rules, "bridge": _BRIDGE.exists()}
    _DAEMON.start(["dockerd"], keep)
    end = time.monotonic() + _START
    while time.monotonic() < end and not _DAEMON.gone():
        if succeeds("version"):
            return True
        time.sleep(0.2)
    last = _DAEMON.last_lines()
    stop_if_ours()
    raise NodeError(f"dockerd did not start:\n{last}")


def _restore_rules(rules: str) -> None:
    """Put firewall rules back. Tables that were empty are not among them, so all are emptied first."""
    for table in ("filter", "nat", "mangle", "raw"):
        for flag in ("-F", "-X"):
            subprocess.run(["iptables", "-t", table, flag], capture_output=True, check=False)
    for chain in ("INPUT", "FORWARD", "OUTPUT"):
        subprocess.run(["iptables", "-P", chain, "ACCEPT"], capture_output=True, check=False)
    subprocess.run(["iptables-restore"], input=rules, capture_output=True, check=False, text=True)


def stop_if_ours() -> bool:
    """Stop the daemon that ``ensure`` started, and take back what it did to the host's network.

    Returns:
        whether there was one.
    """
    before = _DAEMON.said
    if before is None:
        return False
    _DAEMON.stop()
    if not before["bridge"]:
        subprocess.run(["ip", "link", "delete", "docker0"], capture_output=True, check=False)
    if shutil.which("iptables-restore"):
        _restore_rules(before["rules"])
    _FORWARD.write_text(before["forward"])
    return True
