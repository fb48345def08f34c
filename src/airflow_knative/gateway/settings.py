"""The gateway's settings, all of them environment variables."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, Final, Literal, Self, get_args, get_origin
from urllib.parse import urlsplit

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from airflow_knative.errors import AirflowKnativeError
from airflow_knative.variables import CLIENT_VARIABLES

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pydantic.fields import FieldInfo
    from pydantic_core import ErrorDetails

__all__ = ["PREFIX", "Settings", "SettingsError"]

PREFIX: Final = "AIRFLOW_KNATIVE_GATEWAY_"

# A Kubernetes Service called airflow-knative-gateway makes the kubelet put variables of these shapes into every pod of
# the namespace. They are nobody's settings.
_SERVICE_LINKS: Final = ("SERVICE_HOST", "SERVICE_PORT", "PORT_")

Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]
NotNegative = Annotated[float, Field(ge=0, allow_inf_nan=False)]


class SettingsError(AirflowKnativeError):
    """A setting is missing, unknown or has a value that is not allowed."""


class Settings(BaseModel):
    """What a gateway process needs to know. Times are seconds."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    airflow_url: str = Field(description="Base URL of Airflow's API server, e.g. http://airflow-api-server:8080")
    airflow_ca_file: str | None = Field(default=None, description="PEM file of the authorities that sign its TLS key")
    airflow_timeout: Positive = Field(default=30, description="Seconds that one call to Airflow may take")
    airflow_patience: NotNegative = Field(
        default=180, description="Seconds for which calls are taken up again that Airflow is not there to answer"
    )
    host: str = Field(default="0.0.0.0", description="Address to listen on")
    port: int = Field(
        default=8080, ge=0, le=65535, description="TCP port to listen on; PORT is used when this is unset"
    )
    wait_timeout: Positive = Field(
        default=290,
        description="Longest time, and the default one, that a call waits for its run; keep it below every proxy's",
    )
    grace: Positive = Field(default=30, description="Seconds that calls under way have left after SIGTERM")
    max_body_bytes: int = Field(default=1_048_576, ge=16, description="Largest request body")
    max_output_bytes: int = Field(default=16_777_216, ge=16, description="Largest output that is read from Airflow")
    max_concurrency: int = Field(default=100, ge=1, description="Workflow calls at once; more are answered 503")
    unpause: bool = Field(default=True, description="Unpause a paused workflow that is called, if the caller may")
    token_ttl: NotNegative = Field(
        default=300, description="Seconds for which an Airflow token is reused; a changed password works on for as long"
    )
    token_cache_size: int = Field(default=1000, ge=1, description="Tokens kept at once")
    unpaused_ttl: NotNegative = Field(
        default=5, description="Seconds for which a workflow that was seen unpaused is not looked at again"
    )
    poll_min: Positive = Field(default=0.01, description="Shortest time between two looks at a run")
    poll_max: Positive = Field(default=2, description="Longest time between two looks at a run, but for poll_rate")
    poll_rate: Positive = Field(default=200, description="Looks at runs per second, over all calls that wait")
    log_level: Literal["debug", "info", "warning", "error"] = Field(default="info", description="Least level logged")

    @field_validator("airflow_url")
    @classmethod
    def _plain_base_url(cls, value: str) -> str:
        parts = urlsplit(value)
        if parts.scheme not in {"http", "https"} or not parts.hostname:
            raise ValueError("it has to be an http:// or https:// URL with a host")
        if parts.username is not None or parts.password is not None:
            raise ValueError("it must not carry a user or password: each caller brings their own")
        if parts.query or parts.fragment:
            raise ValueError("it must not have a query or a fragment")
        _ = parts.port  # raises ValueError when it is no port
        return value.rstrip("/")

    @classmethod
    def from_environ(cls, environ: Mapping[str, str]) -> Self:
        """Read the settings from environment variables. Those of the command line, a client of gateways, are none.

        Raises:
            SettingsError: with one line for each variable that is missing, unknown or not allowed.
        """
        given: dict[str, str] = {}
        problems: list[str] = []
        for variable, value in environ.items():
            if not variable.startswith(PREFIX) or not value or variable in CLIENT_VARIABLES:
                continue
            name = variable.removeprefix(PREFIX)
            if name.lower() in cls.model_fields:
                if not (name == "PORT" and value.startswith("tcp://")):
                    given[name.lower()] = value
            elif not name.startswith(_SERVICE_LINKS):
                problems.append(f"{variable}: there is no such setting. Known are: {', '.join(cls.variables())}.")
        if "port" not in given and environ.get("PORT"):
            given["port"] = environ["PORT"]
        try:
            settings = cls.model_validate(given)
        except ValidationError as error:
            problems.extend(cls._explain(item) for item in error.errors())
        else:
            if not problems:
                return settings
        raise SettingsError("The gateway's settings are wrong.\n" + "\n".join(f"  {line}" for line in problems))

    @classmethod
    def variables(cls) -> list[str]:
        """Return the names of the environment variables, in the order of the help text."""
        return [PREFIX + name.upper() for name in cls.model_fields]

    @classmethod
    def describe(cls) -> str:
        """Return one paragraph for each variable: name, type, default and meaning."""
        lines = []
        for name, field in cls.model_fields.items():
            default = "required" if field.is_required() else f"default {_shown(field.default)}"
            lines.append(f"  {PREFIX}{name.upper()} ({type_name(field)}, {default})\n      {field.description}.")
        return "\n".join(lines)

    @classmethod
    def _explain(cls, item: ErrorDetails) -> str:
        name = str(item["loc"][0])
        field = cls.model_fields[name]
        variable = PREFIX + name.upper()
        if item["type"] == "missing":
            return f"{variable} is not set. {field.description}."
        # A URL may carry a password by mistake, and an error message ends in logs.
        value = "its value" if name == "airflow_url" else repr(item["input"])
        reason = item["msg"].removeprefix("Value error, ")
        return f"{variable}: {value} is not allowed: {reason}. It is: {field.description} ({type_name(field)})."


def type_name(field: FieldInfo) -> str:
    """Return what a user writes for this setting: text, a whole number, a number of seconds, or one of some words."""
    annotation: Any = field.annotation
    if get_origin(annotation) is Literal:
        return "one of " + ", ".join(get_args(annotation))
    if annotation is bool:
        return "true or false"
    if annotation is int:
        return "whole number"
    return "number" if annotation is float else "text"


def _shown(default: object) -> str:
    if default is None:
        return "none"
    return str(default).lower() if isinstance(default, bool) else str(default)
