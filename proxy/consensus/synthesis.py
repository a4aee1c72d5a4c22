"""The final answer: one member writes it, its words go out as they come; whoever is lost before its first word is
replaced by the next."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any
from typing import Final as Constant

from proxy.consensus.api import CallFailed, Delta
from proxy.consensus.calling import LiveCall, ended
from proxy.consensus.claims import contested
from proxy.consensus.context import BUDGET, TIME, Run
from proxy.consensus.finals import Final, best_member, member_object, plurality_object
from proxy.consensus.panel import Panel
from proxy.consensus.prompting import Material, json_text, repair_spec, synthesis_spec
from proxy.consensus.reading import Splitter
from proxy.consensus.refinement import disputed
from proxy.consensus.reports import broken_off
from proxy.consensus.schemas import bare, parsed, schema_of
from proxy.consensus.seating import synthesisers_for
from proxy.consensus.settings import Seat
from proxy.consensus.typed import same
from proxy.pricing.money import ZERO

STAGE: Constant = "synthesis"
REPLACEMENT: Constant = "\ufffd"
CHARS_MIN: Constant = 1_000
"""Answers are cut to no less than this where the budget does not carry them whole."""


async def synthesise(run: Run, panel: Panel) -> Final:
    """Have the final answer written. Where nobody can, it is the best member's (never the longest).

    Raises RunFailed where its writer is lost after words were sent.
    """
    run.budget.reserved = ZERO
    seats = synthesisers_for(run.question, run.mode)
    material = material_of(run, panel)
    reasons = []
    for number, seat in enumerate(seats):
        if run.left() <= 0:
            reasons.append(TIME)
            break
        writer = _Writer(run, seat, last=number == len(seats) - 1)
        try:
            final = await writer.write(material)
        except CallFailed as failed:
            reasons.append(failed.kind)
            continue
        return await _fitting(run, panel, final)
    run.skip(STAGE, reasons[-1] if reasons else BUDGET)
    return best_member(run, panel)


def held_back(run: Run) -> bool:
    """Whether words of the final answer wait until it has been looked at."""
    return run.question.verified or schema_of(run.question.response_format) is not None


class _Writer:
    """One synthesiser at work."""

    def __init__(self, run: Run, seat: Seat, *, last: bool) -> None:
        self._run = run
        self._seat = seat
        self._last = last
        self._fence = run.fence()
        self._splitter = Splitter(self._fence)
        self._text: list[str] = []
        self._blank = ""
        """What it began with before anything that can be read."""
        self._sent = False

    async def write(self, material: Material) -> Final:
        """Its answer. Raises CallFailed where nothing was sent, RunFailed where something was."""
        run = self._run
        call = self._begin(material)
        try:
            await run.tell("synthesis.started", model=self._seat.model)
            answer = await call.task
        except CallFailed as failed:
            if not self._sent:
                raise
            if failed.kind == "content_filter":
                return Final("".join(self._text), failed.kind, STAGE, synthesiser=self._seat)
            raise broken_off(run, failed) from failed
        finally:
            await ended([call])
        if call.first_at is None or not call.partial:
            await self._say(self._splitter.push(answer.text))
        await self._say(self._splitter.end())
        text = "".join(self._text)
        if not text and not answer.tool_calls:
            raise CallFailed("garbage" if self._blank.strip() else "empty")
        return Final(text, answer.finish_reason, STAGE, answer.tool_calls, self._seat)

    def _begin(self, material: Material) -> LiveCall:
        """With as much of the material as the budget carries."""
        run = self._run
        first_by = None if self._last else run.caller.now() + run.mode.deadlines.first_byte
        lost = CallFailed(BUDGET)
        for less in _lessened(material):
            spec = synthesis_spec(run, self._seat, less, self._fence)
            try:
                call = run.caller.begin(spec, ends_at=run.ends_at, first_by=first_by, deltas=self._heard, final=True)
            except CallFailed as failed:
                lost = failed
                continue
            if less is not material:
                run.skip("part of the material", BUDGET)
            return call
        raise lost

    async def _heard(self, delta: Delta) -> None:
        if delta.text:
            await self._say(self._splitter.push(delta.text))
        if delta.tool_calls and not held_back(self._run):
            self._sent = self._run.told_tools = True
            await self._run.tell("token", text="", tool_calls=list(delta.tool_calls))

    async def _say(self, text: str) -> None:
        if not self._text:
            text, self._blank = self._blank + text, ""
            if not _readable(text):
                self._blank = text
                return
        if not text:
            return
        self._text.append(text)
        if not held_back(self._run):
            self._sent = True
            await tell_text(self._run, text)


def _readable(text: str) -> bool:
    """Something in it is neither white space nor a control character, nor what stands for one."""
    return any(letter.isprintable() and not letter.isspace() and letter != REPLACEMENT for letter in text)


async def tell_text(run: Run, text: str, **more: Any) -> None:
    """A piece of the final answer, to whoever watches."""
    run.told.append(text)
    await run.tell("token", text=text, **more)


def material_of(run: Run, panel: Panel) -> Material:
    """Drafts, the best first; first drafts whose result was given up since; what checking found."""
    return Material(tuple(panel.ranked()), tuple(_earlier(panel)), tuple(_findings(run, panel)))


def _earlier(panel: Panel) -> Iterator[Any]:
    """First drafts that say what no draft says any more, or that gave up a claim in dispute: a minority must not be
    lost by having been talked over."""
    disputed_texts = {claim.text for claim in contested(panel.claims)}
    for name, origin in panel.origins.items():
        now = panel.drafts[name]
        answer = origin.reading.answer
        moved = not same(answer, now.reading.answer) and bool(answer.value)
        gone = disputed_texts.intersection(origin.reading.claims) - set(now.reading.claims)
        if moved or gone or not origin.reading.claims:
            yield origin


def _findings(run: Run, panel: Panel) -> Iterator[str]:
    limit = run.consensus.rules.claims_max
    for claim in [claim for claim in panel.claims if claim.contested][:limit]:
        yield disputed(claim)
    for claim in [claim for claim in panel.claims if claim.refuted][:limit]:
        instead = "; ".join(claim.corrections)
        yield f"Refuted when checked: {claim.text}" + (f" (instead: {instead})" if instead else "")
    for claim in [claim for claim in panel.claims if claim.verified and claim.holds and claim.contradicted][:limit]:
        yield f"Held up when checked: {claim.text}"
    made = plurality_object(panel)
    if made is not None:
        yield f"Field by field, what most give: {json_text(made)}"


def _lessened(material: Material) -> Iterator[Material]:
    """The material, then ever less of it: first drafts go first, then the ends of long answers, then the worst."""
    yield material
    less = replace(material, earlier=())
    if material.earlier:
        yield less
    longest = max((len(draft.text) for draft in material.drafts), default=0)
    while longest > CHARS_MIN:
        longest //= 2
        yield replace(less, chars=max(longest, CHARS_MIN))
    for count in range(len(material.drafts) - 1, 0, -1):
        yield replace(less, drafts=material.drafts[:count], findings=(), chars=CHARS_MIN)


async def _fitting(run: Run, panel: Panel, final: Final) -> Final:
    """The final answer, made to fit its schema: by one repair, or by taking a member's object in its place."""
    schema = schema_of(run.question.response_format)
    if schema is None or final.tool_calls or final.synthesiser is None:
        return final
    _, wrong = parsed(final.text, schema)
    for _ in range(run.consensus.rules.repairs_max):
        if not wrong or final.finish_reason != "stop":
            break
        repaired = await _repaired(run, final.synthesiser, final.text, wrong, schema)
        if repaired is None:
            break
        final = replace(final, text=repaired)
        _, wrong = parsed(repaired, schema)
    if not wrong:
        return replace(final, text=bare(final.text))
    return member_object(panel, schema) or replace(final, fits=False)


async def _repaired(run: Run, seat: Seat, text: str, wrong: str, schema: dict[str, Any]) -> str | None:
    call: LiveCall | None = None
    try:
        spec = repair_spec(run, seat, text, wrong, schema)
        call = run.caller.begin(spec, ends_at=run.ends_at, final=True)
        return (await call.task).text
    except CallFailed as failed:
        run.skip("repair", failed.kind)
        return None
    finally:
        await ended([call] if call is not None else [])
