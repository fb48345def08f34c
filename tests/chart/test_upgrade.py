"""Upgrading a release of the previous version: only what Kubernetes lets change is changed.

`previous/` has the chart as it was packaged; a new version takes its place when one is released.
"""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from .rendering import EVERYTHING, EXISTING_SECRETS, EXTERNAL_DATABASE, KUBERNETES, LEAST, WORKFLOWS, Chart, Object

(PREVIOUS,) = Path(__file__).with_name("previous").glob("*.tgz")
VALUES: dict[str, Object] = {
    "defaults": {"workflows": WORKFLOWS},
    "external-database": EXTERNAL_DATABASE,
    "existing-secrets": EXISTING_SECRETS,
    "least": LEAST,
    "replicas": {"scheduler": {"replicas": 2}, "apiServer": {"replicas": 2}, "statsd": EVERYTHING["statsd"]},
}
VALUES["replicas"]["images"] = EVERYTHING["images"]

# What the API server refuses to change (apps/v1, core/v1, batch/v1, rbac.authorization.k8s.io/v1).
FIXED = {
    "StatefulSet": ("spec.selector", "spec.serviceName", "spec.volumeClaimTemplates", "spec.podManagementPolicy"),
    "Deployment": ("spec.selector",),
    "Service": ("spec.clusterIP",),
    "Job": ("spec.template", "spec.selector", "spec.completions", "spec.completionMode"),
    "RoleBinding": ("roleRef",),
    "Secret": ("type", "immutable"),
}


def _previous(chart: Chart, values: Object) -> list[Object]:
    command = [
        *(str(chart.helm), "template", "airflow", str(PREVIOUS), "--namespace", "flows"),
        *("--kube-version", KUBERNETES, "--values", "-"),
    ]
    done = subprocess.run(command, input=json.dumps(values), capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return [it for it in yaml.safe_load_all(done.stdout) if it]


def _at(found: Object, path: str) -> Any:
    value: Any = found
    for key in path.split("."):
        value = (value or {}).get(key)
    return value


@pytest.mark.parametrize("values", VALUES.values(), ids=VALUES)
def test_what_cannot_be_changed_stays(chart: Chart, values: Object) -> None:
    after = {(it["apiVersion"], it["kind"], it["metadata"]["name"]): it for it in chart.render(values)}
    compared = 0
    for before in _previous(chart, values):
        same = after.get((before["apiVersion"], before["kind"], before["metadata"]["name"]))
        for path in FIXED.get(before["kind"], ()) if same is not None else ():
            assert _at(before, path) == _at(same or {}, path), f"{before['metadata']['name']}: {path}"
            compared += 1
    assert compared > 10


def test_a_jobs_new_template_has_a_new_name(chart: Chart) -> None:
    """A Job of the same name with another template is what Helm cannot upgrade."""
    templates: dict[str, set[str]] = {}
    for it in [*_previous(chart, {}), *chart.render({})]:
        if it["kind"] == "Job":
            templates.setdefault(it["metadata"]["name"], set()).add(json.dumps(it["spec"]["template"]))
    assert all(len(found) == 1 for found in templates.values())
