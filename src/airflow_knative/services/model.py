"""What a task may say about its Knative Service, and the service that comes of it."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from decimal import Decimal
from typing import Annotated, Any, Final, Self

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, model_validator

from airflow_knative.errors import AirflowKnativeError

__all__ = ["KNATIVE_MAX_TIMEOUT", "KnativeOptions", "ServiceSpec", "ServicesError", "parse_options", "quantity"]

KNATIVE_MAX_TIMEOUT: Final = 600
"""Seconds: Knative's default for the longest `timeoutSeconds` (`max-revision-timeout-seconds`)."""

_QUANTITY = re.compile(r"(?P<number>\d+(?:\.\d+)?|\.\d+)(?P<suffix>[numkMGTPE]|[KMGTPE]i|[eE][+-]?\d+)?")
_ENV_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_OBJECT_NAME = re.compile(r"[a-z0-9]([-a-z0-9.]{0,251}[a-z0-9])?")
_LABEL_KEY = re.compile(r"([a-z0-9]([-a-z0-9.]{0,251}[a-z0-9])?/)?[A-Za-z0-9]([-\w.]{0,61}[A-Za-z0-9])?", re.ASCII)
_LABEL_VALUE = re.compile(r"([A-Za-z0-9]([-\w.]{0,61}[A-Za-z0-9])?)?", re.ASCII)
_IMAGE = re.compile(r"[a-z0-9][\w.-]*(:\d+)?(/[\w.-]+)*(:[\w][\w.-]{0,127})?(@sha256:[0-9a-f]{64})?", re.ASCII)
_RESERVED_ENV = re.compile(r"PORT|K_.*|AIRFLOW_KNATIVE_WORKER_.*|AIRFLOW__DATABASE__.*")
_PLAIN_RESOURCES: Final = ("cpu", "memory", "ephemeral-storage")
_EXPONENTS: Final = {"n": -9, "u": -6, "m": -3, "k": 3, "M": 6, "G": 9, "T": 12, "P": 15, "E": 18}

_ALLOWED: Final = {
    "slots": "a whole number from 1 to 1000",
    "min_scale": "a whole number from 0, at most max_scale",
    "max_scale": "a whole number from 1",
    "window": "whole seconds from 6 to 3600",
    "timeout": "whole seconds from 1",
    "resources": "{'requests': {...}, 'limits': {...}} of Kubernetes quantities such as cpu '500m', memory '256Mi'",
    "image": "an image reference such as 'registry.example/team/worker:1.2'",
    "env": "a mapping of variable names to strings; PORT, K_*, AIRFLOW_KNATIVE_WORKER_* and AIRFLOW__DATABASE__* "
    "belong to the worker",
    "secrets": "a list of names of Kubernetes Secrets, whose keys become variables",
    "node_selector": "a mapping of node labels to their values",
    "variables": "a list of keys of Airflow's Variables",
    "connections": "a list of ids of Airflow's Connections",
}


class ServicesError(AirflowKnativeError):
    """DAGs that cannot become services.

    Attributes:
        problems: One message for each thing that is wrong, in a stable order.
    """

    def __init__(self, problems: Iterable[str]) -> None:
        self.problems = tuple(problems)
        super().__init__("\n".join(self.problems))


def quantity(text: str) -> Decimal:
    """Read a Kubernetes quantity such as `500m` or `1.5Gi`.

    Raises:
        ValueError: It is none.
    """
    match = _QUANTITY.fullmatch(text)
    if match is None:
        raise ValueError(f"{text!r} is no Kubernetes quantity")
    number, suffix = Decimal(match["number"]), match["suffix"] or ""
    if suffix.endswith("i"):
        return number * Decimal(1024) ** ("KMGTPE".index(suffix[0]) + 1)
    if suffix[:1] in {"e", "E"} and len(suffix) > 1:
        return number.scaleb(int(suffix[1:]))
    return number.scaleb(_EXPONENTS.get(suffix, 0))


def _quantities_as_text(value: Any) -> Any:
    """Let a DAG write `{"cpu": 1}`, as Kubernetes does."""
    if not isinstance(value, Mapping):
        return value
    return {
        kind: {k: str(v) if isinstance(v, int | float) and not isinstance(v, bool) else v for k, v in amounts.items()}
        if isinstance(amounts, Mapping)
        else amounts
        for kind, amounts in value.items()
    }


def _check_resources(value: dict[str, dict[str, str]]) -> dict[str, dict[str, str]]:
    if unknown := sorted(set(value) - {"requests", "limits"}):
        raise ValueError(f"{unknown[0]!r} is neither 'requests' nor 'limits'")
    amounts = {kind: {name: quantity(text) for name, text in entries.items()} for kind, entries in value.items()}
    for entries in amounts.values():
        for name in entries:
            if name not in _PLAIN_RESOURCES and not name.startswith("hugepages-") and "/" not in name:
                raise ValueError(f"{name!r} is no resource; known are {', '.join(_PLAIN_RESOURCES)} and vendor/name")
    for name, request in amounts.get("requests", {}).items():
        limit = amounts.get("limits", {}).get(name)
        if limit is not None and request > limit:
            texts = value["requests"][name], value["limits"][name]
            raise ValueError(f"the request of {name}, {texts[0]}, is above its limit, {texts[1]}")
    return value


