"""Recorded answers of four models to 1,319 questions, as questions of a scripted world."""

from __future__ import annotations

import hashlib
import json
import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import cache
from random import Random
from typing import Final

from bench.consensus.items import Item, Said
from bench.process import ROOT

DATA: Final = ROOT / "tests/data/gsm8k/answers.jsonl"
MODELS: Final = ("6b-finetuned", "6b-verified", "175b-finetuned", "175b-verified")


@dataclass(frozen=True, slots=True)
class Recorded:
    """One question."""

    item: Item
    half: int
    """0 or 1, by a hash of its number: one half calibrates what the other reports."""

    def right(self, model: str) -> bool:
        """As recorded."""
        return self.item.answers[model].right


@cache
def recorded() -> tuple[Recorded, ...]:
    """All of them, in their order."""
    return tuple([_recorded(json.loads(line)) for line in DATA.read_text(encoding="utf-8").splitlines()])


def _recorded(document: dict[str, object]) -> Recorded:
    number, told = document["id"], document["answers"]
    answers = {
        model: Said(str(one["final"]), bool(one["right"]), str(one["text"]), trailer=False)
        for model, one in told.items()  # type: ignore[attr-defined]
    }
    truth = str(document["truth"])
    key = f"gsm8k/{number}"
    digest = hashlib.sha256(key.encode()).digest()
    right = Said(truth, True, f"The answer is {truth}.", trailer=False)
    wrong = Said("", False, "I do not know.", trailer=False)
    return Recorded(Item(key, str(document["question"]), right, wrong, answers), digest[0] & 1)


def accuracies(questions: Sequence[Recorded]) -> dict[str, float]:
    """Share of right answers of each model."""
    return {model: sum(one.right(model) for one in questions) / len(questions) for model in MODELS}


def oracle(questions: Sequence[Recorded]) -> float:
    """Share where any model is right."""
    return sum(any(one.right(model) for model in MODELS) for one in questions) / len(questions)


def plurality(questions: Sequence[Recorded]) -> float:
    """Expected share where the most frequent final answer is right; a tie goes to each of its answers alike. Answers
    without a final one do not vote."""
    return sum(_plurality(one) for one in questions) / len(questions)


def first_listed_plurality(questions: Sequence[Recorded], order: Sequence[str]) -> float:
    """The same with ties to the answer that comes first in `order`: how good that is depends on the order alone."""
    hits = 0
    for one in questions:
        votes = Counter(_plain(value) for name in order if (value := one.item.answers[name].value))
        leading = votes.most_common(1)[0][0] if votes else None
        hits += any(said.right for said in one.item.answers.values() if _plain(said.value) == leading)
    return hits / len(questions)


def _plurality(one: Recorded) -> float:
    votes = Counter(_plain(said.value) for said in one.item.answers.values() if said.value)
    if not votes:
        return 0.0
    most = max(votes.values())
    leading = {value for value, count in votes.items() if count == most}
    right = {_plain(said.value) for said in one.item.answers.values() if said.right}
    return len(leading & right) / len(leading)


def _plain(value: str) -> str:
    text = value.replace(",", "").strip("$% ")
    try:
        return repr(float(text))
    except ValueError:
        return text


def weight_of(accuracy: float) -> Fraction:
    """A seat's weight from its share of right answers, and from nothing else: log(1 + odds of being right), in
    hundredths, so that a better member weighs more and none weighs nothing."""
    return Fraction(max(round(-100 * math.log(1 - accuracy)), 1), 100)


def learned_weights(questions: Sequence[Recorded]) -> list[Fraction]:
    """Of MODELS, from these questions."""
    return [weight_of(share) for share in accuracies(questions).values()]


def pairwise_phi(questions: Sequence[Recorded]) -> tuple[float, float]:
    """Lowest and highest correlation of two models' errors."""
    found = []
    for index, one in enumerate(MODELS):
        for other in MODELS[index + 1 :]:
            xs = [float(question.right(one)) for question in questions]
            ys = [float(question.right(other)) for question in questions]
            mean_x, mean_y = sum(xs) / len(xs), sum(ys) / len(ys)
            covariance = sum((x - mean_x) * (y - mean_y) for x, y in zip(xs, ys, strict=True)) / len(xs)
            found.append(covariance / math.sqrt(mean_x * (1 - mean_x) * mean_y * (1 - mean_y)))
    return min(found), max(found)


def sample(questions: Sequence[Recorded], count: int, seed: int) -> list[Recorded]:
    """Some of them, for a quick run."""
    return list(questions) if count >= len(questions) else Random(seed).sample(list(questions), count)
