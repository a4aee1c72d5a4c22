"""Refusals of a model that say what to call in its place: unknown, not served now, not in the caller's tier."""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from typing import Final

from proxy.catalogue import Candidate, Model, tiers_text
from proxy.config.schema import Generation
from proxy.consensus.settings import AUTO, Consensus
from proxy.errors import Refusal

COMPARED_NAMES_MAX: Final = 100
"""Names that an unknown one is compared with, for a suggestion."""


def unknown(generation: Generation, name: str) -> Refusal:
    """404, with the near miss."""
    return Refusal(
        "model_not_available",
        f"There is no model '{name}'.{_hint(generation, name)} GET /v1/models lists them.",
        param="model",
    )


def no_panels() -> Refusal:
    """404: nobody asks several models here."""
    return Refusal(
        "model_not_available",
        "No panels of models are configured here: call a single model, GET /v1/models lists them.",
        param="mode",
        operator_note="Put policies/consensus.yaml beside the configuration.",
    )


def unknown_mode(consensus: Consensus, mode: str) -> Refusal:
    """404, with the modes that there are."""
    known = (*consensus.modes, *((AUTO,) if consensus.auto is not None else ()))
    return Refusal(
        "model_not_available", f"There is no mode '{mode}'. Modes here are {', '.join(known)}.", param="mode"
    )


def unavailable(generation: Generation, operation: str, tier: str, name: str, model: Model) -> Refusal:
    """A model of the catalogue that no configured upstream serves: 404, of a consortium 503 with its sibling."""
    note = f"To serve it: {generation.unavailable_models.get(name, 'configure one of its upstreams')}."
    if of_consortium(model, model.candidates):
        return no_machine(generation, operation, tier, model, model.candidates, operator_note=note)
    return Refusal(
        "model_not_available", f"The model '{name}' is not available here now.", param="model", operator_note=note
    )


def not_in_tier(generation: Generation, operation: str, tier: str, name: str, model: Model) -> Refusal:
    """Names the tiers that can call it, and a model that this tier can: a lane if there is one."""
    able = [other for other in generation.models.values() if not other.open and _callable(other, operation, tier)]
    lanes = [other for other in able if other.lane]
    instead = f" or use {(lanes or able)[0].name}" if able else ""
    upgrade = tiers_text(model.tiers, generation.tiers)
    return Refusal(
        "model_not_in_tier", f"Your tier ({tier}) cannot call '{name}'. Upgrade to {upgrade}{instead}.", param="model"
    )


def of_consortium(model: Model, candidates: Sequence[Candidate]) -> bool:
    """Whether partners' machines alone serve it."""
    return model.consortium or all(candidate.partner is not None for candidate in candidates)


def no_machine(
    generation: Generation,
    operation: str,
    tier: str,
    model: Model,
    candidates: Sequence[Candidate],
    *,
    seconds: float | None = None,
    operator_note: str = "",
) -> Refusal:
    """503: no partner's machine is healthy. `seconds` until one may be again; None: waiting does not help."""
    sibling = _sibling(generation, operation, tier, candidates)
    others = [other for other in (sibling, other_lane(generation, operation, tier, model)) if other is not None]
    ways = [f"with {' or '.join(repr(other) for other in others)}"] if others else []
    ways += [] if seconds is None else [f"in {seconds:.0f} s"]
    retry = f" Retry {', or '.join(ways)}." if ways else ""
    return Refusal(
        "no_consortium_machine_available",
        f"No partner machine that serves '{model.name}' is healthy at the moment.{retry}",
        param="model",
        retry_after_seconds=seconds,
        operator_note=operator_note,
    )


def other_lane(generation: Generation, operation: str, tier: str, model: Model) -> str | None:
    """A smart route that the caller can go by instead, other than the model itself."""
    lanes = (found for found in generation.models.values() if found.lane and not found.consortium)
    able = (lane.name for lane in lanes if lane.name != model.name and _callable(lane, operation, tier))
    return next(able, None)


def _sibling(generation: Generation, operation: str, tier: str, candidates: Sequence[Candidate]) -> str | None:
    """The catalogue's own model of the name that the partners' machines know theirs by, with or without a vendor."""
    wanted = {candidate.upstream_model.rpartition("/")[2] for candidate in candidates}
    own = ((name, found) for name, found in generation.models.items() if not found.consortium)
    alike = (name for name, found in own if name.rpartition("/")[2] in wanted and _callable(found, operation, tier))
    return next(alike, None)


def _callable(model: Model, operation: str, tier: str) -> bool:
    return operation in model.operations and (not model.tiers or tier in model.tiers)


def _hint(generation: Generation, name: str) -> str:
    """The near miss, looked for among names that begin alike: a comparison with a thousand takes 30 ms."""
    start = name[:2].lower()
    alike = [known for known in generation.models if known[:2].lower() == start]
    near = difflib.get_close_matches(name, alike[:COMPARED_NAMES_MAX], n=1)
    return f" Did you mean '{near[0]}'?" if near else ""
