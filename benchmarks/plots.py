"""The plots of a report, as SVG."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, Final

import matplotlib as mpl

mpl.use("svg")

from matplotlib import pyplot as plt

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

__all__ = ["draw"]

_COLOURS: Final = {
    "knative": "#2b6cb0",
    "local-default": "#aab3c2",
    "local-tuned": "#dd7444",
    "celery": "#2f9e6e",
    "kubernetes": "#8a5cc2",
    "local-mode": "#7fa8d1",
}
_LINES: Final = {
    "chain": ("tasks one after the other", "depth"),
    "fan-out": ("tasks side by side", "width"),
    "payload": ("bytes between two tasks", ""),
    "at-once": ("runs at the same time", ""),
    "services": ("services present", ""),
}
_UNITS: Final = {"kB": 1_000, "MB": 1_000_000}


def draw(report: Mapping[str, Any], folder: Path) -> list[Path]:
    """Draw what a report has into a folder; return the files."""
    mpl.rcParams.update({"svg.hashsalt": "airflow-knative", "svg.fonttype": "none", "font.size": 9})
    folder.mkdir(parents=True, exist_ok=True)
    made = []
    for group, (label, _) in _LINES.items():
        scenarios = {
            x_of(name): variants for name, variants in report["scenarios"].items() if name.startswith(f"{group}/")
        }
        if len(scenarios) > 1:
            made.append(_lines(folder / f"{group}.svg", group, label, scenarios))
    for name, variants in report["scenarios"].items():
        if name.startswith("compute_avg_distributed/"):
            made.append(_bars(folder / f"{name.rpartition('/')[2]}.svg", name, variants))
        if "memory" in variants.get("knative", {}):
            made.append(_memory(folder / "memory.svg", variants["knative"]["memory"]))
    return made


def x_of(name: str) -> float:
    """Return the number in a scenario's name: 16 of `chain/depth-16`, 64000 of `payload/64-kB`."""
    number, unit = re.search(r"(\d+)(?:-([a-zA-Z]+))?$", name).groups()  # type: ignore[union-attr]
    return float(number) * _UNITS.get(unit, 1)


def _lines(path: Path, title: str, label: str, scenarios: Mapping[float, Mapping[str, Any]]) -> Path:
    figure, axes = plt.subplots(figsize=(6, 3.6))
    for variant, colour in _COLOURS.items():
        points = sorted((x, found[variant]) for x, found in scenarios.items() if variant in found)
        if not points:
            continue
        xs, medians = [x for x, _ in points], [figures["p50_ms"] for _, figures in points]
        below = [figures["p50_ms"] - figures["min_ms"] for _, figures in points]
        above = [figures["p95_ms"] - figures["p50_ms"] for _, figures in points]
        axes.errorbar(
            xs, medians, yerr=[below, above], label=variant, color=colour, marker="o", markersize=3, capsize=2
        )
    if title == "payload":
        axes.set_xscale("log")
    axes.set_ylim(bottom=0)
    axes.set_xlabel(label)
    axes.set_ylabel("ms a run: median, lowest to p95")
    return _save(figure, axes, path, title)


def _bars(path: Path, title: str, variants: Mapping[str, Mapping[str, Any]]) -> Path:
    figure, axes = plt.subplots(figsize=(6, 0.7 + 0.5 * len(variants)))
    names = list(variants)[::-1]
    medians = [variants[name]["p50_ms"] for name in names]
    errors = [
        [variants[name]["p50_ms"] - variants[name]["min_ms"] for name in names],
        [variants[name]["p95_ms"] - variants[name]["p50_ms"] for name in names],
    ]
    axes.barh(names, medians, xerr=errors, capsize=2, color=[_COLOURS[name] for name in names])
    axes.set_xlabel("ms a run: median, lowest to p95")
    return _save(figure, axes, path, title, legend=False)


def _memory(path: Path, course: list[dict[str, float]]) -> Path:
    figure, axes = plt.subplots(figsize=(6, 3.2))
    for name in ("scheduler_mb", "dispatcher_mb"):
        axes.plot([row["runs"] for row in course], [row[name] for row in course], marker="o", label=name[:-3])
    axes.set_ylim(bottom=0)
    axes.set_xlabel("runs")
    axes.set_ylabel("MB (proportional)")
    return _save(figure, axes, path, "memory over runs")


def _save(figure: Any, axes: Any, path: Path, title: str, *, legend: bool = True) -> Path:
    axes.set_title(title)
    if legend:
        axes.legend(frameon=False)
    axes.spines[["top", "right"]].set_visible(False)
    figure.tight_layout()
    figure.savefig(path, metadata={"Date": None})
    plt.close(figure)
    return path
