"""Results and records of panels' runs, as the engine would give them."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from typing import Any

from plugins.consensus.wires import Meta
from proxy.catalogue import Model
from proxy.consensus.api import CallRecord, Dissent, MemberReport, Quality, Result, Role, Severity
from proxy.consensus.settings import (
    Consensus,
    Deadlines,
    Mode,
    Price,
    Prompts,
    Seat,
    Tokens,
    Weights,
)
from proxy.pricing.money import Nano
from tests.support.fakes import model

ALPHA = Seat("gpt-5.4", "gpt-5.4", "openai", "gpt-5.4", vision=True)
BETA = Seat("claude-sonnet-4.6", "claude-sonnet-4.6", "anthropic", "claude-sonnet-4.6")
NAMES = ("gpt-5.4", "openai", "claude-sonnet-4.6", "anthropic")
"""Of models and vendors, in every result of these."""


def mode(name: str = "balanced", **changes: Any) -> Mode:
    """Two members of two vendors."""
    fields: dict[str, Any] = {
        "name": name,
        "seats": (ALPHA, BETA),
        "spares": (),
        "synthesisers": (BETA, ALPHA),
        "quorum": 2,
        "vendors_min": 2,
        "evaluate": True,
        "refine_rounds_max": 1,
        "reevaluate": False,
        "check_claims": False,
        "early_exit": True,
        "deadlines": Deadlines(60, 25, 8, 10),
        "tokens": Tokens(1000, 500, 500, 1500, 4000),
        "input_tokens_max": 8000,
        "budget": Nano(300_000_000),
        "price": Price(Nano(350_000_000), 3000),
    }
    return Mode(**{**fields, **changes})


def consensus(*modes: Mode, **changes: Any) -> Consensus:
    """A configuration of these modes, `balanced` where none is given."""
    known = {one.name: one for one in modes or (mode(),)}
    weights = Weights({"general": {"accuracy": Fraction(1)}})
    return Consensus(known, Prompts("", "", "", "", "", ""), weights, **changes)


def panel(of: Mode | None = None, **changes: Any) -> Model:
    """The model of a mode."""
    of = of or mode()
    operations = frozenset({"chat.completions", "orchestrate"})
    return model(f"consensus-{of.name}", rates=None, panel=of, operations=operations, **changes)


def record(seat: Seat = ALPHA, role: Role = Role.MEMBER, **changes: Any) -> CallRecord:
    """A call that was served."""
    fields: dict[str, Any] = {
        "status": "served",
        "input_tokens": 100,
        "output_tokens": 40,
        "cached_tokens": 10,
        "cost": Nano(1_250_000),
        "first_seconds": 0.25,
        "seconds": 1.5,
    }
    return CallRecord(seat, role, 0, **{**fields, **changes})


def records() -> Sequence[CallRecord]:
    """Two members, one of them cancelled, and the synthesis."""
    late = record(BETA, status="cancelled", output_tokens=7, estimated=True, hedge=True, first_seconds=None)
    return [record(), late, record(BETA, Role.SYNTHESIS, input_tokens=300)]


def result(text: str = "The answer is 42.", **changes: Any) -> Result:
    """Of a run that went well."""
    fields: dict[str, Any] = {
        "text": text,
        "finish_reason": "stop",
        "tool_calls": (),
        "mode": "balanced",
        "domain": "technical",
        "language": "en",
        "source": "synthesis",
        "quality": Quality(81.234567, "judges", {"accuracy": 8.5, "clarity": 9.0}),
        "agreement": 2 / 3,
        "confidence": Severity.MEDIUM,
        "effective_votes": 1.6667,
        "dissent": (Dissent("It is 41.", 1),),
        "unverified_claims": ("It was always 42.",),
        "rounds": 1,
        "skipped": ("claim checks: budget",),
        "members": (
            MemberReport("A", ALPHA.model, ALPHA.vendor, "answered", seconds=1.5),
            MemberReport("B", BETA.model, BETA.vendor, "late", "timeout", seconds=2.0),
        ),
    }
    return Result(**{**fields, **changes})


def meta(**changes: Any) -> Meta:
    """Of the exchange `req_test`."""
    fields: dict[str, Any] = {
        "request_id": "req_test",
        "created": 1_700_000_000,
        "model": "consensus-balanced",
        "mode": "balanced",
        "charged": Nano(350_000_000),
        "credits_milli": 3000,
    }
    return Meta(**{**fields, **changes})