def _check_env(value: dict[str, str]) -> dict[str, str]:
    for name in value:
        if not _ENV_NAME.fullmatch(name):
            raise ValueError(f"{name!r} is no name of a variable")
        if _RESERVED_ENV.fullmatch(name):
            raise ValueError(f"{name} is set by the worker's own machinery")
    return value


def _check_names(value: list[str]) -> list[str]:
    for name in value:
        if not _OBJECT_NAME.fullmatch(name):
            raise ValueError(f"{name!r} is no name of a Secret")
    return value


def _check_labels(value: dict[str, str]) -> dict[str, str]:
    for key, label in value.items():
        if not _LABEL_KEY.fullmatch(key) or not _LABEL_VALUE.fullmatch(label):
            raise ValueError(f"{key}={label} is no Kubernetes label")
    return value


def _check_image(value: str) -> str:
    if not _IMAGE.fullmatch(value):
        raise ValueError(f"{value!r} is no image reference")
    return value


class KnativeOptions(BaseModel):
    """The keys of `executor_config["knative"]`.

    A key that the DAG leaves out is not in `model_fields_set`: rendered values leave it out too, so that the chart's
    own default holds there; the defaults here are for whoever runs services without the chart.
    """

    model_config = ConfigDict(frozen=True, strict=True, extra="forbid")

    slots: Annotated[int, Field(ge=1, le=1000)] = 1
    """Tasks that one worker runs at once (Knative's containerConcurrency)."""
    min_scale: Annotated[int, Field(ge=0)] = 0
    """Workers kept running when there is nothing to do."""
    max_scale: Annotated[int, Field(ge=1)] = 10
    """Workers at most."""
    window: Annotated[int, Field(ge=6, le=3600)] = 60
    """Seconds without work after which a worker goes."""
    timeout: Annotated[int, Field(ge=1)] = KNATIVE_MAX_TIMEOUT
    """Seconds that one task may take at most."""
    resources: Annotated[
        dict[str, dict[str, str]], BeforeValidator(_quantities_as_text), AfterValidator(_check_resources)
    ] = Field(default_factory=dict)
    """Kubernetes resource requests and limits of a worker."""
    image: Annotated[str, AfterValidator(_check_image)] | None = None
    """Another image than the one all workers share."""
    env: Annotated[dict[str, str], AfterValidator(_check_env)] = Field(default_factory=dict)
    """Environment variables of the worker."""
    secrets: Annotated[list[str], Field(strict=False), AfterValidator(_check_names)] = Field(default_factory=list)
    """Kubernetes Secrets whose keys become environment variables of the worker."""
    node_selector: Annotated[dict[str, str], AfterValidator(_check_labels)] = Field(default_factory=dict)
    """Labels of the nodes that workers may run on."""
    variables: Annotated[list[str], Field(strict=False)] = Field(default_factory=list)
    """Variables that the executor sends along: no part of a service."""
    connections: Annotated[list[str], Field(strict=False)] = Field(default_factory=list)
    """The same of Connections."""

    @property
    def shaping(self) -> set[str]:
        """Keys that the DAG set of its own accord and that shape a service."""
        return self.model_fields_set & KnativeOptions.model_fields.keys() - {"variables", "connections"}

    @model_validator(mode="after")
    def _scale_is_a_range(self) -> Self:
        if self.min_scale > self.max_scale:
            default = "" if "max_scale" in self.model_fields_set else " (the default)"
            raise ValueError(f"min_scale {self.min_scale} is above max_scale {self.max_scale}{default}")
        return self


class ServiceSpec(KnativeOptions):
    """One Knative Service: what it is called, what it serves, how it scales."""

    name: str
    """The service's name, a DNS label."""
    dag_id: str
    """The exact id of the DAG that it serves."""
    task_id: str | None = None
    """The exact id of the one task that it serves, or None for every task of the DAG."""
    file: str
    """The DAG's file, relative to the dags folder."""

    @property
    def options(self) -> dict[str, Any]:
        """What the DAG set of its own accord, by key of `KnativeOptions`."""
        return {key: getattr(self, key) for key in KnativeOptions.model_fields if key in self.shaping}


def parse_options(raw: Any, *, where: str) -> KnativeOptions:
    """Read one task's `executor_config["knative"]`.

    Args:
        raw: What the DAG says there, of any type.
        where: The DAG and task, as the start of each message.

    Raises:
        ServicesError: With one problem for each key that is unknown or has a wrong value.
    """
    if not isinstance(raw, Mapping):
        raise ServicesError(
            [f"{where}: executor_config['knative'] is {raw!r}; allowed: a mapping with keys of {', '.join(_ALLOWED)}"]
        )
    try:
        return KnativeOptions.model_validate(dict(raw))
    except ValidationError as error:
        raise ServicesError([_explain(problem, where) for problem in error.errors()]) from None


def _explain(problem: Any, where: str) -> str:
    location = problem["loc"]
    if not location:
        return f"{where}: {_reason(problem)}; raise max_scale or lower min_scale"
    key = location[0]
    path = "".join(f"[{part!r}]" for part in ("knative", *location) if not str(part).startswith("function-"))
    said = f"{where}: executor_config{path} is {problem['input']!r}"
    if problem["type"] == "extra_forbidden":
        return f"{said}, an unknown key; allowed keys: {', '.join(_ALLOWED)}"
    reason = f" ({_reason(problem)})" if problem["type"] == "value_error" else ""
    return f"{said}{reason}; allowed: {_ALLOWED[key]}"


def _reason(problem: Any) -> str:
    return str(problem["msg"]).removeprefix("Value error, ")
