"""The texts in the events of a response (OpenAI's responses API): deltas, and what is whole once they are done."""

from __future__ import annotations

from typing import Any, Final

from plugins.content_rules.answers import written
from plugins.content_rules.streams import EventReader, Followed, Place
from proxy.dialects.sse import make_event

_DELTA: Final = ".delta"
_DONE: Final = ".done"
_ENDS: Final = ("response.completed", "response.incomplete", "response.failed", "response.cancelled")
_BYTES: Final = "response.audio"


class ResponseEvents(EventReader):
    """See EventReader. A text is known by the item and part it belongs to and by its kind."""

    def __init__(self, followed: Followed) -> None:
        super().__init__(followed)
        self._last: dict[Place, dict[str, Any]] = {}

    def change(self, document: dict[str, Any]) -> tuple[list[bytes], dict[str, Any], bool]:
        """See EventReader."""
        kind = document.get("type")
        kind = kind if isinstance(kind, str) else ""
        before: list[bytes] = []
        if kind.endswith(_DELTA) and isinstance(document.get("delta"), str):
            if kind == f"{_BYTES}{_DELTA}":
                return [], document, False
            return [], *self._delta(document, kind)
        if kind.endswith(_DONE):
            before = self._events(self.followed.finish(_where(document, kind.removesuffix(_DONE))))
        elif kind in _ENDS or kind == "error":
            before = self.rest()
        changed = self.followed.whole.document(document)
        return before, {**document, **changed} if changed else document, bool(changed)

    def rest(self) -> list[bytes]:
        """See EventReader."""
        return self._events(self.followed.finish(()))

    def _delta(self, document: dict[str, Any], kind: str) -> tuple[dict[str, Any], bool]:
        delta = document["delta"]
        where = _where(document, kind.removesuffix(_DELTA))
        text = self.followed.feed(where, delta, json="arguments" in kind)
        more = {key: value for key, value in document.items() if key != "delta"}
        changed = self.followed.whole.document(more)
        self._last[where] = {**document, **changed} if changed else document
        if text == delta and not changed:
            return document, False
        return {**document, **changed, "delta": text}, True

    def _events(self, left: list[tuple[Place, str]]) -> list[bytes]:
        """One event for each text that is still held back, like the last of that text."""
        events: list[bytes] = []
        for where, text in left:
            last = self._last.pop(where)
            event = {**last, "delta": text}
            if "logprobs" in last:
                event["logprobs"] = []
            events.append(make_event(written(event), str(last["type"]).encode()))
        return events


def _where(document: dict[str, Any], kind: str) -> Place:
    """The item, the part of it, and what is said there."""
    part = document.get("content_index", document.get("summary_index"))
    return document.get("output_index"), part, kind
