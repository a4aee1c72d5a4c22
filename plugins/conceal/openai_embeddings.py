"""OpenAI's embeddings: vectors and their count of tokens. Never streamed."""

from __future__ import annotations

from typing import Any, Final

from plugins.conceal.names import Names
from plugins.conceal.shapes import Shape, constant, count, member, numbers, objects, projected

_VECTOR: Final[Shape] = {"object": constant("embedding"), "index": count, "embedding": numbers}
_DATA: Final[Shape] = {"data": objects(_VECTOR)}
_USAGE: Final[Shape] = {"usage": member({"prompt_tokens": count, "total_tokens": count})}


def whole(document: dict[str, Any], names: Names) -> dict[str, Any] | None:
    """See Format."""
    if not isinstance(document.get("data"), list):
        return None
    vectors = projected(document, _DATA, names)
    return {"object": "list", **vectors, "model": names.model, **projected(document, _USAGE, names)}


def event(_document: dict[str, Any], _names: Names) -> tuple[bytes, dict[str, Any]] | None:
    """See Format: there are no events."""
    return None
