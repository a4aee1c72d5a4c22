"""The texts in the events of an orchestration: the pieces of the answer, and all else that the panel says of it."""

from __future__ import annotations

from typing import Any, Final

from plugins.content_rules.answers import written
from plugins.content_rules.streams import EventReader, Followed, Place
from proxy.dialects.sse import make_event

_PIECE: Final = "token"
_AFTER: Final = frozenset({"quality", "usage", "done", "error"})
"""Events behind the last piece of the answer."""
_ANSWER: Final[Place] = ("answer",)


class OrchestrateEvents(EventReader):
    """See EventReader. An event that is put in between moves the numbers of those behind it."""

    def __init__(self, followed: Followed) -> None:
        super().__init__(followed)
        self._last: dict[str, Any] = {}
        self._added = 0

    def change(self, document: dict[str, Any]) -> tuple[list[bytes], dict[str, Any], bool]:
        """See EventReader."""
        kind = document.get("type")
        before = self.rest() if kind in _AFTER else []
        changed: dict[str, Any] = {}
        if kind == _PIECE and isinstance(text := document.get("text"), str):
            self._last = document
            more = {key: value for key, value in document.items() if key != "text"}
            changed = self.followed.whole.document(more)
            if (said := self.followed.feed(_ANSWER, text)) != text:
                changed["text"] = said
        else:
            changed = self.followed.whole.document(document)
        number = document.get("seq")
        if self._added and type(number) is int:
            changed["seq"] = number + self._added
        return before, {**document, **changed} if changed else document, bool(changed)

    def rest(self) -> list[bytes]:
        """See EventReader: one more piece of the answer."""
        held = "".join([text for _, text in self.followed.finish(())])
        if not held:
            return []
        self._added += 1
        last = {**self._last, "text": held}
        if type(number := last.get("seq")) is int:
            last["seq"] = number + self._added
        return [make_event(written(last), _PIECE.encode())]
