"""OpenAI's embeddings: vectors and their count of tokens. Never streamed."""

from __future__ import annotations

from typing import Any, Final

from plugins.conceal.names import Names
from plugins.conceal.shapes import Shape, count, member, numbers, projected

_VECTOR: Final[Shape] = {"index": count, "embedding": numbers}
_USAGE: Final[Shape] = {"usage": member({"prompt_tokens": count, "total_tokens": count})}


def whole(document: dict[str, Any], names: Names) -> dict[str, Any] | None:
    """See Format."""
    data = document.get("data")
    if not isinstance(data, list):
        return None
    vectors = [{"object": "embedding", **projected(one, _VECTOR, names)} for one in data if isinstance(one, dict)]
    return {"object": "list", "data": vectors, "model": names.model, **projected(document, _USAGE, names)}


def event(_document: dict[str, Any], _names: Names) -> tuple[bytes, dict[str, Any]] | None:
    """See Format: there are no events."""
    return None
