"""A whole answer: every text in it redacted, everything else as the provider sent it."""

from __future__ import annotations

import json
from typing import Any

import orjson

from plugins.content_rules.documents import Texts
from proxy.errors import Refusal


def whole_answer(body: bytes, texts: Texts) -> bytes:
    """The body as it may go out; the same object where nothing changes.

    Raises Refused, and Refusal `upstream_error` for an answer that cannot be read.
    """
    document = read(body)
    if document is None:
        raise unreadable()
    changed = texts.document(document)
    return written({**document, **changed}) if changed else body


def unreadable() -> Refusal:
    """An answer that no rule can be applied to is not passed on."""
    return Refusal("upstream_error", "The upstream's answer could not be read, and content rules apply to it.")


def read(payload: bytes) -> dict[str, Any] | None:
    """The JSON object that these bytes are; None where they are something else.

    Half a character (a surrogate pair that a provider cut in two) is accepted: it is joined with its other half.
    """
    try:
        document = orjson.loads(payload)
    except orjson.JSONDecodeError:
        try:
            document = json.loads(payload)
        except (ValueError, RecursionError):
            return None
    return document if isinstance(document, dict) else None


def written(document: dict[str, Any]) -> bytes:
    """JSON, half characters as escapes."""
    try:
        return orjson.dumps(document)
    except TypeError:
        return json.dumps(document, separators=(",", ":")).encode()
