"""What applies to one caller: the rules of its organisation, team, user and key, merged and remembered."""

from __future__ import annotations

from typing import Any, Final

from proxy.config.schema import Generation, Team
from proxy.identities import Identity, IdentityKind
from proxy.keys import KeyRecord
from proxy.policy.rules import NO_RULES, PREFIX_SEPARATOR, Policy, ScopedRules

POLICIES_CACHED_MAX: Final = 20_000
"""Callers of one configuration whose policy is kept; past it all are worked out anew."""


def identity_of(record: KeyRecord, team: Team, *, provider_credential: bool = False) -> Identity:
    """Who the holder of a key is; `team` is the key's."""
    return Identity(
        kind=IdentityKind.KEY,
        key_id=record.key_id,
        user=record.user,
        team=record.team,
        organisation=team.organisation,
        tier=tier_of(team, user=record.user, key_id=record.key_id, key_name=record.name, own=record.tier),
        provider_credential=provider_credential,
        caps=record.caps,
        key_name=record.name,
    )


def resolve(generation: Generation, identity: Identity) -> Policy:
    """All that applies to this caller: one look into a dict for a caller seen before. Nobody known: no rules."""
    if identity.kind is IdentityKind.ANONYMOUS:
        return NO_RULES
    caller = (identity.team, identity.user, identity.key_id, identity.key_name, identity.tier)
    found = generation.policies.get(caller)
    if found is None:
        if len(generation.policies) >= POLICIES_CACHED_MAX:
            generation.policies.clear()
        found = generation.policies[caller] = merged(scopes_of(generation, identity), identity.tier)
    return found


def scopes_of(generation: Generation, identity: Identity) -> list[ScopedRules]:
    """What teams.yaml says about this caller, widest scope first, scopes that only set a tier among them.

    A key has two places, by its name and by its id; what stands at both adds up.
    """
    team = generation.teams.get(identity.team)
    found = [generation.organisation_rules.get(identity.organisation)]
    if team is not None:
        found += [team.rules, team.user_rules.get(identity.user)]
        found += _key_scopes(team, identity.key_id, identity.key_name)
    return [scoped for scoped in found if scoped is not None]


def merged(scopes: list[ScopedRules], tier: str) -> Policy:
    """The scopes as one policy. `scopes` are the widest first."""
    enforced = tuple(scoped for scoped in scopes if scoped.rules.enforces)
    if not enforced:
        return Policy(tier=tier)
    rules = [scoped.rules for scoped in enforced]
    parameters: dict[str, Any] = {}
    for one in rules:
        parameters = {**one.parameters, **parameters}
    return Policy(
        scopes=enforced,
        tier=tier,
        output_tokens_max=min((r.output_tokens_max for r in rules if r.output_tokens_max is not None), default=None),
        content=tuple(dict.fromkeys(rule for one in rules for rule in one.content)),
        restricts_models=any(one.models_allowed is not None or one.models_denied for one in rules),
        parameters=parameters,
        system_prefix=PREFIX_SEPARATOR.join(one.system_prefix for one in rules if one.system_prefix),
    )


def tier_of(team: Team, *, user: str, key_id: str = "", key_name: str = "", own: str | None = None) -> str:
    """The narrowest tier: of the key in teams.yaml, `own` that it was made with, the user's, the team's.

    `team.tier` is already its organisation's where it sets none.
    """
    for scoped in reversed(_key_scopes(team, key_id, key_name)):
        if scoped.rules.tier is not None:
            return scoped.rules.tier
    if own is not None:
        return own
    of_user = team.user_rules.get(user)
    return team.tier if of_user is None or of_user.rules.tier is None else of_user.rules.tier


def _key_scopes(team: Team, key_id: str, key_name: str) -> list[ScopedRules]:
    if not team.key_rules:
        return []
    found = (team.key_rules.get(name) for name in dict.fromkeys((key_name, key_id)) if name)
    return [scoped for scoped in found if scoped is not None]
