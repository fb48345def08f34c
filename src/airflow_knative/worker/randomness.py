"""Random numbers of its own for each task process, where stock Airflow imports the DAG's file anew for each."""

from __future__ import annotations

import sys

__all__ = ["reseed"]


def reseed() -> None:
    """Do for numpy's global generator what Python does for `random` at a fork.

    One that the DAG's file has seeded stays as it is: tasks that are to draw the same numbers each time do.
    """
    numpy_random = sys.modules.get("numpy.random")
    if numpy_random is None:
        return
    generator = numpy_random.get_bit_generator() if hasattr(numpy_random, "get_bit_generator") else None
    # None after any seed() or set_state(); before numpy 1.25 nothing tells.
    if getattr(generator, "seed_seq", True) is not None:
        numpy_random.seed()
