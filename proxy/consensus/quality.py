"""How good the panel takes its answer to be: a score, what it rests on, and how sure that is."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction

from proxy.consensus.api import Quality, Severity
from proxy.consensus.ballots import Ballot
from proxy.consensus.settings import Weights


@dataclass(frozen=True, slots=True)
class Judged:
    """What the judges say of one answer."""

    dimensions: dict[str, float]
    """0 to 10 each: the median over judges after centring."""
    share: float
    """0 to 1: the dimensions by their weights in the domain."""
    judges: int


def judged(
    ballots: Sequence[Ballot],
    seat: str,
    domain: str,
    weights: Weights,
    *,
    vendors: Mapping[str, str] | None = None,
    synthesiser_vendor: str | None = None,
) -> Judged | None:
    """Of every judge its own mean is subtracted (shrunk) and the panel's put in its place; judges of the synthesiser's
    vendor are left out where at least two others remain. None where nobody scored it."""
    raise NotImplementedError


def dimension_weights(domain: str, weights: Weights) -> dict[str, Fraction]:
    """The domain's, or the general ones."""
    raise NotImplementedError


def quality(
    judges: Judged | None,
    claims: Fraction | None,
    agreement: float,
    weights: Weights,
    *,
    contradiction: bool = False,
) -> Quality:
    """The score. `claims`: share that is supported, None where there are none to speak of (the others then take its
    weight); `contradiction`: one is not resolved, which caps the score. Calibrated where `weights` has a table."""
    raise NotImplementedError


def fitted(samples: Sequence[tuple[float, bool]], *, points_max: int = 50) -> tuple[tuple[Fraction, Fraction], ...]:
    """Isotonic regression (pool adjacent violators) of right on raw score (0 to 1): a table for Weights.calibration."""
    raise NotImplementedError


def calibrated(raw: float, table: Sequence[tuple[Fraction, Fraction]]) -> float:
    """Between the table's points linear, beyond them constant. The raw score where the table is empty."""
    raise NotImplementedError


def confidence(agreement: float, effective_votes: float, *, contradiction: bool = False) -> Severity:
    """How sure the panel is."""
    raise NotImplementedError
