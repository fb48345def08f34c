"""Writes each chart's `values.schema.json` and the table of its README from `values.yaml`.

A comment `# -- text` over a key is its description. Types come from the defaults; where a default says too little (an
empty list, an empty string, a range), `_BY_PATH` and `_BY_NAME` say the rest.

Usage: python charts/generate.py [--check]
"""  # noqa: INP001

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any, Final

import yaml

CHART: Final = Path(__file__).parent / "airflow-knative"
START: Final = "<!-- values -->\n"
END: Final = "<!-- /values -->\n"

_FREE: Final = {"type": "object"}
_NAME: Final = {"type": "string", "pattern": "^([a-z0-9]([-a-z0-9.]{0,251}[a-z0-9])?)?$"}
_LABELS: Final = {"type": "object", "additionalProperties": {"type": "string"}}
_OBJECTS: Final = {"type": "array", "items": {"type": "object"}}
_TEXTS: Final = {"type": "array", "items": {"type": "string"}}
_SCALAR: Final = {"type": ["string", "number", "boolean"]}
_COUNT: Final = {"type": "integer", "minimum": 0}
_POSITIVE: Final = {"type": "integer", "minimum": 1}
_SLOTS: Final = {"type": "integer", "minimum": 1, "maximum": 1000}
_WINDOW: Final = {"type": "integer", "minimum": 6, "maximum": 3600}
_ENV: Final = {
    "type": "array",
    "items": {
        "type": "object",
        "required": ["name"],
        "additionalProperties": False,
        "properties": {
            "name": {"type": "string", "pattern": "^[A-Za-z_][A-Za-z0-9_]*$"},
            "value": {"type": "string"},
            "valueFrom": _FREE,
        },
    },
}
_RESOURCES: Final = {
    "type": "object",
    "additionalProperties": False,
    "properties": {
        kind: {"type": "object", "additionalProperties": {"type": ["string", "number"]}}
        for kind in ("requests", "limits")
    },
}
_WORKFLOW: Final = {
    "type": "object",
    "required": ["name", "dagId", "file"],
    "additionalProperties": False,
    "properties": {
        "name": {"type": "string", "pattern": "^[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?$"},
        "dagId": {"type": "string", "minLength": 1},
        "taskId": {"type": "string", "minLength": 1},
        "file": {"type": "string", "minLength": 1},
        "containerConcurrency": _SLOTS,
        "minScale": _COUNT,
        "maxScale": _POSITIVE,
        "windowSeconds": _WINDOW,
        "timeoutSeconds": _POSITIVE,
        "resources": _RESOURCES,
        "image": {"type": "string", "minLength": 1},
        "env": _ENV,
        "secrets": {"type": "array", "items": {**_NAME, "minLength": 1}},
        "nodeSelector": _LABELS,
    },
}

_BY_NAME: Final[dict[str, dict[str, Any]]] = {
    **dict.fromkeys(("annotations", "podAnnotations", "labels", "nodeSelector"), _LABELS),
    **dict.fromkeys(
        ("tolerations", "topologySpreadConstraints", "imagePullSecrets", "mappings", "from", "metrics"), _OBJECTS
    ),
    **dict.fromkeys(("volumes", "volumeMounts", "extraObjects"), _OBJECTS),
    **dict.fromkeys(("extraContainers", "extraInitContainers", "extraVolumes", "extraVolumeMounts"), _OBJECTS),
    **dict.fromkeys(("command", "args"), _TEXTS),
    **dict.fromkeys(("affinity", "strategy", "behavior"), _FREE),
    **dict.fromkeys(("startupProbe", "livenessProbe", "readinessProbe"), _FREE),
    **dict.fromkeys(("containerConcurrency",), _SLOTS),
    **dict.fromkeys(("replicas", "minScale", "initialScale"), _COUNT),
    **dict.fromkeys(("maxScale", "timeoutSeconds", "waitTimeoutSeconds", "maxRevisionTimeoutSeconds"), _POSITIVE),
    "airflowPatienceSeconds": _COUNT,
    **dict.fromkeys(("minReplicaCount", "maxReplicaCount"), _POSITIVE),
    **dict.fromkeys(("retentionDays", "frequencyMinutes"), _POSITIVE),
    **dict.fromkeys(("uid", "gid"), _POSITIVE),
    "port": {"type": "integer", "minimum": 1, "maximum": 65535},
    "windowSeconds": _WINDOW,
    "targetUtilizationPercentage": {"type": "integer", "minimum": 1, "maximum": 100},
    "env": _ENV,
    "resources": _RESOURCES,
    "pathType": {"enum": ["Exact", "Prefix", "ImplementationSpecific"]},
    "pullPolicy": {"enum": ["Always", "IfNotPresent", "Never"]},
    "digest": {"type": "string", "pattern": "^(sha256:[0-9a-f]{64})?$"},
    "repository": {"type": "string", "minLength": 1},
    "size": {"type": ["string", "integer"]},
}
_BY_PATH: Final[dict[str, dict[str, Any]]] = {
    "config": {"type": "object", "additionalProperties": {"type": "object", "additionalProperties": _SCALAR}},
    "workflows": {"type": "array", "items": _WORKFLOW},
    "secret": {
        "type": "array",
        "items": {
            "type": "object",
            "required": ["envName", "secretName", "secretKey"],
            "additionalProperties": False,
            "properties": {name: {"type": "string", "minLength": 1} for name in ("envName", "secretName", "secretKey")},
        },
    },
    "ingress.apiServer.hosts": {
        "type": "array",
        "items": {
            "type": "object",
            "required": ["name"],
            "additionalProperties": False,
            "properties": {
                "name": {"type": "string", "minLength": 1},
                "tls": {
                    "type": "object",
                    "additionalProperties": False,
                    "properties": {"enabled": {"type": "boolean"}, "secretName": _NAME},
                },
            },
        },
    },
    "fernetKey": {"type": "string", "pattern": "^([A-Za-z0-9_-]{43}=)?$"},
    "apiServer.service.type": {"enum": ["ClusterIP", "NodePort", "LoadBalancer"]},
    "images.postgresql.tag": {"type": "string"},
    "workers.graceSeconds": {"type": ["integer", "null"], "minimum": 0},
    "postgresql.auth.username": {"type": "string", "minLength": 1},
    "postgresql.auth.database": {"type": "string", "minLength": 1},
}
_FREE_BELOW: Final = ("securityContexts.pod", "securityContexts.container", "podDisruptionBudget.config")


