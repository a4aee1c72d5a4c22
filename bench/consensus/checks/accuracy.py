"""Is the panel as good as arithmetic says, and never worse than its best member?"""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from itertools import product
from typing import Any, Final

from bench.consensus import closed_forms
from bench.consensus.findings import Finding, Plan, difference
from bench.consensus.items import questions
from bench.consensus.laws import Errors, Judging, Laws
from bench.consensus.panels import members, panel
from bench.consensus.replay import weight_of
from bench.consensus.running import Ran, run_all
from bench.consensus.statistics import Interval, binomial, family_z, paired

PHIS: Final = (0.30, 0.45)
BETAS: Final = (0.0, 0.05)
SHAPES: Final = (("fast", 3), ("balanced", 3), ("deep", 5))
ALIKE: Final = 0.80
SPREAD: Final = (0.85, 0.80, 0.75, 0.80, 0.75)
ONE_STRONG: Final = (0.90, 0.70, 0.70, 0.70, 0.70)
SHARED: Final = 0.5
"""Of wrong answers in the grid, that are the question's one distractor."""


def measure(plan: Plan, seed: int) -> list[Finding]:
    """See the module."""
    return [*_closed_forms(plan, seed), *_grid(plan, seed)]


def _closed_forms(plan: Plan, seed: int) -> list[Finding]:
    """Agreement alone (the shape of fast), everybody on time, the final answer as the leader says."""
    cells = []
    for count, phi, beta, shared in product((3, 5), (0.0, *PHIS), BETAS, (1.0, 0.0)):
        if count == 5 and not shared:
            continue
        errors = Errors((ALIKE,) * count, phi, beta, shared)
        name = f"{count} members, phi {phi}, beta {beta}, {'shared' if shared else 'scattered'}"
        items = questions(f"closed/{name}", plan.closed_form_runs, members(count), errors, seed)
        mode = panel("fast", members(count), early_exit=True)
        ran = run_all(mode, items, Laws(fidelity=1.0), seed)
        form = closed_forms.majority if shared else closed_forms.scattered
        expected = form(errors.accuracies, phi, beta)
        found = binomial(sum(one.right for one in ran), len(ran))
        wide = _widened(found, len(ran), 18)
        cells.append({
            "cell": name, "expected": round(expected, 4), "found": round(found.figure, 4),
            "low": round(found.low, 4), "high": round(found.high, 4),
            "within": found.holds(expected), "within_together": wide.holds(expected),
        })  # fmt: skip
    outside = [cell for cell in cells if not cell["within"]]
    far = [cell for cell in cells if not cell["within_together"]]
    return [
        Finding.of(
            "majority",
            f"share right is the closed form's, in {len(cells)} cells of {plan.closed_form_runs} runs",
            f"{len(cells) - len(outside)} within their own 95 % interval, {len(cells) - len(far)} within the joint one",
            "all within the joint 95 % interval",
            not far,
            cells=cells,
        )
    ]


def _widened(found: Interval, count: int, tests: int) -> Interval:
    """The exact interval, at a confidence that makes `tests` of them hold together."""
    return binomial(round(found.figure * count), count, 1 - 0.05 / tests)


@dataclass(frozen=True, slots=True)
class Cell:
    """One place of the grid."""

    shape: str
    count: int
    name: str
    accuracies: tuple[float, ...]
    phi: float
    beta: float
    weights: tuple[Fraction, ...] | None = None

    @property
    def title(self) -> str:
        """For the report."""
        weighted = ", weighted" if self.weights else ""
        return f"{self.shape}, {self.name}, phi {self.phi}, beta {self.beta}{weighted}"


def cells() -> list[Cell]:
    """The grid. With one strong member panels are seated twice: alike in weight, and by their accuracies."""
    found = []
    for (shape, count), phi, beta in product(SHAPES, PHIS, BETAS):
        for name, given in (("alike", (ALIKE,) * 5), ("spread", SPREAD), ("one strong", ONE_STRONG)):
            accuracies = given[:count]
            found.append(Cell(shape, count, name, accuracies, phi, beta))
            if name == "one strong":
                weights = tuple([weight_of(share) for share in accuracies])
                found.append(Cell(shape, count, name, accuracies, phi, beta, weights))
    return found


def _grid(plan: Plan, seed: int) -> list[Finding]:
    grid = cells()
    rows = [(_row(cell, plan, seed, len(grid)), cell) for cell in grid]
    findings = []
    for title, chosen in (
        ("members alike in weight", [row for row, cell in rows if cell.weights is None and cell.name != "one strong"]),
        ("one much stronger member, alike in weight", [
            row for row, cell in rows if cell.weights is None and cell.name == "one strong"
        ]),
        ("one much stronger member, weighted by accuracy", [row for row, cell in rows if cell.weights is not None]),
    ):  # fmt: skip
        below = [row for row in chosen if row["high"] < 0]
        far = [row for row in chosen if row["high_together"] < 0]
        worst = min(chosen, key=lambda row: float(row["difference"]))
        runs = sum(int(row["runs"]) for row in chosen)
        mean = paired(sum(row["gains"] for row in chosen), sum(row["losses"] for row in chosen), runs)
        findings.append(
            Finding.of(
                "not below the best member",
                f"{title}: {len(chosen)} cells of {plan.grid_runs} runs",
                f"all cells together {difference(mean)}; worst cell {100 * worst['difference']:+.1f} points;"
                f" {len(below)} below by more than their own interval, {len(far)} by more than the joint one",
                "none below by more than the joint 95 % interval, nor all together by more than theirs",
                not far and mean.high >= 0,
                cells=chosen,
            )
        )
    return findings


def _row(cell: Cell, plan: Plan, seed: int, tests: int) -> dict[str, Any]:
    names = members(cell.count)
    errors = Errors(cell.accuracies, cell.phi, cell.beta, SHARED)
    items = questions(f"grid/{cell.shape}/{cell.name}/{cell.phi}/{cell.beta}", plan.grid_runs, names, errors, seed)
    mode = panel(cell.shape, names, weights=cell.weights)
    ran = run_all(mode, items, Laws(judging=Judging(accuracy=0.75)), seed)
    best = names[cell.accuracies.index(max(cell.accuracies))]
    gains, losses = against(ran, best)
    own, together = paired(gains, losses, len(ran)), paired(gains, losses, len(ran), z=family_z(tests))
    return {
        "cell": cell.title, "runs": len(ran), "gains": gains, "losses": losses,
        "panel": round(sum(one.right for one in ran) / len(ran), 4),
        "best_member": round(sum(one.item.answers[best].right for one in ran) / len(ran), 4),
        "best_stated": max(cell.accuracies),
        "ceiling": round(closed_forms.ceiling(cell.accuracies, cell.phi, cell.beta), 4),
        "difference": round(own.figure, 4), "low": round(own.low, 4), "high": round(own.high, 4),
        "high_together": round(together.high, 4),
    }  # fmt: skip


def against(ran: list[Ran], member: str) -> tuple[int, int]:
    """Questions that the panel alone, and that the member alone, has right."""
    gains = sum(one.right and not one.item.answers[member].right for one in ran)
    losses = sum(one.item.answers[member].right and not one.right for one in ran)
    return gains, losses
