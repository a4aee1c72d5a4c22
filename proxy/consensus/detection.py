"""What a question is about and which language it is in, found without asking anybody.

`detect` is cheap enough for the event loop once `warm_up` has been called, in a thread, at start.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from proxy.consensus.api import Message
from proxy.consensus.domain import GENERAL, domain_of
from proxy.consensus.language import UNKNOWN, language_name, language_of, prose, warm_up
from proxy.consensus.settings import AUTO, DOMAINS

__all__ = ["Detected", "detect", "language_name", "warm_up"]

QUESTION_CHARACTERS_MAX: Final = 4_000
"""Of the last user turn that are looked at: its beginning and its end."""
BACKGROUND_CHARACTERS_MAX: Final = 1_000
"""Of the system prompt."""
EARLIER_TURNS_MAX: Final = 5
"""User turns that a language is inherited from."""


@dataclass(frozen=True, slots=True)
class Detected:
    """What was found out about a question."""

    domain: str
    """One of `settings.DOMAINS`."""
    domain_confidence: float
    """0 to 1; 1 where the caller named the domain."""
    language: str
    """ISO 639-1, or und."""
    language_name: str
    """In English, for prompts; of und: "the language of the question"."""


def detect(messages: Sequence[Message], domain: str = AUTO, *, inherited_language: str | None = None) -> Detected:
    """Look at the last user turn; what it does not tell about its language, the turns before it do.

    `domain` is taken as given unless it is "auto". `inherited_language` is what a language falls back to. Messages of
    any shape: what is no text is passed over.
    """
    turns = _user_turns(messages)
    question = next(turns, "")
    spoken = prose(question)
    language = language_of(spoken)
    while language == UNKNOWN and (earlier := next(turns, None)) is not None:
        language = language_of(prose(earlier))
    if language == UNKNOWN and inherited_language:
        language = inherited_language
    if domain in DOMAINS:
        found, confidence = domain, 1.0
    elif domain != AUTO:
        found, confidence = GENERAL, 0.0
    else:
        guess = domain_of(question, _background(messages), code="```" in question)
        found, confidence = guess.domain, guess.confidence
    return Detected(found, confidence, language, language_name(language))


def _user_turns(messages: Sequence[Message]) -> Iterator[str]:
    """Texts of the last user turns, the newest first, each bounded. A turn without a text is none."""
    left = EARLIER_TURNS_MAX + 1
    for message in reversed(messages):
        if message.get("role") != "user":
            continue
        text = _bounded(_text(message), QUESTION_CHARACTERS_MAX)
        if text and left:
            left -= 1
            yield text


def _background(messages: Sequence[Message]) -> str:
    for message in messages:
        if message.get("role") in ("system", "developer"):
            return _bounded(_text(message), BACKGROUND_CHARACTERS_MAX)
    return ""


def _text(message: Message) -> str:
    content = message.get("content")
    if isinstance(content, str):
        return content
    if not isinstance(content, list):
        return ""
    parts = [part.get("text") for part in content if isinstance(part, dict)]
    return "\n".join([part for part in parts if isinstance(part, str)])


def _bounded(text: str, characters_max: int) -> str:
    """Its beginning and its end: a question stands before or after what it is about."""
    if len(text) <= characters_max:
        return text
    half = characters_max // 2
    return f"{text[:half]}\n{text[-half:]}"