def _description(lines: list[str], line: int, column: int) -> str:
    """Return the text of the comment over a key: what follows `# --`, to the key."""
    text: list[str] = []
    for before in reversed(lines[:line]):
        if not before.startswith(" " * column + "# "):
            break
        text.insert(0, before.strip().removeprefix("# "))
        if text[0].startswith("-- "):
            return " ".join(text).removeprefix("-- ")
    return ""


def _schema(node: yaml.Node, path: str, lines: list[str], rows: list[tuple[str, str, str]]) -> dict[str, Any]:
    name = path.rpartition(".")[2]
    value = yaml.safe_load(yaml.serialize(node))
    known = _BY_PATH.get(path) or (None if _is_group(path, value) else _BY_NAME.get(name))
    if known is None and path.endswith(_FREE_BELOW):
        known = _FREE
    if isinstance(node, yaml.MappingNode) and known is None:
        properties: dict[str, Any] = {}
        for key, inner in node.value:
            below = f"{path}.{key.value}" if path else key.value
            said = _description(lines, key.start_mark.line, key.start_mark.column)
            place = len(rows)
            schema = _schema(inner, below, lines, rows)
            if said:
                schema = {"description": said, **schema}
                if len(rows) == place + 1:
                    rows[place] = (*rows[place][:2], said)
            properties[key.value] = schema
        return {"type": "object", "additionalProperties": False, "properties": properties}
    rows.append((path, json.dumps(value), ""))
    if known is not None:
        return known
    kinds: dict[type, str] = {bool: "boolean", int: "integer", str: "string"}
    if type(value) not in kinds:
        raise SystemExit(f"{path}: the default {value!r} does not say which type it has; add it to generate.py")
    return {"type": kinds[type(value)]}


def _is_group(path: str, value: object) -> bool:
    return path == "workers" or (isinstance(value, dict) and bool(value) and path.rpartition(".")[2] not in _BY_NAME)


def generate(chart: Path = CHART) -> tuple[str, str]:
    """Return the schema's text and the README's table."""
    text = (chart / "values.yaml").read_text()
    rows: list[tuple[str, str, str]] = []
    schema = _schema(yaml.compose(text, Loader=yaml.SafeLoader), "", text.splitlines(), rows)
    # Helm hands these to every chart.
    schema["properties"]["global"] = _FREE
    whole = {"$schema": "http://json-schema.org/draft-07/schema#", **schema}
    table = "| Value | Default | |\n|---|---|---|\n"
    for path, default, said in rows:
        cells = (cell.replace("|", "\\|") for cell in (f"`{path}`", f"`{default}`", said))
        table += f"| {' | '.join(cells)} |\n"
    return json.dumps(whole, indent=2) + "\n", table


def main() -> None:
    """Write the files, or with `--check` fail if they would change."""
    schema, table = generate()
    readme = CHART / "README.md"
    before, _, rest = readme.read_text().partition(START)
    files = {
        CHART / "values.schema.json": schema,
        readme: f"{before}{START}\n{table}\n{END}{rest.partition(END)[2]}",
    }
    for path, text in files.items():
        if path.exists() and path.read_text() == text:
            continue
        if "--check" in sys.argv[1:]:
            raise SystemExit(f"{path.name} does not fit values.yaml; write it anew with: python charts/generate.py")
        path.write_text(text)


if __name__ == "__main__":
    main()
