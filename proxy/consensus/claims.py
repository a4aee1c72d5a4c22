"""Atomic claims of all members, merged, and what speaks for and against each. Families count, not seats."""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from math import ceil
from typing import Final

from proxy.consensus.ballots import Mark, Verdict
from proxy.consensus.normal import bounded, words

CLAIM_CHARS_MAX: Final = 300
REASONS_MAX: Final = 4
SENTENCES_MAX: Final = 400
"""Of one text that claims are compared with."""
TEXT_CHARS_MAX: Final = 64_000
OVERLAP_MIN: Final = Fraction(4, 5)
"""Share of a claim's words that a sentence must have, to speak of the same."""
WORDIER_MAX: Final = Fraction(3, 2)
"""A sentence contradicts only where it has all words of the claim, and hardly others: else it may speak of more."""
WORDS_MIN: Final = 3

_NUMBER: Final = re.compile(r"\d+(?:\.\d+|/\d+)?")
_NEGATIONS: Final = frozenset(
    {"not", "no", "never", "neither", "nor", "cannot", "nicht", "kein", "keine", "keinen", "nie", "pas", "jamais"}
    | {"aucun", "ne", "non", "nunca", "não", "nessun", "niet", "geen", "не", "нет"}
)
_SENTENCE: Final = re.compile(r"(?<=[.!?。])\s+|\n+|(?<=。)")


type _Sentence = tuple[frozenset[str], frozenset[str], bool]
"""Words, numbers, whether it negates."""
type Sentences = tuple[_Sentence, ...]


@dataclass(frozen=True, slots=True)
class Claim:
    """One claim, whoever makes it."""

    text: str
    """In the words of the first who made it."""
    seats: tuple[str, ...]
    """Who make it."""
    families: frozenset[str]
    """Of `seats`."""
    supported: frozenset[str] = frozenset()
    """Families of judges and verifiers that support it, and of members that say the same in their texts."""
    contradicted: frozenset[str] = frozenset()
    unsure: frozenset[str] = frozenset()
    reasons: tuple[str, ...] = ()
    """Why it is contradicted, each once, bounded."""
    corrections: tuple[str, ...] = ()
    opposed: bool = False
    """Another member claims otherwise: another number, or the negation."""
    verified: bool = False
    """Verifiers who did not see the draft have spoken: their verdicts stand alone."""

    @property
    def contested(self) -> bool:
        """Somebody contradicts it, or members disagree, and no verifiers have settled it."""
        if self.verified:
            return bool(self.contradicted) and len(self.contradicted) == len(self.supported)
        return bool(self.contradicted) or self.opposed

    @property
    def refuted(self) -> bool:
        """Verifiers have settled it, against it."""
        return self.verified and len(self.contradicted) > len(self.supported)

    @property
    def holds(self) -> bool:
        """More families support it than contradict it, and at least one that does not make it itself does (or is a
        verifier). One that members disagree about does not hold by members' words alone."""
        backed = self.supported if self.verified else self.supported | self.families
        others = self.supported if self.verified else self.supported - self.families
        independent = bool(others) or (len(self.families) > 1 and not self.opposed)
        return independent and len(backed) > len(self.contradicted)


def merged(claims: Mapping[str, Sequence[str]], families: Mapping[str, str]) -> tuple[Claim, ...]:
    """`claims`: seat -> its claims. Equal ones (case, punctuation, spelling of numbers apart) become one, in the order
    in which they are first made."""
    texts: dict[tuple[str, ...], str] = {}
    makers: dict[tuple[str, ...], list[str]] = defaultdict(list)
    for seat, said in claims.items():
        for text in said:
            key = words(text)
            texts.setdefault(key, bounded(text, CLAIM_CHARS_MAX))
            if seat not in makers[key]:
                makers[key].append(seat)
    made = {key: frozenset(families.get(seat, seat) for seat in seats) for key, seats in makers.items()}
    opposed = _opposed(made)
    return tuple(Claim(texts[key], tuple(makers[key]), made[key], opposed=key in opposed) for key in texts)


