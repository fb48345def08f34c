"""`python -m benchmarks`: what `make bench` and its kin run."""

from __future__ import annotations

import argparse
import contextlib
import json
import sys
import tempfile
from fnmatch import fnmatch
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmarks.compare import TOLERANCE, compare
from benchmarks.deployment import ROOT, VARIANTS
from benchmarks.measure import CELL_SECONDS
from benchmarks.report import machine, markdown, report, versions
from benchmarks.rounds import measure_all, measure_alone
from benchmarks.samples import Log
from benchmarks.scenarios import KUBERNETES, LOCAL_MODE, SCENARIOS, SEED

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from benchmarks.cluster import Cluster
    from benchmarks.samples import Cell
    from benchmarks.scenarios import Scenario

OUTPUT = ROOT / "build/bench"
KEPT = ROOT / "benchmarks/results"
_QUICK = ("knative", "local-default", "local-tuned")


def main() -> None:
    """Measure, draw or compare."""
    parser = argparse.ArgumentParser(prog="benchmarks", description=__doc__)
    verbs = parser.add_subparsers(required=True)
    local = verbs.add_parser("local", help="everything, on this machine")
    local.set_defaults(work=_local, rounds=2, only=["*"], variants=list(VARIANTS), output=OUTPUT / "local.json")
    quick = verbs.add_parser("quick", help=f"{SEED} warm, beside LocalExecutor, on this machine")
    quick.set_defaults(work=_local, rounds=2, only=[f"{SEED}/warm"], variants=_QUICK, output=OUTPUT / "quick.json")
    for verb in (local, quick):
        verb.add_argument("--rounds", type=int, help="turns of each variant (default 2)")
        verb.add_argument(
            "--seconds", type=float, default=CELL_SECONDS, help="of timed runs for each scenario and turn"
        )
        verb.add_argument("--output", type=Path, help="the report's file; plots and Markdown come beside it")
        verb.add_argument("--resume", action="store_true", help="go on with what the last run left")
    local.add_argument("--only", nargs="+", metavar="PATTERN", help=f"scenarios, of: {', '.join(SCENARIOS)}")
    local.add_argument("--variants", nargs="+", choices=VARIANTS, help="variants (default all)")
    cluster = verbs.add_parser("cluster", help="a release of the chart, through its gateway")
    cluster.set_defaults(work=_cluster)
    _add_cluster(cluster)
    cluster.add_argument("--airflow-url", help="URL of Airflow's API, for the stages of runs")
    cluster.add_argument("--only", nargs="+", metavar="PATTERN", default=[f"{SEED}/warm", f"{SEED}/cold", "empty-*"])
    cluster.add_argument(
        "--variants",
        nargs="+",
        choices=("knative", KUBERNETES, LOCAL_MODE),
        default=["knative"],
        help=f"of the release, and {LOCAL_MODE} on this machine, which has to be the cluster's (default knative)",
    )
    cluster.add_argument("--rounds", type=int, default=2, help="turns of each variant (default 2)")
    cluster.add_argument("--kubernetes-runs", type=int, default=5, help="runs of that variant a turn (default 5)")
    cluster.add_argument("--cold-runs", type=int, default=5, help="cold runs a turn (default 5); each waits for zero")
    cluster.add_argument("--output", type=Path, default=OUTPUT / "cluster.json", help="the report's file")
    cluster.add_argument("--resume", action="store_true", help="go on with what the last run left")
    release = verbs.add_parser("release", help="`helm upgrade` of many services, and a run beside them, on a cluster")
    release.set_defaults(work=_release)
    _add_cluster(release)
    release.add_argument("--helm", type=Path, default=Path("helm"), help="the program (default helm)")
    release.add_argument("--chart", type=Path, default=ROOT / "charts/airflow-knative", help="the release's chart")
    release.add_argument("--release", default="airflow", help="its name (default airflow)")
    release.add_argument("--services", type=int, default=500, help="services to add for a while (default 500)")
    release.add_argument("--output", type=Path, default=OUTPUT / "release.json", help="the report's file")
    kept = verbs.add_parser("compare", help="fail if a new report is worse than the kept one of the same name")
    kept.set_defaults(work=_compare)
    kept.add_argument("--new", type=Path, default=OUTPUT, help="folder of new reports")
    kept.add_argument("--kept", type=Path, default=KEPT, help="folder of kept ones")
    kept.add_argument("--tolerance", type=float, default=TOLERANCE, help="by how much a ratio may get worse")
    draw = verbs.add_parser("draw", help="write the Markdown and the plots of a report anew")
    draw.set_defaults(work=lambda options: _write_beside(options.report))
    draw.add_argument("report", type=Path)
    options = parser.parse_args()
    options.work(options)


