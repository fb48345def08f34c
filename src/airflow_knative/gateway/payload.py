"""The input and the output of a workflow as JSON."""

from __future__ import annotations

import json
import re
from datetime import UTC, datetime
from typing import Any, Final, NoReturn

from airflow_knative.gateway.problems import ProblemError

__all__ = ["compact", "input_text", "plain", "same_value"]

_EXAMPLE: Final = 'Send an object with the one member "input", such as {"input": [1, 2, 3, 4]}.'
_ESCAPED_NUL: Final = re.compile(rb"(?<!\\)(?:\\\\)*\\u0000")

# How Airflow's task SDK marks a value in an XCom that JSON has no type for.
_CLASS: Final = "__classname__"
_DATA: Final = "__data__"
_TIMESTAMP: Final = "timestamp"


def input_text(body: bytes) -> bytes:
    """Return the input of a workflow from the body of a call, as JSON text: values take many times the memory.

    Raises:
        ProblemError: the body is no JSON, has no `input` or more than that, or has a value that Airflow cannot store.
    """
    try:
        document = json.loads(body.decode("utf-8"), parse_constant=_refuse_constant)
    except UnicodeDecodeError as error:
        raise _malformed(f"The body is not UTF-8: byte {error.start} cannot be decoded.") from None
    except json.JSONDecodeError as error:
        what = "The body is empty." if not body.strip() else f"The body is not JSON: {error}."
        raise _malformed(what) from None
    except RecursionError:
        raise _malformed("The body is nested too deeply.") from None
    except ValueError as error:
        # Python refuses to read whole numbers of thousands of digits.
        raise _malformed(f"The body has a value that cannot be read: {error}.") from None
    if not isinstance(document, dict):
        raise _malformed(f"The body is {_kind_of(document)}.")
    if unknown := sorted(document.keys() - {"input"}):
        raise _malformed(f"The body has {', '.join(repr(name) for name in unknown)}, which the gateway does not know.")
    if "input" not in document:
        raise _malformed("The body has no 'input'.")
    return _storable(document["input"])


def compact(value: Any) -> bytes:
    """Write JSON without spaces, as UTF-8.

    Raises:
        ValueError: the value has a number that JSON does not know, or half a surrogate pair.
    """
    return json.dumps(value, allow_nan=False, ensure_ascii=False, separators=(",", ":")).encode("utf-8")


def plain(value: Any) -> Any:
    """Replace what the task SDK wraps (tuples, sets, dates, dataclasses...) by what JSON has for it.

    Tuples and sets become arrays, moments RFC 3339 text in UTC, anything else the data that it was stored as.
    """
    if isinstance(value, list):
        return [plain(item) for item in value]
    if not isinstance(value, dict):
        return value
    if _CLASS not in value:
        return {key: plain(item) for key, item in value.items()}
    data = value.get(_DATA)
    if isinstance(data, dict) and isinstance(stamp := data.get(_TIMESTAMP), int | float) and "tz" in data:
        return datetime.fromtimestamp(stamp, UTC).isoformat().replace("+00:00", "Z")
    return plain(data)


def same_value(one: Any, other: Any) -> bool:
    """Whether two JSON values are the same; numbers by value, because a database may store 1e2 as 100."""
    if isinstance(one, dict) and isinstance(other, dict):
        return one.keys() == other.keys() and all(same_value(item, other[key]) for key, item in one.items())
    if isinstance(one, list) and isinstance(other, list):
        return len(one) == len(other) and all(map(same_value, one, other))
    if isinstance(one, bool) or isinstance(other, bool):
        return one is other
    return bool(one == other)


def _storable(value: Any) -> bytes:
    try:
        text = compact(value)
    except UnicodeEncodeError:
        raise _malformed("The input has half a surrogate pair in a text, which no database stores.") from None
    except RecursionError:
        raise _malformed("The input is nested too deeply.") from None
    except ValueError:
        raise _malformed("The input has a number that is too large: at most about 1.8e308 is allowed.") from None
    if b"\\u0000" in text and _ESCAPED_NUL.search(text):
        raise _malformed("The input has the character U+0000 in a text, which Airflow's database cannot store.")
    return text


def _refuse_constant(name: str) -> NoReturn:
    raise json.JSONDecodeError(f"{name} is no JSON value", name, 0)


def _malformed(what: str) -> ProblemError:
    return ProblemError("malformed-request", f"{what} {_EXAMPLE}")


def _kind_of(value: Any) -> str:
    names = {list: "an array", str: "a text", bool: "true or false", int: "a number", float: "a number"}
    return "null" if value is None else names[type(value)]
