"""JSON of an upstream read and written again, the parts that only lenient parsers take included."""

from __future__ import annotations

import json
from typing import Any

import orjson


def read(payload: bytes) -> dict[str, Any] | None:
    """The object that these bytes are; None where they are something else.

    Half of a surrogate pair, as of a text cut between two chunks, is kept: joined by the client it is whole again.
    """
    try:
        document = orjson.loads(payload)
    except orjson.JSONDecodeError:
        try:
            document = json.loads(payload)
        except (ValueError, RecursionError):
            return None
    return document if isinstance(document, dict) else None


def write(document: dict[str, Any]) -> bytes | None:
    """Compact JSON; None where it is nested too deep to be written."""
    try:
        return orjson.dumps(document)
    except TypeError:  # half a surrogate pair, an integer of more than 64 bits, or deep nesting
        try:
            return json.dumps(document, separators=(",", ":"), allow_nan=False).encode()
        except (ValueError, RecursionError):
            return None
