"""Which seats are called, so that what the run must still pay for stays paid for: the final answer comes first."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from proxy.consensus.api import CallSpec, Question
from proxy.consensus.context import Run
from proxy.consensus.injection import Flags
from proxy.consensus.panel import Draft, Panel
from proxy.consensus.prompting import Material, synthesis_spec
from proxy.consensus.reading import Reading
from proxy.consensus.settings import Mode, Seat
from proxy.consensus.typed import OPEN_ANSWER
from proxy.errors import Refusal
from proxy.pricing.money import ZERO, Nano

FILLER = " the"
"""Stands for an answer that is not there yet: a token of four bytes, so that counting either gives the same."""


def seats_for(question: Question, seats: Sequence[Seat]) -> tuple[Seat, ...]:
    """Those that can answer it: with pictures in it only those that see them."""
    return tuple(seat for seat in seats if seat.vision or not question.images)


def synthesisers_for(question: Question, mode: Mode) -> tuple[Seat, ...]:
    """Who may write the final answer, the preferred first: with tools only those that call them; those that see
    pictures and those that keep to a schema before the others where there are any. Raises Refusal."""
    able = [seat for seat in mode.synthesisers if seat.tools or not question.tools]
    if not able:
        raise Refusal(
            "invalid_request",
            f"Nobody on the panel {mode.name} calls tools. Leave out tools, or ask another mode or a single model.",
            param="tools",
        )
    wants_schema = question.response_format is not None
    return tuple(sorted(able, key=lambda seat: (bool(question.images) > seat.vision, wants_schema > seat.json_schema)))


def reserve(run: Run, material: Material) -> Nano:
    """What the final answer can cost at most, of the first synthesiser that can take it."""
    for seat in synthesisers_for(run.question, run.mode):
        bound = run.budget.bound(synthesis_spec(run, seat, material, run.fence()))
        if bound is not None:
            return bound
    return ZERO


def expected(run: Run, seats: Sequence[Seat]) -> Material:
    """As long as the answers of these seats can become."""
    chars = min(run.mode.tokens.member * len(FILLER), run.consensus.rules.answer_chars_max)
    reading = Reading((FILLER * run.mode.tokens.member)[:chars], OPEN_ANSWER)
    return Material(tuple(Draft(seat, "", reading, Flags()) for seat in seats))


def doubled(panel: Panel) -> Material:
    """As long as the drafts become where each is revised, and the first ones are shown beside."""
    drafts = tuple(panel.drafts.values())
    return Material(drafts, earlier=drafts)


def affordable(run: Run, seats: Sequence[Seat], spec: Callable[[Seat], CallSpec]) -> tuple[Seat, ...]:
    """The seats that the budget carries beside the final answer, which is then reserved: all, or else the dearest are
    left out one by one. Empty where not even a quorum of them can be carried."""
    bounds = {seat.name: bound for seat in seats if (bound := run.budget.bound(spec(seat))) is not None}
    chosen = [seat for seat in seats if seat.name in bounds]
    while len(chosen) >= min(run.mode.quorum, len(seats)) and chosen:
        run.budget.reserved = reserve(run, expected(run, chosen))
        if sum(bounds[seat.name] for seat in chosen) <= run.budget.room():
            break
        chosen.remove(_left_out(chosen, bounds, run.mode.vendors_min))
    else:
        return ()
    for seat in seats:
        if seat not in chosen:
            run.skip(f"member {run.label(seat)}", "budget" if seat.name in bounds else "unavailable")
    return tuple(chosen)


def _left_out(chosen: Sequence[Seat], bounds: dict[str, Nano], vendors_min: int) -> Seat:
    """The dearest whose vendor is not needed; at a tie the last."""
    vendors = [seat.vendor for seat in chosen]
    spread = len(set(vendors))
    spare = [seat for seat in chosen if vendors.count(seat.vendor) > 1 or spread > vendors_min]
    return max(reversed(spare or list(chosen)), key=lambda seat: bounds[seat.name])