def marked(
    merged_claims: Sequence[Claim],
    claims: Mapping[str, Sequence[str]],
    marks: Iterable[Mark],
    families: Mapping[str, str],
) -> tuple[Claim, ...]:
    """With the judges' verdicts. `claims` as given to `merged`. A family whose seats say different things is unsure."""
    places = {words(claim.text): place for place, claim in enumerate(merged_claims)}
    by_claim: dict[int, list[Mark]] = defaultdict(list)
    for mark in marks:
        said = claims.get(mark.seat, ())
        if mark.claim < len(said) and mark.judge != mark.seat:
            place = places.get(words(bounded(said[mark.claim], CLAIM_CHARS_MAX)))
            if place is not None:
                by_claim[place].append(mark)
    return tuple(_counted(claim, by_claim[place], families) for place, claim in enumerate(merged_claims))


def checked(claim: Claim, verdicts: Iterable[Mark], families: Mapping[str, str]) -> Claim:
    """With verdicts of verifiers who did not see the draft, which replace the judges': `seat` and `claim` of the marks
    are not read. Without any verdict that decides, the claim stays as it was."""
    said = list(verdicts)
    if all(mark.verdict is Verdict.UNSURE for mark in said):
        return claim
    bare = replace(claim, supported=frozenset(), contradicted=frozenset(), unsure=frozenset(), verified=True)
    return _counted(bare, said, families)


def compared(
    merged_claims: Sequence[Claim], texts: Mapping[str, Sentences], families: Mapping[str, str]
) -> tuple[Claim, ...]:
    """With what other members' texts (seat -> its `sentences`) say, found locally: a sentence with the same words
    supports a claim, one with the same words and other numbers, or a negation, contradicts it."""
    result: list[Claim] = []
    for claim in merged_claims:
        sought = _sentence(claim.text)
        marks = [
            Mark(seat, "", 0, verdict)
            for seat, said in texts.items()
            if families.get(seat, seat) not in claim.families and (verdict := _said(sought, said)) is not Verdict.UNSURE
        ]
        result.append(_counted(claim, marks, families))
    return tuple(result)


def contested(claims: Sequence[Claim]) -> tuple[Claim, ...]:
    """Those that are: each member's most opposed one first, then each one's next. Few are looked at, and a member that
    makes many wrong ones must not take the places of all others."""
    opposed = sorted((claim for claim in claims if claim.contested), key=lambda claim: -len(claim.contradicted))
    made: Counter[str] = Counter()
    turns: list[int] = []
    for claim in opposed:
        turns.append(min(made[seat] for seat in claim.seats))
        made.update(claim.seats)
    order = sorted(range(len(opposed)), key=lambda index: turns[index])
    return tuple(opposed[index] for index in order)


def contested_share(claims: Sequence[Claim]) -> Fraction:
    """Refuted ones among them; 0 where there are none."""
    return Fraction(sum(claim.contested or claim.refuted for claim in claims), len(claims)) if claims else Fraction(0)


def unresolved(claims: Sequence[Claim]) -> bool:
    """Whether one is contested and has no majority behind it: one judge against two, whoever it is, settles nothing."""
    return any(claim.contested and not claim.holds for claim in claims)


def supported_share(claims: Sequence[Claim]) -> Fraction | None:
    """Share that holds; None where there are no claims."""
    return Fraction(sum(claim.holds for claim in claims), len(claims)) if claims else None


def unverified(claims: Sequence[Claim], count_max: int) -> tuple[str, ...]:
    """Texts of claims that do not hold and are not refuted either, those contested first; bounded."""
    open_ones = [claim for claim in claims if not claim.holds and len(claim.contradicted) <= len(claim.supported)]
    return tuple(claim.text for claim in sorted(open_ones, key=lambda claim: not claim.contested)[:count_max])


