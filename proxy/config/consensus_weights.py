"""Scores and thresholds of policies/consensus.yaml: shares that add up to one, curves that rise."""

from __future__ import annotations

from collections.abc import Iterator
from fractions import Fraction
from itertools import pairwise
from typing import Final

from proxy.config.consensus_entries import RulesOfRunEntry, WeightsEntry
from proxy.config.problems import Marks, Problem, near
from proxy.consensus.settings import DIMENSIONS, DOMAINS, Rules, Weights

GENERAL: Final = DOMAINS[0]
_GENERAL_SHARES: Final = dict(zip(DIMENSIONS, (Fraction(share, 100) for share in (35, 20, 15, 15, 15)), strict=True))
"""Where the file says nothing."""


def build_weights(entry: WeightsEntry, marks: Marks, problems: list[Problem]) -> Weights:
    """Every domain with a share for each dimension, those that it does not name as in general."""
    problems.extend(_dimension_problems(entry, marks.below("dimensions")))
    if (total := entry.judges + entry.claims + entry.agreement) != 1:
        problems.append(marks.problem(("judges",), f"judges, claims and agreement add up to {_text(total)}, not to 1"))
    problems.extend(_calibration_problems(entry, marks))
    return Weights(
        dimensions={domain: _shares(entry, domain) for domain in DOMAINS},
        judges=entry.judges,
        claims=entry.claims,
        agreement=entry.agreement,
        unjudged_agreement=entry.unjudged_agreement,
        contradiction_cap=entry.contradiction_cap,
        correlation=entry.correlation,
        calibration=entry.calibration,
    )


def build_rules(entry: RulesOfRunEntry, marks: Marks, problems: list[Problem]) -> Rules:
    """As they are."""
    if entry.grace_seconds_min > entry.grace_seconds_max:
        message = f"more than grace_seconds_max, which is {entry.grace_seconds_max:g}"
        problems.append(marks.problem(("grace_seconds_min",), message))
    return Rules(**{key: getattr(entry, key) for key in type(entry).model_fields})


def _shares(entry: WeightsEntry, domain: str) -> dict[str, Fraction]:
    given = entry.dimensions
    return {**_GENERAL_SHARES, **given.get(GENERAL, {}), **given.get(domain, {})}


def _dimension_problems(entry: WeightsEntry, marks: Marks) -> Iterator[Problem]:
    for domain, shares in entry.dimensions.items():
        if domain not in DOMAINS:
            yield marks.problem((domain,), f"there is no domain '{domain}'", suggestion=near(domain, DOMAINS), key=True)
            continue
        unknown = [name for name in shares if name not in DIMENSIONS]
        for name in unknown:
            yield marks.problem(
                (domain, name), f"there is no dimension '{name}'", suggestion=near(name, DIMENSIONS), key=True
            )
        total = sum(_shares(entry, domain).values(), Fraction(0))
        if total != 1 and not unknown:
            rest = "" if domain == GENERAL else ", with what is taken from general"
            yield marks.problem(
                (domain,), f"the shares of '{domain}' add up to {_text(total)}{rest}, not to 1", key=True
            )


def _calibration_problems(entry: WeightsEntry, marks: Marks) -> Iterator[Problem]:
    curve = entry.calibration
    for index, (before, after) in enumerate(pairwise(curve), start=1):
        if after[0] <= before[0] or after[1] < before[1]:
            yield marks.problem(("calibration", index), "calibration rises: this is not above the one before it")


def _text(share: Fraction) -> str:
    return f"{float(share):.6g}"
