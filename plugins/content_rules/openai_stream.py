"""The texts in the events of a chat completion: every string of a delta that is not a name."""

from __future__ import annotations

from typing import Any, Final

from plugins.content_rules.answers import written
from plugins.content_rules.documents import NOT_TEXT
from plugins.content_rules.streams import TEXTS_MAX, EventReader, Followed, Place, TooManyTexts
from proxy.dialects.sse import make_event

_BYTES: Final = frozenset({"data"})
_AT_ONCE: Final = frozenset({"name", "url", "title", "annotations", "citations", "images"})
"""Members that come in one event: nothing of them is held back for the next."""
_JSON_TEXTS: Final = frozenset({"arguments"})
_TELLING: Final = ("index", "type")
_SAID: Final = ("delta", "text", "message")
"""Members of a choice with what the model says."""
_CHOICE: Final = frozenset({*_SAID, "index", "finish_reason", "logprobs"})
_KNOWN: Final = frozenset(
    {"id", "object", "created", "model", "choices", "usage", "service_tier", "system_fingerprint", "obfuscation"}
)
"""Top-level members without text."""


class ChatEvents(EventReader):
    """See EventReader. A text is known by its choice and by where it stands in the delta."""

    def __init__(self, followed: Followed) -> None:
        super().__init__(followed)
        self._last: dict[str, Any] = {}
        self._items: dict[Place, dict[str, Any]] = {}
        """What tells the items of a list apart, to be said again with a text that was held back."""
        self._changed = False
        self._fed: set[Place] = set()

    def change(self, document: dict[str, Any]) -> tuple[list[bytes], dict[str, Any], bool]:
        """See EventReader."""
        self._changed = False
        if document.keys() - _KNOWN:
            more = {key: value for key, value in document.items() if key not in _KNOWN}
            if changed := self.followed.whole.document(more):
                document = {**document, **changed}
                self._changed = True
        choices = document.get("choices")
        before: list[bytes] = []
        if isinstance(choices, list) and choices:
            self._last = document
            said = [self._choice(one, before) if isinstance(one, dict) else one for one in choices]
            if self._changed:
                document = {**document, "choices": said}
        return before, document, self._changed

    def rest(self) -> list[bytes]:
        """See EventReader."""
        return [self._event(where, text) for where, text in self.followed.finish(())]

    def _choice(self, choice: dict[str, Any], before: list[bytes]) -> dict[str, Any]:
        """Raises Refused."""
        index = choice.get("index", 0)
        choice = dict(choice)
        self._fed.clear()
        for key in _SAID:
            if choice.get(key):
                choice[key] = self._member((index, key), key, choice[key])
        if choice.keys() - _CHOICE:
            more = {key: value for key, value in choice.items() if key not in _CHOICE}
            if changed := self.followed.whole.document(more):
                choice |= changed
                self._changed = True
        if choice.get("logprobs"):
            # The tokens spell out the text that rules take away.
            choice["logprobs"] = None
            self._changed = True
        if choice.get("finish_reason") is not None:
            for where, text in self.followed.finish((index,)):
                if where in self._fed:
                    _append(choice, where[1:], text)
                    self._changed = True
                else:
                    before.append(self._event(where, text))
        return choice

    def _member(self, where: Place, key: Any, value: Any) -> Any:
        if isinstance(value, str):
            if key in NOT_TEXT or key in _BYTES or not value:
                return value
            if key in _AT_ONCE:
                text = self.followed.whole.text(value, str(key))
            else:
                self._fed.add(where)
                text = self.followed.feed(where, value, json=key in _JSON_TEXTS)
            self._changed = self._changed or text != value
            return text
        if key in _AT_ONCE:
            new = self.followed.whole.value(value, str(key))
            self._changed = self._changed or new is not value
            return new
        if isinstance(value, dict):
            return {name: self._member((*where, name), name, member) for name, member in value.items()}
        if isinstance(value, list):
            return [self._item(where, place, item) for place, item in enumerate(value)]
        return value

    def _item(self, where: Place, place: int, item: Any) -> Any:
        """One of several tool calls by its own index, one of several parts by its place in the list."""
        number = _number(item, place)
        if isinstance(item, dict):
            if len(self._items) >= TEXTS_MAX:
                raise TooManyTexts
            known = self._items.setdefault((*where, number), {})
            known.update({key: item[key] for key in _TELLING if item.get(key) is not None})
        return self._member((*where, number), None, item)

    def _event(self, where: Place, text: str) -> bytes:
        """An event with text that was held back, otherwise like the upstream's last."""
        value: Any = text
        for depth in range(len(where) - 1, 0, -1):
            key = where[depth]
            if isinstance(key, int):
                known = self._items.get(where[: depth + 1])
                value = [{**known, **value} if known and isinstance(value, dict) else value]
            else:
                value = {key: value}
        choice = {"index": where[0], "delta": {}, **value, "finish_reason": None}
        shared = {key: None if key == "usage" else value for key, value in self._last.items() if key in _KNOWN}
        return make_event(written({**shared, "choices": [choice]}))


def _append(choice: dict[str, Any], path: Place, text: str) -> None:
    """Add text at the end of the one that this choice has at `path`."""
    inner: Any = choice
    for key in path[:-1]:
        if isinstance(inner, list):
            inner = next(item for place, item in enumerate(inner) if _number(item, place) == key)
        else:
            inner = inner[key]
    inner[path[-1]] += text


def _number(item: Any, place: int) -> int:
    """Its own index, else its place in the list."""
    index = item.get("index") if isinstance(item, dict) else None
    return index if type(index) is int else place
