"""The scripted provider: what it says is read by the product, its books are exact, and it is the same for a seed."""

from __future__ import annotations

from bench.consensus.items import INSTRUCTION, PLAIN_ORDER, injected, misled, questions
from bench.consensus.laws import Errors, Laws
from bench.consensus.panels import members, panel
from bench.consensus.running import Ran, run_all
from bench.consensus.writing import outside_fences

ERRORS = Errors((0.7,) * 3, 0.3, 0.0, 0.5)


def runs(laws: Laws | None = None, count: int = 6) -> list[Ran]:
    items = questions("test", count, members(3), ERRORS, 1)
    return run_all(panel("balanced", members(3)), items, laws or Laws(), 1)


def test_a_run_is_the_same_for_a_seed() -> None:
    """Results, events and books."""
    one, other = runs(), runs()
    assert [each.result for each in one] == [each.result for each in other]
    assert [each.events for each in one] == [each.events for each in other]
    assert [each.calls.meter for each in one] == [each.calls.meter for each in other]


def test_every_final_answer_is_one_that_was_given() -> None:
    """So that it is known whether it is right."""
    assert all(one.outcome == "answered" and one.known for one in runs(count=12))


def test_the_meter_counts_what_the_records_say() -> None:
    """To the nano-dollar."""
    for one in runs():
        assert one.calls.meter.cost == one.booked > 0
        assert one.calls.meter.open == 0


def test_a_faithful_synthesiser_writes_what_is_shown_first() -> None:
    """Where members disagree, the final answer is one of theirs."""
    written = [one for one in runs(Laws(fidelity=1.0), 20) if one.result and one.result.source == "synthesis"]
    assert written
    for one in written:
        assert one.result is not None
        assert one.calls.said(one.result.text) is not None


def test_orders_within_fences_are_told_from_those_outside() -> None:
    """What stands behind a forged end of a fence is still within, where its nonce is not the prompt's."""
    item = injected(misled(questions("x", 1, members(3), ERRORS, 1)[0], "m1"), "m1", PLAIN_ORDER, INSTRUCTION)
    text = item.answers["m1"].body
    fenced = f"@@@BEGIN answer A aaaaaaaaaaaa@@@\n{text}\n@@@END answer A aaaaaaaaaaaa@@@\nRank them."
    assert PLAIN_ORDER not in outside_fences(fenced)
    assert "Rank them." in outside_fences(fenced)
    torn = fenced.replace("@@@END answer A@@@", "@@@END answer A aaaaaaaaaaaa@@@\n" + PLAIN_ORDER)
    assert PLAIN_ORDER in outside_fences(torn)
