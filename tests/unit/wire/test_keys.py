from __future__ import annotations

import stat
from typing import TYPE_CHECKING

import pytest

from airflow_knative.errors import AirflowKnativeError
from airflow_knative.wire import Signer, Verifier
from airflow_knative.wire.keys import generate, load_private, load_public

if TYPE_CHECKING:
    from pathlib import Path


def test_a_generated_pair_signs_and_verifies(tmp_path: Path) -> None:
    private, public = tmp_path / "private.pem", tmp_path / "public.pem"
    generate(private, public)
    token = Signer(load_private(private)).sign(audience="a", ti_id="t", try_number=1, body=b"")
    assert Verifier(load_public(public), audience="a").verify(token, b"").ti_id == "t"


def test_the_private_key_is_its_owners_alone(tmp_path: Path) -> None:
    generate(tmp_path / "private.pem", tmp_path / "public.pem")
    assert stat.S_IMODE((tmp_path / "private.pem").stat().st_mode) == 0o600


@pytest.mark.parametrize("there", ["private.pem", "public.pem"])
def test_a_key_in_use_is_not_overwritten(tmp_path: Path, there: str) -> None:
    (tmp_path / there).write_text("in use")
    with pytest.raises(AirflowKnativeError, match="exists"):
        generate(tmp_path / "private.pem", tmp_path / "public.pem")
    assert (tmp_path / there).read_text() == "in use"
    assert [path.name for path in tmp_path.iterdir()] == [there]


def test_a_missing_key_is_named(tmp_path: Path) -> None:
    with pytest.raises(AirflowKnativeError, match=r"absent\.pem cannot be read"):
        load_private(tmp_path / "absent.pem")


def test_a_file_that_is_no_key_is_named(tmp_path: Path) -> None:
    (tmp_path / "odd.pem").write_text("not a key")
    with pytest.raises(AirflowKnativeError, match=r"odd\.pem is no PEM key file"):
        load_public(tmp_path / "odd.pem")


def test_the_wrong_half_is_refused(tmp_path: Path) -> None:
    generate(tmp_path / "private.pem", tmp_path / "public.pem")
    with pytest.raises(AirflowKnativeError, match=r"private\.pem is no PEM key file|holds no Ed25519 public key"):
        load_public(tmp_path / "private.pem")
