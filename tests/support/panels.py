"""A small policies/consensus.yaml beside `tests.support.files`, and panels without files."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction
from typing import Any

from proxy.catalogue import Candidate, Model
from proxy.consensus.settings import Consensus, Deadlines, Mode, Price, Prompts, Seat, Tokens, Weights
from proxy.operations import CHAT, ORCHESTRATE
from proxy.pricing.money import Nano
from proxy.pricing.rates import Rates
from tests.support.fakes import model

CONSENSUS = """\
prefix: consensus-
default: quick
auto: [quick, long]
modes:
  quick:
    display_name: Quick
    members: [small, {model: shared, vendor: meta, family: llama, weight: 2.5}, tiny]
    spares: [shared]
    synthesisers: [small, shared]
    quorum: 2
    deadlines: {total_seconds: 20, call_seconds: 12, first_byte_seconds: 8, idle_seconds: 5}
    tokens: {member: 50, evaluation: 40, check: 40, final: 60, final_max: 80}
    input_tokens_max: 100
    budget_usd: 0.04
    price: {usd: 0.05, credits: 1.5}
  long:
    members: [small, shared]
    synthesisers: [shared]
    quorum: 2
    evaluate: true
    refine_rounds_max: 1
    deadlines: {total_seconds: 60, call_seconds: 25, first_byte_seconds: 8, idle_seconds: 5}
    tokens: {member: 50, evaluation: 40, check: 40, final: 60, final_max: 80}
    input_tokens_max: 200
    budget_usd: 0.30
    price: {usd: 0.35, credits: 3, sats: 500}
    tiers: [pro]
prompts:
  member: "Answer in {language}. {ending}"
  evaluate: "Judge. {shape}"
  refine: "Again. {ending}"
  check: "Check. {shape}"
  synthesise: "Write. {form}"
  repair: "Mend {problem}. {schema}"
"""
KEYS = {"OPENAI_API_KEY": "k", "GROQ_API_KEY": "k"}


def seat(name: str, vendor: str = "", **changes: Any) -> Seat:
    """A seat of the model of that name, without its number."""
    plain = name.partition("#")[0]
    return Seat(name, plain, vendor or plain, changes.pop("family", plain), **{"context_tokens": 128_000, **changes})


SEATS = (seat("a", tools=True, json_schema=True, vision=True), seat("b"), seat("c"))


def mode(name: str = "fast", **changes: Any) -> Mode:
    """Three members of three vendors, at five cents."""
    made = Mode(
        name=name,
        seats=SEATS,
        spares=(seat("d"),),
        synthesisers=SEATS[:2],
        quorum=2,
        vendors_min=2,
        evaluate=False,
        refine_rounds_max=0,
        reevaluate=False,
        check_claims=False,
        early_exit=True,
        deadlines=Deadlines(20, 12, 8, 5),
        tokens=Tokens(100, 100, 100, 200, 400),
        input_tokens_max=500,
        budget=Nano(40_000_000),
        price=Price(Nano(50_000_000), 1000),
    )
    return replace(made, **changes)


def panel_model(panel: Mode | None = None, **changes: Any) -> Model:
    """The catalogue's entry for a mode: a candidate for each of its models."""
    found = panel or mode()
    names = dict.fromkeys(one.model for one in (*found.seats, *found.spares, *found.synthesisers))
    candidates = tuple(
        Candidate(f"at-{name}", name, Rates(10**12, 2 * 10**12), model=name, image_tokens_max=100) for name in names
    )
    settings: dict[str, Any] = {
        "candidates": candidates,
        "rates": None,
        "context_tokens": found.input_tokens_max + found.tokens.final_max,
        "output_tokens_default": found.tokens.final,
        "output_tokens_max": found.tokens.final_max,
        "operations": frozenset({CHAT.name, ORCHESTRATE.name}),
        "encoding": None,
        "panel": found,
        "tags": ("consensus",),
    }
    return model(f"consensus-{found.name}", **{**settings, **changes})


def consensus(*modes: Mode, auto: tuple[str, str] | None = None) -> Consensus:
    """With prompts that say nothing."""
    shares = {
        "general": dict.fromkeys(("accuracy", "completeness", "evidence", "clarity", "instructions"), Fraction(1, 5))
    }
    found = {one.name: one for one in modes or (mode(),)}
    return Consensus(found, Prompts("", "", "", "", "", ""), Weights(shares), default_mode=next(iter(found)), auto=auto)


class Counted:
    """Metrics of runs, kept."""

    def __init__(self) -> None:
        self.runs: list[tuple[str, str]] = []
        self.calls: list[tuple[str, str]] = []

    def consensus_run(self, mode: str, outcome: str) -> None:
        self.runs.append((mode, outcome))

    def consensus_call(self, role: str, status: str) -> None:
        self.calls.append((role, status))
