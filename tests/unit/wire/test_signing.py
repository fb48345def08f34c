from __future__ import annotations

import time

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from airflow_knative.wire import Claims, SignatureRefusedError, Signer, Verifier

BODY = b'{"some": "body"}'


@pytest.fixture
def key() -> Ed25519PrivateKey:
    return Ed25519PrivateKey.generate()


@pytest.fixture
def verifier(key: Ed25519PrivateKey) -> Verifier:
    return Verifier(key.public_key(), audience="service-a", leeway=0.0)


def _sign(key: Ed25519PrivateKey, *, audience: str = "service-a", valid_for: float = 60.0) -> str:
    return Signer(key).sign(audience=audience, ti_id="ti-1", try_number=2, body=BODY, valid_for=valid_for)


def test_a_signed_request_is_accepted(key: Ed25519PrivateKey, verifier: Verifier) -> None:
    assert verifier.verify(_sign(key), BODY) == Claims(ti_id="ti-1", try_number=2)


def test_an_unsigned_request_is_refused(verifier: Verifier) -> None:
    with pytest.raises(SignatureRefusedError, match="no signature"):
        verifier.verify(None, BODY)


def test_a_tampered_body_is_refused(key: Ed25519PrivateKey, verifier: Verifier) -> None:
    with pytest.raises(SignatureRefusedError, match="not for this body"):
        verifier.verify(_sign(key), BODY + b" ")


def test_a_forged_signature_is_refused(verifier: Verifier) -> None:
    with pytest.raises(SignatureRefusedError, match="Signature verification failed"):
        verifier.verify(_sign(Ed25519PrivateKey.generate()), BODY)


def test_a_request_for_another_service_is_refused(key: Ed25519PrivateKey, verifier: Verifier) -> None:
    with pytest.raises(SignatureRefusedError, match="Audience"):
        verifier.verify(_sign(key, audience="service-b"), BODY)


def test_an_expired_signature_is_refused(key: Ed25519PrivateKey, verifier: Verifier) -> None:
    with pytest.raises(SignatureRefusedError, match="expired"):
        verifier.verify(_sign(key, valid_for=-1.0), BODY)


def test_clocks_may_differ_by_the_leeway(key: Ed25519PrivateKey) -> None:
    verifier = Verifier(key.public_key(), audience="service-a", leeway=30.0)
    assert verifier.verify(_sign(key, valid_for=-5.0), BODY).ti_id == "ti-1"


@pytest.mark.parametrize("algorithm", ["HS256", "none"])
def test_another_algorithm_is_refused(key: Ed25519PrivateKey, verifier: Verifier, algorithm: str) -> None:
    claims = jwt.decode(_sign(key), options={"verify_signature": False})
    secret = "x" * 32 if algorithm == "HS256" else None
    with pytest.raises(SignatureRefusedError, match="refused"):
        verifier.verify(jwt.encode(claims, secret, algorithm=algorithm), BODY)


@pytest.mark.parametrize("missing", ["iss", "aud", "sub", "exp", "try", "digest"])
def test_every_claim_is_required(key: Ed25519PrivateKey, verifier: Verifier, missing: str) -> None:
    claims = jwt.decode(_sign(key), options={"verify_signature": False})
    del claims[missing]
    with pytest.raises(SignatureRefusedError, match="refused"):
        verifier.verify(jwt.encode(claims, key, algorithm="EdDSA"), BODY)


def test_a_signature_from_the_future_is_refused(key: Ed25519PrivateKey, verifier: Verifier) -> None:
    claims = jwt.decode(_sign(key), options={"verify_signature": False})
    claims["iat"] = time.time() + 3600
    with pytest.raises(SignatureRefusedError, match="not yet valid"):
        verifier.verify(jwt.encode(claims, key, algorithm="EdDSA"), BODY)
