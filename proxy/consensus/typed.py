"""Final answers in a form in which two of them can be told the same: numbers, choices, short strings, JSON.

What is given the wrong type is taken for what it is: a `short` of "18" is a number. Rounded numbers are not the same
as exact ones: a false disagreement costs calls, a false agreement the answer.
"""

from __future__ import annotations

import json
import re
import unicodedata
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum
from fractions import Fraction
from typing import Any, Final

from proxy.consensus.normal import bounded, clean
from proxy.consensus.numbers import Number, number, scaled, spelled
from proxy.consensus.objects import depth, read_object

SHOWN_CHARS_MAX: Final = 200
JSON_CHARS_MAX: Final = 64_000
DEPTH_MAX: Final = 32
NOUNS_MAX: Final = 12
TAIL_CHARS_MAX: Final = 4_000
SHORT_CHARS_MAX: Final = 60
"""Of words behind `Answer:`; more are a sentence, and open."""

_MARKUP: Final = re.compile(r"[*_`]{2,}|`")
_CHOICE: Final = re.compile(
    r"^(?:the\s+)?(?:(?:correct|final|best|right)\s+)?(?P<word>answer|option|choice|alternative)?\s*(?:is\s+)?[:=]?\s*"
    r"[(\[{]?(?P<letter>[A-Za-z]|\d{1,2})[)\]}.:]?$",
    re.IGNORECASE,
)
_CHOICE_AND_TEXT: Final = re.compile(
    r"^(?:(?:option|choice|answer)\s*[:=]?\s*)?(?:[(\[](?P<inner>[A-Za-z])[)\]]|(?P<letter>[A-Z])(?:[).:]|\s+-|\s))\s*\S",
    re.IGNORECASE,
)
_WORD_OF_PROSE: Final = re.compile(r"[AaIi]\s+[^\WA-Z]")
"""`A queue decouples them` and `I would wait` begin with no choice's letter."""
_CHOICES: Final = re.compile(r"^[A-Z](?:\s*(?:,|;|&|\band\b)\s*[A-Z])+$")
_SEVERAL: Final = re.compile(r"[A-Z](?![a-z])")
_ARTICLE: Final = re.compile(r"^(?:the|an?)\s+")
_SAYS_NOTHING: Final = frozenset(
    {"n/a", "na", "not applicable", "none", "null", "unknown", "unclear", "uncertain", "not sure", "tbd", "various"}
    | {
        "see above",
        "as above",
        "above",
        "see answer",
        "see answer above",
        "see text",
        "see explanation",
        "see response",
    }
    | {"it depends", "depends", "varies", "it varies", "final answer", "i don't know", "no answer", "no final answer"}
    | {"at most 200 characters", "siehe oben", "es kommt darauf an", "voir ci-dessus", "ver arriba", "vedi sopra"}
)
"""What stands in the place of a result where there is none: two members who write it agree on nothing."""
_EDGES: Final = " \t\r\n.,;:!?\"'()[]{}*_`“”‘’«»"


_HASHES: Final = re.compile(r"####[ \t]*([^\s#][^\n]*)")
_BOXED: Final = re.compile(r"\\boxed\s*\{((?:[^{}\n]|\{(?:[^{}\n]|\{[^{}\n]*\})*\}){1,200})\}")
_LABELLED: Final = re.compile(
    r"^[\s*_#>-]{0,20}(?:(?:the\s+)?(?:final\s+|correct\s+)?answer|A|result|antwort|endergebnis|ergebnis|réponse(?:\s+finale)?"
    r"|respuesta(?:\s+final)?|risposta(?:\s+finale)?|resposta(?:\s+final)?|antwoord|odpowiedź|ответ|答案|答え|답)"
    r"\s{0,3}[*_]{0,3}\s{0,3}[:：=][*_]{0,3}[ \t]*(\S[^\n]*)$",
    re.MULTILINE | re.IGNORECASE,
)
_SENTENCE: Final = re.compile(
    r"\b(?:(?:the|my)\s+(?:final\s+|correct\s+|best\s+|right\s+)?(?:answer|option|choice)\s+is|die\s+(?:richtige\s+)?antwort\s+(?:ist|lautet)"
    r"|la\s+(?:réponse|respuesta|risposta|resposta)\s+(?:finale?\s+)?(?:est|es|è|é))\s{0,3}:?\s{0,3}([^\n]{1,200})",
    re.IGNORECASE,
)
_STOP: Final = re.compile(
    r"(?<!\bapprox)(?<!\bca)[.!?](?:\s|$)|[;。]|,\s|\s(?:because|since|which|so|when|after|weil|da|porque|car)\s"
)


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


