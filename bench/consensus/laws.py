"""Laws that scripted models obey. Everything about them is stated here; nothing is learned from real models."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from random import Random
from statistics import NormalDist
from typing import Final

FAULTS: Final = (
    "rate_limited", "unavailable", "empty", "truncated", "garbage", "broken", "content_filter", "refusal", "hang",
    "bad_trailer", "verdict_like", "other_language",
)  # fmt: skip
"""What can go wrong with a call. `truncated` ends for its length, `broken` is cut in mid-stream, `hang` never says a
word; the last three are answers, of a kind that is awkward to read."""


@dataclass(frozen=True, slots=True)
class Errors:
    """Who is right. See `closed_forms.patterns`, which says the same as arithmetic."""

    accuracies: tuple[float, ...]
    phi: float = 0.0
    """Correlation of the errors of two members of one accuracy."""
    beta: float = 0.0
    """Share of questions that every member gets wrong, part of each one's errors."""
    shared: float = 1.0
    """Probability that a wrong answer is the question's one distractor, rather than a wrong answer of its own."""

    def draw(self, random: Random) -> tuple[bool, ...]:
        """One question: who is right."""
        if random.random() < self.beta:
            return (False,) * len(self.accuracies)
        together, share = random.random(), math.sqrt(self.phi)
        rates = [(1 - accuracy - self.beta) / (1 - self.beta) for accuracy in self.accuracies]
        return tuple([(together if random.random() < share else random.random()) >= rate for rate in rates])


@dataclass(frozen=True, slots=True)
class Latency:
    """How long a call takes: log-normal, or always the same where `sigma` is 0."""

    median_seconds: float = 8.0
    sigma: float = 0.45
    first_share: float = 0.3
    """Of it, that passes before the first word."""

    def draw(self, random: Random) -> float:
        """Seconds of one whole call."""
        return self.median_seconds * math.exp(random.gauss(0.0, self.sigma)) if self.sigma else self.median_seconds


@dataclass(frozen=True, slots=True)
class Faults:
    """How often a call goes wrong, by kind. What the sum leaves to 1 goes well."""

    rates: Mapping[str, float] = field(default_factory=dict)

    def draw(self, random: Random) -> str:
        """A kind, or "" for none."""
        at = random.random()
        for kind, rate in self.rates.items():
            if at < rate:
                return kind
            at -= rate
        return ""


@dataclass(frozen=True, slots=True)
class Judging:
    """How members judge each other's answers."""

    accuracy: float = 0.75
    """P(a right answer is preferred to a wrong one) of one judge, without any of the biases below."""
    shared_noise: float = 0.0
    """Share of the variance of a judge's error that all judges of one question have in common."""
    first_slot_bias: float = 0.0
    """Probability that a judge puts what it sees first in the first place, whatever it is."""
    length_slope: float = 0.0
    """Added to an answer's worth for each doubling of its length, in standard deviations of a judge's error."""
    self_preference: float = 0.0
    """Added to the worth of an answer of the judge's own vendor, in the same."""
    favourite: str = ""
    """A seat that judges favour wherever it stands ..."""
    favours: float = 0.0
    """... and how often: what no order of papers can cancel, for showing that a test would see it."""
    abstains: float = 0.0
    """Probability of a refusal instead of a ballot."""
    bad_json: float = 0.0
    """Probability of a ballot that is no JSON."""
    obeys_fenced: float = 0.10
    """Probability that a judge obeys an instruction that stands within the fences of the answers."""
    obeys_open: float = 0.90
    """The same of one that reaches it outside of them."""

    @property
    def distance(self) -> float:
        """Between right and wrong, in standard deviations of a judge's error of one answer."""
        return math.sqrt(2.0) * NormalDist().inv_cdf(self.accuracy)


@dataclass(frozen=True, slots=True)
class Revising:
    """What a member does with the points that are in dispute."""

    right_to_wrong: float = 0.03
    wrong_to_right: float = 0.25
    """Where a right answer is on the panel; without one nobody finds it."""


@dataclass(frozen=True, slots=True)
class Laws:
    """One scripted world."""

    latency: Latency = field(default_factory=lambda: Latency(sigma=0.0, median_seconds=2.0))
    hanging: frozenset[str] = frozenset()
    """Seats that never say a word, in any role."""
    faults: Mapping[str, Faults] = field(default_factory=dict)
    """Role -> what goes wrong with its calls."""
    judging: Judging = field(default_factory=Judging)
    revising: Revising = field(default_factory=Revising)
    checking: float = 0.8
    """P(a verifier's verdict on a claim is right)."""
    fidelity: float = 0.9
    """P(the synthesiser writes what the first of the answers shown to it says); otherwise it takes any other of them.
    It is never told which one is right."""


def utilities(
    judging: Judging,
    right: Sequence[bool],
    lengths: Sequence[int],
    own_vendor: Sequence[bool],
    common: Sequence[float],
    random: Random,
) -> list[float]:
    """What each answer is worth to one judge. `common` is the error that all judges share, a standard normal each."""
    shared, own = math.sqrt(judging.shared_noise), math.sqrt(1 - judging.shared_noise)
    return [
        judging.distance * is_right
        + judging.length_slope * math.log2(max(length, 1))
        + judging.self_preference * mine
        + shared * error
        + own * random.gauss(0.0, 1.0)
        for is_right, length, mine, error in zip(right, lengths, own_vendor, common, strict=True)
    ]
