"""Commands that are imported when they are called.

Half of the commands need libraries of one extra (Airflow, PostgreSQL). The command line has to work, and to print its
help quickly, without any of them.
"""

from __future__ import annotations

import importlib
from dataclasses import dataclass
from typing import Any, ClassVar

import typer
from typer.core import TyperCommand, TyperGroup
from typer.main import get_group

from airflow_knative.errors import AirflowKnativeError

__all__ = ["LazyCommand", "LazyGroup", "MissingExtraError"]

_OWN = "airflow_knative"


class MissingExtraError(AirflowKnativeError):
    """A command needs a package that is not installed."""


@dataclass(frozen=True)
class LazyCommand:
    """Where a command is.

    Attributes:
        target: `module:attribute` of a `typer.Typer` with commands below this one, or of a function.
        help: The line in the list of commands.
        extra: The extra of this distribution that brings what the module imports.
    """

    target: str
    help: str
    extra: str

    def load(self, name: str) -> Any:
        """Import the command.

        Raises:
            MissingExtraError: Something that it imports is not installed.
        """
        module, _, attribute = self.target.partition(":")
        try:
            app = getattr(importlib.import_module(module), attribute)
        except ModuleNotFoundError as error:
            missing = error.name or ""
            if missing.partition(".")[0] == _OWN:
                raise
            raise MissingExtraError(
                f"`airflow-knative {name}` needs the package {missing!r}, which is not installed; "
                f"install it with pip install 'airflow-knative[{self.extra}]'"
            ) from None
        holder = typer.Typer(add_completion=False, pretty_exceptions_enable=False)
        holder.callback()(lambda: None)
        if isinstance(app, typer.Typer):
            holder.add_typer(app, name=name)
        else:
            holder.command(name)(app)
        return get_group(holder).commands[name]


class LazyGroup(TyperGroup):
    """A group whose listed commands are stand-ins until one of them is called."""

    lazy: ClassVar[dict[str, LazyCommand]]
    """The commands by name, in the order of the help; set by a subclass."""

    def __init__(self, **settings: Any) -> None:
        super().__init__(**settings)
        for name, command in self.lazy.items():
            self.add_command(TyperCommand(name, callback=lambda: None, help=command.help), name)

    def resolve_command(self, ctx: typer.Context, args: list[str]) -> Any:  # type: ignore[override]
        """Find the command that is called, and import it."""
        name, command, rest = super().resolve_command(ctx, args)
        if name in self.lazy:
            command = self.lazy[name].load(name)
        return name, command, rest
