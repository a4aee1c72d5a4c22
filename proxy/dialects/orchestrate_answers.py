"""Answers of `/v1/orchestrate`, which are our own: usage, text and end."""

from __future__ import annotations

from typing import Any, Final

from proxy.dialects.json_reader import JsonReader
from proxy.dialects.openai_answers import usage_of
from proxy.dialects.stream_reader import StreamReader
from proxy.usage import Usage

VERSION: Final = 1
"""Of the events; a member may be added without it, none is taken away or given another meaning."""
OBJECT: Final = "orchestration"


class WholeReader(JsonReader):
    """A whole result."""

    __slots__ = ()
    answer_member = "answer"

    def usage_of(self, usage: dict[str, Any]) -> Usage | None:
        """See JsonReader: the sum over all calls."""
        return usage_of(usage)

    def text_of(self, document: dict[str, Any]) -> str:
        """See JsonReader."""
        answer = document.get("answer")
        return answer if isinstance(answer, str) else ""


class EventsReader(StreamReader):
    """A streamed result: `usage` reports it, and `done` has the whole result again."""

    __slots__ = ("_usage",)
    end_mark = b'"done"'

    def __init__(self) -> None:
        super().__init__()
        self._usage: Usage | None = None

    def read_event(self, data: bytes, document: dict[str, Any] | None) -> None:
        """See StreamReader."""
        if document is None:
            return
        kind = document.get("type")
        if kind not in ("usage", "done"):
            return
        holder = document.get("result") if kind == "done" else document
        usage = holder.get("usage") if isinstance(holder, dict) else None
        if isinstance(usage, dict):
            self._usage = usage_of(usage) or self._usage
        self._finished = self._finished or kind == "done"

    def texts(self, document: dict[str, Any]) -> list[tuple[int, str]]:
        """See StreamReader."""
        text = document.get("text") if document.get("type") == "token" else None
        return [(0, text)] if isinstance(text, str) else []

    def usage(self) -> Usage | None:
        """The last report."""
        self._read_rest()
        return self._usage
