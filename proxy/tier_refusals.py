"""The refusal of a model that the caller's tier cannot call: which tiers can, and what to use instead."""

from __future__ import annotations

from proxy.catalogue import Model
from proxy.config.schema import Generation
from proxy.errors import Refusal


def not_in_tier(generation: Generation, operation: str, tier: str, name: str, model: Model) -> Refusal:
    """Names the tiers that can call it, and a model that this tier can: a lane if there is one."""
    able = [
        other
        for other in generation.models.values()
        if operation in other.operations and not other.open and (not other.tiers or tier in other.tiers)
    ]
    lanes = [other for other in able if other.lane]
    instead = f" or use {(lanes or able)[0].name}" if able else ""
    upgrade = _tiers_text([one for one in generation.tiers if one in model.tiers], generation.tiers)
    return Refusal(
        "model_not_in_tier", f"Your tier ({tier}) cannot call '{name}'. Upgrade to {upgrade}{instead}.", param="model"
    )


def _tiers_text(able: list[str], tiers: tuple[str, ...]) -> str:
    """pro+ where every later tier of the file can call it, too; else a list."""
    if len(able) > 1 and tuple(able) == tiers[-len(able) :]:
        return f"{able[0]}+"
    return " or ".join(able)
