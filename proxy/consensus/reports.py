"""What a run tells of itself: its result, its quality, and why it has none."""

from __future__ import annotations

import re
from dataclasses import asdict
from typing import Any

from proxy.consensus import agreement, claims, quality
from proxy.consensus.api import CallFailed, MemberReport, Quality, Result, RunFailed, Severity
from proxy.consensus.context import Run
from proxy.consensus.finals import Final
from proxy.consensus.panel import Panel
from proxy.consensus.typed import Kind, Typed, extracted, same
from proxy.errors import Refusal

RETRY_AFTER_SECONDS = 5.0
"""Where no provider says when to come back."""
_TIMES = ("timeout",)
NAMING_CHARS_MAX = 2_000
"""In a longer text a result may be named for many reasons."""
OWN_AGREEMENT = 0.5
"""What it is worth for the score that a family agrees with itself: nobody else has been asked."""


def result_of(
    run: Run, panel: Panel, final: Final, *, gate: str, rounds: int, degraded: bool, escalated: bool
) -> Result:
    """The whole of it."""
    alone = len(panel.drafts) < 2
    tally = panel.tally()
    said = _said(panel, final)
    agreed = 0.0 if alone else _agreement(panel, said)
    votes = agreement.effective_votes(max(1, len(set(panel.families.values()))), run.consensus.weights.correlation)
    contradiction = claims.unresolved(panel.claims)
    return Result(
        text=final.text,
        finish_reason=final.finish_reason,
        tool_calls=final.tool_calls,
        mode=run.mode.name,
        domain=run.detected.domain,
        language=run.detected.language,
        source=final.source,
        quality=_quality(run, panel, final, agreed, contradiction=contradiction),
        agreement=round(agreed, 4),
        confidence=Severity.LOW if alone else _confidence(panel, agreed, votes, contradiction=contradiction),
        effective_votes=round(votes, 3),
        dissent=agreement.dissent(tally, panel.claims, said),
        unverified_claims=claims.unverified(panel.claims, run.consensus.rules.claims_max),
        rounds=rounds,
        degraded=degraded,
        escalated=escalated,
        skipped=tuple(run.skipped),
        flags=tuple(run.flags),
        gate=gate,
        members=members_of(run),
    )


def _said(panel: Panel, final: Final) -> Typed | None:
    """The result that the final answer gives; None where it gives none, or none that can be told."""
    said = extracted(final.text) if final.draft is None else final.draft.reading.answer
    if said.value or final.draft is not None:
        return said if said.value else None
    named = [position.answer for position in panel.tally().positions if _names(final.text, position.answer)]
    return named[0] if len(named) == 1 else None


def _names(text: str, answer: Typed) -> bool:
    """The answer stands in a short text as a word of its own."""
    shown = answer.shown.strip()
    if not shown or len(text) > NAMING_CHARS_MAX:
        return False
    return re.search(rf"(?<![\w.,]){re.escape(shown)}(?![\w]|[.,]\d)", text) is not None


def _agreement(panel: Panel, said: Typed | None) -> float:
    """Of the position that the final answer takes, 0 where that is nobody's; of the panel at large where it takes none.
    Whole objects are seldom the same: one that nobody gave is no position."""
    if said is not None:
        positions = panel.tally().positions
        for position in positions:
            if same(position.answer, said):
                return float(position.share)
        if said.kind is not Kind.JSON and any(position.answer.kind is said.kind for position in positions):
            return 0.0
    return panel.agreement()


def _confidence(panel: Panel, agreed: float, votes: float, *, contradiction: bool) -> Severity:
    """Not high where members merely do not contradict each other, and low where there was nothing to compare."""
    tally, supported = panel.tally(), claims.supported_share(panel.claims)
    if not (tally.positions or panel.ballots or panel.claims):
        return Severity.LOW
    found = quality.confidence(agreed, votes, contradiction=contradiction)
    backed = agreement.mostly_typed(tally) or bool(panel.ballots) or (supported is not None and 2 * supported >= 1)
    return Severity.MEDIUM if found is Severity.HIGH and not backed else found


def _quality(run: Run, panel: Panel, final: Final, agreed: float, *, contradiction: bool) -> Quality:
    followed = (final.draft or panel.ranked()[0]).seat.name
    judged = panel.judged(followed, synthesiser=final.synthesiser)
    supported = claims.supported_share(panel.claims)
    if len(set(panel.families.values())) < 2:
        agreed = min(agreed, OWN_AGREEMENT)
    return quality.quality(judged, supported, agreed, run.consensus.weights, contradiction=contradiction)


async def tell(run: Run, result: Result) -> None:
    """The events `quality` and `usage`."""
    await run.tell("quality", **quality_data(result))
    await run.tell("usage", **usage_data(run))


def quality_data(result: Result) -> dict[str, Any]:
    """JSON values."""
    return {
        **asdict(result.quality),
        "agreement": result.agreement,
        "confidence": result.confidence.value,
        "effective_votes": result.effective_votes,
        "dissent": [asdict(one) for one in result.dissent],
        "unverified_claims": list(result.unverified_claims),
        "rounds": result.rounds,
        "degraded": result.degraded,
        "escalated": result.escalated,
        "source": result.source,
        "gate": result.gate,
        "skipped": list(result.skipped),
        "flags": list(result.flags),
    }


def usage_data(run: Run) -> dict[str, Any]:
    """Tokens of all calls together, and by role. JSON values."""
    roles: dict[str, dict[str, int]] = {}
    for record in run.calls.records:
        counted = roles.setdefault(
            record.role.value, {"calls": 0, "input_tokens": 0, "output_tokens": 0, "cached_tokens": 0}
        )
        counted["calls"] += 1
        counted["input_tokens"] += record.input_tokens
        counted["output_tokens"] += record.output_tokens
        counted["cached_tokens"] += record.cached_tokens
    names = ("calls", "input_tokens", "output_tokens", "cached_tokens")
    total = {name: sum(counted[name] for counted in roles.values()) for name in names}
    return {**total, "by_role": roles}


def members_of(run: Run) -> tuple[MemberReport, ...]:
    """What became of every seat that was called."""
    return tuple(run.reports[label] for label in sorted(run.reports, key=lambda label: (len(label), label)))


def nobody_answered(run: Run, retry_after_seconds: float | None) -> RunFailed:
    """No member has an answer: what became of each, without names of providers."""
    members = members_of(run)
    reasons = [{"member": member.label, "reason": member.reason or member.status} for member in members]
    refusal = Refusal(
        "upstream_unavailable",
        "None of the panel's members answered. Nothing is charged: try again later, or ask another mode.",
        retry_after_seconds=retry_after_seconds or RETRY_AFTER_SECONDS,
        details={"members": reasons},
    )
    return RunFailed(refusal, members=members)


def broken_off(run: Run, failed: CallFailed) -> RunFailed:
    """The final answer broke off after words of it were sent."""
    code = "upstream_timeout" if failed.kind in _TIMES else "upstream_error"
    refusal = Refusal(
        code,
        "The final answer broke off. What was sent of it is not complete, and nothing is charged: ask again.",
        details={"reason": failed.kind},
    )
    return RunFailed(refusal, members=members_of(run), partial="".join(run.told))
