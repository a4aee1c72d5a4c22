"""The most an exchange can cost."""

from __future__ import annotations

from dataclasses import dataclass

from proxy.pricing.money import Nano


@dataclass(frozen=True, slots=True)
class Quote:
    """A proven upper bound, at the dearest admissible candidate.

    `charged` is what the caller would be charged at most (0 with its own provider key), `list` what the
    same tokens cost at list (None: the model has no price, possible only with the caller's own key).
    """

    input_tokens: int
    """Upper bound of the input: bytes, or counted tokens plus the provider's wrapping."""
    output_tokens: int
    """Output limit for one choice, forwarded upstream in the dialect's own field."""
    choices: int
    charged: Nano
    list: Nano | None
    counted: bool = False
    """The input was counted with a tokenizer, not bounded by bytes."""
    bounded: bool = True
    """False: the request uses a feature whose cost nobody can bound; a hard cap refuses it."""
    unbounded_reason: str = ""
