"""Run workflows with Airflow's own test runner on an empty SQLite database, and print what they answer as JSON.

A program of its own, since Airflow reads its settings once per process: run_all.py FOLDER, with [dag id, input] pairs
as JSON on standard input.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path


def main() -> None:
    answer = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    from airflow.dag_processing.dagbag import BundleDagBag  # noqa: PLC0415
    from airflow.models.xcom import XComModel  # noqa: PLC0415
    from airflow.utils.db import initdb  # noqa: PLC0415
    from airflow.utils.session import create_session  # noqa: PLC0415
    from sqlalchemy import select  # noqa: PLC0415

    initdb()
    folder = Path(sys.argv[1])
    bag = BundleDagBag(str(folder), bundle_path=folder, bundle_name="dags-folder")
    outcomes = []
    for dag_id, data in json.load(sys.stdin):
        run = bag.dags[dag_id].test(run_conf={"data": data})
        with create_session() as session:
            # What the gateway answers: the return value of the task that the @dag function returns.
            query = select(XComModel).where(
                XComModel.dag_id == dag_id,
                XComModel.run_id == run.run_id,
                XComModel.key == "return_value",
                XComModel.dag_result.is_(True),
            )
            values = [XComModel.deserialize_value(row) for row in session.scalars(query)]
            pushed = session.scalars(select(XComModel.key).where(XComModel.run_id == run.run_id)).all()
        outcomes.append({"state": str(run.state), "values": values, "keys": sorted(set(pushed))})
    with answer:
        json.dump(outcomes, answer)


if __name__ == "__main__":
    main()
