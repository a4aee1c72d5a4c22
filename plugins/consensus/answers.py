"""A model's answer in OpenAI's format, whole or piece by piece, as a run reads it."""

from __future__ import annotations

import secrets
from typing import Any, Final

from proxy.consensus.api import Answer, CallFailed, CallSpec, Delta
from proxy.dialects import DIALECTS
from proxy.dialects.json_text import read, write
from proxy.dialects.sse import EventFramer, EventTooLarge, event_data
from proxy.operations import CHAT

CHARS_PER_TOKEN_MAX: Final = 64
CHARS_BEYOND: Final = 64 << 10
"""An answer longer than its output limit can be, by far, is none."""
TOOL_CALLS_MAX: Final = 128
_FINISHES: Final = frozenset({"stop", "length", "tool_calls", "content_filter"})


class ChatText:
    """Text, tool calls and end of one answer, fed with the bytes of a stream or given the whole body."""

    __slots__ = ("_calls", "_framer", "_half", "_pieces", "_refusal", "_size", "finish_reason", "finished", "reasoned")

    def __init__(self) -> None:
        self._framer = EventFramer()
        self._pieces: list[str] = []
        self._refusal: list[str] = []
        self._half = ""
        self._calls: dict[int, dict[str, Any]] = {}
        self._size = 0
        self.finish_reason = ""
        self.finished = False
        self.reasoned: list[str] = []

    @property
    def text(self) -> str:
        """What it says; a refusal where it says nothing else."""
        return "".join(self._pieces) or "".join(self._refusal)

    @property
    def generated(self) -> str:
        """All that was generated so far, reasoning and arguments of tools among it: for our own count."""
        arguments = [str(call["function"]["arguments"]) for call in self._calls.values()]
        return "".join([*self.reasoned, *self._pieces, *self._refusal, *arguments])

    @property
    def tool_calls(self) -> tuple[dict[str, Any], ...]:
        """Whole calls, in the order of their index."""
        return tuple([self._calls[index] for index in sorted(self._calls)])

    @property
    def size(self) -> int:
        """Characters of everything that was generated."""
        return self._size

    def feed(self, chunk: bytes) -> list[Delta]:
        """What this chunk completes. Raises CallFailed for an error in the stream, and for what is no stream."""
        try:
            events = self._framer.feed(chunk)
        except EventTooLarge as failure:
            raise CallFailed("garbage", partial=self.text) from failure
        found = []
        for event in events:
            if DIALECTS[CHAT.dialect or ""].is_error_event(event):
                raise CallFailed("broken", partial=self.text)
            data = event_data(event)
            if not data:
                continue
            if data.strip() == b"[DONE]":
                self.finished = True
            elif (delta := self._delta(data)) is not None:
                found.append(delta)
        return found

    def whole(self, body: bytes) -> None:
        """A body that was not streamed. Raises CallFailed."""
        choice = _choice(read(body))
        message = choice.get("message") if choice is not None else None
        if choice is None or not isinstance(message, dict):
            raise CallFailed("garbage")
        calls = message.get("tool_calls")
        given = calls if isinstance(calls, list) else []
        numbered = [{**call, "index": at} for at, call in enumerate(given) if isinstance(call, dict)]
        self._take({**message, "tool_calls": numbered})
        self._finish(choice)
        self.finished = True

    def _delta(self, data: bytes) -> Delta | None:
        choice = _choice(read(data))
        if choice is None:
            return None
        self._finish(choice)
        delta = choice.get("delta")
        return self._take(delta) if isinstance(delta, dict) else None

    def _finish(self, choice: dict[str, Any]) -> None:
        reason = choice.get("finish_reason")
        if isinstance(reason, str):
            self.finish_reason = reason if reason in _FINISHES else "stop"
            self.finished = True

    def _take(self, said: dict[str, Any]) -> Delta | None:
        text, refusal, reasoned = said.get("content"), said.get("refusal"), said.get("reasoning_content")
        calls = said.get("tool_calls")
        pieces = (
            tuple([self._merge(call) for call in calls if isinstance(call, dict)]) if isinstance(calls, list) else ()
        )
        if isinstance(reasoned, str):
            self.reasoned.append(reasoned)
            self._size += len(reasoned)
        if isinstance(refusal, str) and refusal:
            self._refusal.append(_writable(refusal))
            self._size += len(refusal)
        shown = self._joined(text) if isinstance(text, str) else ""
        self._pieces.append(shown)
        self._size += len(shown)
        return Delta(shown, pieces) if shown or pieces else None

    def _joined(self, text: str) -> str:
        """Text that can be written: half of a surrogate pair at its end waits for the other half."""
        text, self._half = self._half + text, ""
        if text and "\ud800" <= text[-1] <= "\udbff":
            text, self._half = text[:-1], text[-1]
        return _writable(text)

    def _merge(self, piece: dict[str, Any]) -> dict[str, Any]:
        """One piece of a call: id and name come once, arguments in pieces. Returns it as OpenAI would have sent it:
        some providers leave out index or id, and give arguments as an object."""
        index = self._index_of(piece)
        begins = index not in self._calls
        function = piece.get("function")
        function = dict(function) if isinstance(function, dict) else {}
        call = self._calls.setdefault(index, {"id": "", "type": "function", "function": {"name": "", "arguments": ""}})
        told = {**piece, "index": index}
        if isinstance(piece.get("id"), str) and piece["id"]:
            call["id"] = piece["id"]
        elif begins:
            call["id"] = told["id"] = f"call_{secrets.token_hex(12)}"
        if begins:
            told["type"] = "function"
        if isinstance(function.get("name"), str):
            call["function"]["name"] += function["name"]
        if isinstance(function.get("arguments"), dict):
            function["arguments"] = (write(function["arguments"]) or b"{}").decode()
        if isinstance(arguments := function.get("arguments"), str):
            call["function"]["arguments"] += arguments
            self._size += len(arguments)
        told["function"] = {key: value for key, value in function.items() if isinstance(value, str)}
        return told

    def _index_of(self, piece: dict[str, Any]) -> int:
        """Which call it is a piece of: without an index the one of its id, a new one, or without an id the last."""
        index, id_ = piece.get("index"), piece.get("id")
        if type(index) is int and 0 <= index < TOOL_CALLS_MAX:
            return index
        known = [at for at, call in self._calls.items() if id_ and call["id"] == id_]
        if known:
            return known[0]
        return min(max(0, len(self._calls) - (not id_)), TOOL_CALLS_MAX - 1)


def check_size(text: ChatText, spec: CallSpec) -> None:
    """Raises CallFailed for an answer that goes on far beyond its limit."""
    if text.size > spec.output_tokens * CHARS_PER_TOKEN_MAX + CHARS_BEYOND:
        raise CallFailed("garbage", partial=text.text)


def whole_answer(text: ChatText, spec: CallSpec) -> Answer:
    """The finished answer. Raises CallFailed where it says nothing, or the provider's filter took it out."""
    check_size(text, spec)
    said, calls = text.text, text.tool_calls
    if text.finish_reason == "content_filter":
        raise CallFailed("content_filter", partial=said)
    if not said.strip() and not calls:
        raise CallFailed("empty")
    return Answer(said, text.finish_reason or "stop", calls)


def _writable(text: str) -> str:
    """Text without half characters, which nobody can write down: pairs of halves are joined."""
    return text if text.isascii() else text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")


def _choice(document: dict[str, Any] | None) -> dict[str, Any] | None:
    choices = None if document is None else document.get("choices")
    choice = choices[0] if isinstance(choices, list) and choices else None
    return choice if isinstance(choice, dict) else None
