"""How many tokens a chat would take: its input counted, its output between a fifth of the limit and all of it."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import Any, Final, Self

import orjson

from proxy.dialects import fields
from proxy.errors import Refusal
from proxy.pricing import tokens

ENCODING: Final = "cl100k_base"
ESTIMATOR: Final = "tiktoken-cl100k-base"
LOW_PERCENT: Final = 20
EXPECTED_PERCENT: Final = 60
OUTPUT_TOKENS_MAX: Final = 4096
"""The high estimate where the request sets no limit."""
OUTPUT_PER_INPUT: Final = 2
"""The same, for a short input."""


@dataclass(frozen=True, slots=True)
class Estimate:
    """Tokens; low <= expected <= high."""

    input_tokens: int
    low: int
    expected: int
    high: int

    @classmethod
    def of(cls, input_tokens: int, limit: int | None) -> Self:
        """From a counted input and the request's own output limit."""
        high = min(OUTPUT_TOKENS_MAX, OUTPUT_PER_INPUT * input_tokens) if limit is None else limit
        return cls(input_tokens, _share(high, LOW_PERCENT), _share(high, EXPECTED_PERCENT), high)


def output_limit(document: dict[str, Any]) -> int | None:
    """The output limit that the request sets, under either name. Raises Refusal where the two differ."""
    newer = fields.integer(document, "max_completion_tokens", 1, fields.TOKENS_MAX)
    older = fields.integer(document, "max_tokens", 1, fields.TOKENS_MAX)
    if newer is not None and older is not None and newer != older:
        fields.wrong("max_tokens", "left out, or the same as 'max_completion_tokens'")
    return older if newer is None else newer


async def count_input(messages: list[dict[str, Any]], *, image_tokens_max: int | None) -> int:
    """Tokens of all roles, names and contents; an image counts as the most that one of this model can cost.

    What a provider writes around them, about three tokens a message, is not counted.
    """
    pieces: list[str] = []
    images = 0
    for message in messages:
        for value in message.values():
            images += _collect(value, pieces)
    if images and image_tokens_max is None:
        raise Refusal(
            "invalid_request",
            "The messages hold images, whose tokens are not known beforehand for this model. Preview the text alone.",
            param="messages",
        )
    counted = await asyncio.to_thread(_count, pieces)
    return counted + images * (image_tokens_max or 0)


def _count(pieces: list[str]) -> int:
    return sum([tokens.count(piece, ENCODING) or 0 for piece in pieces])


def _collect(value: Any, pieces: list[str]) -> int:
    """Put the text of one member into `pieces`; how many images it holds."""
    if value is None:
        return 0
    if isinstance(value, str):
        pieces.append(value)
        return 0
    if not isinstance(value, list):
        pieces.append(orjson.dumps(value).decode())
        return 0
    images = 0
    for part in value:
        kind = part.get("type") if isinstance(part, dict) else None
        if kind == "text" and isinstance(part.get("text"), str):
            pieces.append(part["text"])
        elif kind == "image_url":
            images += 1
        else:
            pieces.append(orjson.dumps(part).decode())
    return images


def _share(whole: int, percent: int) -> int:
    """That percentage, rounded up: an answer has a token at least."""
    return -(-whole * percent // 100)
