"""Which candidate a conversation was served by, so that the provider's prompt cache is met again."""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from collections.abc import Iterator
from typing import Any, Final

from proxy.headers import Headers

TEXT_CHARACTERS_MAX: Final = 16_384
"""Of each text that tells conversations apart; providers' caches begin at the first token, too."""
PARTS_MAX: Final = 16
"""Content parts of one turn that are looked at."""
TURNS_MAX: Final = 8
"""Leading turns among which the first user's is looked for."""
HEADER_CHARACTERS_MAX: Final = 256
DIGEST_BYTES: Final = 16


def conversation_of(
    caller: str, model: str, headers: Headers, names: tuple[str, ...], document: dict[str, Any]
) -> bytes | None:
    """A digest that stays the same over the turns of one conversation of one caller; None where there is no text.

    The first of the headers `names` that is there tells, else everything up to the first user's turn.
    """
    digest = hashlib.blake2b(f"{caller}\0{model}\0".encode(), digest_size=DIGEST_BYTES)
    for name in names:
        if told := headers.get(name):
            digest.update(b"header\0" + told[:HEADER_CHARACTERS_MAX].encode("utf-8", "surrogateescape"))
            return digest.digest()
    found = False
    for text in _opening(document):
        digest.update(text[:TEXT_CHARACTERS_MAX].encode("utf-8", "surrogatepass"))
        digest.update(b"\0")
        found = True
    return digest.digest() if found else None


def _opening(document: dict[str, Any]) -> Iterator[str]:
    """The system's words and the first user turn, in any of the formats."""
    yield from _texts(document.get("system"))
    yield from _texts(document.get("instructions"))
    turns = document.get("messages", document.get("input"))
    if isinstance(turns, str):
        yield turns
    if not isinstance(turns, list):
        return
    for turn in turns[:TURNS_MAX]:
        if not isinstance(turn, dict):
            return
        yield from _texts(turn.get("content"))
        if turn.get("role") == "user":
            return


def _texts(content: object) -> Iterator[str]:
    if isinstance(content, str):
        yield content
    elif isinstance(content, list):
        for part in content[:PARTS_MAX]:
            if isinstance(part, dict) and isinstance(text := part.get("text"), str):
                yield text


class Conversations:
    """A bounded memory: the longest unused is forgotten first, and each after `seconds` without a turn."""

    __slots__ = ("_entries_max", "_known", "_seconds")

    def __init__(self, *, seconds: float, entries_max: int) -> None:
        self._seconds = seconds
        self._entries_max = entries_max
        self._known: OrderedDict[bytes, tuple[str, str, float]] = OrderedDict()

    def __len__(self) -> int:
        return len(self._known)

    def served_by(self, conversation: bytes, now: float) -> tuple[str, str] | None:
        """Upstream and its name for the model, as last noted; None where nothing is known any more."""
        found = self._known.get(conversation)
        if found is None:
            return None
        upstream, upstream_model, until = found
        if now >= until:
            del self._known[conversation]
            return None
        return upstream, upstream_model

    def note(self, conversation: bytes, upstream: str, upstream_model: str, now: float) -> None:
        """A turn of it was served there."""
        known = self._known
        known[conversation] = (upstream, upstream_model, now + self._seconds)
        known.move_to_end(conversation)
        if len(known) > self._entries_max:
            known.popitem(last=False)
