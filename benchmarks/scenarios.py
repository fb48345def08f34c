"""What is measured."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final, Literal

__all__ = ["COLD_COPIES", "FLAVOURS", "KUBERNETES", "LOCAL_MODE", "SCENARIOS", "SEED", "Flavour", "Scenario"]

SEED: Final = "compute_avg_distributed"
COLD_COPIES: Final = 8
"""Copies of the seed workflow, each with services of its own that nothing has called for a while at its turn."""
KUBERNETES: Final = "kubernetes"
"""The variant that is there on clusters only: KubernetesExecutor, beside ours in the same release."""
LOCAL_MODE: Final = "local-mode"
"""The variant that is there beside clusters only: this executor in local mode on the cluster's own machine."""
_ALL: Final = ("knative", "local-default", "local-tuned", "celery")
_QUICK: Final = ("knative", "local-tuned", "celery")

Kind = Literal["warm", "cold", "empty", "memory", "gateway"]


@dataclass(frozen=True)
class Scenario:
    """One thing to measure.

    Attributes:
        name: Its name in reports.
        dag_id: The workflow.
        data: Its input.
        output: What it has to answer.
        variants: The variants that it is for.
        runs: How many timed runs a round has at most.
        least: How many it has at least, however long they take.
        at_once: Runs at the same time.
        kind: How it is measured.
        flavour: The workflows that have to be there.
        has_memory: Whether the instance's memory is looked at.
        is_once: Whether it is measured in the first round only.
    """

    name: str
    dag_id: str = SEED
    data: Any = (1, 2, 3, 4)
    output: Any = 2.5
    variants: tuple[str, ...] = _QUICK
    runs: int = 6
    least: int = 2
    at_once: int = 1
    kind: Kind = "warm"
    flavour: str = "plain"
    has_memory: bool = False
    is_once: bool = False


@dataclass(frozen=True)
class Flavour:
    """What an instance is started with.

    Attributes:
        granularity: Of services.
        services: How many services there are besides the seed workflow's, or None for the workflows of the matrix.
        copies: How many copies of the seed workflow there are.
    """

    granularity: str = "task"
    services: int | None = None
    copies: int = 0


FLAVOURS: Final = {
    "plain": Flavour(),
    "cold": Flavour(services=0, copies=COLD_COPIES),
    "cold-dag": Flavour(granularity="dag", services=0, copies=COLD_COPIES),
    "services-5": Flavour(services=1),
    "services-50": Flavour(services=46),
    "services-500": Flavour(services=496),
}
_OURS: Final = ("knative",)


def _matrix(width: int, depth: int, *, padding: int = 0) -> dict[str, Any]:
    data = {"value": 1, "padding": padding} if padding else 1
    return {"dag_id": f"benchmark_w{width}_d{depth}", "data": data, "output": width * (1 + depth - 2)}


SCENARIOS: Final = {
    scenario.name: scenario
    for scenario in (
        Scenario(f"{SEED}/warm", variants=(*_ALL, KUBERNETES, LOCAL_MODE), runs=12, least=6, has_memory=True),
        *(
            Scenario(f"chain/depth-{depth}", **_matrix(1, depth), variants=_ALL if depth in {2, 16} else _QUICK)
            for depth in (2, 4, 8, 16)
        ),
        *(
            Scenario(f"fan-out/width-{width}", **_matrix(width, 3), has_memory=width == 48)  # noqa: PLR2004
            for width in (1, 8, 24, 48)
        ),
        *(
            Scenario(f"payload/{name}", **_matrix(1, 3, padding=size), variants=("knative", "local-tuned"))
            for name, size in (("1-kB", 1_000), ("64-kB", 64_000), ("1-MB", 1_000_000), ("4-MB", 4_000_000))
        ),
        *(
            Scenario(f"at-once/{number}", runs=number, at_once=number, variants=variants, is_once=True)
            for number, variants in ((8, _QUICK), (64, ("knative", "local-tuned")))
        ),
        Scenario("gateway/50-at-once", kind="gateway", variants=_OURS, runs=3000, at_once=50, is_once=True),
        Scenario("empty-server/cold", kind="empty", variants=_OURS, runs=10),
        Scenario(f"{SEED}/cold", kind="cold", variants=_OURS, runs=COLD_COPIES, flavour="cold"),
        Scenario(f"{SEED}/cold-dag", kind="cold", variants=_OURS, runs=COLD_COPIES, flavour="cold-dag"),
        *(
            Scenario(f"services/{number}", variants=_OURS, runs=12, flavour=f"services-{number}")
            for number in (5, 50, 500)
        ),
        Scenario("memory/1000-runs", kind="memory", variants=_OURS, runs=1000, at_once=8, is_once=True),
    )
}
