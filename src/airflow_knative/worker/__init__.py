"""The server in a task's Knative Service: an HTTP front before forked task processes.

    main (imports the DAG, forks) -+- front (HTTP; no Airflow in it)
                                   +- slot ... (stock supervisor) - task process (stock task runner)

Everything dies with its parent; only the front hears the network.
"""

from __future__ import annotations
