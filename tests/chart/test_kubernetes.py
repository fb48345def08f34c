"""The rendered objects against the schemas of Kubernetes."""

from __future__ import annotations

import subprocess

import kubernetes_validate
import pytest

from .rendering import CHART, KUBERNETES, VALUES, Chart, Object, templates_of_executors

VERSIONS = ("1.33", "1.34", "1.35", "1.36", "1.37")


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("values", VALUES.values(), ids=VALUES)
def test_every_object_is_strictly_valid(chart: Chart, values: Object, version: str) -> None:
    objects = chart.render(values)
    for it in [*objects, *templates_of_executors(objects)]:
        if it["apiVersion"].startswith("serving.knative.dev/"):
            # Knative's own schema is not among those of Kubernetes; a revision's pod is one all the same. What Knative
            # adds to it, and the port that it fills into probes, are left out.
            spec = {key: value for key, value in it["spec"]["template"]["spec"].items() if key in _POD}
            spec["containers"] = [{**one, "readinessProbe": {}, "livenessProbe": {}} for one in spec["containers"]]
            pod = {"apiVersion": "v1", "kind": "Pod", "metadata": it["spec"]["template"]["metadata"], "spec": spec}
            kubernetes_validate.validate(pod, version, strict=True)
        else:
            kubernetes_validate.validate(it, version, strict=True)


_POD = {
    "automountServiceAccountToken",
    "containers",
    "enableServiceLinks",
    "imagePullSecrets",
    "nodeSelector",
    "serviceAccountName",
    "volumes",
}
_KNATIVE = {"containerConcurrency", "responseStartTimeoutSeconds", "timeoutSeconds"}


def test_a_revision_has_only_what_knative_takes(chart: Chart) -> None:
    for values in VALUES.values():
        for it in chart.render(values):
            if it["apiVersion"].startswith("serving.knative.dev/"):
                assert set(it["spec"]) == {"template"}
                assert set(it["spec"]["template"]["spec"]) <= _POD | _KNATIVE


def test_helm_lint_finds_nothing(chart: Chart) -> None:
    command = [str(chart.helm), "lint", "--strict", "--quiet", "--kube-version", KUBERNETES, str(CHART)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout
