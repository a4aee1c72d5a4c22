"""The most an exchange can cost."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from proxy.pricing.money import ZERO, Nano

if TYPE_CHECKING:
    from proxy.catalogue import Candidate


@dataclass(frozen=True, slots=True)
class Quote:
    """A proven upper bound, at the dearest admissible candidate.

    `charged` is what the caller would be charged at most (0 with its own provider key), `list` what the
    same tokens cost at list, twice that where a hedge may run (None: a candidate has no price, possible only with
    the caller's own key or a customer's own model).
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
    enforced: bool = True
    """The output limit is forwarded upstream. False only with the caller's own provider key and no cap on list cost."""
    input_charged: Nano = ZERO
    """The part of `charged` that is input: what a prepaid balance pays where nobody knows what was put out."""
    candidates: tuple[Candidate, ...] = ()
    """The admissible candidates: those that can serve this call, and that the amounts cover."""

    def with_input(self, input_tokens: int) -> Quote:
        """With a counted input; the amounts must be worked out again."""
        return replace(self, input_tokens=input_tokens, counted=True)

    def with_output(self, output_tokens: int) -> Quote:
        """With another output limit; the amounts must be worked out again."""
        return replace(self, output_tokens=output_tokens)

    def with_enforced(self, enforced: bool) -> Quote:
        """With the output limit forwarded, or the request left as it is."""
        return replace(self, enforced=enforced)