def _counted(claim: Claim, marks: Sequence[Mark], families: Mapping[str, str]) -> Claim:
    said: dict[str, set[Verdict]] = defaultdict(set)
    for mark in marks:
        said[families.get(mark.judge, mark.judge)].add(mark.verdict)
    decided = {
        family: verdicts.pop() if len(verdicts := each - {Verdict.UNSURE}) == 1 else Verdict.UNSURE
        for family, each in said.items()
    }
    against = [mark for mark in marks if mark.verdict is Verdict.CONTRADICTED]
    return replace(
        claim,
        supported=(claim.supported | _of(decided, Verdict.SUPPORTED)) - _of(decided, Verdict.CONTRADICTED),
        contradicted=(claim.contradicted | _of(decided, Verdict.CONTRADICTED)) - _of(decided, Verdict.SUPPORTED),
        unsure=claim.unsure | _of(decided, Verdict.UNSURE),
        reasons=_few(*claim.reasons, *(mark.reason for mark in against)),
        corrections=_few(*claim.corrections, *(mark.correction for mark in against)),
    )


def _of(decided: Mapping[str, Verdict], verdict: Verdict) -> frozenset[str]:
    return frozenset(family for family, each in decided.items() if each is verdict)


def _few(*texts: str) -> tuple[str, ...]:
    return tuple(dict.fromkeys(bounded(text, CLAIM_CHARS_MAX) for text in texts if text))[:REASONS_MAX]


def _bare(key: Iterable[str]) -> tuple[str, ...]:
    """The words without numbers and negations: what it is about."""
    return tuple("#" if _NUMBER.fullmatch(word) else word for word in key if word not in _NEGATIONS)


def _opposed(made: Mapping[tuple[str, ...], frozenset[str]]) -> set[tuple[str, ...]]:
    """Claims about the same that say otherwise, by different families."""
    about: dict[tuple[str, ...], list[tuple[str, ...]]] = defaultdict(list)
    for key in made:
        about[_bare(key)].append(key)
    return {
        key
        for bare, keys in about.items()
        if len(keys) > 1 and len([word for word in bare if word != "#"]) >= WORDS_MIN - 1
        for key in keys
        if any(made[other] - made[key] or made[key] - made[other] for other in keys if other != key)
    }


def _sentence(text: str) -> _Sentence:
    key = words(text)
    numbers = frozenset(word for word in key if _NUMBER.fullmatch(word))
    return frozenset(key) - numbers - _NEGATIONS, numbers, any(word in _NEGATIONS for word in key)


def sentences(text: str) -> Sentences:
    """A text made ready to be compared with claims; some milliseconds of work where it is long."""
    pieces = _SENTENCE.split(text[:TEXT_CHARS_MAX], maxsplit=SENTENCES_MAX)[:SENTENCES_MAX]
    return tuple(each for each in map(_sentence, pieces) if len(each[0]) >= WORDS_MIN)


def _said(claim: _Sentence, sentences: Iterable[_Sentence]) -> Verdict:
    """What the sentence says that shares most words with the claim."""
    sought, numbers, negated = claim
    if len(sought) < WORDS_MIN:
        return Verdict.UNSURE
    best, verdict = ceil(OVERLAP_MIN * len(sought)), Verdict.UNSURE
    wordy = int(WORDIER_MAX * len(sought))
    for said, said_numbers, said_negated in sentences:
        shared = len(sought & said)
        if shared < best:
            continue
        if numbers <= said_numbers and negated == said_negated:
            best, verdict = shared, Verdict.SUPPORTED
        elif (
            shared == len(sought)
            and (shared > best or verdict is Verdict.UNSURE)
            and len(said) <= wordy
            and len(numbers) == len(said_numbers)
        ):
            best, verdict = shared, Verdict.CONTRADICTED
    return verdict
