"""The executor's Ed25519 key pair: PEM files, the private one for the executor alone."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from airflow_knative.errors import AirflowKnativeError

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

__all__ = ["generate", "load_private", "load_public"]

_MEND = "`airflow-knative keys generate` makes a pair."


def generate(private: Path, public: Path) -> None:
    """Write a new pair; the private file gets mode 0600.

    Raises:
        AirflowKnativeError: one of the files exists: a key in use is never overwritten.
    """
    for path in (private, public):
        if path.exists():
            raise AirflowKnativeError(f"{path} exists. Remove both files of the pair first if it is to be replaced.")
    key = Ed25519PrivateKey.generate()
    pem = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    with os.fdopen(os.open(private, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
        file.write(pem)
    public.write_bytes(
        key.public_key().public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
    )


def load_private(path: Path) -> Ed25519PrivateKey:
    """Read the executor's key.

    Raises:
        AirflowKnativeError: the file cannot be read or holds something else.
    """
    key = _load(path, lambda pem: serialization.load_pem_private_key(pem, password=None))
    if not isinstance(key, Ed25519PrivateKey):
        raise AirflowKnativeError(f"{path} holds no Ed25519 private key. {_MEND}")
    return key


def load_public(path: Path) -> Ed25519PublicKey:
    """Read a worker's key.

    Raises:
        AirflowKnativeError: the file cannot be read or holds something else.
    """
    key = _load(path, serialization.load_pem_public_key)
    if not isinstance(key, Ed25519PublicKey):
        raise AirflowKnativeError(f"{path} holds no Ed25519 public key. {_MEND}")
    return key


def _load(path: Path, parse: Callable[[bytes], object]) -> object:
    try:
        return parse(path.read_bytes())
    except OSError as error:
        raise AirflowKnativeError(f"The key file {path} cannot be read: {error.strerror}. {_MEND}") from error
    except ValueError as error:
        raise AirflowKnativeError(f"{path} is no PEM key file: {error}. {_MEND}") from error
