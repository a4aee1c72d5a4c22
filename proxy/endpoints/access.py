"""Which models a caller can call, for the endpoints that list them or tell what they cost."""

from __future__ import annotations

from proxy.catalogue import Model
from proxy.exchange import Exchange
from proxy.identities import Identity, IdentityKind
from proxy.policy.known_as import meant_names
from proxy.policy.rules import NO_RULES
from proxy.policy.verdicts import denied_call


def keyholder(exchange: Exchange) -> Identity | None:
    """The caller, where it is known by a key of ours."""
    identity = exchange.identity
    return identity if identity is not None and identity.kind is IdentityKind.KEY else None


def tier_of(exchange: Exchange) -> str | None:
    """The caller's tier; None without a key. A tier that a rule of teams.yaml sets stands for the key's own."""
    identity = keyholder(exchange)
    if identity is None:
        return None
    return (exchange.policy or NO_RULES).tier or identity.tier


def is_callable(exchange: Exchange, model: Model) -> bool:
    """Whether a call of the caller's would be let through; without a key, open models on loopback alone are."""
    tier = tier_of(exchange)
    if tier is None:
        return model.open and exchange.origin.loopback
    if model.tiers and tier not in model.tiers:
        return False
    return (
        denied_call(exchange.policy or NO_RULES, model, (model.name,), meant_names(exchange.generation, model)) is None
    )


def callable_models(exchange: Exchange) -> dict[str, Model]:
    """By every name, what `is_callable`, in the configuration's order."""
    return {name: model for name, model in exchange.generation.models.items() if is_callable(exchange, model)}


def listed_models(exchange: Exchange) -> dict[str, Model]:
    """By every name: what the holder of a key can call, the whole public catalogue for anybody else."""
    return exchange.generation.models if keyholder(exchange) is None else callable_models(exchange)
