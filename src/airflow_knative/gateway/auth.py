"""Who calls: the Authorization header, and the exchange of a user and password for an Airflow token."""

from __future__ import annotations

import asyncio
import base64
import binascii
import hashlib
import json
import secrets
import time
from collections import OrderedDict
from functools import partial
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, Final, NamedTuple, TypeVar

from airflow_knative.gateway.airflow import BrokenError, RefusedError, TokenRefusedError
from airflow_knative.gateway.problems import ProblemError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from airflow_knative.gateway.airflow import Airflow
    from airflow_knative.gateway.patience import Patience

__all__ = ["Basic", "Bearer", "Caller", "Token", "TokenCache", "exchange", "parse_authorization", "unauthenticated"]

T = TypeVar("T")

CHALLENGE: Final = 'Basic realm="airflow", charset="UTF-8"'
# A token is given up this many seconds before it expires, so that none expires on its way to Airflow.
_MARGIN: Final = 30.0


class Basic(NamedTuple):
    """A user and password."""

    user: str
    password: str

    def __repr__(self) -> str:
        """Leave the password out of logs and tracebacks."""
        return f"Basic(user={self.user!r})"


class Bearer(NamedTuple):
    """An Airflow token that the caller has got for themselves."""

    token: str

    def __repr__(self) -> str:
        """Leave the token out of logs and tracebacks."""
        return "Bearer()"


class Token:
    """A token of Airflow's API."""

    __slots__ = ("expires", "subject", "text")

    def __init__(self, text: str) -> None:
        claims = _claims(text)
        self.text = text
        subject, expires = claims.get("sub"), claims.get("exp")
        # Airflow checks the token; these two only serve to name idempotent runs and to keep the cache fresh.
        self.subject = str(subject) if isinstance(subject, str | int) else None
        self.expires = float(expires) if isinstance(expires, int | float) else None


def parse_authorization(header: str | None) -> Basic | Bearer:
    """Read the Authorization header.

    Raises:
        ProblemError: it is missing, malformed, or of another scheme.
    """
    if header is None:
        raise unauthenticated("The call has no Authorization header.")
    scheme, _, credentials = header.partition(" ")
    credentials = credentials.strip()
    if scheme.lower() == "bearer" and credentials.isascii() and credentials.isprintable() and credentials:
        return Bearer(credentials)
    if scheme.lower() != "basic":
        raise unauthenticated("The Authorization header is of no scheme that the gateway takes.")
    try:
        user, colon, password = base64.b64decode(credentials, validate=True).decode("utf-8").partition(":")
    except (binascii.Error, UnicodeDecodeError, ValueError):
        raise unauthenticated("The Authorization header is not the base64 text of user:password in UTF-8.") from None
    if not colon or not user or not password:
        raise unauthenticated("The Authorization header lacks a user or a password.")
    return Basic(user, password)


def unauthenticated(what: str) -> ProblemError:
    """Return the 401 that names what is wrong with the caller's credentials."""
    detail = f"{what} Send your Airflow user and password by HTTP Basic (curl -u user:password), or an Airflow token."
    return ProblemError("unauthenticated", detail, headers={"www-authenticate": CHALLENGE})


class TokenCache:
    """Airflow tokens by user and password, and those that callers bring and Airflow took.

    Getting one costs Airflow a deliberately slow password check. Keys are keyed hashes with a secret that this process
    alone has, so that no password stays in memory for longer than its call.

    Args:
        fetch: Exchanges a user and password for a token.
        size: Most tokens kept; the one that was not used for longest goes first.
        ttl: Seconds for which a token is reused at most.
        now: Returns Unix time in seconds.
    """

    def __init__(
        self,
        fetch: Callable[[str, str], Awaitable[str]],
        *,
        size: int,
        ttl: float,
        now: Callable[[], float] = time.time,
    ) -> None:
        self._fetch = fetch
        self._size = size
        self._ttl = ttl
        self._now = now
        self._digest = hashlib.blake2b(key=secrets.token_bytes(32), digest_size=32)
        self._tokens: OrderedDict[bytes, tuple[Token, float]] = OrderedDict()
        self._fetching: dict[bytes, asyncio.Task[Token]] = {}

    def __len__(self) -> int:
        """Return how many tokens are kept."""
        return len(self._tokens)

    async def get(self, credentials: Basic) -> Token:
        """Return a token for this user and password; concurrent first calls share one exchange."""
        key = self._key(credentials)
        if (kept := self._tokens.get(key)) is not None:
            token, until = kept
            if self._now() < until:
                self._tokens.move_to_end(key)
                return token
            del self._tokens[key]
        task = self._fetching.get(key)
        if task is None:
            task = asyncio.create_task(self._exchange(key, credentials))
            self._fetching[key] = task
            task.add_done_callback(lambda done: self._fetched(key, done))
        # Shielded: one caller who hangs up must not fail the others.
        return await asyncio.shield(task)

    def knows(self, credentials: Basic | Bearer) -> bool:
        """Return whether Airflow took this password or token a while ago."""
        kept = self._tokens.get(self._key(credentials))
        return kept is not None and self._now() < kept[1]

    def took(self, credentials: Bearer, token: Token) -> None:
        """Remember that Airflow took a token that a caller brought."""
        self._keep(self._key(credentials), token)

    def drop(self, credentials: Basic | Bearer, token: Token) -> None:
        """Forget a token that Airflow refused, unless it was replaced since."""
        key = self._key(credentials)
        kept = self._tokens.get(key)
        if kept is not None and kept[0].text == token.text:
            del self._tokens[key]

    async def _exchange(self, key: bytes, credentials: Basic) -> Token:
        token = Token(await self._fetch(credentials.user, credentials.password))
        self._keep(key, token)
        return token

    def _keep(self, key: bytes, token: Token) -> None:
        until = self._now() + self._ttl
        if token.expires is not None:
            until = min(until, token.expires - _MARGIN)
        if until > self._now():
            self._tokens[key] = (token, until)
            self._tokens.move_to_end(key)
            while len(self._tokens) > self._size:
                self._tokens.popitem(last=False)

    def _fetched(self, key: bytes, task: asyncio.Task[Token]) -> None:
        del self._fetching[key]
        if not task.cancelled():
            task.exception()  # every caller may have hung up, and nobody else would fetch it

    def _key(self, credentials: Basic | Bearer) -> bytes:
        digest = self._digest.copy()
        if isinstance(credentials, Bearer):
            # No user's name is so long.
            digest.update(b"\xff" * 4 + credentials.token.encode())
            return digest.digest()
        user = credentials.user.encode()
        digest.update(len(user).to_bytes(4, "big") + user + credentials.password.encode())
        return digest.digest()


