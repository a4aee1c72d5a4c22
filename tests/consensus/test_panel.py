"""What a panel has come to."""

from __future__ import annotations

from bench.consensus.items import questions
from bench.consensus.laws import Errors, Laws
from bench.consensus.panels import members, panel
from bench.consensus.running import run_all


def test_a_tie_that_nobody_judges_favours_no_seat() -> None:
    """Three answers that all differ: the final one is now this member's, now that one's."""
    names = members(3)
    items = questions("ties", 40, names, Errors((0.5,) * 3, 0.0, 0.0, 0.0), 1)
    split = [item for item in items if len({said.value for said in item.answers.values()}) == len(names)]
    ran = run_all(panel("fast", names), split, Laws(fidelity=1.0), 1)
    written = [one.calls.said(one.result.text) for one in ran if one.result is not None]
    winners = {seat for one, said in zip(ran, written, strict=True) for seat in names if one.item.answers[seat] == said}
    assert winners == set(names)
