"""A whole answer: every text in it redacted, everything else as the provider sent it."""

from __future__ import annotations

from typing import Any

from plugins.content_rules.documents import Texts
from proxy.dialects import json_text
from proxy.errors import Refusal


def whole_answer(body: bytes, texts: Texts) -> bytes:
    """The body as it may go out; the same object where nothing changes.

    Raises Refused, and Refusal `upstream_error` for an answer that cannot be read.
    """
    if texts.untouched(body):
        return body
    document = json_text.read(body)
    if document is None:
        raise unreadable()
    changed = texts.document(document)
    return written({**document, **changed}) if changed else body


def unreadable() -> Refusal:
    """An answer that no rule can be applied to is not passed on."""
    return Refusal("upstream_error", "The upstream's answer could not be read, and content rules apply to it.")


def written(document: dict[str, Any]) -> bytes:
    """JSON, half characters as escapes. Raises Refusal where it cannot be written."""
    body = json_text.write(document)
    if body is None:
        raise unreadable()
    return body
