"""Members judge each other's drafts, nameless and in an order that favours nobody."""

from __future__ import annotations

from proxy.consensus.api import Answer, CallSpec
from proxy.consensus.ballots import Ballot, Paper, papers, read_ballot
from proxy.consensus.context import BUDGET, TIME, Run
from proxy.consensus.gathering import Gathering, Plan
from proxy.consensus.panel import Panel
from proxy.consensus.reviewing import claim_counts, judge_spec
from proxy.consensus.seating import doubled, reserve

STAGE = "evaluation"
GARBAGE = "garbage"


async def evaluate(run: Run, panel: Panel, round_: int) -> bool:
    """One evaluation of the panel's drafts; False where none came of it, and the panel is as it was.

    A judge that is lost, or whose reply is no ballot, abstains.
    """
    stage = STAGE if round_ == 0 else f"{STAGE} {round_}"
    sheets = _sheets(run, panel)
    if len(panel.drafts) < 2 or not sheets:
        run.skip(stage, "one answer")
        return False
    specs = {paper.judge: judge_spec(run, panel, paper, round_) for paper in sheets}
    if not admitted(run, panel, stage, list(specs.values())):
        return False
    sheet_of = {paper.judge: paper for paper in sheets}
    ballots: dict[str, Ballot] = {}

    def wrong(spec: CallSpec, answer: Answer) -> str:
        paper = sheet_of[spec.seat.name]
        ballot = read_ballot(answer.text, paper, claim_counts(panel, paper))
        if ballot is None:
            return GARBAGE
        ballots[paper.judge] = ballot
        return ""

    plan = Plan(quorum=all_but_one(len(specs)), ends_at=run.stage_end(), judge=wrong)
    gathered = await Gathering(run.caller, run.consensus.rules, plan).gather(list(specs.values()))
    for outcome in gathered.outcomes:
        run.note(outcome)
    if not ballots:
        run.skip(stage, "no ballot")
        return False
    panel.judge([ballots[judge] for judge in specs if judge in ballots])
    await _tell(run, panel, round_, len(sheets))
    return True


def all_but_one(count: int) -> int:
    """Quorum of a stage after the members': one that hangs holds up nobody, and as few ballots as can be are missing
    from an order that is fair as a whole."""
    return max(1, count - 1)


def ahead(run: Run, panel: Panel, round_: int) -> list[CallSpec]:
    """The calls of an evaluation to come, as far as one can tell by now."""
    return [judge_spec(run, panel, paper, round_) for paper in _sheets(run, panel)]


def admitted(run: Run, panel: Panel, stage: str, specs: list[CallSpec], *, stages: int = 1) -> bool:
    """The stage (or so many, one behind the other: what is revised only to be judged needs both) fits into the money
    and the time that the final answer leaves. Otherwise it is skipped, and noted."""
    run.budget.reserved = reserve(run, doubled(panel))
    if run.budget.bounds(specs) > run.budget.room():
        run.skip(stage, BUDGET)
        return False
    if not run.has_time(stages):
        run.skip(stage, TIME)
        return False
    return True


def _sheets(run: Run, panel: Panel) -> tuple[Paper, ...]:
    """Whose answer broke off is judged, and does not judge: it would hang again."""
    judges = [name for name, draft in panel.drafts.items() if not draft.partial]
    return papers(judges, list(panel.drafts), random=run.random)


async def _tell(run: Run, panel: Panel, round_: int, judges: int) -> None:
    ranking = [
        {"label": panel.drafts[standing.seat].label, "score": round(float(standing.borda), 3)}
        for standing in panel.standings()
    ]
    await run.tell(STAGE, round=round_, judges=judges, ballots=len(panel.ballots), ranking=ranking)
