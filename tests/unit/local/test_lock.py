from __future__ import annotations

import subprocess
import sys
from typing import TYPE_CHECKING

from airflow_knative.local.lock import GUARD, SUPERVISOR, Lock, holder

if TYPE_CHECKING:
    from pathlib import Path

HOLD = """
import sys
from pathlib import Path
from airflow_knative.local.lock import GUARD, Lock
assert Lock(Path(sys.argv[1]), GUARD).acquire()
print("locked", flush=True)
sys.stdin.read()
"""


def test_the_kernel_names_the_holder_until_it_ends(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    assert holder(path, GUARD) is None
    with subprocess.Popen(
        [sys.executable, "-c", HOLD, str(path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as process:
        assert process.stdout
        process.stdout.readline()
        assert holder(path, GUARD) == process.pid
        assert holder(path, SUPERVISOR) is None
        assert not Lock(path, GUARD).acquire()
        assert not Lock(path, GUARD).acquire(timeout=0.05)
        process.kill()
    assert holder(path, GUARD) is None
    assert path.stat().st_mode & 0o777 == 0o600
    assert path.exists()
