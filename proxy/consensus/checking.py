"""Contested claims before verifiers who do not see the draft: two each, batched so that nobody is called twice."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Final

from proxy.consensus.api import Answer, CallSpec
from proxy.consensus.ballots import Mark
from proxy.consensus.claims import Claim, checked, contested
from proxy.consensus.context import Run
from proxy.consensus.evaluation import admitted, all_but_one
from proxy.consensus.gathering import Gathering, Plan
from proxy.consensus.panel import Panel
from proxy.consensus.reviewing import check_spec, read_check
from proxy.consensus.settings import Seat

STAGE: Final = "claim checks"
VERIFIERS: Final = 2
"""Of each claim, of different families, and of other ones than make it as far as there are."""
CALLS_MAX: Final = 5


async def check(run: Run, panel: Panel) -> None:
    """Have the most contested claims checked, and put the verdicts in the place of the judges'."""
    claims = contested(panel.claims)[: run.consensus.rules.claims_max]
    if not claims:
        return
    whole = [draft.seat for draft in panel.drafts.values() if not draft.partial]
    batches = assigned(claims, whole[:CALLS_MAX])
    specs = {seat.name: check_spec(run, seat, [claims[index] for index in indexes]) for seat, indexes in batches}
    if not specs or not admitted(run, panel, STAGE, list(specs.values())):
        return
    shown = {seat.name: indexes for seat, indexes in batches}
    verdicts: dict[int, list[Mark]] = {index: [] for index in range(len(claims))}

    def wrong(spec: CallSpec, answer: Answer) -> str:
        indexes = shown[spec.seat.name]
        marks = read_check(answer.text, spec.seat, len(indexes))
        for position, mark in (marks or {}).items():
            verdicts[indexes[position]].append(mark)
        return "" if marks else "garbage"

    plan = Plan(quorum=all_but_one(len(specs)), ends_at=run.stage_end(), judge=wrong)
    gathered = await Gathering(run.caller, run.consensus.rules, plan).gather(list(specs.values()))
    for outcome in gathered.outcomes:
        run.note(outcome)
    families = {seat.name: seat.family for seat, _ in batches}
    settled: dict[str, Claim] = {}
    for index, claim in enumerate(claims):
        marks = verdicts[index]
        if marks:
            settled[claim.text] = checked(claim, [replace(mark, claim=index) for mark in marks], families)
            said = [mark.verdict.value for mark in marks]
            await run.tell("claim.checked", claim=claim.text, verdicts=said, holds=settled[claim.text].holds)
    panel.claims = tuple(settled.get(claim.text, claim) for claim in panel.claims)


def assigned(claims: Sequence[Claim], seats: Sequence[Seat]) -> list[tuple[Seat, list[int]]]:
    """Who checks which claims (by index): the least busy, first those whose family does not make the claim, no family
    twice for one. Seats without work are left out."""
    work: dict[str, list[int]] = {seat.name: [] for seat in seats}
    for index, claim in enumerate(claims):
        taken: set[str] = set()
        for _ in range(VERIFIERS):
            free = [seat for seat in seats if seat.family not in taken]
            if not free:
                break
            seat = min(free, key=lambda seat: (seat.family in claim.families, len(work[seat.name])))
            taken.add(seat.family)
            work[seat.name].append(index)
    return [(seat, work[seat.name]) for seat in seats if work[seat.name]]
