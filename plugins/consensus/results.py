"""A run's result as JSON values: what both formats say of it, in the same words."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from plugins.consensus.wires import Meta
from proxy.consensus.api import CallRecord, MemberReport, Result
from proxy.dialects.orchestrate_answers import OBJECT
from proxy.pricing.money import Nano, usd_text

ORCHESTRATION_ID: Final = "orch_"
_MILLI: Final = 1000
_DECIMALS: Final = 4
"""Of shares, scores and seconds."""


def usage(records: Sequence[CallRecord]) -> dict[str, Any]:
    """Tokens of all calls together, whatever became of each, in the names of chat completions."""
    into = sum([record.input_tokens for record in records])
    out = sum([record.output_tokens for record in records])
    return {
        "prompt_tokens": into,
        "completion_tokens": out,
        "total_tokens": into + out,
        "prompt_tokens_details": {"cached_tokens": sum([record.cached_tokens for record in records])},
    }


def calls(records: Sequence[CallRecord], *, show_cost: bool) -> list[dict[str, Any]]:
    """Each call, in the order in which they were begun."""
    return [_call(record, show_cost=show_cost) for record in records]


def _call(record: CallRecord, *, show_cost: bool) -> dict[str, Any]:
    told: dict[str, Any] = {
        "role": record.role.value,
        "round": record.round,
        "member": record.seat.name,
        "model": record.seat.model,
        "vendor": record.seat.vendor,
        "status": record.status,
        "prompt_tokens": record.input_tokens,
        "completion_tokens": record.output_tokens,
        "cached_tokens": record.cached_tokens,
        "seconds": _rounded(record.seconds),
        "first_seconds": _rounded(record.first_seconds),
        "estimated": record.estimated,
        "hedge": record.hedge,
    }
    if show_cost:
        told["cost_usd"] = usd_text(record.cost)
    return told


def quality(result: Result) -> dict[str, Any]:
    """The score and what it rests on."""
    found = result.quality
    return {
        "score": _rounded(found.score),
        "basis": found.basis,
        "dimensions": {name: _rounded(score) for name, score in found.dimensions.items()},
        "calibrated": found.calibrated,
    }


def verdict(result: Result) -> dict[str, Any]:
    """How good the panel takes its answer to be, and what speaks against it."""
    return {
        "quality_score": _rounded(result.quality.score),
        "quality": quality(result),
        "agreement": _rounded(result.agreement),
        "confidence": result.confidence.value,
        "effective_votes": _rounded(result.effective_votes),
        "dissent": [{"position": one.position, "members": one.members} for one in result.dissent],
        "unverified_claims": list(result.unverified_claims),
        "flags": list(result.flags),
        "gate": result.gate,
    }


def course(result: Result) -> dict[str, Any]:
    """How the run went."""
    return {
        "source": result.source,
        "rounds": result.rounds,
        "degraded": result.degraded,
        "escalated": result.escalated,
        "skipped": list(result.skipped),
        "members": members(result.members),
    }


def members(reports: Sequence[MemberReport]) -> list[dict[str, Any]]:
    """What became of each seat."""
    return [
        {
            "label": one.label,
            "model": one.model,
            "vendor": one.vendor,
            "status": one.status,
            "reason": one.reason or None,
            "seconds": _rounded(one.seconds),
        }
        for one in reports
    ]


def charge(meta: Meta) -> dict[str, Any]:
    """What the caller pays, in both units."""
    return {"charged_usd": usd_text(meta.charged), "credits_charged": _credits(meta.credits_milli)}


def extension(result: Result, records: Sequence[CallRecord], meta: Meta) -> dict[str, Any]:
    """The member `consensus` of a chat completion."""
    return {
        "mode": result.mode,
        "requested_mode": meta.mode,
        "domain": result.domain,
        "language": result.language,
        **verdict(result),
        **course(result),
        "calls": calls(records, show_cost=meta.show_cost),
        **charge(meta),
        **_cost(records, meta),
    }


def orchestration(result: Result, records: Sequence[CallRecord], meta: Meta) -> dict[str, Any]:
    """The whole answer of /v1/orchestrate, and the `result` of its stream's last event."""
    return {
        "id": meta.answer_id(ORCHESTRATION_ID),
        "object": OBJECT,
        "created": meta.created,
        "mode": result.mode,
        "requested_mode": meta.mode,
        "domain": result.domain,
        "language": result.language,
        "answer": result.text,
        "finish_reason": result.finish_reason,
        **verdict(result),
        **course(result),
        "conversation_id": meta.conversation_id,
        "usage": {**usage(records), "calls": calls(records, show_cost=meta.show_cost)},
        **charge(meta),
        **_cost(records, meta),
        "metadata": dict(meta.metadata),
    }


def _cost(records: Sequence[CallRecord], meta: Meta) -> dict[str, Any]:
    return {"cost_usd": usd_text(Nano(sum([record.cost for record in records])))} if meta.show_cost else {}


def _credits(milli: int) -> int | float:
    """Whole ones as an integer. A float is exact enough for three decimals, and nobody counts on with it here."""
    whole, rest = divmod(milli, _MILLI)
    return whole if rest == 0 else milli / _MILLI


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, _DECIMALS)
