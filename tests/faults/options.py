"""What the programs of the fault harness can be told."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["parser"]


def parser(description: str | None, *, chosen: str, among: Sequence[str], count: int) -> argparse.ArgumentParser:
    """Return a parser of `--seed`, `--count` of each of `--<chosen>`, and `--report`.

    Args:
        description: what the program does.
        chosen: name of the option that chooses some of `among`.
        among: what there is.
        count: how many of each, if nothing is said.
    """
    made = argparse.ArgumentParser(description=description)
    made.add_argument("--seed", type=int, default=1)
    made.add_argument("--count", type=int, default=count, help="how many of each")
    made.add_argument(f"--{chosen}", nargs="+", choices=among, default=list(among), metavar="NAME")
    made.add_argument("--report", type=Path, default=Path("build/faults"), help="folder for what came of them")
    return made
