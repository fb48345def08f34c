"""Passwords and keys of an instance: made once, kept at mode 0600 in the state folder."""

from __future__ import annotations

import base64
import json
import os
import secrets
from dataclasses import asdict, dataclass, fields
from typing import TYPE_CHECKING, Final, Self

from airflow_knative.local.errors import LocalError
from airflow_knative.local.files import write_atomically

if TYPE_CHECKING:
    from airflow_knative.local.paths import StatePaths

__all__ = ["ADMIN_PASSWORD_VARIABLE", "ADMIN_USER_VARIABLE", "DEMO_PASSWORD", "Secrets", "check_login"]

ADMIN_USER_VARIABLE: Final = "AIRFLOW_KNATIVE_LOCAL_ADMIN_USER"
ADMIN_PASSWORD_VARIABLE: Final = "AIRFLOW_KNATIVE_LOCAL_ADMIN_PASSWORD"  # noqa: S105 - the name of a variable
DEMO_PASSWORD: Final = "admin"  # noqa: S105 - known to everybody, and `up` says so


def check_login(user: str | None, password: str | None) -> None:
    """Refuse a login that nobody could use; None is one that is not given.

    Raises:
        LocalError: The user or the password is empty.
    """
    for name, value in (("user", user), ("password", password)):
        if value is not None and not value.strip():
            raise LocalError(f"the admin {name} is empty; give one or leave it out")


@dataclass(frozen=True, repr=False)
class Secrets:
    """What must not show in logs or in a command line.

    Attributes:
        database_password: PostgreSQL's only user.
        fernet_key: Airflow's, for connections and variables at rest.
        jwt_secret: Airflow's, for API tokens.
        api_secret_key: Airflow's, for UI sessions.
        admin_user: The user who may do everything.
        admin_password: That user's password.
        instance: What marks the processes of this state folder.
    """

    database_password: str
    fernet_key: str
    jwt_secret: str
    api_secret_key: str
    admin_user: str
    admin_password: str
    instance: str

    @classmethod
    def make(cls) -> Self:
        """New ones, with the well-known demo login."""
        return cls(
            database_password=secrets.token_urlsafe(24),
            fernet_key=base64.urlsafe_b64encode(os.urandom(32)).decode(),
            jwt_secret=secrets.token_urlsafe(48),
            api_secret_key=secrets.token_urlsafe(32),
            admin_user="admin",
            admin_password=DEMO_PASSWORD,
            instance=secrets.token_hex(16),
        )

    @classmethod
    def load_or_make(cls, paths: StatePaths, *, user: str | None, password: str | None) -> Self:
        """Those of the state folder, the admin's replaced by what is given.

        Raises:
            LocalError: The file is damaged, or the user or the password is empty.
        """
        check_login(user, password)
        known = cls._load(paths)
        given = {"admin_user": user, "admin_password": password}
        values = asdict(known or cls.make()) | {name: value for name, value in given.items() if value is not None}
        changed = cls(**values)
        if changed != known:
            write_atomically(paths.secrets, json.dumps(values, indent=2) + "\n")
        return changed

    @classmethod
    def load(cls, paths: StatePaths) -> Self:
        """Those of the state folder.

        Raises:
            LocalError: There are none.
        """
        known = cls._load(paths)
        if known is None:
            raise LocalError(f"{paths.secrets} is missing; run `airflow-knative local up`")
        return known

    @classmethod
    def _load(cls, paths: StatePaths) -> Self | None:
        try:
            text = paths.secrets.read_text()
        except FileNotFoundError:
            return None
        try:
            values = json.loads(text)
            return cls(**{field.name: str(values[field.name]) for field in fields(cls)})
        except (ValueError, TypeError, KeyError):
            raise LocalError(
                f"{paths.secrets} is damaged; `airflow-knative local down --purge` starts from nothing"
            ) from None
