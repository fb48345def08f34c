"""What kube-score and checkov find in rendered objects, and the waivers of it."""

from __future__ import annotations

import copy
import json
import os
import re
import subprocess
from dataclasses import dataclass
from pathlib import Path

import yaml

from .rendering import REPOSITORY, Object, ours, pods, templates_of_executors

CHECKOV = REPOSITORY / "build" / "checkov" / "bin" / "checkov"
WAIVERS = Path(__file__).with_name("waivers.yaml")
_CRITICAL = 1


@dataclass(frozen=True)
class Finding:
    tool: str
    check: str
    values: str
    """Which values the object was rendered with."""
    where: str
    """Kind and name of the object, without the release's name in front."""
    said: str

    def __str__(self) -> str:
        return f"{self.tool} {self.check} {self.where} ({self.values}): {self.said}"


@dataclass(frozen=True)
class Waiver:
    """Findings that are meant: of a tool's check, with values, on objects and with texts that match."""

    tool: str
    check: str
    reason: str
    values: str = ".*"
    where: str = ".*"
    said: str = ".*"

    def covers(self, finding: Finding) -> bool:
        return (
            self.tool == finding.tool
            and re.fullmatch(self.check, finding.check) is not None
            and re.fullmatch(self.values, finding.values) is not None
            and re.fullmatch(self.where, finding.where) is not None
            and re.fullmatch(self.said, finding.said, re.DOTALL) is not None
        )


def waivers() -> list[Waiver]:
    return [Waiver(**it) for it in yaml.safe_load(WAIVERS.read_text())]


def as_pods(objects: list[Object], namespace: str) -> list[Object]:
    """The same objects in a namespace, without containers that are the user's, and with Pods for Knative Services.

    Neither tool knows those, nor looks for the pod of KubernetesExecutor in a ConfigMap. Helm hands the namespace over
    when it installs.
    """
    found = copy.deepcopy([*objects, *templates_of_executors(objects)])
    for it in found:
        it["metadata"]["namespace"] = namespace
        if it["apiVersion"].startswith("serving.knative.dev/"):
            template = it.pop("spec")["template"]
            it.update(apiVersion="v1", kind="Pod", spec=template["spec"])
            it["metadata"]["labels"] = template["metadata"]["labels"]
            for left_out in ("containerConcurrency", "timeoutSeconds"):
                del it["spec"][left_out]
            for probe in ("readinessProbe", "livenessProbe"):
                # Knative fills in the port.
                it["spec"]["containers"][0][probe]["httpGet"]["port"] = 8080
    for pod in pods(found).values():
        for kind in ("containers", "initContainers"):
            if kind in pod["spec"]:
                pod["spec"][kind] = [one for one in pod["spec"][kind] if one in ours(pod)]
    return found


def kube_score(program: Path, objects: list[Object], values: str) -> list[Finding]:
    command = [str(program), "score", "--output-format", "json", "--output-version", "v2", "-"]
    done = subprocess.run(command, input=yaml.safe_dump_all(objects), capture_output=True, text=True, check=False)
    assert done.stdout, done.stderr
    return [
        Finding("kube-score", check["check"]["id"], values, _object(scored), said)
        for scored in json.loads(done.stdout)
        for check in scored["checks"] or ()
        if check["grade"] == _CRITICAL and not check["skipped"]
        for said in sorted({_text(it) for it in check["comments"] or [{}]})
    ]


def _object(scored: Object) -> str:
    return _where(scored["type_meta"]["kind"], scored["object_meta"]["name"])


def _text(comment: Object) -> str:
    return f"{comment.get('path', '')}: {comment.get('summary', '')}"


def checkov(objects: dict[str, list[Object]], folder: Path) -> list[Finding]:
    """Every failed check, of objects by the name of their values: without an account, checkov tells no severities."""
    for name, found in objects.items():
        (folder / f"{name}.yaml").write_text(yaml.safe_dump_all(found))
    command = [
        *(str(CHECKOV), "--directory", str(folder), "--framework", "kubernetes", "--output", "json"),
        *("--skip-download", "--compact", "--soft-fail"),
    ]
    environment = {"PATH": os.environ["PATH"], "HOME": str(folder), "LOG_LEVEL": "ERROR"}
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"
    report = json.loads(done.stdout)
    assert report["summary"]["parsing_errors"] == 0
    assert report["summary"]["passed"] > 0
    return [_failed(it) for it in report["results"]["failed_checks"]]


def _failed(check: Object) -> Finding:
    kind, _, name = check["resource"].partition(".")
    values = Path(check["file_path"]).stem
    name = name.removeprefix(f"{values}.").split(".")[0]
    return Finding("checkov", check["check_id"], values, _where(kind, name), check["check_name"])


def _where(kind: str, name: str) -> str:
    return f"{kind}/{re.sub(r'-[0-9a-f]{8}$', '', name.removeprefix('airflow-'))}"
