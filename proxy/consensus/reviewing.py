"""What judges and verifiers are sent, and how a verifier's reply is read. They see text alone, all of it as data."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from proxy.consensus import ballots
from proxy.consensus.api import CallSpec, Role
from proxy.consensus.ballots import Mark, Paper, Verdict
from proxy.consensus.claims import Claim
from proxy.consensus.context import Run
from proxy.consensus.objects import last_object
from proxy.consensus.panel import Panel
from proxy.consensus.prompting import values
from proxy.consensus.rendering import transcript
from proxy.consensus.settings import DIMENSIONS, Seat

CHECK_SHAPE: Final = (
    '{"verdicts": [{"claim": 1, "verdict": "supported|contradicted|unsure", "reason": "", "correction": ""}]}'
)
WORDS_MAX: Final = 300
"""Characters of a reason or a correction."""
QUESTION_CHARS_MAX: Final = 400_000
"""Of the conversation as judges read it."""
_VERDICTS: Final = {verdict.value: verdict for verdict in Verdict}


def judge_spec(run: Run, panel: Panel, paper: Paper, round_: int) -> CallSpec:
    """One judge's paper: the question, the answers of others, and their claims."""
    shown = panel.shown_claims()
    originality = "originality (in the place of evidence)" if run.detected.domain == "creative" else "evidence"
    dimensions = ", ".join(originality if one == "evidence" else one for one in DIMENSIONS)
    told = run.consensus.prompts.evaluate.format_map(values(run, dimensions=dimensions, shape=ballots.shape(paper)))
    fence = run.fence()
    parts = [fence.data("question", transcript(run.question.messages), QUESTION_CHARS_MAX)]
    for label, seat in zip(paper.labels, paper.seats, strict=True):
        parts.append(fence.data(f"answer {label}", panel.drafts[seat].text, run.consensus.rules.answer_chars_max))
        if shown[seat]:
            listed = "\n".join(f"{number}. {claim}" for number, claim in enumerate(shown[seat], 1))
            parts.append(fence.data(f"claims of {label}", listed, run.consensus.rules.answer_chars_max))
    judge = panel.drafts[paper.judge].seat
    return CallSpec(
        judge,
        Role.JUDGE,
        round_,
        ({"role": "system", "content": told}, {"role": "user", "content": "\n\n".join(parts)}),
        run.mode.tokens.evaluation,
        response_format=_json_schema(judge, "ballot", ballots.schema(paper, claim_counts(panel, paper))),
        about={
            "paper": paper,
            "answers": {seat: panel.drafts[seat].text for seat in paper.seats},
            "typed": {seat: panel.drafts[seat].reading.answer for seat in paper.seats},
            "claims": {seat: shown[seat] for seat in paper.seats},
        },
    )


def claim_counts(panel: Panel, paper: Paper) -> dict[str, int]:
    """Seat -> how many of its claims the judge is shown."""
    shown = panel.shown_claims()
    return {seat: len(shown[seat]) for seat in paper.seats}


def check_spec(run: Run, seat: Seat, claims: Sequence[Claim]) -> CallSpec:
    """Some claims, to a verifier who sees no answer."""
    told = run.consensus.prompts.check.format_map(values(run, shape=CHECK_SHAPE))
    fence = run.fence()
    listed = "\n".join(f"{number}. {claim.text}" for number, claim in enumerate(claims, 1))
    parts = (
        fence.data("question", transcript(run.question.messages), QUESTION_CHARS_MAX),
        fence.data("statements", listed, run.consensus.rules.answer_chars_max),
    )
    return CallSpec(
        seat,
        Role.CHECK,
        0,
        ({"role": "system", "content": told}, {"role": "user", "content": "\n\n".join(parts)}),
        run.mode.tokens.check,
        response_format=_json_schema(seat, "verdicts", _check_schema(len(claims))),
        about={"claims": tuple(claim.text for claim in claims)},
    )


def read_check(text: str, seat: Seat, count: int) -> dict[int, Mark] | None:
    """Position among the claims shown -> the verifier's verdict, its first on each. None where the reply is no JSON of
    the shape asked for: it abstains. The marks' own `seat` and `claim` say nothing."""
    found = last_object(text)
    listed = None if found is None else found.get("verdicts")
    if not isinstance(listed, list):
        return None
    marks: dict[int, Mark] = {}
    for entry in listed[: 2 * count]:
        if not isinstance(entry, dict):
            continue
        number, verdict = ballots.figure(entry.get("claim")), _VERDICTS.get(str(entry.get("verdict")).strip().lower())
        if number is None or not number.is_integer() or not 1 <= number <= count or verdict is None:
            continue
        marks.setdefault(
            int(number) - 1,
            Mark(seat.name, "", 0, verdict, _words(entry.get("reason")), _words(entry.get("correction"))),
        )
    return marks


def _words(value: Any) -> str:
    return value[:WORDS_MAX] if isinstance(value, str) else ""


def _json_schema(seat: Seat, name: str, schema: dict[str, Any]) -> dict[str, Any] | None:
    if not seat.json_schema:
        return None
    return {"type": "json_schema", "json_schema": {"name": name, "strict": True, "schema": schema}}


def _check_schema(count: int) -> dict[str, Any]:
    entry = {
        "type": "object",
        "properties": {
            "claim": {"type": "integer", "enum": list(range(1, count + 1))},
            "verdict": {"type": "string", "enum": list(_VERDICTS)},
            "reason": {"type": "string"},
            "correction": {"type": "string"},
        },
        "required": ["claim", "verdict", "reason", "correction"],
        "additionalProperties": False,
    }
    return {
        "type": "object",
        "properties": {"verdicts": {"type": "array", "items": entry}},
        "required": ["verdicts"],
        "additionalProperties": False,
    }
