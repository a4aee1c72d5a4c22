"""A final answer: where it comes from, and how one that is not the synthesiser's is made of members' answers."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any
from typing import Final as Constant

from proxy.consensus.context import Run
from proxy.consensus.objects import merged_object
from proxy.consensus.panel import Draft, Panel
from proxy.consensus.prompting import json_text
from proxy.consensus.schemas import bare, problem, schema_of
from proxy.consensus.settings import Seat

REPLAY_CHARS: Constant = 240
"""Of one token event of an answer that was finished before."""
BYTES_PER_TOKEN: Constant = 3
"""Of the visible part of an answer, whose tokens nobody counts: fewer than most texts have."""


@dataclass(frozen=True, slots=True)
class Final:
    """The answer that the caller gets."""

    text: str
    finish_reason: str
    source: str
    """See Result."""
    tool_calls: tuple[dict[str, Any], ...] = ()
    synthesiser: Seat | None = None
    draft: Draft | None = None
    """Whose answer it is, where it is one member's."""
    fits: bool = True
    """The schema that was asked for, if one was."""


def early(run: Run, panel: Panel) -> Final | None:
    """The leading answer, where typed answers agree and it can stand as it is: finished, within the caller's own
    limits, and nothing that only a synthesiser can do (tools, stop sequences) or should (writing)."""
    question, tally = run.question, panel.tally()
    if not run.mode.early_exit or not tally.agreed or tally.leader is None or question.tools:
        return None
    if question.sampling.get("stop") or run.detected.domain == "creative":
        return None
    lead = panel.lead_of(tally.leader)
    if lead is None or _tokens(lead) > question.output_tokens:
        return None
    text = lead.text if schema_of(question.response_format) is None else bare(lead.text)
    return Final(text, "stop", "typed_agreement", draft=lead)


def best_member(run: Run, panel: Panel, source: str = "best_member") -> Final:
    """The best draft as it is, cut at the caller's limit; an object where one was asked for."""
    schema = schema_of(run.question.response_format)
    if schema is not None:
        made = member_object(panel, schema)
        if made is not None:
            return made
    return verbatim(run, panel.ranked()[0], source)


def verbatim(run: Run, draft: Draft, source: str) -> Final:
    """One draft as it is, cut at the caller's limit."""
    tokens, limit = _tokens(draft), run.question.output_tokens
    structured = schema_of(run.question.response_format) is not None
    fits = not draft.invalid
    if tokens <= limit:
        text = bare(draft.text) if structured and fits else draft.text
        return Final(text, draft.finish_reason, source, draft=draft, fits=fits)
    kept = draft.text[: len(draft.text) * limit // tokens]
    return Final(kept, "length", source, draft=draft, fits=fits and not structured)


def member_object(panel: Panel, schema: dict[str, Any]) -> Final | None:
    """Of the members' valid objects field by field the one that most give, if that is valid, too; else the best
    member's. None where none is valid."""
    valid = [draft for draft in panel.ranked() if not draft.invalid and draft.value is not None and not draft.partial]
    if not valid:
        return None
    made = plurality_object(panel)
    if made is not None and not problem(made, schema):
        return Final(json_text(made), "stop", "member_object")
    return Final(bare(valid[0].text), "stop", "member_object", draft=valid[0])


def plurality_object(panel: Panel) -> dict[str, Any] | None:
    """What most members give for each field, families counted once; None where nobody gives an object."""
    valid = [draft for draft in panel.ranked() if draft.votes and isinstance(draft.value, dict)]
    if not valid:
        return None
    families = [draft.seat.family for draft in valid]
    weights = [draft.seat.weight / families.count(draft.seat.family) for draft in valid]
    return merged_object([draft.value for draft in valid], weights)


def pieces(text: str) -> Iterator[str]:
    """A finished text as it is told: piece by piece, in order, none empty."""
    for start in range(0, len(text), REPLAY_CHARS):
        yield text[start : start + REPLAY_CHARS]


def _tokens(draft: Draft) -> int:
    """At most as many as were counted, which reasoning and a trailer are among."""
    guessed = -(-len(draft.text.encode()) // BYTES_PER_TOKEN)
    return min(guessed, draft.output_tokens) if draft.output_tokens else guessed
