"""A small configuration of panels for tests of the plugin."""

from __future__ import annotations

from fractions import Fraction

from proxy.catalogue import Model
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

SEATS = tuple(Seat(name, name, vendor, name) for name, vendor in (("one", "a"), ("two", "b"), ("three", "c")))
FAST = Mode(
    name="fast",
    seats=SEATS,
    spares=(),
    synthesisers=SEATS[:1],
    quorum=2,
    vendors_min=2,
    evaluate=False,
    refine_rounds_max=0,
    reevaluate=False,
    check_claims=False,
    early_exit=True,
    deadlines=Deadlines(20, 12, 5, 5),
    tokens=Tokens(500, 500, 500, 500, 1000),
    input_tokens_max=4000,
    budget=Nano(40_000_000),
    price=Price(Nano(50_000_000), 1000),
)
CONSENSUS = Consensus(
    modes={"fast": FAST},
    prompts=Prompts("", "", "", "", "", ""),
    weights=Weights({"general": {"accuracy": Fraction(1)}}),
    default_mode="fast",
)


class Counted:
    """Metrics of runs, kept."""

    def __init__(self) -> None:
        self.runs: list[tuple[str, str]] = []
        self.calls: list[tuple[str, str]] = []

    def consensus_run(self, mode: str, outcome: str) -> None:
        self.runs.append((mode, outcome))

    def consensus_call(self, role: str, status: str) -> None:
        self.calls.append((role, status))


def consensus_model() -> Model:
    """What asks for it."""
    return model("consensus-fast", rates=None, panel=FAST)
