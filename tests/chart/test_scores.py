"""kube-score finds nothing CRITICAL and checkov nothing at all, but for what waivers.yaml says."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from .rendering import VALUES, Chart, Object
from .scoring import Finding, as_pods, checkov, kube_score, waivers

if TYPE_CHECKING:
    from pathlib import Path

WAIVERS = waivers()


@pytest.fixture(scope="module")
def findings(chart: Chart, kube_score_program: Path, tmp_path_factory: pytest.TempPathFactory) -> list[Finding]:
    objects = {name: as_pods(chart.render(values), name) for name, values in VALUES.items()}
    found = checkov(objects, tmp_path_factory.mktemp("rendered"))
    for name in VALUES:
        found += kube_score(kube_score_program, objects[name], name)
    return found


def test_nothing_is_found_that_is_not_waived(findings: list[Finding]) -> None:
    left = [str(it) for it in findings if not any(waiver.covers(it) for waiver in WAIVERS)]
    assert not left, "\n" + "\n".join(left)


def test_every_waiver_is_needed_and_says_why(findings: list[Finding]) -> None:
    assert [it for it in WAIVERS if not any(it.covers(finding) for finding in findings)] == []
    assert all(len(it.reason) > 20 for it in WAIVERS)


def test_both_tools_find_what_is_bad(kube_score_program: Path, tmp_path: Path) -> None:
    container = {"name": "bad", "image": "bad:latest", "securityContext": {"privileged": True}}
    metadata = {"name": "bad", "namespace": "bad"}
    bad: Object = {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": {"containers": [container]}}
    scored = kube_score(kube_score_program, [bad], "bad")
    assert "container-security-context-privileged" in {it.check for it in scored}
    assert "CKV_K8S_16" in {it.check for it in checkov({"bad": [bad]}, tmp_path)}
