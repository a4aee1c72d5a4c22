"""What an upstream really did."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Self

TOKENS_MAX: Final = 1 << 31
"""A report above it is nonsense: no column of the ledger overflows, whatever a customer's own server says."""


@dataclass(frozen=True, slots=True)
class Usage:
    """Tokens of one attempt. Input includes what was cached or written to a cache; output includes reasoning.

    Made by `reported`, which clamps a provider's nonsense (negative, or parts larger than the whole), so that
    every instance satisfies `0 <= parts <= whole`.
    """

    input_tokens: int
    output_tokens: int
    cached_tokens: int = 0
    cache_write_tokens: int = 0
    cache_write_1h_tokens: int = 0
    reasoning_tokens: int = 0
    counted: bool = False
    """Our own count, because the upstream reported none."""
    image_tokens: int = 0
    """Of the input, apart from what was cached or written to a cache."""
    audio_tokens: int = 0
    """Of the input, likewise."""
    audio_output_tokens: int = 0
    """Of the output, apart from reasoning."""
    implausible: bool = False
    """More was reported than any model can do: nobody knows what it was, and nothing is charged by it."""

    @classmethod
    def reported(
        cls,
        *,
        input_tokens: int,
        output_tokens: int,
        cached_tokens: int = 0,
        cache_write_tokens: int = 0,
        cache_write_1h_tokens: int = 0,
        reasoning_tokens: int = 0,
        image_tokens: int = 0,
        audio_tokens: int = 0,
        audio_output_tokens: int = 0,
    ) -> Self:
        """From an upstream's figures: parts are cut to their whole, negatives to 0, the whole to `TOKENS_MAX`."""
        total = min(max(0, input_tokens), TOKENS_MAX)
        output = min(max(0, output_tokens), TOKENS_MAX)
        cached = min(max(0, cached_tokens), total)
        write = min(max(0, cache_write_tokens), total - cached)
        write_1h = min(max(0, cache_write_1h_tokens), total - cached - write)
        reasoning = min(max(0, reasoning_tokens), output)
        images = min(max(0, image_tokens), total - cached - write - write_1h)
        audio = min(max(0, audio_tokens), total - cached - write - write_1h - images)
        spoken = min(max(0, audio_output_tokens), output - reasoning)
        return cls(
            total, output, cached, write, write_1h, reasoning,
            image_tokens=images, audio_tokens=audio, audio_output_tokens=spoken,
            implausible=max(input_tokens, output_tokens) > TOKENS_MAX,
        )  # fmt: skip


def known(usage: Usage | None) -> Usage | None:
    """The usage where there is one that can be true: what nobody knows and what cannot be are treated alike."""
    return None if usage is None or usage.implausible else usage


NOTHING = Usage(0, 0)
"""A failed attempt that reported nothing."""