OPEN_ANSWER: Final = Typed(Kind.OPEN, "", "")


def typed(kind: Kind | None, answer: Any) -> Typed:
    """The answer of a trailer: a string, number, boolean, or JSON object. Never raises; what is too long is OPEN."""
    if answer is None or kind is Kind.OPEN:
        return OPEN_ANSWER
    if isinstance(answer, bool):
        return Typed(Kind.SHORT, str(answer).lower(), str(answer).lower())
    if isinstance(answer, int | float):
        return typed(Kind.NUMBER, _digits(answer))
    if isinstance(answer, dict | list):
        return _json(answer)
    text = clean(str(answer)).strip()
    if kind is Kind.JSON and (found := read_object(text)) is not None:
        return _json(found)
    if not text or len(text) > SHOWN_CHARS_MAX:
        return OPEN_ANSWER
    said = _number(number(text, nouns_max=NOUNS_MAX if kind is Kind.NUMBER else 0), text)
    return said or _choice(text, declared=kind is Kind.CHOICE) or _short(text)


def extracted(text: str) -> Typed:
    """The final answer of a text without a trailer: `A: 18`, `#### 18`, `The answer is $18.00`, `\\boxed{18}`, a text
    that is nothing but a number, choice or JSON object. OPEN where it says none. Never raises."""
    whole = text.strip()
    if (found := read_object(whole)) is not None:
        return typed(Kind.JSON, found)
    if whole and len(whole) <= SHOWN_CHARS_MAX and "\n" not in whole:
        said = typed(Kind.SHORT, whole)
        if said.kind is not Kind.SHORT:
            return said
        if (bare := number(whole, nouns_max=3)) is not None:
            return Typed(Kind.NUMBER, str(bare), whole, bare.unit)
    tail = whole[-TAIL_CHARS_MAX:]
    for pattern in (_HASHES, _BOXED, _LABELLED, _SENTENCE):
        if stated := pattern.findall(tail):
            return _said(stated[-1].strip(), sentence=pattern is _SENTENCE)
    return OPEN_ANSWER


def same(one: Typed, other: Typed) -> bool:
    """Whether both say the same. Open ones never do; a number without unit is the same with any."""
    return one.kind is not Kind.OPEN and len(grouped((one, other))) == 1 and other.kind is not Kind.OPEN


def grouped(answers: Sequence[Typed]) -> tuple[tuple[int, ...], ...]:
    """Indexes of the same answers together, the largest group first, then by first member. Open ones are left out."""
    groups: dict[tuple[str, str], list[int]] = defaultdict(list)
    bare: dict[Fraction, list[int]] = defaultdict(list)
    for index, answer in enumerate(answers):
        if answer.kind is Kind.NUMBER and not answer.unit:
            bare[Fraction(answer.value)].append(index)
        elif answer.kind is not Kind.OPEN:
            groups[_key(answer)].append(index)
    with_units = {key: list(group) for key, group in groups.items()}
    for value, indexes in bare.items():
        found = [
            key
            for key, group in with_units.items()
            if any(answers[each].kind is Kind.NUMBER and _means(answers[each], value) for each in group)
        ]
        # A number without unit goes with the unit that most others name.
        key = max(found, key=lambda key: len(with_units[key]), default=("", spelled(value)))
        groups[key] += indexes
    return tuple(sorted((tuple(sorted(group)) for group in groups.values()), key=lambda group: (-len(group), group)))


