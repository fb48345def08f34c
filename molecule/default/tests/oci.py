# ruff: noqa: INP001 # found by molecule in its own folder
"""Pushes an image as any client of a registry does (OCI distribution specification 1.1, "Pushing")."""

from __future__ import annotations

import json
import tarfile
from typing import TYPE_CHECKING, Any
from urllib.parse import urljoin

import httpx

if TYPE_CHECKING:
    from pathlib import Path


def push(archive: Path, registry: str, repository: str, tag: str) -> str:
    """Push the only image of an OCI archive.

    Args:
        archive: the archive's path.
        registry: ``host:port`` of a registry that speaks plain HTTP.
        repository: the image's name there.
        tag: its tag.

    Returns:
        the name that the image is pulled by.

    Raises:
        httpx.HTTPStatusError: the registry did not take it.
    """
    base = f"http://{registry}/v2/{repository}"
    with tarfile.open(archive) as tar, httpx.Client(timeout=60) as client:

        def read(digest: str) -> bytes:
            member = tar.extractfile(f"blobs/{digest.replace(':', '/')}")
            assert member  # noqa: S101 # a test's
            return member.read()

        index = tar.extractfile("index.json")
        assert index  # noqa: S101 # a test's
        described: dict[str, Any] = json.load(index)["manifests"][0]
        manifest = read(described["digest"])
        content = json.loads(manifest)
        for blob in (content["config"], *content["layers"]):
            begun = client.post(f"{base}/blobs/uploads/").raise_for_status()
            place = httpx.URL(urljoin(base, begun.headers["Location"])).copy_merge_params({"digest": blob["digest"]})
            client.put(place, content=read(blob["digest"])).raise_for_status()
        kind = {"Content-Type": described["mediaType"]}
        client.put(f"{base}/manifests/{tag}", content=manifest, headers=kind).raise_for_status()
    return f"{registry}/{repository}:{tag}"
