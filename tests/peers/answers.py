"""An answer before it goes on the wire, and what the formats share."""

from __future__ import annotations

import itertools
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from tests.peers.behaviour import Behaviour, Usage

_serial = itertools.count(1)
_WORDS = re.compile(r"\S+\s*|\s+")


@dataclass(slots=True)
class Answer:
    """A status and a body in pieces. `length` False: sent chunked, one transfer chunk a piece."""

    status: int
    pieces: list[bytes]
    content_type: str = "application/json"
    headers: list[tuple[str, str]] = field(default_factory=list)
    length: bool = True
    error_event: bytes = b""
    """This dialect's error as an event, for the faults that need one."""
    reason: str | None = None
    """In the place of the status's usual phrase."""
    trailers: list[tuple[str, str]] = field(default_factory=list)
    """Sent behind a chunked body."""


def serial(prefix: str) -> str:
    """A fresh id of a plausible length."""
    return f"{prefix}{next(_serial):024d}"


def encode(value: Any) -> bytes:
    """Compact JSON, as the providers send it."""
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False).encode()


def words(text: str) -> list[str]:
    """The pieces a text is streamed in; joined they are the text. One of them counts as one token."""
    return _WORDS.findall(text)


def text_of(content: Any) -> str:
    """The text in a message's content, a string or a list of parts."""
    if isinstance(content, str):
        return content
    if isinstance(content, list):
        return " ".join(str(part.get("text", "")) for part in content if isinstance(part, dict))
    return ""


def output_words(behaviour: Behaviour, limit: int | None) -> tuple[list[str], bool]:
    """What is generated, cut at `limit` tokens, and whether it was cut."""
    if behaviour.chunks is not None:
        pieces = [f"w{number} " for number in range(behaviour.chunks)]
    else:
        pieces = words(behaviour.text)
    if limit is not None and len(pieces) > limit:
        return pieces[:limit], True
    return pieces, False


def reported(usage: Usage | Mapping[str, Any] | None, regular: Mapping[str, Any]) -> Mapping[str, Any] | None:
    """The usage member's value. For MISSING ask `behaviour.usage` first."""
    return regular if usage is Usage.REGULAR else usage if isinstance(usage, Mapping) else None