def _means(answer: Typed, value: Fraction) -> bool:
    """`50 %` may be said as 50 and as 0.5, `5 km` only as 5."""
    written = Fraction(answer.value)
    return written == value or (answer.unit == "%" and scaled(written, "%")[1] == value)


def _key(answer: Typed) -> tuple[str, str]:
    if answer.kind is Kind.NUMBER:
        dimension, value = scaled(Fraction(answer.value), answer.unit)
        return f"number {dimension}", spelled(value)
    return answer.kind.value, answer.value


def _digits(value: float) -> str:
    text = repr(value)
    return text if len(text) <= SHOWN_CHARS_MAX else ""


def _number(found: Number | None, text: str) -> Typed | None:
    return Typed(Kind.NUMBER, str(found), bounded(text, SHOWN_CHARS_MAX), found.unit) if found else None


def _choice(text: str, *, declared: bool) -> Typed | None:
    plain = _MARKUP.sub("", text).strip()
    found = _CHOICE.match(plain)
    letter = found["letter"] if found else ""
    if not letter and _CHOICES.match(plain):
        letter = ",".join(sorted(set(_SEVERAL.findall(plain))))
    if not letter and declared and (longer := _CHOICE_AND_TEXT.match(plain)):
        letter = longer["inner"] or longer["letter"]
    if letter.isdigit():
        return Typed(Kind.NUMBER, str(int(letter)), text)
    return Typed(Kind.CHOICE, letter.upper(), text) if letter else None


def _short(text: str) -> Typed:
    """Folded until nothing changes any more; what is left may turn out to be a number or a choice after all."""
    folded, before = text, ""
    while folded != before:
        before = folded
        plain = unicodedata.normalize("NFKC", _MARKUP.sub("", folded)).casefold()
        folded = _ARTICLE.sub("", " ".join(plain.split()).strip(_EDGES))
    if not folded or len(folded) > SHOWN_CHARS_MAX or folded.replace("’", "'") in _SAYS_NOTHING:
        return OPEN_ANSWER
    return _number(number(folded), text) or _choice(folded, declared=False) or Typed(Kind.SHORT, folded, text)


def _json(value: Any) -> Typed:
    if depth(value) > DEPTH_MAX:
        return OPEN_ANSWER
    text = json.dumps(_plain(value), sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    text = clean(text)
    return Typed(Kind.JSON, text, bounded(text, SHOWN_CHARS_MAX)) if len(text) <= JSON_CHARS_MAX else OPEN_ANSWER


def _plain(value: Any) -> Any:
    """Whole floats as integers: 1.0 and 1 are one number in JSON."""
    if isinstance(value, dict):
        return {key: _plain(each) for key, each in value.items()}
    if isinstance(value, list):
        return [_plain(each) for each in value]
    return int(value) if isinstance(value, float) and value.is_integer() else value


def _said(text: str, *, sentence: bool) -> Typed:
    """What stands behind `answer:`: a number with words behind it, a choice with its text, or something short."""
    first = _STOP.split(text, maxsplit=1)[0]
    for part in (text, first):
        said = typed(Kind.NUMBER, part.strip())
        if said.kind is Kind.NUMBER:
            return said
    plain = sentence or bool(_WORD_OF_PROSE.match(first.strip()))
    said = typed(Kind.SHORT if plain else Kind.CHOICE, first.strip())
    if said.kind is Kind.SHORT and (sentence or len(said.value) > SHORT_CHARS_MAX):
        return OPEN_ANSWER if len(said.value) > SHORT_CHARS_MAX or " " in said.value.strip() else said
    return said
