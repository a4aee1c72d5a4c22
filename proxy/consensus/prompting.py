"""What members and the synthesiser are sent. Instructions come from templates; what others wrote never goes through
one, and stands between fences.

The parts that answers are read by (trailer, shape of a JSON reply) are code, because parsers depend on them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import orjson

from proxy.consensus.api import CallSpec, Message, Role
from proxy.consensus.context import Run
from proxy.consensus.fences import Fence
from proxy.consensus.normal import bounded
from proxy.consensus.panel import Draft
from proxy.consensus.reading import TRAILER_SHAPE
from proxy.consensus.rendering import tools_text, with_system, with_user, without_images, without_tools
from proxy.consensus.schemas import schema_of
from proxy.consensus.settings import Seat

PROBLEM_CHARS_MAX: Final = 300
"""Of what is wrong with an object: it may quote it."""
_TRAILER: Final = """\
When your answer is complete, write this line:
{fence}
and behind it, on one line, a JSON object of this shape, about your answer:
{shape}
`final_answer` is the bare result (a number, the letter of a choice, a name, a JSON value); of an answer that has none,
the type is "open"."""
_STRUCTURED: Final = """\
Your whole answer is one JSON value that fits this schema, and nothing around it:
{schema}"""
_NO_TOOLS: Final = """\
Whoever writes the final answer can call these functions, and you cannot. Where one should be called before anything is
answered, say which, with what arguments, and why:
{tools}"""
_TOOLS: Final = (
    "You can call the functions that are declared. Call them where the user's request needs it; answer otherwise."
)


def values(run: Run, **more: str) -> dict[str, str]:
    """What placeholders stand for."""
    return {"language": run.detected.language_name, "domain": run.detected.domain, **more}


def member_spec(run: Run, seat: Seat, fence: Fence, *, hedge: bool = False) -> CallSpec:
    """The question, to one member."""
    return CallSpec(
        seat,
        Role.MEMBER,
        0,
        _asked(run, seat, fence),
        run.mode.tokens.member,
        response_format=_format(run, seat),
        hedge=hedge,
        about={"fence": fence.end},
    )


def refine_spec(run: Run, draft: Draft, objections: Sequence[str], round_: int, fence: Fence) -> CallSpec:
    """A member's own answer, and what is in dispute: without votes, without authors."""
    told = run.consensus.prompts.refine.format_map(values(run, ending=_ending(run, fence)))
    disputed = Fence(run.nonce()).data("points", "\n".join(f"- {one}" for one in objections), _chars(run))
    messages = (
        *_asked(run, draft.seat, fence),
        {"role": "assistant", "content": draft.text},
        {"role": "user", "content": f"{told}\n\n{disputed}"},
    )
    about = {"own": draft.text, "answer": draft.reading.answer, "objections": tuple(objections), "fence": fence.end}
    return CallSpec(
        draft.seat,
        Role.REFINE,
        round_,
        messages,
        run.mode.tokens.member,
        response_format=_format(run, draft.seat),
        about=about,
    )


def _asked(run: Run, seat: Seat, fence: Fence) -> tuple[Message, ...]:
    told = run.consensus.prompts.member.format_map(values(run, ending=_ending(run, fence)))
    if run.question.tools:
        told = f"{told}\n\n{_NO_TOOLS.format_map({'tools': tools_text(run.question.tools)})}"
    messages = without_tools(run.question.messages)
    return with_system(messages if seat.vision else without_images(messages), told)


def _ending(run: Run, fence: Fence) -> str:
    schema = schema_of(run.question.response_format)
    if schema is not None:
        return _STRUCTURED.format_map({"schema": json_text(schema)})
    return _TRAILER.format_map({"fence": fence.end, "shape": TRAILER_SHAPE})


def _format(run: Run, seat: Seat) -> dict[str, Any] | None:
    return run.question.response_format if seat.json_schema else None


def _chars(run: Run) -> int:
    return run.consensus.rules.answer_chars_max


@dataclass(frozen=True, slots=True)
class Material:
    """What the synthesiser is given beside the conversation."""

    drafts: tuple[Draft, ...]
    """The best first."""
    earlier: tuple[Draft, ...] = ()
    """First drafts that were given up for others since."""
    findings: tuple[str, ...] = ()
    chars: int = 0
    """Of one answer; 0: as many as the rules allow."""


def synthesis_spec(run: Run, seat: Seat, material: Material, fence: Fence) -> CallSpec:
    """The conversation, what the panel came to, and the caller's own tools, format and sampling."""
    question = run.question
    form = _TOOLS if question.tools else ""
    schema = schema_of(question.response_format)
    if schema is not None:
        form = _STRUCTURED.format_map({"schema": json_text(schema)})
    told = run.consensus.prompts.synthesise.format_map(values(run, form=form))
    messages = question.messages if question.tools else without_tools(question.messages)
    messages = messages if seat.vision else without_images(messages)
    messages = with_user(with_system(messages, told), _shown(run, material, fence))
    return CallSpec(
        seat,
        Role.SYNTHESIS,
        0,
        messages,
        min(question.output_tokens, run.mode.tokens.final_max),
        tools=question.tools,
        tool_choice=question.tool_choice,
        parallel_tool_calls=question.parallel_tool_calls,
        response_format=_format(run, seat),
        sampling=question.sampling,
        about=_about(material),
    )


def _shown(run: Run, material: Material, fence: Fence) -> str:
    chars = material.chars or _chars(run)
    parts = ["[Material for your answer, which the user does not see]"]
    for number, draft in enumerate(material.drafts, 1):
        parts.append(fence.data(f"answer {number}", draft.text, chars))
    if material.earlier:
        parts.append("First answers that were changed since. They may have been right:")
    for number, draft in enumerate(material.earlier, 1):
        parts.append(fence.data(f"first answer {number}", draft.text, chars))
    if material.findings:
        parts.append("Found when they were checked:")
        parts.append(fence.data("findings", "\n".join(f"- {one}" for one in material.findings), chars))
    return "\n\n".join(parts)


def _about(material: Material) -> dict[str, Any]:
    def listed(drafts: Sequence[Draft]) -> list[dict[str, Any]]:
        return [
            {"seat": draft.seat.name, "label": draft.label, "text": draft.text, "answer": draft.reading.answer}
            for draft in drafts
        ]

    return {
        "answers": listed(material.drafts),
        "earlier": listed(material.earlier),
        "findings": material.findings,
    }


def repair_spec(run: Run, seat: Seat, text: str, problem: str, schema: dict[str, Any]) -> CallSpec:
    """An object that does not fit its schema, to be made to."""
    told = run.consensus.prompts.repair.format_map(
        values(run, problem=bounded(problem, PROBLEM_CHARS_MAX), schema=json_text(schema))
    )
    shown = run.fence().data("value", text, _chars(run))
    return CallSpec(
        seat,
        Role.REPAIR,
        0,
        ({"role": "system", "content": told}, {"role": "user", "content": shown}),
        min(run.question.output_tokens, run.mode.tokens.final_max),
        response_format=_format(run, seat),
        about={"text": text, "problem": problem, "schema": schema},
    )


def json_text(value: Any) -> str:
    """Compact JSON."""
    return orjson.dumps(value).decode()
