"""The texts in the events of a message: the deltas of its content blocks."""

from __future__ import annotations

from typing import Any, Final

from plugins.content_rules.answers import written
from plugins.content_rules.streams import EventReader, Place
from proxy.dialects.sse import make_event

_DELTAS: Final = {"text_delta": "text", "thinking_delta": "thinking", "input_json_delta": "partial_json"}
"""Kinds of deltas whose text goes on in the next: the member with the text."""
_SIGNED: Final = "signature_delta"
_KINDS: Final = {member: kind for kind, member in _DELTAS.items()}
_OPENING: Final = ("text", "thinking")
"""Members of a block's start that its deltas go on with."""


class MessageEvents(EventReader):
    """See EventReader. A text is known by its block and by its kind."""

    def change(self, document: dict[str, Any]) -> tuple[list[bytes], dict[str, Any], bool]:
        """See EventReader."""
        kind = document.get("type")
        if kind == "content_block_delta":
            return self._delta(document)
        if kind == "content_block_start":
            return [], *self._start(document)
        before: list[bytes] = []
        if kind == "content_block_stop":
            before = self._events(self.followed.finish((document.get("index"),)))
        elif kind in ("message_delta", "message_stop"):
            before = self.rest()
        changed = self.followed.whole.document(document)
        return before, {**document, **changed} if changed else document, bool(changed)

    def rest(self) -> list[bytes]:
        """See EventReader."""
        return self._events(self.followed.finish(()))

    def _start(self, document: dict[str, Any]) -> tuple[dict[str, Any], bool]:
        block = document.get("content_block")
        if not isinstance(block, dict):
            return document, False
        said = {key: block[key] for key in _OPENING if isinstance(block.get(key), str) and block[key]}
        new = dict(block)
        for key, text in said.items():
            new[key] = self.followed.feed((document.get("index"), key), text)
        others = {key: value for key, value in block.items() if key not in said}
        new |= self.followed.whole.value(others, "content_block")
        return ({**document, "content_block": new}, True) if new != block else (document, False)

    def _delta(self, document: dict[str, Any]) -> tuple[list[bytes], dict[str, Any], bool]:
        delta = document.get("delta")
        if not isinstance(delta, dict):
            return [], document, False
        member = _DELTAS.get(delta.get("type", ""))
        value = None if member is None else delta.get(member)
        if member is None or not isinstance(value, str):
            # A signature comes behind the whole of what it signs.
            before = self._events(self.followed.finish((document.get("index"),))) if _is_signature(delta) else []
            new = self.followed.whole.value(delta, "delta")
            return before, document if new is delta else {**document, "delta": new}, new is not delta
        text = self.followed.feed((document.get("index"), member), value, json=member == "partial_json")
        if text == value:
            return [], document, False
        return [], {**document, "delta": {**delta, member: text}}, True

    def _events(self, left: list[tuple[Place, str]]) -> list[bytes]:
        """One event for each text that is still held back."""
        return [
            make_event(
                written(
                    {
                        "type": "content_block_delta",
                        "index": index,
                        "delta": {"type": _KINDS[member], member: text},
                    }
                ),
                b"content_block_delta",
            )
            for (index, member), text in left
        ]


def _is_signature(delta: dict[str, Any]) -> bool:
    return delta.get("type") == _SIGNED
