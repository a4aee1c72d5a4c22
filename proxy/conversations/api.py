"""A conversation, as it is kept."""

from __future__ import annotations

import re
import secrets
from dataclasses import dataclass, field
from typing import Final

PREFIX: Final = "conv_"
_ALPHABET: Final = "0123456789abcdefghjkmnpqrstvwxyz"
"""Crockford's base 32, in small letters."""
_CHARACTERS: Final = 26
_ID: Final = re.compile(rf"{PREFIX}[{_ALPHABET}]{{{_CHARACTERS}}}", re.ASCII)


@dataclass(frozen=True, slots=True)
class Turn:
    """What one side said. Text alone: of an image there is a note in its place."""

    role: str
    """user | assistant"""
    text: str = field(repr=False)
    at_ms: int = 0


@dataclass(frozen=True, slots=True)
class Summary:
    """A conversation without its turns."""

    id: str
    created_ms: int
    last_ms: int
    turns: int


@dataclass(frozen=True, slots=True)
class Conversation:
    """A conversation with its turns, the oldest first."""

    summary: Summary
    turns: tuple[Turn, ...]


def new_id() -> str:
    """130 random bits: nobody finds another's."""
    return PREFIX + "".join([secrets.choice(_ALPHABET) for _ in range(_CHARACTERS)])


def is_id(text: str) -> bool:
    """Whether `text` can be the id of a conversation."""
    return _ID.fullmatch(text) is not None
