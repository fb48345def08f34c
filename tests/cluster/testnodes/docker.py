"""The docker command, and what this machine lets containers do."""

from __future__ import annotations

import functools
import subprocess
from pathlib import Path

from testnodes.errors import NodeError

__all__ = ["CAPABILITIES", "docker", "missing_capabilities", "run_flags", "succeeds"]

# In the order of the kernel's numbers (linux/capability.h).
# fmt: off
CAPABILITIES = (
    "CHOWN", "DAC_OVERRIDE", "DAC_READ_SEARCH", "FOWNER", "FSETID", "KILL", "SETGID", "SETUID", "SETPCAP",
    "LINUX_IMMUTABLE", "NET_BIND_SERVICE", "NET_BROADCAST", "NET_ADMIN", "NET_RAW", "IPC_LOCK", "IPC_OWNER",
    "SYS_MODULE", "SYS_RAWIO", "SYS_CHROOT", "SYS_PTRACE", "SYS_PACCT", "SYS_ADMIN", "SYS_BOOT", "SYS_NICE",
    "SYS_RESOURCE", "SYS_TIME", "SYS_TTY_CONFIG", "MKNOD", "LEASE", "AUDIT_WRITE", "AUDIT_CONTROL", "SETFCAP",
    "MAC_OVERRIDE", "MAC_ADMIN", "SYSLOG", "WAKE_ALARM", "BLOCK_SUSPEND", "AUDIT_READ", "PERFMON", "BPF",
    "CHECKPOINT_RESTORE",
)
# fmt: on


def docker(*arguments: str, stdin: Path | None = None, timeout: float = 300) -> str:
    """Run docker and return what it printed.

    Raises:
        NodeError: it failed; with what it said.
    """
    try:
        with (stdin or Path("/dev/null")).open("rb") as source:
            done = subprocess.run(
                ["docker", *arguments], stdin=source, capture_output=True, check=False, text=True, timeout=timeout
            )
    except OSError as error:
        raise NodeError(f"cannot run docker: {error}; install the Debian package docker.io") from error
    except subprocess.TimeoutExpired as error:
        raise NodeError(f"docker {arguments[0]} took more than {timeout:.0f} s") from error
    if done.returncode:
        raise NodeError(f"docker {' '.join(arguments[:2])} failed: {done.stderr.strip() or done.stdout.strip()}")
    return done.stdout.strip()


def succeeds(*arguments: str) -> bool:
    """Whether a docker command ends well."""
    try:
        docker(*arguments)
    except NodeError:
        return False
    return True


def missing_capabilities(status: str) -> list[str]:
    """The capabilities that a process (its ``/proc/<pid>/status``) can never have."""
    line = next((line for line in status.splitlines() if line.startswith("CapBnd:")), "CapBnd: ffffffffffffffff")
    mask = int(line.split()[1], 16)
    return [name for number, name in enumerate(CAPABILITIES) if not mask >> number & 1]


def _daemon_status() -> str:
    """What the daemon may do; ours when the daemon cannot be seen."""
    for path in (Path("/run/docker.pid"), Path("/var/run/docker.pid")):
        try:
            return Path(f"/proc/{path.read_text().strip()}/status").read_text()
        except OSError:
            continue
    return Path("/proc/self/status").read_text()


@functools.cache
def run_flags(image: str) -> tuple[str, ...]:
    """Flags that give a container what systemd and a kubelet need.

    ``--privileged`` where the daemon can give it. Where it cannot (it lacks capabilities itself, as in some
    sandboxes), the same thing piece by piece without the missing ones.
    """
    if succeeds("run", "--rm", "--privileged", "--network", "none", "--entrypoint", "/bin/true", image):
        return ("--privileged",)
    missing = missing_capabilities(_daemon_status())
    flags = ["--cap-add", "ALL"]
    for name in missing:
        flags += ["--cap-drop", name]
    for option in ("seccomp=unconfined", "apparmor=unconfined", "systempaths=unconfined"):
        flags += ["--security-opt", option]
    flags += ["--device-cgroup-rule", "a *:* rwm"]
    if Path("/dev/kmsg").exists():
        flags += ["--device", "/dev/kmsg"]
    if not succeeds("run", "--rm", *flags, "--network", "none", "--entrypoint", "/bin/true", image):
        raise NodeError(f"docker can run neither --privileged containers nor any with {' '.join(flags)}")
    return tuple(flags)
