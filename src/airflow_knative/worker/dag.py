"""The one DAG that a worker serves: imported once at its start, looked up by every task process."""

from __future__ import annotations

import contextlib
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import structlog
from airflow import settings as airflow_settings
from airflow.dag_processing.bundles.manager import DagBundlesManager
from airflow.dag_processing.importers import get_importer_registry
from airflow.exceptions import AirflowClusterPolicySkipDag
from airflow.sdk import TaskInstanceState
from airflow.sdk.execution_time import task_runner

from airflow_knative.errors import AirflowKnativeError
from airflow_knative.worker.warm import warm_up

if TYPE_CHECKING:
    from airflow.dag_processing.bundles.base import BaseDagBundle
    from airflow.sdk import DAG
    from airflow.sdk.execution_time.comms import StartupDetails

    from airflow_knative.worker.settings import WorkerSettings

__all__ = ["LoadedDag", "load_dag"]


class LoadedDag:
    """A DAG of this process, in place of parsing its file again for each task instance."""

    def __init__(self, dag: DAG, bundle: BaseDagBundle) -> None:
        """Serve `dag`, which came from `bundle`."""
        self._dag = dag
        self._bundle = bundle

    def parse(self, what: StartupDetails, _log: Any) -> task_runner.RuntimeTaskInstance:
        """Stand in for `task_runner.parse`: the same result, without the work.

        Raises:
            AirflowKnativeError: the DAG has no such task.
        """
        task = self._dag.task_dict.get(what.ti.task_id)
        if task is None:
            raise AirflowKnativeError(
                f"This worker's DAG {what.ti.dag_id!r} has no task {what.ti.task_id!r}, only "
                f"{', '.join(sorted(self._dag.task_dict))}. Deploy the worker with the DAG file that Airflow has."
            )
        return task_runner.RuntimeTaskInstance.model_construct(
            **what.ti.model_dump(exclude_unset=True),
            task=task,  # type: ignore[arg-type] # mapped ones too
            bundle_instance=self._bundle,
            _ti_context_from_server=what.ti_context,
            max_tries=what.ti_context.max_tries,
            start_date=what.start_date,
            state=TaskInstanceState.RUNNING,
            sentry_integration=what.sentry_integration,
        )


def load_dag(settings: WorkerSettings) -> LoadedDag:
    """Import the DAG's file, and no other.

    Raises:
        AirflowKnativeError: the file is missing or does not import, or the DAG or task is not in it.
    """
    bundle = _bundle_with(DagBundlesManager(), settings.dag_file)
    dags = _import_file(bundle, settings.dag_file)
    dag = dags.get(settings.dag_id)
    if dag is None:
        raise AirflowKnativeError(
            f"{settings.dag_file} holds no DAG {settings.dag_id!r}, only {', '.join(sorted(dags)) or 'none'}."
        )
    if settings.task_id is not None and settings.task_id not in dag.task_dict:
        raise AirflowKnativeError(
            f"DAG {settings.dag_id!r} has no task {settings.task_id!r}, only {', '.join(sorted(dag.task_dict))}."
        )
    task_runner._register_deserialization_allowed_classes(dag, structlog.get_logger())  # noqa: SLF001
    warm_up(dag)
    return LoadedDag(dag, bundle)


def _import_file(bundle: BaseDagBundle, dag_file: str) -> dict[str, DAG]:
    """Return the DAGs of a file by id, as Airflow's DagBag does, which would import the scheduler's half of Airflow."""
    path = os.fspath(Path(bundle.path, dag_file))
    importer = get_importer_registry().get_importer(path)
    if importer is None:
        raise AirflowKnativeError(f"{dag_file} is no kind of file that Airflow finds DAGs in.")
    if os.fspath(bundle.path) not in sys.path:
        sys.path.append(os.fspath(bundle.path))
    result = importer.import_file(path, bundle_path=bundle.path, bundle_name=bundle.name, safe_mode=False)
    if result.errors:
        raise AirflowKnativeError(
            "\n".join(
                f"{error.file_path or dag_file} does not import:\n{error.stacktrace or error.message}"
                for error in result.errors
            )
        )
    dags = {}
    for dag in result.dags:
        with contextlib.suppress(AirflowClusterPolicySkipDag):
            _prepare(dag)
            dags[dag.dag_id] = dag
    return dags


def _prepare(dag: DAG) -> None:
    dag.validate()
    dag.check_cycle()
    dag.resolve_template_files()
    airflow_settings.dag_policy(dag)
    for task in dag.tasks:
        airflow_settings.task_policy(task)


def _bundle_with(manager: DagBundlesManager, dag_file: str) -> BaseDagBundle:
    for bundle in manager.get_all_dag_bundles():
        bundle.initialize()
        if Path(bundle.path, dag_file).is_file():
            return bundle
    folders = ", ".join(str(bundle.path) for bundle in manager.get_all_dag_bundles())
    raise AirflowKnativeError(f"The DAG file {dag_file!r} is not in {folders or 'any DAG bundle'}.")
