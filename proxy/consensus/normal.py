"""Text made comparable, and bounded."""

from __future__ import annotations

import re
import unicodedata
from typing import Final

from proxy.consensus.numbers import plain_numbers

_WORD: Final = re.compile(r"\d+/\d+|\d+(?:\.\d+)?|\w+")
_ARTICLES: Final = frozenset({"a", "an", "the"})


def clean(text: str) -> str:
    """Without what is no character (lone surrogates, NUL): those are replaced, so that every text can be encoded."""
    if text.isascii() and "\0" not in text:
        return text
    return text.encode("utf-8", "replace").decode("utf-8").replace("\0", "\N{REPLACEMENT CHARACTER}")


def bounded(text: str, chars_max: int) -> str:
    """At most `chars_max` characters, the last one an ellipsis where something was cut off."""
    return text if len(text) <= chars_max else text[: chars_max - 1].rstrip() + "…"


def words(text: str) -> tuple[str, ...]:
    """The words in order: one case, without punctuation and articles; numbers in one spelling."""
    folded = plain_numbers(unicodedata.normalize("NFKC", text).casefold())
    return tuple(word for word in _WORD.findall(folded) if word not in _ARTICLES)
