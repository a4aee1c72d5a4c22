"""Prices per million tokens as exact decimals, and what a usage costs at them.

A rate is kept as an integer of 10^-12 USD per million tokens, so that a price such as 0.0375 USD is exact;
a sum over all token kinds is taken first and rounded once.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from decimal import Decimal
from typing import Final

from proxy.pricing.money import Nano
from proxy.usage import Usage

_SCALE: Final = 10**12
_PER_NANO: Final = 10**9
"""tokens x (10^-12 USD per 10^6 tokens) / 10^9 = nano-dollars."""

KINDS: Final = (
    "input", "output", "cached_input", "cache_write", "cache_write_1h", "reasoning", "image", "audio", "audio_output",
)  # fmt: skip
"""Kinds of tokens that can have a rate of their own, in the order of Rates' first fields."""


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
class Band:
    """Other rates for long inputs: a call of more than `above_input_tokens` costs `rates`, all of its tokens."""

    above_input_tokens: int
    rates: Rates
    """Without bands of its own."""


@dataclass(frozen=True, slots=True)
class Rates:
    """USD per million tokens by kind, scaled as the module says. `None` falls back as each field tells.

    Bands are the cliff that OpenAI, Anthropic, Google and xAI publish: past a length of the input (what was cached
    included) every token of the call, output too, costs the band's rates; nothing is charged piecewise.
    """

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
    image: int | None = None
    """Tokens of images sent; None: as input."""
    audio: int | None = None
    """Tokens of audio sent; None: as input."""
    audio_output: int | None = None
    """Tokens of audio generated; None: as output."""
    bands: tuple[Band, ...] = ()
    """By rising length."""
    source: str = field(default="", compare=False)
    """Where they come from, with its date, as the ledger keeps it: "models.yaml", "genai-prices 0.2.3 ..."."""
    by_kind: tuple[int, ...] = field(init=False, repr=False, compare=False)
    """Every kind's rate with the fallbacks resolved, in the order of `KINDS`."""
    _dearest_input: int = field(init=False, repr=False, compare=False)
    _dearest_written: int = field(init=False, repr=False, compare=False)
    """Of an input token that may also be written to a cache."""
    _dearest_output: int = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        write = self.input if self.cache_write is None else self.cache_write
        resolved = (
            self.input,
            self.output,
            self.input if self.cached_input is None else self.cached_input,
            write,
            write if self.cache_write_1h is None else self.cache_write_1h,
            self.output if self.reasoning is None else self.reasoning,
            self.input if self.image is None else self.image,
            self.input if self.audio is None else self.audio,
            self.output if self.audio_output is None else self.audio_output,
        )
        object.__setattr__(self, "by_kind", resolved)
        object.__setattr__(self, "_dearest_input", max(self.input, resolved[2]))
        object.__setattr__(self, "_dearest_written", max(self.input, *resolved[2:5]))
        object.__setattr__(self, "_dearest_output", max(self.output, resolved[5]))

    def cost(self, usage: Usage) -> Nano:
        """What this usage costs, rounded half up once."""
        rates = self.at(usage.input_tokens) if self.bands else self
        into, out, cached, write, write_1h, reasoning, image, audio, audio_output = rates.by_kind
        scaled = (
            usage.input_tokens * into
            + usage.output_tokens * out
            + usage.cached_tokens * (cached - into)
            + usage.cache_write_tokens * (write - into)
            + usage.cache_write_1h_tokens * (write_1h - into)
            + usage.reasoning_tokens * (reasoning - out)
        )
        if usage.image_tokens or usage.audio_tokens or usage.audio_output_tokens:
            scaled += usage.image_tokens * (image - into) + usage.audio_tokens * (audio - into)
            scaled += usage.audio_output_tokens * (audio_output - out)
        return Nano((2 * scaled + _PER_NANO) // (2 * _PER_NANO))

    def bound(
        self,
        input_tokens: int,
        output_tokens: int,
        *,
        cache_write: bool = False,
        images: bool = False,
        audio: bool = False,
    ) -> Nano:
        """The most that so many tokens, or fewer, can cost: the dearest reachable rates and band, rounded up.

        `cache_write`, `images` and `audio` tell which of the dearer kinds the call can use at all.
        """
        into, out = self._dearest_written if cache_write else self._dearest_input, self._dearest_output
        if images or audio:
            into, out = self.dearest_rates(cache_write=cache_write, images=images, audio=audio)
        most = input_tokens * into + output_tokens * out
        for band in self.bands:
            if input_tokens <= band.above_input_tokens:
                break
            into, out = band.rates.dearest_rates(cache_write=cache_write, images=images, audio=audio)
            most = max(most, input_tokens * into + output_tokens * out)
        return Nano(-(-most // _PER_NANO))

    def at(self, input_tokens: int) -> Rates:
        """The rates of a call with that many tokens of input: these, or those of the highest band it is above."""
        found = self
        for band in self.bands:
            if input_tokens <= band.above_input_tokens:
                break
            found = band.rates
        return found

    def kind(self, name: str) -> int:
        """The rate of one of `KINDS`, the fallbacks resolved."""
        return self.by_kind[KINDS.index(name)]

    @property
    def free(self) -> bool:
        """Every kind of token costs nothing."""
        return not any(self.by_kind) and all(band.rates.free for band in self.bands)

    def dearest_rates(self, *, cache_write: bool, images: bool, audio: bool) -> tuple[int, int]:
        """The dearest rate of an input token and of an output token."""
        rates = self.by_kind
        into, out = self._dearest_written if cache_write else self._dearest_input, self._dearest_output
        if images:
            into = max(into, rates[6])
        if audio:
            into, out = max(into, rates[7]), max(out, rates[8])
        return into, out


def dearest(choices: Sequence[Rates]) -> Rates:
    """Rates that are never below any of `choices`, kind by kind and band by band; their first one's source."""
    starts = sorted({band.above_input_tokens for rates in choices for band in rates.bands})
    base, *above = [_highest([rates.at(start + 1) for rates in choices]) for start in (-1, *starts)]
    bands = tuple(Band(start, rates) for start, rates in zip(starts, above, strict=True))
    return replace(base, bands=bands, source=choices[0].source)


def _highest(choices: Sequence[Rates]) -> Rates:
    if len(choices) == 1:
        return replace(choices[0], bands=())
    highest = zip(*[rates.by_kind for rates in choices], strict=True)
    said = [any(getattr(rates, kind) is not None for rates in choices) for kind in KINDS]
    return Rates(**{kind: max(rates) for kind, rates, is_said in zip(KINDS, highest, said, strict=True) if is_said})
