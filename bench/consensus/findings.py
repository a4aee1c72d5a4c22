"""What a check found, with its verdict; and how much of each is measured."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Final

from bench.consensus.statistics import Interval

MET: Final = "met"
MISSED: Final = "MISSED"
SHOWN: Final = "shown"
"""A figure without a limit, for the reader."""


@dataclass(frozen=True, slots=True)
class Finding:
    """One named check."""

    check: str
    what: str
    figure: str
    """With its interval, where it has one."""
    limit: str
    verdict: str
    details: dict[str, Any] = field(default_factory=dict)

    @classmethod
    def of(cls, check: str, what: str, figure: str, limit: str, met: bool | None, **details: Any) -> Finding:
        """`met` None: nothing is asked of the figure."""
        return cls(check, what, figure, limit, SHOWN if met is None else MET if met else MISSED, details)

    def document(self) -> dict[str, Any]:
        """As JSON."""
        return {
            "check": self.check, "what": self.what, "figure": self.figure, "limit": self.limit,
            "verdict": self.verdict, **({"details": self.details} if self.details else {}),
        }  # fmt: skip


@dataclass(frozen=True, slots=True)
class Plan:
    """How many runs each check makes."""

    name: str
    closed_form_runs: int
    """Of each cell."""
    grid_runs: int
    replay_questions: int
    sensitivity_questions: int
    """Of the replay under other judges."""
    position_runs: int
    injection_runs: int
    hallucination_runs: int
    stage_runs: int
    """Of each mode."""
    fault_runs: int
    """Of each mode."""
    cancel_runs: int


FULL: Final = Plan("full", 300, 150, 1319, 660, 1000, 500, 400, 200, 200, 120)
QUICK: Final = Plan("quick", 20, 6, 120, 40, 100, 40, 40, 20, 20, 12)
TINY: Final = Plan("tiny", 4, 1, 16, 8, 16, 8, 8, 4, 6, 4)


def percent(share: float) -> str:
    """To a tenth."""
    return f"{100 * share:.1f} %"


def within(interval: Interval) -> str:
    """A share with its interval."""
    return f"{percent(interval.figure)} ({100 * interval.low:.1f} to {100 * interval.high:.1f})"


def difference(interval: Interval) -> str:
    """A difference of shares with its interval, in points."""
    return f"{100 * interval.figure:+.1f} points ({100 * interval.low:+.1f} to {100 * interval.high:+.1f})"
