"""Airflow's import without what no task needs, which is most of a worker's start.

Everything here goes round the stock code, not into it: an environment variable of Airflow's own, modules that Airflow
can do without or needs late, and the C twin of a parser. Once the import is done, all of it is as if it had not been.
"""

from __future__ import annotations

import contextlib
import importlib
import os
import sys
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["import_airflow"]

_NO_DATABASE: Final = "_AIRFLOW__REEXECUTED_PROCESS"
"""Airflow sets it where a task process is executed again; it then initialises all but the database's engine."""
_CONFIG: Final = "AIRFLOW_CONFIG"
_EMPTY_CONFIG: Final = Path(__file__).with_name("airflow.cfg")
# structlog draws its tracebacks with it on a terminal, and does without where it is not installed.
_WITHOUT: Final = ("rich",)
_CST: Final = "libcst"
_CST_USER: Final = "airflow.sdk.definitions._internal.decorators"


def import_airflow() -> None:
    """Import Airflow and initialise it, but for its database."""
    changed = {_NO_DATABASE: "1"}
    if _CONFIG not in os.environ and not _has_config():
        # Without a file Airflow writes one with all of its defaults, and from then on reads it at each start.
        changed[_CONFIG] = str(_EMPTY_CONFIG)
    with _environment(changed), _modules():
        import airflow  # noqa: F401, PLC0415
        from airflow.configuration import conf  # noqa: PLC0415

        conf.mask_secrets()  # which Airflow leaves out together with the database


def _has_config() -> bool:
    return Path(os.environ.get("AIRFLOW_HOME", "~/airflow"), "airflow.cfg").expanduser().exists()


@contextlib.contextmanager
def _environment(values: dict[str, str]) -> Iterator[None]:
    before = {name: os.environ.get(name) for name in values}
    os.environ.update(values)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


@contextlib.contextmanager
def _modules() -> Iterator[None]:
    hidden: dict[str, Any] = {name: None for name in _WITHOUT if name not in sys.modules}
    if _CST not in sys.modules:
        hidden[_CST] = _LateCst(_CST)
    sys.modules.update(hidden)
    try:
        with _fast_yaml():
            yield
    finally:
        for name in hidden:
            sys.modules.pop(name, None)


class _LateCst(ModuleType):
    """Stands for libcst until it is used: by tasks whose source runs in another interpreter, and by nothing else."""

    CSTTransformer = object

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        # Executed again, the module gets the real one, and its functions are the same to whoever has them.
        importlib.reload(sys.modules[_CST_USER])
        return getattr(sys.modules[_CST], name)


@contextlib.contextmanager
def _fast_yaml() -> Iterator[None]:
    yaml: Any = importlib.import_module("yaml")
    slow = yaml.SafeLoader
    yaml.SafeLoader = getattr(yaml, "CSafeLoader", slow)  # it gives the same results
    try:
        yield
    finally:
        yaml.SafeLoader = slow
