"""Reading the body of a call."""

from __future__ import annotations

from typing import TYPE_CHECKING

from airflow_knative.gateway.problems import ProblemError

if TYPE_CHECKING:
    from starlette.requests import Request

__all__ = ["read_json_body"]


async def read_json_body(request: Request, *, limit: int) -> bytes:
    """Return the body of a call.

    Raises:
        ProblemError: it is not said to be JSON, or has more than `limit` bytes.
        ClientDisconnect: the caller hung up.
    """
    _check_type(request)
    announced = request.headers.get("content-length", "")
    if announced.isdecimal() and int(announced) > limit:
        raise _too_large(announced, limit)
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > limit:
            raise _too_large(f"more than {limit}", limit)
    return bytes(body)


def _check_type(request: Request) -> None:
    content_type = request.headers.get("content-type", "")
    media_type, _, parameters = content_type.partition(";")
    media_type = media_type.strip().lower()
    said_of_it = {
        name.strip().lower(): value.strip().strip('"').lower()
        for name, _, value in (parameter.partition("=") for parameter in parameters.split(";"))
    }
    charset = said_of_it.get("charset", "utf-8")
    is_json = media_type == "application/json" or (
        media_type.startswith("application/") and media_type.endswith("+json")
    )
    encoding = request.headers.get("content-encoding", "identity").lower()
    # What curl calls its --data when it is told nothing. A page in a browser can say the same without being asked
    # whether it may call here, and the browser would add the user's password: such requests name their origin.
    if media_type == "application/x-www-form-urlencoded":
        is_json = not {"origin", "sec-fetch-site"} & set(request.headers)
    if is_json and charset in {"utf-8", "utf8", "us-ascii"} and encoding == "identity":
        return
    said = f"Content-Type {content_type!r}" if encoding == "identity" else f"Content-Encoding {encoding!r}"
    raise ProblemError(
        "unsupported-media-type",
        f"The body has {said}; allowed is application/json in UTF-8, not compressed. "
        "With curl: -H 'Content-Type: application/json'.",
        headers={"accept": "application/json"},
    )


def _too_large(size: str, limit: int) -> ProblemError:
    return ProblemError(
        "body-too-large",
        f"The body has {size} bytes; at most {limit} are allowed. "
        "Pass large data by reference, such as the URL of an object, or raise the gateway's MAX_BODY_BYTES.",
        max_body_bytes=limit,
    )
