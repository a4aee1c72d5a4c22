"""Rounds: members look again at what is in dispute, until they agree, nothing changes any more, or it must end."""

from __future__ import annotations

from dataclasses import dataclass

from proxy.consensus import agreement
from proxy.consensus.agreement import Round
from proxy.consensus.answers import draft_from, garbage
from proxy.consensus.api import Answer, CallSpec
from proxy.consensus.claims import REASONS_MAX, Claim, contested
from proxy.consensus.context import Run
from proxy.consensus.evaluation import admitted, ahead, all_but_one, evaluate
from proxy.consensus.gathering import Gathering, Plan
from proxy.consensus.panel import Draft, Panel
from proxy.consensus.prompting import refine_spec
from proxy.consensus.quality import Judged
from proxy.consensus.typed import same

STAGE = "refinement"
REASONS_QUOTED_MAX = 2
"""Of those against a claim, to members: a longer list would tell how many are against it."""


async def converge(run: Run, panel: Panel) -> int:
    """Evaluate and refine as the mode says; returns the rounds of refinement that were gone.

    Ends with `panel.agreed_by` set where the panel has converged.
    """
    mode, rules = run.mode, run.consensus.rules
    if mode.evaluate:
        await evaluate(run, panel, 0)
    now = panel.round()
    panel.history.append(now)
    panel.agreed_by = agreement.converged(now, None, rules, reevaluate=mode.reevaluate)
    await _tell(run, panel, now, 0)
    rounds = 0
    while panel.agreed_by is None and rounds < mode.refine_rounds_max:
        changed = await _refine(run, panel, rounds + 1)
        if changed is None:
            break
        rounds += 1
        before, now = now, panel.round()
        panel.history.append(now)
        panel.agreed_by = agreement.converged(now, before, rules, reevaluate=mode.reevaluate)
        await _tell(run, panel, now, rounds)
        if not changed or agreement.stalled(now, before, rules):
            break
    return rounds


async def _refine(run: Run, panel: Panel, round_: int) -> bool | None:
    """One round; whether a draft was replaced by a revised one. None where there was no round."""
    asked = [draft for draft in panel.drafts.values() if not draft.partial]
    fence = run.fence()
    specs: list[CallSpec] = []
    for draft in asked:
        disputed = objections(run, panel, draft)
        if disputed:
            specs.append(refine_spec(run, draft, disputed, round_, fence))
    judging = ahead(run, panel, round_) if run.mode.reevaluate and panel.ballots else []
    stages = 2 if judging else 1
    if not specs or not admitted(run, panel, STAGE, [*specs, *judging], stages=stages):
        return None
    revised: dict[str, Draft] = {}

    def wrong(spec: CallSpec, answer: Answer) -> str:
        draft = draft_from(run, spec.seat, answer, fence)
        usable = draft.reading.usable and draft.whole and not garbage(draft.text)
        if usable:
            revised[spec.seat.name] = draft
        return "" if usable else "garbage"

    plan = Plan(quorum=all_but_one(len(specs)), ends_at=run.stage_end(), judge=wrong)
    gathered = await Gathering(run.caller, run.consensus.rules, plan).gather(specs)
    for outcome in gathered.outcomes:
        run.note(outcome)
    changed = {name: draft for name, draft in revised.items() if draft.text != panel.drafts[name].text}
    if not changed:
        return False
    return await _take_over(run, panel, changed, round_)


@dataclass(frozen=True, slots=True)
class _Before:
    """A panel as it was before a round, to go back to."""

    drafts: dict[str, Draft]
    origins: dict[str, Draft]
    shares: dict[str, Judged]

    @classmethod
    def of(cls, panel: Panel) -> _Before:
        return cls(dict(panel.drafts), dict(panel.origins), dict(panel.shares))

    def restore(self, panel: Panel, name: str) -> None:
        """One seat as it was."""
        panel.drafts[name] = self.drafts[name]
        _put(panel.origins, name, self.origins)
        _put(panel.shares, name, self.shares)


def _put[Value](into: dict[str, Value], name: str, before: dict[str, Value]) -> None:
    if name in before:
        into[name] = before[name]
    else:
        into.pop(name, None)


async def _take_over(run: Run, panel: Panel, changed: dict[str, Draft], round_: int) -> bool:
    """Put revised drafts in the place of the old ones. Where the mode judges again, only those whose judgement does
    not fall: what nobody judged both times is no better for all that is known, and stays out."""
    before = _Before.of(panel)
    judged_before = bool(panel.ballots)
    for draft in changed.values():
        panel.replaced(draft)
        for name in draft.flags.names:
            run.flag(draft.label, name)
    if not run.mode.reevaluate or not judged_before:
        panel.recount()
        return True
    if not await evaluate(run, panel, round_):
        panel.drafts, panel.origins, panel.fresh = before.drafts, before.origins, True
        panel.recount()
        return False
    fell = [name for name in changed if not _holds(panel, before.shares, name)]
    for name in fell:
        before.restore(panel, name)
    panel.recount()
    return len(fell) < len(changed)


def _holds(panel: Panel, before: dict[str, Judged], name: str) -> bool:
    old, new = before.get(name), panel.shares.get(name)
    return old is not None and new is not None and new.share >= old.share


def objections(run: Run, panel: Panel, draft: Draft) -> list[str]:
    """What speaks against a draft or is in dispute anywhere, in an order that says nothing: other results, and claims
    that are contested, with the reasons given. Never who, and never how many."""
    points = [
        f"Another result that was reached: {position.answer.shown}"
        for position in panel.tally().positions
        if not same(position.answer, draft.reading.answer)
    ]
    limit = run.consensus.rules.claims_max
    points.extend(disputed(claim, REASONS_QUOTED_MAX) for claim in contested(panel.claims)[:limit])
    run.random.shuffle(points)
    return points


def disputed(claim: Claim, reasons_max: int = REASONS_MAX) -> str:
    """A contested claim with what is said against it."""
    reasons = "; ".join(claim.reasons[:reasons_max]) or "others say otherwise"
    corrections = "; ".join(claim.corrections[:reasons_max])
    return f"In dispute: {claim.text} (against it: {reasons}" + (f"; instead: {corrections})" if corrections else ")")


async def _tell(run: Run, panel: Panel, now: Round, round_: int) -> None:
    await run.tell(
        "round",
        round=round_,
        converged=panel.agreed_by is not None,
        reason=panel.agreed_by or "",
        agreement=round(panel.agreement(), 3),
        contested_share=round(float(now.contested_share), 3),
    )
