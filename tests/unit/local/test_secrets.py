from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from airflow_knative.local.errors import LocalError
from airflow_knative.local.paths import StatePaths
from airflow_knative.local.secrets import Secrets

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def paths(tmp_path: Path) -> StatePaths:
    made = StatePaths(tmp_path / "state")
    made.create()
    return made


def test_secrets_are_made_once_and_kept_private(paths: StatePaths) -> None:
    first = Secrets.load_or_make(paths, user=None, password=None)
    assert Secrets.load_or_make(paths, user=None, password=None) == first == Secrets.load(paths)
    assert paths.secrets.stat().st_mode & 0o777 == 0o600


def test_two_state_folders_share_nothing_but_the_demo_login(paths: StatePaths) -> None:
    one, other = Secrets.make(), Secrets.make()
    for name in ("database_password", "fernet_key", "jwt_secret", "api_secret_key", "instance"):
        assert getattr(one, name) != getattr(other, name)
    assert (one.admin_user, one.admin_password) == ("admin", "admin")


def test_a_given_password_is_kept_and_nothing_else_changes(paths: StatePaths) -> None:
    before = Secrets.load_or_make(paths, user=None, password=None)
    Secrets.load_or_make(paths, user="root", password="s3cret")
    after = Secrets.load_or_make(paths, user=None, password=None)
    assert (after.admin_user, after.admin_password) == ("root", "s3cret")
    assert after.jwt_secret == before.jwt_secret


def test_an_empty_password_is_refused(paths: StatePaths) -> None:
    with pytest.raises(LocalError, match="admin password is empty"):
        Secrets.load_or_make(paths, user=None, password=" ")


def test_a_secret_does_not_show_in_its_repr() -> None:
    made = Secrets.make()
    assert made.jwt_secret not in repr(made)


def test_a_damaged_file_is_not_replaced_silently(paths: StatePaths) -> None:
    paths.secrets.write_text("{}")
    with pytest.raises(LocalError, match="damaged"):
        Secrets.load_or_make(paths, user=None, password=None)
    assert paths.secrets.read_text() == "{}"
