"""Final answers in a form in which two of them can be told the same: numbers, choices, short strings, JSON.

What is given the wrong type is taken for what it is: a `short` of "18" is a number. Rounded numbers are not the same
as exact ones: a false disagreement costs calls, a false agreement the answer.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Any


class Kind(Enum):
    """The type of a final answer."""

    NUMBER = "number"
    CHOICE = "choice"
    SHORT = "short"
    JSON = "json"
    OPEN = "open"


@dataclass(frozen=True, slots=True)
class Typed:
    """A final answer."""

    kind: Kind
    value: str
    """Canonical: of a number without unit (18, 0.5, 1/3), of a choice its letter (B), of JSON sorted and compact.
    Empty where open."""
    shown: str
    """As it was said, at most 200 characters."""
    unit: str = ""
    """Of a number: a known one's symbol (usd, km, %); empty where none, or only a noun was named."""


OPEN_ANSWER = Typed(Kind.OPEN, "", "")


def typed(kind: Kind | None, answer: Any) -> Typed:
    """The answer of a trailer: a string, number, boolean, or JSON object. Never raises; what is too long is OPEN."""
    raise NotImplementedError


def extracted(text: str) -> Typed:
    """The final answer of a text without a trailer: `A: 18`, `#### 18`, `The answer is $18.00`, `\\boxed{18}`, a text
    that is nothing but a number, choice or JSON object. OPEN where it says none. Never raises."""
    raise NotImplementedError


def same(one: Typed, other: Typed) -> bool:
    """Whether both say the same. Open ones never do; a number without unit is the same with any."""
    raise NotImplementedError


def grouped(answers: Sequence[Typed]) -> tuple[tuple[int, ...], ...]:
    """Indexes of the same answers together, the largest group first, then by first member. Open ones are left out."""
    raise NotImplementedError
