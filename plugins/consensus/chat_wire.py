"""A run as a chat completion.

Streamed, it is standard chunks and nothing else: what an SDK of the format does with events that have a name differs
from one to the other, so progress is not told here. What the panel has to say beside its answer is the member
`consensus`, of the whole answer or of the chunk that ends it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from plugins.consensus import results
from plugins.consensus.wires import Meta, Streamed, json_of
from proxy.consensus.api import CallRecord, Event, Result, RunFailed
from proxy.dialects.sse import make_event
from proxy.panel_calls import EXTENSION

_PREFIX: Final = "chatcmpl-"
_DONE: Final = make_event(b"[DONE]")


class ChatWire:
    """See Wire."""

    content_type: str = "application/json"

    def __init__(self, meta: Meta) -> None:
        self._meta = meta
        self._streamed = Streamed()

    def opening(self) -> bytes:
        """See Wire: the role."""
        return self._chunk({"role": "assistant", "content": "", "refusal": None})

    def event(self, event: Event) -> bytes:
        """See Wire: pieces of the answer alone."""
        if event.name != "token":
            return b""
        text, called = event.data.get("text") or "", event.data.get("tool_calls") or ()
        delta: dict[str, Any] = {}
        if text:
            self._streamed.add(text)
            delta["content"] = text
        if called:
            self._streamed.calls = True
            delta["tool_calls"] = list(called)
        return self._chunk(delta) if delta else b""

    def closing(self, result: Result, records: Sequence[CallRecord], meta: Meta) -> bytes:
        """See Wire: the finish with the extension, the usage where it was asked for, the end."""
        delta: dict[str, Any] = {}
        if rest := self._streamed.rest_of(result):
            delta["content"] = rest
        if result.tool_calls and not self._streamed.calls:
            delta["tool_calls"] = [{"index": number, **call} for number, call in enumerate(result.tool_calls)]
        pieces = [self._chunk(delta)] if delta else []
        finish = _finish(result)
        pieces.append(self._chunk({}, finish, **{EXTENSION: results.extension(result, records, meta)}))
        if meta.wants_usage:
            pieces.append(make_event(json_of(self._head() | {"choices": [], "usage": results.usage(records)})))
        return b"".join([*pieces, _DONE])

    def failed(self, failure: RunFailed) -> bytes:
        """See Wire: the error's envelope, at which the SDKs raise, and no `[DONE]`."""
        return make_event(failure.refusal.envelope())

    def whole(self, result: Result, records: Sequence[CallRecord], meta: Meta) -> bytes:
        """See Wire."""
        message: dict[str, Any] = {"role": "assistant", "content": result.text, "refusal": None}
        if result.tool_calls:
            message["content"] = result.text or None
            message["tool_calls"] = list(result.tool_calls)
        choice = {"index": 0, "message": message, "logprobs": None, "finish_reason": _finish(result)}
        return json_of(
            self._head("chat.completion")
            | {
                "choices": [choice],
                "usage": results.usage(records),
                EXTENSION: results.extension(result, records, meta),
            }
        )

    def _head(self, kind: str = "chat.completion.chunk") -> dict[str, Any]:
        meta = self._meta
        return {"id": meta.answer_id(_PREFIX), "object": kind, "created": meta.created, "model": meta.model}

    def _chunk(self, delta: dict[str, Any], finish: str | None = None, **more: Any) -> bytes:
        choice = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish}
        usage = {"usage": None} if self._meta.wants_usage else {}
        return make_event(json_of(self._head() | {"choices": [choice]} | usage | more))


def _finish(result: Result) -> str:
    return "tool_calls" if result.tool_calls else result.finish_reason
