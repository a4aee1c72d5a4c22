"""Judges who prefer what stands first change who wins no more than chance does."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Final

from bench.consensus.findings import Finding, Plan, difference
from bench.consensus.items import questions
from bench.consensus.laws import Errors, Judging, Laws
from bench.consensus.panels import members, panel
from bench.consensus.running import Ran, run_all
from bench.consensus.statistics import Z95, Interval, same_distribution_p

BIAS: Final = 0.30
"""Of ballots that put what stands first in the first place, whatever it says: the upper end of what is published."""
P_MIN: Final = 0.05
SHAPES: Final = (("balanced", 3), ("deep", 5))


def measure(plan: Plan, seed: int) -> list[Finding]:
    """See the module."""
    return [finding for shape, count in SHAPES for finding in _measured(shape, count, plan, seed)]


def _measured(shape: str, count: int, plan: Plan, seed: int) -> list[Finding]:
    runs = plan.position_runs if count == 3 else plan.position_runs // 2
    fair = _winners(shape, count, runs, Judging(accuracy=0.75), seed, "fair")
    biased = _winners(shape, count, runs, Judging(accuracy=0.75, first_slot_bias=BIAS), seed, "biased")
    control = _winners(shape, count, runs, Judging(accuracy=0.75, favourite="m1", favours=BIAS), seed, "control")
    p, p_control = (
        same_distribution_p(_by_seat(fair), _by_seat(biased)),
        same_distribution_p(_by_seat(fair), _by_seat(control)),
    )
    figures = {
        "winners_fair": _by_seat(fair),
        "winners_biased": _by_seat(biased),
        "winners_of_a_favoured_seat": _by_seat(control),
    }
    found = [
        Finding.of(
            "position bias",
            f"{shape}, {count} members: winners by seat with {BIAS:.0%} first-slot bias against none, {runs} runs each",
            f"p = {p:.2f} (chi-square); a favoured seat instead, for the test's power: p = {p_control:.1g}",
            f"p at least {P_MIN}: the same distribution",
            p >= P_MIN,
            **figures,
        )
    ]
    loss = _difference(_rights(fair), _rights(biased))
    found.append(
        Finding.of(
            "position bias, accuracy",
            f"{shape}: share right with the bias, less that without (what such ballots no longer say is lost)",
            difference(loss),
            "",
            None,
        )
    )
    return found


def _winners(shape: str, count: int, runs: int, judging: Judging, seed: int, name: str) -> list[Ran]:
    """Votes end nothing here, nobody changes its mind, the final answer is the leader's: the ballots decide."""
    names = members(count)
    items = questions(f"position/{shape}/{name}", runs, names, Errors((0.7,) * count, 0.3, 0.0, 0.0), seed)
    mode = panel(shape, names, early_exit=False, refine_rounds_max=0, reevaluate=False, check_claims=False)
    return run_all(mode, items, Laws(judging=judging, fidelity=1.0), seed)


def winner(ran: Ran) -> str:
    """The seat whose first answer the final one repeats; empty where it is nobody's."""
    said = None if ran.result is None else ran.calls.said(ran.result.text)
    return next((seat for seat, own in ran.item.answers.items() if said is not None and own.body == said.body), "")


def _by_seat(ran: Sequence[Ran]) -> list[int]:
    counts = Counter(winner(one) for one in ran)
    seats = sorted({seat for one in ran for seat in one.item.answers})
    return [*(counts[seat] for seat in seats), counts[""]]


def _rights(ran: Sequence[Ran]) -> tuple[int, int]:
    return sum(one.right for one in ran), len(ran)


def _difference(one: tuple[int, int], other: tuple[int, int]) -> Interval:
    """Of two independent shares."""
    a, b = one[0] / one[1], other[0] / other[1]
    spread = Z95 * (a * (1 - a) / one[1] + b * (1 - b) / other[1]) ** 0.5
    return Interval(b - a, b - a - spread, b - a + spread)
