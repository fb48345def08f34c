"""Import DAGs and print, as JSON, the services they need or what is wrong with them (see `inspect`)."""

from __future__ import annotations

import json
import os
import sys
from collections import defaultdict
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from airflow_knative.services.merge import merge_options
from airflow_knative.services.model import KnativeOptions, ServicesError, ServiceSpec, parse_options
from airflow_knative.services.naming import service_name

if TYPE_CHECKING:
    from collections.abc import Iterator

    from airflow.sdk import DAG

__all__ = ["collect", "our_executors", "specs"]

_EXECUTOR_PACKAGE: Final = "airflow_knative."


def collect(folder: Path) -> tuple[list[DAG], list[str]]:
    """Import every DAG file below a folder, as Airflow's DAG processor does.

    Returns:
        The DAGs, sorted by id, and a message for each file that cannot be imported and each id that occurs twice.
    """
    from airflow.dag_processing.dagbag import BundleDagBag  # noqa: PLC0415 -- after standard output is put aside

    class Bag(BundleDagBag):
        """A bag that refuses a second DAG of the same id in one file too; Airflow's keeps the last one."""

        def bag_dag(self, dag: DAG) -> None:
            previous = self.dags.get(dag.dag_id)
            if previous is not None and previous is not dag:
                files = sorted({str(previous.relative_fileloc), str(dag.relative_fileloc)})
                raise ServicesError([f"the dag id {dag.dag_id!r} occurs twice, in {' and '.join(files)}"])
            super().bag_dag(dag)

    bag = Bag(str(folder), bundle_path=folder, bundle_name="dags-folder")
    problems = [_import_problem(file, error) for file, error in sorted(bag.import_errors.items())]
    return sorted(bag.dags.values(), key=lambda dag: str(dag.dag_id)), problems


def _import_problem(file: str, error: str) -> str:
    text = error.strip()
    if text.startswith(f"{ServicesError.__name__}: "):
        return f"{text.removeprefix(f'{ServicesError.__name__}: ')}; give one of them another id"
    lines = text.splitlines() or ["no reason given"]
    detail = "".join(f"\n    {line}" for line in lines) if len(lines) > 1 else ""
    return f"file {file!r} cannot be imported: {lines[-1]}{detail}"


def our_executors() -> Iterator[str]:
    """Name the executors of this environment's Airflow that are ours, by every name a task may use."""
    from airflow.executors.executor_loader import ExecutorLoader  # noqa: PLC0415 -- after standard output is put aside

    for name in ExecutorLoader.get_executor_names(validate_teams=False):
        if name.module_path.startswith(_EXECUTOR_PACKAGE):
            yield from filter(None, (name.alias, name.module_path, name.module_path.rpartition(".")[2]))


def _is_ours(task: Any, ours: frozenset[str | None]) -> bool:
    from airflow.models.taskinstance import TaskInstance  # noqa: PLC0415 -- after standard output is put aside

    return task.executor in ours and TaskInstance.is_task_schedulable(task)


def _executors() -> frozenset[str | None]:
    """What `executor=` of our tasks may be; None stands for the default executor.

    In an environment that is not set up for our executor the default one is taken for ours: that is what somebody
    means who renders services there.
    """
    from airflow.executors.executor_loader import ExecutorLoader  # noqa: PLC0415 -- after standard output is put aside

    names = frozenset(our_executors())
    default = ExecutorLoader.get_default_executor_name()
    return names | {None} if not names or default.module_path in names else names


def specs(dags: list[DAG], granularity: str, max_timeout: int = 0) -> tuple[list[ServiceSpec], list[str]]:
    """Describe the services of these DAGs.

    Args:
        dags: DAGs with unique ids.
        granularity: `task` or `dag`.
        max_timeout: Seconds; 0 for no limit.

    Returns:
        The services, sorted by name, and a message for each thing that is wrong.
    """
    ours = _executors()
    problems: list[str] = []
    found: list[ServiceSpec] = []
    for dag in dags:
        options: dict[str, KnativeOptions] = {}
        for task in sorted(dag.tasks, key=lambda task: str(task.task_id)):
            if not _is_ours(task, ours):
                continue
            where = f"dag {dag.dag_id!r}, task {task.task_id!r}"
            try:
                options[task.task_id] = _task_options(task, where, max_timeout)
            except ServicesError as error:
                problems.extend(error.problems)
        try:
            found.extend(_of_dag(dag, options, granularity))
        except ServicesError as error:
            problems.extend(error.problems)
    problems.extend(_clashes(found))
    return sorted(found, key=lambda spec: spec.name), problems


def _task_options(task: Any, where: str, max_timeout: int) -> KnativeOptions:
    config = task.executor_config or {}
    if "knative" not in config:
        return KnativeOptions()
    options = parse_options(config["knative"], where=where)
    if max_timeout and "timeout" in options.model_fields_set and options.timeout > max_timeout:
        problem = (
            f"{where}: executor_config['knative']['timeout'] is {options.timeout}; allowed: at most {max_timeout} "
            "seconds, the cluster's max-revision-timeout-seconds; shorten the task, or raise the cluster's maximum "
            "and say so with --max-timeout"
        )
        raise ServicesError([problem])
    return options


def _of_dag(dag: DAG, options: dict[str, KnativeOptions], granularity: str) -> Iterator[ServiceSpec]:
    file = dag.relative_fileloc or str(dag.fileloc)
    if granularity == "task":
        for task_id, task_options in options.items():
            yield _spec(dag.dag_id, task_id, file, task_options)
    elif options:
        yield _spec(dag.dag_id, None, file, merge_options(dag.dag_id, options))


def _spec(dag_id: str, task_id: str | None, file: str, options: KnativeOptions) -> ServiceSpec:
    return ServiceSpec(
        name=service_name(dag_id, task_id),
        dag_id=dag_id,
        task_id=task_id,
        file=file,
        **options.model_dump(exclude_unset=True),
    )


def _clashes(found: list[ServiceSpec]) -> Iterator[str]:
    by_name: defaultdict[str, list[ServiceSpec]] = defaultdict(list)
    for spec in found:
        by_name[spec.name].append(spec)
    for name, several in sorted(by_name.items()):
        if len(several) > 1:
            parts = [
                f"dag {spec.dag_id!r}" + (f", task {spec.task_id!r}" if spec.task_id is not None else "")
                for spec in several
            ]
            yield f"the service name {name!r} comes of {' and of '.join(parts)}; rename one of them"


def _main() -> int:
    # The answer has standard output for itself: whatever the DAGs print goes to standard error.
    answer = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    folder, granularity, max_timeout = sys.argv[1:]
    dags, problems = collect(Path(folder))
    found, wrong = specs(dags, granularity, int(max_timeout))
    with answer:
        json.dump(
            {
                "services": [spec.model_dump(mode="json", exclude_unset=True) for spec in found],
                "problems": [*problems, *wrong],
            },
            answer,
        )
    return 0


if __name__ == "__main__":
    sys.exit(_main())
