"""The shipped modes, and panels of other seats in their shape."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from functools import cache
from typing import Any, Final

from bench.process import ROOT, BenchError
from proxy.config.load import load_generation
from proxy.consensus.settings import Consensus, Mode, Seat
from proxy.pricing.rates import Rates, parse_rate

DEFAULT_RATES: Final = Rates(parse_rate("3"), parse_rate("15"))
"""Of models that no price list names, USD per million tokens."""


@dataclass(frozen=True, slots=True)
class Shipped:
    """What policies/consensus.yaml says, and what its models cost at list."""

    consensus: Consensus
    rates: dict[str, Rates]

    def mode(self, name: str) -> Mode:
        """One of its modes."""
        return self.consensus.modes[name]


@cache
def shipped() -> Shipped:
    """Read through the product's own configuration. No key is needed: nobody is called."""
    generation = load_generation(ROOT / "config.yaml", environment=_keys())
    if generation.consensus is None:
        raise BenchError("policies/consensus.yaml is missing")
    rates: dict[str, Rates] = {}
    for mode in generation.consensus.modes.values():
        for seat in (*mode.seats, *mode.spares, *mode.synthesisers):
            model = generation.models[seat.model]
            known = [found for one in model.candidates if (found := model.list_rates(one)) is not None]
            rates[seat.model] = max(known, key=lambda found: (found.output, found.input), default=DEFAULT_RATES)
    return Shipped(generation.consensus, rates)


def _keys() -> dict[str, str]:
    """A value for every variable that config.yaml names as a key, so that each model of the panels is there."""
    text = (ROOT / "config.yaml").read_text(encoding="utf-8")
    return dict.fromkeys(re.findall(r"\$\{([A-Z0-9_]+_API_KEY)\b", text), "bench")


def rates_of(model: str) -> Rates:
    """A model's price list."""
    return shipped().rates.get(model, DEFAULT_RATES)


def panel(shape: str, names: Sequence[str], *, weights: Sequence[Fraction] | None = None, **changes: Any) -> Mode:
    """The shipped mode `shape` with members of these names, each of a vendor and family of its own and at the price of
    the shipped member (or spare) in its place. They also write the final answer; there are no spares."""
    mode = shipped().mode(shape)
    models = [seat.model for seat in (*mode.seats, *mode.spares)]
    seats = tuple([
        Seat(name, models[index % len(models)], f"vendor-{index}", name, weight, context_tokens=128_000)
        for index, (name, weight) in enumerate(zip(names, weights or [Fraction(1)] * len(names), strict=True))
    ])  # fmt: skip
    given: dict[str, Any] = {"seats": seats, "spares": (), "synthesisers": seats}
    given |= {"quorum": min(mode.quorum, len(seats)), "vendors_min": min(mode.vendors_min, len(seats))}
    return replace(mode, **(given | changes))


def members(count: int) -> tuple[str, ...]:
    """Names of scripted members."""
    return tuple([f"m{index + 1}" for index in range(count)])


def consensus_of(mode: Mode, **changes: Any) -> Consensus:
    """The shipped rules, weights and prompts, with one mode."""
    return replace(shipped().consensus, modes={mode.name: mode}, auto=None, **changes)
