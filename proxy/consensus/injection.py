"""What in an answer is meant for its judges rather than its reader. Patterns are linear-time, texts bounded."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Flags:
    """What was found, as names: addresses_judge, orders_ranking, ignore_instructions, universal_phrase, forged_fence,
    ballot_like, verdict_like."""

    names: tuple[str, ...] = ()

    @property
    def addresses_judge(self) -> bool:
        """It costs the answer its ballot influence. A mere verdict_like does not: answers may say `[[A]]`."""
        raise NotImplementedError


def flags(text: str, *, question: str = "") -> Flags:
    """What the answer says to its judges. What already stands in the question is no finding: it may be asked about."""
    raise NotImplementedError


def excluded(found: Mapping[str, Flags], families: Mapping[str, str]) -> frozenset[str]:
    """Seats that lose their ballot influence: those that address the judge, unless half of the families do (then the
    question is about such texts)."""
    raise NotImplementedError
