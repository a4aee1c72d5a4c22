"""Prices per million tokens as exact decimals, and what a usage costs at them.

A rate is kept as an integer of 10^-12 USD per million tokens, so that a price such as 0.0375 USD is exact;
a sum over all token kinds is taken first and rounded once.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from decimal import Decimal
from typing import Final

from proxy.pricing.money import Nano
from proxy.usage import Usage

_SCALE: Final = 10**12
_PER_NANO: Final = 10**9
"""tokens x (10^-12 USD per 10^6 tokens) / 10^9 = nano-dollars."""


def parse_rate(usd_per_million: Decimal | str | int) -> int:
    """A rate as an integer of 10^-12 USD per million tokens. Raises ValueError if negative or finer than that."""
    value = Decimal(usd_per_million)
    if not value.is_finite() or value < 0:
        raise ValueError(f"a rate is zero or more, not {usd_per_million}")
    scaled = value * _SCALE
    if scaled != scaled.to_integral_value():
        raise ValueError(f"{usd_per_million} has more than twelve decimals")
    return int(scaled)


def rate_text(rate: int) -> str:
    """A rate in dollars per million tokens, exact, at least two decimals: "0.075", "2.50"."""
    whole, _, decimals = f"{Decimal(rate) / _SCALE:.12f}".partition(".")
    return f"{whole}.{decimals.rstrip('0').ljust(2, '0')}"


@dataclass(frozen=True, slots=True)
class Rates:
    """USD per million tokens by kind, scaled as the module says. `None` falls back as each field tells."""

    input: int
    output: int
    cached_input: int | None = None
    """Tokens read from the provider's cache; None: as input."""
    cache_write: int | None = None
    """Tokens written to it for five minutes; None: as input."""
    cache_write_1h: int | None = None
    """Tokens written to it for an hour; None: as cache_write."""
    reasoning: int | None = None
    """Reasoning tokens, a part of the output; None: as output."""
    source: str = field(default="", compare=False)
    """Where they come from, with its date, as the ledger keeps it: "models.yaml", "genai-prices 0.2.3 ..."."""

    def cost(self, usage: Usage) -> Nano:
        """What this usage costs, rounded half up once."""
        scaled = self._scaled(usage)
        return Nano((2 * scaled + _PER_NANO) // (2 * _PER_NANO))

    def bound(self, input_tokens: int, output_tokens: int, *, cache_write: bool = False) -> Nano:
        """The most that many tokens can cost: dearest applicable rates, rounded up."""
        input_rate = self.input
        if cache_write:
            input_rate = max(input_rate, self._write(), self._write_1h())
        output_rate = max(self.output, self.reasoning or 0)
        return Nano(-(-(input_tokens * input_rate + output_tokens * output_rate) // _PER_NANO))

    @property
    def free(self) -> bool:
        """Every kind of token costs nothing."""
        return not any(
            (self.input, self.output, self.cached_input, self.cache_write, self.cache_write_1h, self.reasoning)
        )

    def _write(self) -> int:
        return self.input if self.cache_write is None else self.cache_write

    def _write_1h(self) -> int:
        return self._write() if self.cache_write_1h is None else self.cache_write_1h

    def _scaled(self, usage: Usage) -> int:
        cached = self.input if self.cached_input is None else self.cached_input
        reasoning = self.output if self.reasoning is None else self.reasoning
        fresh = usage.input_tokens - usage.cached_tokens - usage.cache_write_tokens - usage.cache_write_1h_tokens
        return (
            fresh * self.input
            + usage.cached_tokens * cached
            + usage.cache_write_tokens * self._write()
            + usage.cache_write_1h_tokens * self._write_1h()
            + (usage.output_tokens - usage.reasoning_tokens) * self.output
            + usage.reasoning_tokens * reasoning
        )
