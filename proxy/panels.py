"""Who sits on a panel: the seats whose models can be called, spares in the place of those that cannot."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final

import orjson

from proxy.consensus.settings import AUTO, Consensus, Mode, Seat
from proxy.errors import Refusal
from proxy.pricing.money import usd_text

if TYPE_CHECKING:
    from proxy.catalogue import Candidate

INPUT_BYTES_PER_TOKEN: Final = 6
"""A question has at most so many bytes for each token of its mode's input limit: budgets are proven by bytes. English
has 4 or 5 of them in a token; a text of more is taken to the length that its bytes allow."""

MILLI: Final = 1000
"""Thousandths of a credit."""


def mode_of(consensus: Consensus, model_name: str) -> str:
    """The mode that a consensus model stands for: a key of `consensus.modes`, or `auto`. Raises KeyError."""
    mode = model_name.removeprefix(consensus.prefix)
    known = mode in consensus.modes or (mode == AUTO and consensus.auto is not None)
    if not known or mode == model_name:
        raise KeyError(model_name)
    return mode


def model_name(consensus: Consensus, mode: str) -> str:
    """What clients call a mode's model."""
    return f"{consensus.prefix}{mode}"


def filled(mode: Mode, callable_models: Collection[str]) -> Mode:
    """The mode with the seats whose models are among `callable_models`, each other one taken by a spare that is.

    Spares of a vendor that is not seated yet come first. Quorum and vendors stay as they are: see `shortage`.
    """
    spares = [spare for spare in mode.spares if spare.model in callable_models]
    seats: list[Seat | None] = [seat if seat.model in callable_models else None for seat in mode.seats]
    for place, seat in enumerate(seats):
        if seat is None and spares:
            seats[place] = _taken(spares, vendors(one for one in seats if one is not None))
    return replace(
        mode,
        seats=tuple(seat for seat in seats if seat is not None),
        spares=tuple(spares),
        synthesisers=tuple(seat for seat in mode.synthesisers if seat.model in callable_models),
    )


def _taken(spares: list[Seat], seated_vendors: Collection[str]) -> Seat:
    """Take one out of `spares`."""
    for place, spare in enumerate(spares):
        if spare.vendor not in seated_vendors:
            return spares.pop(place)
    return spares.pop(0)


def vendors(seats: Iterable[Seat]) -> frozenset[str]:
    """The different vendors of these seats."""
    return frozenset(seat.vendor for seat in seats)


def shortage(mode: Mode) -> str:
    """What a mode lacks to be run at all, for people; "" where it lacks nothing."""
    seats, vendors_seated = len(mode.seats), len(vendors(mode.seats))
    if seats < mode.quorum:
        return f"{seats} of its members can be called, and it needs {mode.quorum}"
    if vendors_seated < mode.vendors_min:
        return f"its members are of {_counted(vendors_seated, 'vendor')}, and it needs {mode.vendors_min}"
    if not mode.synthesisers:
        return "none of its synthesisers can be called"
    return ""


def seated(mode: Mode, candidates: Iterable[Candidate]) -> Mode:
    """The mode with the seats that `candidates`, those that the caller's rules permit, can serve.

    Raises Refusal `model_not_allowed` where too few are left: quorum and vendors are never lowered.
    """
    found = filled(mode, {candidate.model for candidate in candidates})
    lacking = shortage(found)
    if lacking:
        raise Refusal(
            "model_not_allowed",
            f"The policy of your organisation or team denies models that the mode '{mode.name}' is made of: {lacking}. "
            "Choose another mode or model (GET /v1/models), or ask the operator for them.",
            param="model",
        )
    return found


def seated_modes(consensus: Consensus, mode: str, candidates: Collection[Candidate]) -> dict[str, Mode]:
    """Every mode that a run of `mode` may go through, seated as `seated` does: one, or both that `auto` names."""
    names = consensus.auto if mode == AUTO and consensus.auto is not None else (mode,)
    return {name: seated(consensus.modes[name], candidates) for name in names}


def run_price(mode: Mode) -> dict[str, Any]:
    """What one run costs and takes, as every listing shows it."""
    whole, milli = divmod(mode.price.credits_milli, MILLI)
    return {
        "usd": orjson.Fragment(usd_text(mode.price.usd)),
        "credits": orjson.Fragment(f"{whole}.{milli:03}".rstrip("0").rstrip(".")),
        "input_tokens_max": mode.input_tokens_max,
    }


def members(mode: Mode) -> list[str]:
    """The models of its seats, one that sits there again named again."""
    return [seat.model for seat in mode.seats]


def _counted(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"