def _add_cluster(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--gateway-url", required=True, help="URL of the gateway, or of the ingress before it")
    parser.add_argument("--gateway-host", help="the gateway's host name, where the URL has the ingress's address")
    parser.add_argument("--kubeconfig", type=Path, help="(default: kubectl's)")
    parser.add_argument("--namespace", default="airflow", help="the release's (default airflow)")


def _local(options: argparse.Namespace) -> None:
    output: Path = options.output
    log = Log.resume(output.with_suffix(".cells.jsonl"))
    if not options.resume:
        log.discard()
    chosen = _chosen(options.only)
    about = {"machine": machine(), "versions": versions(), "rounds": options.rounds}
    with _folder() as folder:
        measure_all(
            chosen,
            rounds=options.rounds,
            variants=options.variants,
            folder=folder,
            log=log,
            seconds=options.seconds,
        )
    _write(output, log, about)


@contextlib.contextmanager
def _folder() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="airflow-knative-bench-") as name:
        folder = Path(name)
        # Passable for the user that PostgreSQL runs as where it may not run as root.
        folder.chmod(0o755)
        yield folder


def _cluster(options: argparse.Namespace) -> None:
    from benchmarks.cluster import measure_cluster, turns  # noqa: PLC0415 - needs the client of Kubernetes

    cluster = _opened(options, airflow_url=options.airflow_url)
    log = Log.resume(options.output.with_suffix(".cells.jsonl"))
    if not options.resume:
        log.discard()
    about = {"machine": machine(), "versions": versions() | cluster.versions(), "rounds": options.rounds}
    with _folder() as folder:
        measure_cluster(
            cluster,
            turns(_chosen(options.only), options.rounds, options.variants),
            local_mode=lambda scenario, number: measure_alone(scenario, number, folder=folder),
            kubernetes_runs=options.kubernetes_runs,
            cold_runs=options.cold_runs,
            log=log,
        )
    _write(options.output, log, about)


def _release(options: argparse.Namespace) -> None:
    from benchmarks.release import Release, measure  # noqa: PLC0415 - needs the client of Kubernetes

    cluster = _opened(options)
    release = Release(options.helm, options.chart, options.kubeconfig, options.namespace, options.release)
    about = {"machine": machine(), "versions": versions() | cluster.versions()}
    _save(options.output, measure(cluster, release, services=options.services), about)


def _opened(options: argparse.Namespace, *, airflow_url: str | None = None) -> Cluster:
    from benchmarks.cluster import Cluster  # noqa: PLC0415 - needs the client of Kubernetes

    return Cluster(
        gateway_url=options.gateway_url,
        gateway_host=options.gateway_host,
        airflow_url=airflow_url,
        kubeconfig=options.kubeconfig,
        namespace=options.namespace,
    )


def _chosen(patterns: list[str]) -> list[Scenario]:
    chosen = [one for one in SCENARIOS.values() if any(fnmatch(one.name, pattern) for pattern in patterns)]
    if not chosen:
        sys.exit(f"No scenario is like {' or '.join(patterns)}; there are: {', '.join(SCENARIOS)}")
    return chosen


def _write(path: Path, log: Log, about: dict[str, Any]) -> None:
    scenarios, variants = list(SCENARIOS), [*VARIANTS, KUBERNETES, LOCAL_MODE]
    cells = sorted(log.cells, key=lambda cell: (scenarios.index(cell.scenario), variants.index(cell.variant)))
    _save(path, cells, about)


def _save(path: Path, cells: Iterable[Cell], about: dict[str, Any]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(report(cells, **about), indent=2) + "\n")
    _write_beside(path)


def _write_beside(path: Path) -> None:
    told = json.loads(path.read_text())
    text = markdown(told)
    path.with_suffix(".md").write_text(text)
    print(text)
    print(f"The report is {path}")
    try:
        from benchmarks.plots import draw  # noqa: PLC0415 - without the rivals there is no matplotlib
    except ImportError:
        return
    for plot in draw(told, path.with_suffix("")):
        print(f"  {plot}")


def _compare(options: argparse.Namespace) -> None:
    worse = compared = 0
    for path in sorted(options.new.glob("*.json")):
        kept = options.kept / path.name
        if not kept.exists():
            print(f"{path.name}: nothing kept to compare with")
            continue
        for one in compare(json.loads(kept.read_text()), json.loads(path.read_text())):
            is_worse = one.is_worse(options.tolerance)
            print(
                f"{'WORSE' if is_worse else 'ok   '} {path.stem} {one.scenario} {one.figure}: "
                f"{one.new:.3f} of {one.rival}, kept {one.kept:.3f} (x{one.change:.2f})"
            )
            worse += is_worse
            compared += 1
    if not compared:
        sys.exit(f"There is nothing to compare in {options.new}; make bench or make bench-quick writes it")
    if worse:
        sys.exit(f"{worse} of {compared} ratios got worse by more than {options.tolerance:.0%}")


if __name__ == "__main__":
    main()
