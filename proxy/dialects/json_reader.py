"""What every dialect's reader of a whole JSON answer shares: keep a bounded part, parse once, when asked."""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from typing import Any, ClassVar, Final

import orjson

from proxy.dialects.stream_reader import parsed
from proxy.usage import Usage

WHOLE_BYTES_MAX: Final = 4 << 20
"""An answer up to this size is parsed whole; of a larger one (embeddings, mostly) only the end is read."""
TAIL_BYTES: Final = 16 << 10
"""Kept of a larger answer: every provider writes `usage` after the data."""

_STRING: Final = rb'"[^"\\]*+(?:\\.[^"\\]*+)*+"'
_FLAT: Final = rb'(?:[^"{}]++|' + _STRING + rb")*+"
_USAGE: Final = re.compile(rb'"usage"\s*:\s*(\{(?:[^"{}]++|' + _STRING + rb"|\{" + _FLAT + rb"\})*+\})", re.DOTALL)
"""`"usage"` cannot stand inside a string, where its quotes are escaped."""


class JsonReader(ABC):
    """Reads one JSON answer as it passes; feeding only keeps bytes and never raises."""

    __slots__ = ("_cut", "_document", "_kept", "_kept_bytes", "_size")

    answer_member: ClassVar[str]
    """What an answer holds and an error has not."""

    def __init__(self) -> None:
        self._kept: list[bytes] = []
        self._kept_bytes = 0
        self._size = 0
        self._cut = False
        self._document: dict[str, Any] | None = None

    @abstractmethod
    def usage_of(self, usage: dict[str, Any]) -> Usage | None:
        """What this dialect's `usage` member says."""

    @abstractmethod
    def text_of(self, document: dict[str, Any]) -> str:
        """The generated text of a whole answer."""

    def feed(self, chunk: bytes) -> None:
        """The next bytes of the answer."""
        if not chunk:
            return
        self._kept.append(chunk)
        self._kept_bytes += len(chunk)
        self._size += len(chunk)
        self._document = None
        if self._kept_bytes > WHOLE_BYTES_MAX:
            tail = b"".join(self._kept)[-TAIL_BYTES:]
            self._kept, self._kept_bytes, self._cut = [tail], len(tail), True

    def usage(self) -> Usage | None:
        """What was reported; None where nothing was."""
        if not self._cut:
            usage = self._whole().get("usage")
            return self.usage_of(usage) if isinstance(usage, dict) else None
        found = _USAGE.findall(self._joined()[-TAIL_BYTES:])
        usage = parsed(found[-1]) if found else None
        return None if usage is None else self.usage_of(usage)

    def output_text(self) -> str:
        """Text generated; "" for an answer that is not whole, not JSON, or too large to be kept."""
        return "" if self._cut else self.text_of(self._whole())

    @property
    def bytes_beyond(self) -> int:
        """Bytes of answer that `output_text` lacks because the answer was too large to be kept."""
        return self._size if self._cut else 0

    @property
    def finished(self) -> bool:
        """The body is a whole JSON object, or a large one that ends as such, and no error in the place of an answer."""
        if self._cut:
            return self._joined().rstrip().endswith(b"}")
        document = self._whole()
        return bool(document) and not self._is_error(document)

    def _is_error(self, document: dict[str, Any]) -> bool:
        """Some servers and relays send their errors with 200: `{"error": ...}`, or what says so of itself."""
        if document.get(self.answer_member):
            return False
        return bool(document.get("error")) or "error" in (document.get("object"), document.get("type"))

    def _joined(self) -> bytes:
        if len(self._kept) > 1:
            self._kept = [b"".join(self._kept)]
        return self._kept[0] if self._kept else b""

    def _whole(self) -> dict[str, Any]:
        if self._document is None:
            self._document = parsed(self._joined().strip()) or {}
        return self._document


def text_of_json(value: Any) -> str:
    """A value as compact JSON text; "" for null."""
    return "" if value is None else orjson.dumps(value).decode()
