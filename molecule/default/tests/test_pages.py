# ruff: noqa: D103, INP001, S101 # tests, found by molecule in its own folder
"""Airflow's pages in a browser; what is on screen is kept in build/screenshots."""

from __future__ import annotations

from urllib.parse import quote

from browser import Pages, forwarded
from walkthrough import NAMESPACE, RELEASE, REPOSITORY, Walkthrough

from conftest import INVENTORY, Cluster

PICTURES = REPOSITORY / "build" / "screenshots"
DAG = "compute_avg_distributed"


def test_a_run_and_a_tasks_log_are_on_screen(cluster: Cluster) -> None:
    walkthrough = Walkthrough.of(cluster, INVENTORY)
    headers = walkthrough.curl(DAG, [1, 2, 3, 4], "--include").splitlines()
    (run_id,) = [line.split(": ", 1)[1] for line in headers if line.lower().startswith("airflow-run-id: ")]
    kubeconfig = INVENTORY / "kubeconfig.cfg"
    with forwarded(kubeconfig, NAMESPACE, f"{RELEASE}-api-server", 8080) as url, Pages.opened(url) as pages:
        pages.log_in("admin", "admin")
        pages.open(f"/dags/{DAG}/runs/{quote(run_id)}", run_id, "Success")
        nodes = pages.show_graph()
        assert {task for task in ("extract", "compute_count", "compute_sum", "do_avg") if task in "\n".join(nodes)} == {
            "extract",
            "compute_count",
            "compute_sum",
            "do_avg",
        }
        pages.picture(PICTURES / "run.png")
        pages.open(f"/dags/{DAG}/runs/{quote(run_id)}/tasks/do_avg", "do_avg", "Returned value was: 2.5")
        pages.picture(PICTURES / "log.png")
