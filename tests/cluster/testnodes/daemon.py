"""A Docker daemon of our own where none runs, and the host as it was when it stops."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import time
from pathlib import Path

from testnodes.docker import succeeds
from testnodes.errors import NodeError

__all__ = ["ensure", "stop_if_ours"]

_STATE = Path("/run/airflow-knative-nodes/dockerd.json")
_LOG = Path("/run/airflow-knative-nodes/dockerd.log")
_FORWARD = Path("/proc/sys/net/ipv4/ip_forward")
_START = 60.0
_STOP = 30.0


def _restore_command() -> list[str] | None:
    """What puts firewall rules back; None where the host has no iptables."""
    for folder in os.environ.get("PATH", "").split(":"):
        if (Path(folder) / "iptables-save").exists():
            return ["iptables-restore"]
    return None


def ensure() -> bool:
    """Start ``dockerd`` unless a daemon answers already.

    Returns:
        whether it was started here (now, or by an earlier call that has not been stopped).

    Raises:
        NodeError: it cannot be started.
    """
    if succeeds("version"):
        return _STATE.exists()
    if os.geteuid():
        raise NodeError("no Docker daemon answers, and only root can start one")
    _STATE.parent.mkdir(parents=True, exist_ok=True)
    rules = ""
    if _restore_command():
        rules = subprocess.run(["iptables-save"], capture_output=True, check=False, text=True).stdout
    before = {
        "forward": _FORWARD.read_text().strip(),
        "rules": rules,
        "bridge": Path("/sys/class/net/docker0").exists(),
    }
    with _LOG.open("ab") as log:
        try:
            process = subprocess.Popen(
                ["dockerd"], stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True
            )
        except OSError as error:
            raise NodeError(f"cannot start dockerd: {error}; install the Debian package docker.io") from error
    _STATE.write_text(json.dumps({**before, "pid": process.pid}))
    end = time.monotonic() + _START
    while time.monotonic() < end:
        if succeeds("version"):
            return True
        if process.poll() is not None:
            break
        time.sleep(0.2)
    last = "\n".join(_LOG.read_text(errors="replace").splitlines()[-10:])
    stop_if_ours()
    raise NodeError(f"dockerd did not start:\n{last}")


def _gone(pid: int) -> bool:
    with contextlib.suppress(ChildProcessError):  # started by another process
        os.waitpid(pid, os.WNOHANG)
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"


def _end(pid: int) -> None:
    if _gone(pid):
        return
    os.kill(pid, signal.SIGTERM)
    end = time.monotonic() + _STOP
    while not _gone(pid):
        if time.monotonic() > end:
            os.kill(pid, signal.SIGKILL)
            return
        time.sleep(0.1)


def _empty_tables() -> None:
    """Remove every firewall rule; those saved before are put back afterwards, and empty tables are not among them."""
    for table in ("filter", "nat", "mangle", "raw"):
        for flag in ("-F", "-X"):
            subprocess.run(["iptables", "-t", table, flag], capture_output=True, check=False)
    for chain in ("INPUT", "FORWARD", "OUTPUT"):
        subprocess.run(["iptables", "-P", chain, "ACCEPT"], capture_output=True, check=False)


def stop_if_ours() -> bool:
    """Stop the daemon that ``ensure`` started, and take back what it did to the host's network.

    Returns:
        whether there was one.
    """
    try:
        before = json.loads(_STATE.read_text())
    except FileNotFoundError:
        return False
    _end(before["pid"])
    if not before["bridge"]:
        subprocess.run(["ip", "link", "delete", "docker0"], capture_output=True, check=False)
    if (restore := _restore_command()) is not None:
        _empty_tables()
        subprocess.run(restore, input=before["rules"], capture_output=True, check=False, text=True)
    _FORWARD.write_text(before["forward"])
    _STATE.unlink()
    _LOG.unlink(missing_ok=True)
    if not any(_STATE.parent.iterdir()):
        _STATE.parent.rmdir()
    return True
