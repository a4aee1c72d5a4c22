"""A run as /v1/orchestrate answers: one object, or named events that tell how it comes about and end with that object.

Each event's data has `v`, `id`, `seq` (from 0, each one more than the last), `ts` (milliseconds) and its name again as
`type`. The texts of all `token` events, joined, are the result's `answer`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Final

import orjson

from plugins.consensus import results
from plugins.consensus.wires import Meta, Streamed, json_of
from proxy.consensus.api import CallRecord, Event, Result, RunFailed
from proxy.dialects.orchestrate_answers import VERSION
from proxy.dialects.sse import make_event

_TOLD: Final = frozenset(
    {
        "detected", "member.started", "member.completed", "member.failed", "quorum", "evaluation", "round",
        "claim.checked", "synthesis.started",
    }
)  # fmt: skip
"""Events that go out as the engine tells them."""


class OrchestrateWire:
    """See Wire. `now_ms` is the clock's."""

    content_type: str = "application/json"

    def __init__(self, meta: Meta, now_ms: Callable[[], int]) -> None:
        self._meta = meta
        self._now_ms = now_ms
        self._id = meta.answer_id(results.ORCHESTRATION_ID)
        self._seq = 0
        self._streamed = Streamed()

    def opening(self) -> bytes:
        """See Wire: that the request was taken."""
        meta = self._meta
        return self._event(
            "accepted", {"mode": meta.mode, "created": meta.created, "conversation_id": meta.conversation_id}
        )

    def event(self, event: Event) -> bytes:
        """See Wire."""
        if event.name == "token":
            return self._token(event.data.get("text") or "")
        return self._event(event.name, event.data) if event.name in _TOLD else b""

    def closing(self, result: Result, records: Sequence[CallRecord], meta: Meta) -> bytes:
        """See Wire: `quality`, `usage`, and `done` with what the whole answer would have been."""
        whole = results.orchestration(result, records, meta)
        return b"".join(
            [
                self._token(self._streamed.rest_of(result)),
                self._event("quality", results.verdict(result)),
                self._event("usage", {"usage": whole["usage"], **results.charge(meta)}),
                self._event("done", {"result": whole}),
            ]
        )

    def failed(self, failure: RunFailed) -> bytes:
        """See Wire: `error`, with what became of each member, and whether a part of an answer was sent."""
        error = orjson.loads(failure.refusal.envelope())["error"]
        members = results.members(failure.members)
        return self._event("error", {"error": error, "partial": bool(failure.partial), "members": members})

    def whole(self, result: Result, records: Sequence[CallRecord], meta: Meta) -> bytes:
        """See Wire."""
        return json_of(results.orchestration(result, records, meta))

    def _token(self, text: str) -> bytes:
        if not text:
            return b""
        self._streamed.add(text)
        return self._event("token", {"text": text})

    def _event(self, name: str, data: dict[str, Any]) -> bytes:
        head = {"v": VERSION, "id": self._id, "seq": self._seq, "ts": self._now_ms(), "type": name}
        self._seq += 1
        return make_event(
            json_of({**head, **{key: value for key, value in data.items() if key not in head}}), name.encode()
        )