class Caller:
    """One call's way to Airflow, with the rights of the one who calls.

    Args:
        credentials: Who calls.
        tokens: Airflow tokens of all callers.
        patience: What it has for an Airflow that is away.
    """

    def __init__(self, credentials: Basic | Bearer, tokens: TokenCache, patience: Patience) -> None:
        self._credentials = credentials
        self._tokens = tokens
        self._patience = patience

    async def authenticate(self, ask: Callable[[str], Awaitable[object]]) -> None:
        """Return if Airflow knows the caller.

        Args:
            ask: A call to Airflow that shows whether it takes a token that the caller brought.

        Raises:
            ProblemError: Airflow does not know the caller.
            UnavailableError: Airflow stays away.
        """
        if isinstance(self._credentials, Basic):
            await self._patience.see_out(self._token)
        else:
            await self.call(ask)

    async def identity(self) -> str:
        """Return what stays the same for this user over all tokens, logins and replicas of the gateway."""
        token = await self._patience.see_out(self._token)
        if token.subject is not None:
            return f"subject:{token.subject}"
        if isinstance(self._credentials, Basic):
            return f"user:{self._credentials.user}"
        return f"token:{token.text}"

    async def call(self, operation: Callable[[str], Awaitable[T]]) -> T:
        """Carry out one call to Airflow; with a new token if Airflow no longer takes the one that was kept.

        Args:
            operation: The call. It is carried out again when Airflow was away, or answered and the answer was lost.

        Raises:
            ProblemError: Airflow does not know the caller.
            UnavailableError: Airflow stays away.
        """
        return await self._patience.see_out(partial(self._call, operation))

    async def _call(self, operation: Callable[[str], Awaitable[T]]) -> T:
        token = await self._token()
        try:
            result = await operation(token.text)
        except TokenRefusedError:
            self._tokens.drop(self._credentials, token)
            if isinstance(self._credentials, Bearer):
                raise unauthenticated(
                    "Airflow does not take this token: it is expired, revoked or not one of its own."
                ) from None
        else:
            if isinstance(self._credentials, Bearer):
                self._tokens.took(self._credentials, token)
            return result
        token = await self._token()
        try:
            return await operation(token.text)
        except TokenRefusedError:
            self._tokens.drop(self._credentials, token)
            raise unauthenticated("Airflow gave a token for this user and password, but does not take it.") from None

    async def _token(self) -> Token:
        if isinstance(self._credentials, Bearer):
            return Token(self._credentials.token)
        return await self._tokens.get(self._credentials)


async def exchange(airflow: Airflow, user: str, password: str) -> str:
    """Exchange a user and password at Airflow for a token.

    Raises:
        ProblemError: Airflow does not know this user and password.
        BrokenError: its auth manager gives no tokens for passwords.
    """
    try:
        return await airflow.token(user, password)
    except RefusedError as error:
        if error.status in {HTTPStatus.BAD_REQUEST, HTTPStatus.UNAUTHORIZED}:
            raise unauthenticated("Airflow does not know this user and password.") from None
        raise BrokenError(
            f"Airflow answered {error.status} to POST /auth/token: {error.reason}. "
            "Its auth manager has to exchange passwords for tokens, as the FAB auth manager does."
        ) from error


def _claims(token: str) -> dict[str, Any]:
    try:
        payload = token.split(".")[1]
        claims = json.loads(base64.urlsafe_b64decode(payload + "=" * (-len(payload) % 4)))
    except (IndexError, ValueError):
        return {}
    return claims if isinstance(claims, dict) else {}
