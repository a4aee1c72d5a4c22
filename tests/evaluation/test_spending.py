"""Cost and latency of a model's answers."""

from __future__ import annotations

from proxy.evaluation.journal import FAILED, OK, Entry
from proxy.evaluation.spending import spending_of


def entries(*answers: Entry) -> dict[str, Entry]:
    return {entry.key: entry for entry in answers}


def test_answers_from_memory_cost_but_take_no_time() -> None:
    """Failures and other models' answers are left out, costs that are not known, too."""
    panel = {"consensus": {"cost_usd": "0.02"}}
    found = spending_of(
        "ours",
        entries(
            Entry("answer|q-1|ours", OK, seconds=4, cost=100, cost_basis="reported", output_tokens=10, extra=panel),
            Entry("answer|q-2|ours", OK, seconds=6, cost=300, cost_basis="rates", finish_reason="length"),
            Entry("answer|q-3|ours", OK, seconds=0.01, extra={"replayed": True}),
            Entry("answer|q-4|ours", FAILED, seconds=99, cost=1),
            Entry("answer|q-1|theirs", OK, seconds=99, cost=1),
            Entry("rubric|q-1|theirs|ours", OK, seconds=99, cost=1),
        ),
    )
    assert (found.answers, found.cut, found.priced, found.cost, found.cost_each) == (3, 1, 2, 400, 200)
    assert (found.basis, found.list_cost_each) == ("rates and reported", 20_000_000)
    assert (found.seconds_median, found.seconds_p95) == (5, 6)


def test_of_nothing_nothing_is_known() -> None:
    """Neither zero nor infinite."""
    found = spending_of("ours", {})
    assert (found.answers, found.cost, found.cost_each, found.seconds_median) == (0, None, None, None)
