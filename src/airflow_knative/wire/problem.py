"""Problem documents (RFC 9457), the form of every refusal."""

from __future__ import annotations

import json
from typing import Final

__all__ = ["PROBLEM_TYPE", "problem"]

PROBLEM_TYPE: Final = "application/problem+json"


def problem(status: int, title: str, detail: str, **extra: object) -> bytes:
    """Return a problem document.

    Args:
        status: the HTTP status code it goes with.
        title: what kind of problem this is; the same for every occurrence.
        detail: what happened this time, and the mend.
        **extra: members beyond the standard's.
    """
    return json.dumps({"type": "about:blank", "title": title, "status": status, "detail": detail, **extra}).encode()
