"""Rendering services: as values of the Helm chart, as the executor's endpoints file, as plain JSON."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Iterable

    from airflow_knative.services.model import ServiceSpec

__all__ = ["endpoints", "plain", "values", "workflow"]

_HEADER: Final = "# Written by `airflow-knative services render`: change the DAGs and render again.\n"


def workflow(spec: ServiceSpec) -> dict[str, Any]:
    """One entry of the chart's `workflows:`, with Knative's names for what Knative has a name for.

    Only what the DAG sets is there; the chart's own defaults hold for the rest.
    """
    entry: dict[str, Any] = {"name": spec.name, "dagId": spec.dag_id}
    if spec.task_id is not None:
        entry["taskId"] = spec.task_id
    entry["file"] = spec.file
    options = spec.options
    for key, name in (
        ("slots", "containerConcurrency"),
        ("min_scale", "minScale"),
        ("max_scale", "maxScale"),
        ("window", "windowSeconds"),
        ("timeout", "timeoutSeconds"),
        ("image", "image"),
    ):
        if options.get(key) is not None:
            entry[name] = options[key]
    for key, name in (("resources", "resources"), ("node_selector", "nodeSelector")):
        if options.get(key):
            entry[name] = _sorted(options[key])
    if options.get("env"):
        entry["env"] = [{"name": name, "value": text} for name, text in sorted(options["env"].items())]
    if options.get("secrets"):
        entry["secrets"] = sorted(options["secrets"])
    return entry


def values(specs: Iterable[ServiceSpec]) -> str:
    """Values for the chart: a list, which Helm replaces as a whole, so that a service that is gone goes."""
    entries = [workflow(spec) for spec in specs]
    if not entries:
        return f"{_HEADER}workflows: []\n"
    return f"{_HEADER}workflows:\n" + "".join(_item(entry) for entry in entries)


def endpoints(specs: Iterable[ServiceSpec], *, host: str, url: str) -> str:
    """The executor's endpoints file.

    Args:
        specs: The services.
        host: Template of the Host header; `{name}` stands for the service's name.
        url: Template of where to connect to; `{name}` and `{host}` may stand in it.
    """
    services = []
    for spec in specs:
        service_host = host.replace("{name}", spec.name)
        services.append(
            {
                "dag_id": spec.dag_id,
                "task_id": spec.task_id,
                "name": spec.name,
                "url": url.replace("{name}", spec.name).replace("{host}", service_host),
                "host": service_host,
                "timeout": spec.timeout,
            }
        )
    return json.dumps({"services": services}, indent=2) + "\n"


def plain(specs: Iterable[ServiceSpec]) -> str:
    """Every field of every service, defaults filled in."""
    return json.dumps([spec.model_dump(mode="json") for spec in specs], indent=2) + "\n"


def _sorted(value: Any) -> Any:
    return {key: _sorted(value[key]) for key in sorted(value)} if isinstance(value, dict) else value


def _item(entry: dict[str, Any]) -> str:
    lines = list(_mapping(entry))
    return "".join(f"{'  - ' if number == 0 else '    '}{line}\n" for number, line in enumerate(lines))


def _mapping(entry: dict[str, Any]) -> Iterable[str]:
    """Write block style, with scalars as JSON: YAML contains it, and no text is taken for another type."""
    for key, value in entry.items():
        if isinstance(value, dict):
            yield f"{key}:"
            yield from (f"  {line}" for line in _mapping({_key(name): inner for name, inner in value.items()}))
        elif isinstance(value, list):
            yield f"{key}:"
            for item in value:
                lines = list(_mapping(item)) if isinstance(item, dict) else [_scalar(item)]
                yield from (f"  {'- ' if number == 0 else '  '}{line}" for number, line in enumerate(lines))
        else:
            yield f"{key}: {_scalar(value)}"


def _key(text: str) -> str:
    return text if text.isidentifier() and text.isascii() else json.dumps(text)


def _scalar(value: Any) -> str:
    # JSON may hold a few invisible signs as they are that YAML does not take so; it takes no surrogates for others.
    text = json.dumps(value, ensure_ascii=False)
    return "".join(sign if sign.isprintable() else f"\\U{ord(sign):08x}" for sign in text)
