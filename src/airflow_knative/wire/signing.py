"""The signature of a request: a short-lived EdDSA JWT (RFC 8037) over whom, what and the body's digest.

It travels as a bearer token beside the body, so that the body is hashed as it was sent.
"""

from __future__ import annotations

import hashlib
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import jwt

from airflow_knative.wire.errors import SignatureRefusedError

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

__all__ = ["Claims", "Signer", "Verifier"]

_ALGORITHM: Final = "EdDSA"
_ISSUER: Final = "airflow-knative"
_REQUIRED: Final = ["iss", "aud", "sub", "iat", "exp", "try", "digest"]


def _digest(body: bytes) -> str:
    return hashlib.sha256(body).hexdigest()


@dataclass(frozen=True)
class Claims:
    """What a valid signature vouches for."""

    ti_id: str
    try_number: int


class Signer:
    """The executor's side."""

    def __init__(self, key: Ed25519PrivateKey) -> None:
        """Sign with `key`."""
        self._key = key

    def sign(self, *, audience: str, ti_id: str, try_number: int, body: bytes, valid_for: float = 300.0) -> str:
        """Return the token for one request to the service named `audience`.

        Args:
            audience: name of the service.
            ti_id: of the task instance.
            try_number: of the task instance.
            body: of the request.
            valid_for: seconds, in which the request may wait for a worker.
        """
        now = time.time()
        return jwt.encode(
            {
                "iss": _ISSUER,
                "aud": audience,
                "sub": ti_id,
                "iat": now,
                "exp": now + valid_for,
                "try": try_number,
                "digest": _digest(body),
            },
            self._key,
            algorithm=_ALGORITHM,
        )


class Verifier:
    """A worker's side."""

    def __init__(self, key: Ed25519PublicKey, *, audience: str, leeway: float = 30.0) -> None:
        """Accept requests to the service `audience`, with `leeway` seconds between the two clocks."""
        self._key = key
        self._audience = audience
        self._leeway = leeway

    def verify(self, token: str | None, body: bytes) -> Claims:
        """Check a request's token against its body.

        Raises:
            SignatureRefusedError: with the reason.
        """
        if not token:
            raise SignatureRefusedError("The request carries no signature. Only the executor may call a worker.")
        try:
            claims = jwt.decode(
                token,
                self._key,
                algorithms=[_ALGORITHM],
                audience=self._audience,
                issuer=_ISSUER,
                leeway=self._leeway,
                options={"require": _REQUIRED},
            )
        except jwt.InvalidTokenError as error:
            raise SignatureRefusedError(f"The request's signature is refused: {error}.") from error
        if claims["digest"] != _digest(body):
            raise SignatureRefusedError("The request's signature is refused: it is not for this body.")
        return Claims(ti_id=str(claims["sub"]), try_number=int(claims["try"]))
