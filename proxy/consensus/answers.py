"""The members' answers: called at once, read, and made drafts of; what is odd about them is noted."""

from __future__ import annotations

import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Final

from proxy.consensus.api import Answer, CallSpec, MemberReport
from proxy.consensus.context import Run
from proxy.consensus.fences import Fence
from proxy.consensus.gathering import ANSWERED, FAILED, LATE, Gathered, Gathering, Outcome, Plan
from proxy.consensus.injection import flags
from proxy.consensus.language import UNKNOWN, language_of, prose
from proxy.consensus.panel import Draft, Panel, reseated
from proxy.consensus.prompting import member_spec
from proxy.consensus.reading import Reading, read
from proxy.consensus.rendering import text_of
from proxy.consensus.schemas import parsed, schema_of
from proxy.consensus.seating import affordable, seats_for
from proxy.consensus.settings import Seat

PARTIAL_CHARS_MIN: Final = 400
"""Of an answer that broke off: a shorter one says too little to be read by others."""
GARBAGE_SHARE_MAX: Final = 0.2
"""Of characters that are no text: controls, and what stands for bytes that were none."""
GARBAGE_CHARS_MAX: Final = 4_000
"""Of an answer that are looked at for it."""
LANGUAGE_CHARS_MAX: Final = 2_000
"""The same, for the language that it is in."""
_NO_TEXT: Final = frozenset({"Cc", "Cn", "Co", "Cs"})
GARBAGE: Final = "garbage"
DECLINED: Final = "declined"
"""The member refuses to answer. `refused` is what a provider says of a call."""
EMPTY: Final = "empty"
_BROKEN: Final = ("timeout", "broken")


@dataclass(slots=True, eq=False)
class Members:
    """What calling the members came to."""

    outcomes: list[Outcome] = field(default_factory=list)
    refusals: list[Draft] = field(default_factory=list)
    """Answers that decline to answer: of use only where there are no others."""
    wanted: int = 0
    """The quorum."""


async def ask(run: Run, panel: Panel, reused: Mapping[str, Draft]) -> Members:
    """Call every seat that the budget carries; `reused`: seat -> a draft that it has already.

    The panel gets a draft of each that answered. Where fewer than the quorum did, the longest answers that broke off
    after a good deal of text fill it up.
    """
    question, mode = run.question, run.mode
    fence = run.fence()
    seats = seats_for(question, mode.seats)
    for seat in seats:
        run.label(seat)
    asked = [seat for seat in seats if seat.name not in reused]
    chosen = affordable(run, asked, lambda seat: member_spec(run, seat, fence)) if asked else ()
    members = Members(wanted=mode.quorum)
    found: dict[str, Draft] = {seat.name: reseated(reused[seat.name], seat) for seat in seats if seat.name in reused}
    gathered = Gathered()
    if chosen:
        gathered = await _gather(run, fence, chosen, list(found.values()), members)
    for outcome in gathered.outcomes:
        run.note(outcome)
        draft = _draft_of(run, fence, outcome)
        if draft is not None and outcome.status == ANSWERED:
            found[draft.seat.name] = draft
        elif draft is not None and outcome.reason == DECLINED:
            members.refusals.append(draft)
    members.outcomes = gathered.outcomes
    panel.quorum_seconds = gathered.quorum_seconds
    _fill_up(run, fence, members, found)
    order = [seat.name for seat in (*mode.seats, *mode.spares)]
    panel.drafts = {name: found[name] for name in sorted(found, key=order.index)}
    _mark_strangers(run, panel)
    panel.recount()
    for draft in panel.drafts.values():
        for name in draft.flags.names:
            run.flag(draft.label, name)
    return members


async def _gather(run: Run, fence: Fence, seats: Sequence[Seat], there: Sequence[Draft], members: Members) -> Gathered:
    mode = run.mode

    async def started(spec: CallSpec) -> None:
        await run.tell("member.started", label=run.label(spec.seat), model=spec.seat.model, hedge=spec.hedge)

    async def finished(outcome: Outcome) -> None:
        await _tell_end(run, outcome)

    async def reached(seconds: float) -> None:
        await run.tell("quorum", seconds=round(seconds, 3), quorum=mode.quorum, members=len(seats) + len(there))

    def may_hedge() -> bool:
        run.hedged = not run.hedged and mode.hedge and run.hedges.take()
        return run.hedged

    plan = Plan(
        quorum=max(1, mode.quorum - len(there)),
        ends_at=run.stage_end(first=True),
        vendors=mode.vendors_min,
        there=frozenset(draft.seat.vendor for draft in there),
        spares=seats_for(run.question, mode.spares),
        respec=lambda seat, hedge: member_spec(run, seat, fence, hedge=hedge),
        hedge_after=mode.deadlines.first_byte if mode.hedge and not run.hedged else None,
        may_hedge=may_hedge,
        judge=lambda spec, answer: _wrong(run, spec, answer, fence),
        started=started,
        finished=finished,
        reached=reached,
    )
    return await Gathering(run.caller, run.consensus.rules, plan).gather(
        [member_spec(run, seat, fence) for seat in seats]
    )


