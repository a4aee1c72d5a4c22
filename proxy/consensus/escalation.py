"""`auto`: a second mode where the first one does not agree, with the answers that are there already."""

from __future__ import annotations

from dataclasses import replace

from proxy.consensus.admission import smallest
from proxy.consensus.context import BUDGET, TIME, Run
from proxy.consensus.deliberation import Deliberation, deliberate
from proxy.consensus.panel import Draft
from proxy.consensus.seating import seats_for
from proxy.consensus.settings import Mode
from proxy.pricing.money import ZERO, Nano

STAGE = "escalation"


def limited(first: Mode, second: Mode | None) -> Nano:
    """What the first mode may spend: with a second one to come, no more than that one's budget either."""
    return first.budget if second is None else min(first.budget, second.budget)


async def escalated(run: Run, second: Mode, found: Deliberation) -> Deliberation | None:
    """What the second mode came to, with all that was spent before inside its budget. None where there is no money or
    time left for it, or where it lacks the quorum that the first one has: the first one's answers then have to do."""
    first, limit = run.mode, run.budget.limit
    reused = reusable(found, second, run)
    run.mode, run.caller.deadlines, run.budget.limit = second, second.deadlines, second.budget
    run.budget.reserved = ZERO
    needed = smallest(run, reused=frozenset(reused))
    lacking = BUDGET if needed is None or needed > run.budget.room() else "" if run.has_time() else TIME
    if lacking and found.panel.drafts:
        run.mode, run.caller.deadlines, run.budget.limit = first, first.deadlines, limit
        run.skip(STAGE, lacking)
        return None
    for seat in second.seats:
        if seat.name in reused:
            run.adopt(seat, reused[seat.name].label)
    await run.tell("round", round=0, converged=False, escalated=True, mode=second.name)
    further = await deliberate(run, reused)
    if further.quorum or (not found.quorum and (further.panel.drafts or not found.panel.drafts)):
        return further
    run.mode, run.budget.limit = replace(first, deadlines=second.deadlines), limit
    run.skip(STAGE, "too few answers")
    return None


def reusable(found: Deliberation, second: Mode, run: Run) -> dict[str, Draft]:
    """Seat of the second mode -> an answer of the first's by the same model: each once, whole ones alone."""
    left = [draft for draft in found.panel.drafts.values() if not draft.partial]
    reused: dict[str, Draft] = {}
    for seat in seats_for(run.question, second.seats):
        draft = next((draft for draft in left if draft.seat.model == seat.model), None)
        if draft is not None:
            left.remove(draft)
            reused[seat.name] = draft
    return reused
