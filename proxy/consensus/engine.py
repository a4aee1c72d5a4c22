"""One run of a panel, from the question to the answer."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Mapping
from random import Random

from proxy.consensus import reports
from proxy.consensus.admission import check_budget
from proxy.consensus.api import Calls, Emit, Event, Question, Result
from proxy.consensus.budget import Budget, HedgeBudget
from proxy.consensus.calling import Caller
from proxy.consensus.context import Run
from proxy.consensus.deliberation import Deliberation, deliberate
from proxy.consensus.detection import detect
from proxy.consensus.escalation import escalated, limited
from proxy.consensus.finals import Final, best_member, pieces, verbatim
from proxy.consensus.gate import FAILED, PASSED, REPLACED, passes
from proxy.consensus.settings import AUTO, Consensus, Mode
from proxy.consensus.synthesis import synthesise, tell_text


def fresh_nonce() -> str:
    """A fence's mark that nobody can guess."""
    return secrets.token_hex(8)


class Engine:
    """Runs panels. One per process and configuration: it holds the budget of hedges."""

    def __init__(
        self, consensus: Consensus, *, random: Random | None = None, nonce: Callable[[], str] = fresh_nonce
    ) -> None:
        self.consensus = consensus
        self._random = random or Random()  # noqa: S311 (no secret: who judges whom first)
        self._nonce = nonce
        self._hedges = HedgeBudget(consensus.rules.hedge_percent_max)

    def admit(self, question: Question, mode: str, calls: Calls, *, seated: Mapping[str, Mode] | None = None) -> None:
        """Raises Refusal where nobody on the panel can take the question, or the mode's budget cannot hold its
        smallest run: a quorum of answers and one synthesis. It says what that would take, and what to do."""
        run, _ = self._opened(question, mode, calls, _nobody, seated)
        check_budget(run)

    async def run(
        self, question: Question, mode: str, calls: Calls, emit: Emit, *, seated: Mapping[str, Mode] | None = None
    ) -> Result:
        """Answer `question` with the panel of `mode`: a key of `Consensus.modes`, or "auto".

        `seated`: modes by name that stand in the place of the configuration's, with the seats that this caller may
        use. Emits every event of `api.Event` but `accepted`, `done` and `error`, which are the wire's owner's: only
        it knows the request and what was charged. Joined, the texts of `token` are the result's.

        Raises RunFailed; Refusal as `admit` does. Cancelled, it cancels every call and awaits their ends before
        CancelledError leaves.
        """
        run, second = self._opened(question, mode, calls, emit, seated)
        check_budget(run)
        self._hedges.bring()
        run.began = run.caller.now()
        told = run.detected
        await run.tell("detected", domain=told.domain, confidence=told.domain_confidence, language=told.language)
        found = await deliberate(run, {})
        went_on = False
        if second is not None and not found.agreed(run):
            further = await escalated(run, second, found)
            found, went_on = further or found, further is not None
        return await _concluded(run, found, went_on=went_on)

    def _opened(
        self, question: Question, mode: str, calls: Calls, emit: Emit, seated: Mapping[str, Mode] | None
    ) -> tuple[Run, Mode | None]:
        modes = {**self.consensus.modes, **(seated or {})}
        names = self.consensus.auto if mode == AUTO and self.consensus.auto is not None else (mode,)
        first = modes[names[0]]
        second = modes[names[1]] if len(names) > 1 else None
        budget = Budget(calls, limited(first, second))
        domain = question.domain if question.domain != AUTO or self.consensus.auto_domain else "general"
        run = Run(
            question=question,
            mode=first,
            consensus=self.consensus,
            calls=calls,
            emit=emit,
            random=self._random,
            nonce=self._nonce,
            hedges=self._hedges,
            detected=detect(question.messages, domain),
            budget=budget,
            caller=Caller(calls, budget, first.deadlines),
            began=0.0,
        )
        return run, second


async def _nobody(_: Event) -> None:
    """Nobody watches."""


async def _concluded(run: Run, found: Deliberation, *, went_on: bool) -> Result:
    """From what the panel thinks to the answer, its gate and its report."""
    panel, degraded = found.panel, not found.quorum
    if panel.drafts and found.quorum:
        final = found.final or await synthesise(run, panel)
    else:
        final = _survivor(run, found)
    gate = PASSED
    if not passes(panel, final):
        gate = FAILED
        if found.quorum and run.question.verified and final.draft is None:
            final, gate = best_member(run, panel), REPLACED
    if not run.told:
        for piece in pieces(final.text):
            await tell_text(run, piece)
    if final.tool_calls and not run.told_tools:
        calls = [{"index": index, **call} for index, call in enumerate(final.tool_calls)]
        await run.tell("token", text="", tool_calls=calls)
    result = reports.result_of(run, panel, final, gate=gate, rounds=found.rounds, degraded=degraded, escalated=went_on)
    await reports.tell(run, result)
    return result


def _survivor(run: Run, found: Deliberation) -> Final:
    """The one answer that came, as it is; where all declined, the first refusal. Raises RunFailed where none came."""
    members, panel = found.members, found.panel
    if not panel.drafts:
        if not members.refusals:
            waits = [one.retry_after_seconds for one in members.outcomes if one.retry_after_seconds is not None]
            raise reports.nobody_answered(run, min(waits, default=None))
        first = members.refusals[0]
        panel.drafts[first.seat.name] = first
    return verbatim(run, panel.ranked()[0], "sole_survivor")