def _wrong(run: Run, _spec: CallSpec, answer: Answer, fence: Fence) -> str:
    """Why nothing can be done with it, "": something can."""
    if garbage(answer.text):
        return GARBAGE
    reading = _read(run, answer.text, fence)
    if reading.refusal:
        return DECLINED
    return "" if reading.text.strip() else EMPTY


def garbage(text: str) -> bool:
    """No word and no figure in it, or too much that is no text at all. Its beginning tells."""
    looked = text[:GARBAGE_CHARS_MAX]
    bad = sum(1 for letter in looked if letter == "\ufffd" or unicodedata.category(letter) in _NO_TEXT)
    bad -= sum(looked.count(blank) for blank in "\t\n\r")
    return not any(letter.isalnum() for letter in looked) or bad > GARBAGE_SHARE_MAX * len(looked)


def _read(run: Run, text: str, fence: Fence) -> Reading:
    structured = schema_of(run.question.response_format) is not None
    return read(text, fence, claims_max=run.consensus.rules.claims_max, structured=structured)


def draft_from(run: Run, seat: Seat, answer: Answer, fence: Fence, *, partial: bool = False) -> Draft:
    """A member's answer, read, with what is odd about it."""
    reading = _read(run, answer.text, fence)
    asked = text_of(run.question.messages[-1].get("content")) if run.question.messages else ""
    schema = schema_of(run.question.response_format)
    value: Any = None
    invalid = ""
    if schema is not None:
        value, invalid = parsed(reading.text, schema)
    return Draft(
        seat,
        run.label(seat),
        reading,
        flags(reading.text, question=asked),
        finish_reason=answer.finish_reason,
        output_tokens=answer.output_tokens,
        partial=partial,
        value=value,
        invalid=invalid,
    )


def _draft_of(run: Run, fence: Fence, outcome: Outcome) -> Draft | None:
    if outcome.answer is not None:
        return draft_from(run, outcome.spec.seat, outcome.answer, fence)
    if outcome.reason == DECLINED and outcome.partial:
        return draft_from(run, outcome.spec.seat, Answer(outcome.partial, "stop"), fence)
    return None


def _fill_up(run: Run, fence: Fence, members: Members, found: dict[str, Draft]) -> None:
    """Answers that broke off, the longest first, as far as a quorum lacks them."""
    broken = [
        outcome
        for outcome in members.outcomes
        if (outcome.status == LATE or (outcome.status != ANSWERED and outcome.reason in _BROKEN))
        and len(outcome.partial) >= PARTIAL_CHARS_MIN
    ]
    for outcome in sorted(broken, key=lambda outcome: -len(outcome.partial)):
        if len(found) >= run.mode.quorum:
            return
        draft = draft_from(run, outcome.spec.seat, Answer(outcome.partial, "length"), fence, partial=True)
        if draft.text.strip() and not garbage(draft.text):
            found[draft.seat.name] = draft
            report = run.reports[draft.label]
            run.reports[draft.label] = replace(report, status=ANSWERED, reason=report.reason or "partial")


def _mark_strangers(run: Run, panel: Panel) -> None:
    """Answers in another language than the question, where others are in it: a translation that was asked for is no
    stranger."""
    asked = run.detected.language
    if asked == UNKNOWN:
        return
    spoken = {name: language_of(prose(draft.text[:LANGUAGE_CHARS_MAX])) for name, draft in panel.drafts.items()}
    if asked not in spoken.values():
        return
    for name, draft in panel.drafts.items():
        if spoken[name] not in (asked, UNKNOWN):
            panel.drafts[name] = replace(draft, stranger=True)
            run.flag(draft.label, "other_language")


async def _tell_end(run: Run, outcome: Outcome) -> None:
    seat = outcome.spec.seat
    label = run.label(seat)
    seconds = None if outcome.seconds is None else round(outcome.seconds, 3)
    run.reports[label] = MemberReport(label, seat.model, seat.vendor, outcome.status, outcome.reason, seconds)
    if outcome.status == ANSWERED:
        await run.tell("member.completed", label=label, model=seat.model, seconds=seconds)
        return
    reason = outcome.reason or outcome.status
    replaced = outcome.status not in (FAILED, LATE)
    await run.tell("member.failed", label=label, model=seat.model, reason=reason, replaced=replaced, seconds=seconds)
