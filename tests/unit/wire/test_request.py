from __future__ import annotations

import json
from typing import Any

import pytest

from airflow_knative.wire import UnsupportedVersionError, WireError, decode_request


def request_json(**changes: Any) -> dict[str, Any]:
    return {
        "version": 1,
        "turn": "first",
        "ti": {"id": "11111111-1111-1111-1111-111111111111", "try_number": 1},
        "dag_rel_path": "a.py",
        "bundle_name": "dags-folder",
        "context": {},
        "api_version": "2026-06-30",
        "execution_api": {"url": "http://api/execution/", "token": "secret-token"},
        "fence": {"hostname": "h", "pid": 1},
        **changes,
    }


def test_a_request_survives_the_wire() -> None:
    request = decode_request(json.dumps(request_json()).encode())
    assert request.key == ("11111111-1111-1111-1111-111111111111", 1)
    assert decode_request(request.model_dump_json().encode()) == request


@pytest.mark.parametrize("version", [0, 2, "1", None])
def test_an_unknown_version_is_refused_by_name(version: object) -> None:
    with pytest.raises(UnsupportedVersionError, match=r"protocol version .* this worker knows version 1"):
        decode_request(json.dumps(request_json(version=version)).encode())


@pytest.mark.parametrize("body", [b"", b"[", b"\xff", b"[" * 100_000])
def test_what_is_not_json_is_refused(body: bytes) -> None:
    with pytest.raises(WireError, match="not JSON"):
        decode_request(body)


@pytest.mark.parametrize("body", [b"[]", b"1", b"null"])
def test_json_that_is_no_object_has_no_version(body: bytes) -> None:
    with pytest.raises(UnsupportedVersionError):
        decode_request(body)


@pytest.mark.parametrize(
    "changes",
    [
        {"surplus": 1},
        {"ti": {}},
        {"ti": {"id": "x", "try_number": "no"}},
        {"ti": {"id": "x", "try_number": [1]}},
        {"ti": {"id": "x", "try_number": float("inf")}},
        {"fence": {"hostname": "h"}},
    ],
)
def test_a_broken_request_is_refused(changes: dict[str, Any]) -> None:
    with pytest.raises(WireError, match="breaks the contract"):
        decode_request(json.dumps(request_json(**changes)).encode())


def test_the_token_is_not_shown() -> None:
    assert "secret-token" not in repr(decode_request(json.dumps(request_json()).encode()))
