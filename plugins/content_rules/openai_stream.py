"""The texts in the events of a chat completion: every string of a delta that is not a name."""

from __future__ import annotations

from typing import Any, Final

from plugins.content_rules.answers import written
from plugins.content_rules.documents import NOT_TEXT
from plugins.content_rules.streams import EventReader, Followed, Place
from proxy.dialects.sse import make_event

_BYTES: Final = frozenset({"data"})
_AT_ONCE: Final = frozenset({"name", "url", "title", "annotations", "citations", "images"})
"""Members that come in one event: nothing of them is held back for the next."""
_JSON_TEXTS: Final = frozenset({"arguments"})
_SAID: Final = ("delta", "text", "message")
"""Members of a choice with what the model says."""
_KNOWN: Final = frozenset(
    {"id", "object", "created", "model", "choices", "usage", "service_tier", "system_fingerprint", "obfuscation"}
)
"""Top-level members without text."""


class ChatEvents(EventReader):
    """See EventReader. A text is known by its choice and by where it stands in the delta."""

    def __init__(self, followed: Followed) -> None:
        super().__init__(followed)
        self._last: dict[str, Any] = {}
        self._types: dict[Place, str] = {}
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
        if choice.get("logprobs"):
            # The tokens spell out the text that rules take away.
            choice["logprobs"] = None
            self._changed = True
        if choice.get("finish_reason") is not None:
            for where, text in self.followed.finish((index,)):
                if where in self._fed:
                    _put(choice, where[1:], text)
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
        number = place
        if isinstance(item, dict):
            if type(item.get("index")) is int:
                number = item["index"]
            elif isinstance(item.get("type"), str):
                self._types[*where, number] = item["type"]
        return self._member((*where, number), None, item)

    def _event(self, where: Place, text: str) -> bytes:
        """An event with text that was held back, otherwise like the upstream's last."""
        choice: dict[str, Any] = {"index": where[0], "delta": {}, "finish_reason": None}
        _put(choice, where[1:], text)
        for place, kind in self._types.items():
            if where[: len(place)] == place:
                _at(choice, place[1:])["type"] = kind
        shared = {key: None if key == "usage" else value for key, value in self._last.items() if key in _KNOWN}
        return make_event(written({**shared, "choices": [choice]}))


def _put(choice: dict[str, Any], path: Place, text: str) -> None:
    """Add text at the end of what stands at `path`, making what the path leads through."""
    inner, key = _at(choice, path[:-1], path[-1]), path[-1]
    if isinstance(inner, dict):
        inner[key] = (inner.get(key) or "") + text
    elif key < len(inner):
        inner[key] += text
    else:
        inner.append(text)


def _at(outer: Any, path: Place, last: Any = "") -> Any:
    for place, key in enumerate(path):
        following = path[place + 1] if place + 1 < len(path) else last
        empty: Any = [] if isinstance(following, int) else {}
        if isinstance(outer, dict):
            if outer.get(key) is None:
                outer[key] = empty
            outer = outer[key]
        else:
            outer = _numbered(outer, key, empty, indexed="tool_calls" in path)
    return outer


def _numbered(items: list[Any], number: int, empty: Any, *, indexed: bool) -> Any:
    """The item of that index or at that place; one is made where there is none."""
    for place, item in enumerate(items):
        index = item.get("index") if isinstance(item, dict) else None
        if (index if type(index) is int else place) == number:
            return item
    if indexed and isinstance(empty, dict):
        empty["index"] = number
    items.append(empty)
    return empty
