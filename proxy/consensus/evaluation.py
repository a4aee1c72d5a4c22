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
    sheets = _sheets(run, panel)
    if len(panel.drafts) < 2 or not sheets:
        run.skip(STAGE, "one answer")
        return False
    specs = {paper.judge: judge_spec(run, panel, paper, round_) for paper in sheets}
    if not admitted(run, panel, STAGE, list(specs.values())):
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

    plan = Plan(quorum=min(run.mode.quorum, len(specs)), ends_at=run.stage_end(), judge=wrong)
    gathered = await Gathering(run.caller, run.consensus.rules, plan).gather(list(specs.values()))
    for outcome in gathered.outcomes:
        run.note(outcome)
    if not ballots:
        run.skip(STAGE, "no ballot")
        return False
    panel.judge([ballots[judge] for judge in specs if judge in ballots])
    await _tell(run, panel, round_, len(sheets))
    return True


def admitted(run: Run, panel: Panel, stage: str, specs: list[CallSpec]) -> bool:
    """The stage fits into the money and the time that the final answer leaves. Otherwise it is skipped, and noted."""
    run.budget.reserved = reserve(run, doubled(panel))
    if run.budget.bounds(specs) > run.budget.room():
        run.skip(stage, BUDGET)
        return False
    if not run.has_time():
        run.skip(stage, TIME)
        return False
    return True


def _sheets(run: Run, panel: Panel) -> tuple[Paper, ...]:
    names = list(panel.drafts)
    return papers(names, names, random=run.random)


async def _tell(run: Run, panel: Panel, round_: int, judges: int) -> None:
    ranking = [
        {"label": panel.drafts[standing.seat].label, "score": round(float(standing.borda), 3)}
        for standing in panel.standings()
    ]
    await run.tell(STAGE, round=round_, judges=judges, ballots=len(panel.ballots), ranking=ranking)
