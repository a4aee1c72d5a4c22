"""What a question is about, by its words: legal, medical, financial, technical, creative, or general where unsure.

Every distinct term counts once, so that no word wins by being repeated. Linear in a text that is bounded first.
"""

from __future__ import annotations

import re
import unicodedata
from dataclasses import dataclass, field
from functools import cache
from itertools import pairwise
from typing import Final

from proxy.consensus.lexicon import LEXICON

GENERAL: Final = "general"
STRONG: Final = 3
WEAK: Final = 1
BACKGROUND_PERCENT: Final = 50
"""What a term in the system prompt counts, of one in the question."""
CODE_POINTS: Final = 4
"""For a block of code, which is technical whatever its words."""
POINTS_MIN: Final = 3
"""Fewer than this say nothing: one strong term, or three weak ones."""
LEAD_PERCENT_MIN: Final = 15
"""Of the points of the two best, by which the best must lead; else the question is general."""
STEM_CHARACTERS_MIN: Final = 3
STEM_CHARACTERS_MAX: Final = 18

_WORD: Final = re.compile(r"[^\W_]+(?:[-'./+][^\W_]+|\+\+|#)*")
_MARKS: Final = {"Mn"}


@dataclass(frozen=True, slots=True)
class Guess:
    """A domain of `settings.DOMAINS`, and how sure that is, from 0 to 1."""

    domain: str
    confidence: float


@dataclass(slots=True)
class _Terms:
    """Term -> domain -> points."""

    words: dict[str, dict[str, int]] = field(default_factory=dict)
    stems: dict[str, dict[str, int]] = field(default_factory=dict)
    pairs: dict[str, dict[str, int]] = field(default_factory=dict)


def domain_of(question: str, background: str = "", *, code: bool = False) -> Guess:
    """The domain of a question, with the system prompt as background; `code`: there is a block of code beside it.

    Texts are taken whole: whoever calls bounds them.
    """
    points = _points(question)
    for domain, some in _points(background).items():
        points[domain] = points.get(domain, 0) + some * BACKGROUND_PERCENT // 100
    if code:
        points["technical"] = points.get("technical", 0) + CODE_POINTS
    ranked = sorted(points.items(), key=lambda pair: -pair[1])
    if not ranked or ranked[0][1] < POINTS_MIN:
        return Guess(GENERAL, 0.5)
    best, most = ranked[0]
    second = ranked[1][1] if len(ranked) > 1 else 0
    lead = (most - second) / (most + second)
    if lead * 100 < LEAD_PERCENT_MIN:
        return Guess(GENERAL, round(1 - lead, 2) / 2)
    return Guess(best, round(lead * most / (most + POINTS_MIN), 2))


def _points(text: str) -> dict[str, int]:
    """Points by domain. A term counts once, whatever forms of it the text has."""
    terms = _terms()
    words = _WORD.findall(_folded(text))
    found: dict[str, dict[str, int]] = {}
    for word in set(words):
        if (scores := terms.words.get(word)) is not None:
            found[word] = scores
        for length in range(min(len(word), STEM_CHARACTERS_MAX), STEM_CHARACTERS_MIN - 1, -1):
            if (scores := terms.stems.get(word[:length])) is not None:
                found[word[:length] + "*"] = scores
                break
    for first, second in pairwise(words):
        if (scores := terms.pairs.get(f"{first} {second}")) is not None:
            found[f"{first} {second}"] = scores
    points: dict[str, int] = {}
    for scores in found.values():
        for domain, some in scores.items():
            points[domain] = points.get(domain, 0) + some
    return points


def _folded(text: str) -> str:
    """Small letters without accents."""
    text = text.casefold().replace("\N{RIGHT SINGLE QUOTATION MARK}", "'")
    if text.isascii():
        return text
    decomposed = unicodedata.normalize("NFKD", text)
    return "".join([letter for letter in decomposed if unicodedata.category(letter) not in _MARKS])


@cache
def _terms() -> _Terms:
    terms = _Terms()
    for domain, words in LEXICON.items():
        for listed, points in ((words.weak, WEAK), (words.strong, STRONG)):
            for term in listed.split(","):
                _add(terms, " ".join(term.split()), domain, points)
    return terms


def _add(terms: _Terms, term: str, domain: str, points: int) -> None:
    if " " in term:
        table = terms.pairs
    elif term.endswith("*"):
        table, term = terms.stems, term[:-1]
    else:
        table = terms.words
    table.setdefault(term, {})[domain] = points
