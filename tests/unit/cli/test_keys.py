from __future__ import annotations

import stat
from typing import TYPE_CHECKING

import pytest
from typer.testing import CliRunner

from airflow_knative.cli.app import app
from airflow_knative.errors import AirflowKnativeError
from airflow_knative.wire import keys

if TYPE_CHECKING:
    from pathlib import Path


def test_generate(tmp_path: Path) -> None:
    private, public = tmp_path / "private.pem", tmp_path / "public.pem"
    result = CliRunner().invoke(app, ["keys", "generate", "--private", str(private), "--public", str(public)])
    assert result.exit_code == 0, result.output
    assert stat.S_IMODE(private.stat().st_mode) == 0o600
    assert keys.load_private(private).public_key() == keys.load_public(public)
    assert "PRIVATE KEY" not in result.output


def test_a_key_is_never_overwritten(tmp_path: Path) -> None:
    private, public = tmp_path / "private.pem", tmp_path / "public.pem"
    public.write_text("precious")
    result = CliRunner().invoke(app, ["keys", "generate", "--private", str(private), "--public", str(public)])
    assert isinstance(result.exception, AirflowKnativeError)
    assert public.read_text() == "precious"
    assert not private.exists()
    with pytest.raises(AirflowKnativeError):
        raise result.exception
