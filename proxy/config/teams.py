"""Limits, tiers, organisations and teams with their caps and rules."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from proxy.config.policies import (
    BucketEntry,
    CapEntry,
    LimitsFile,
    OrganisationEntry,
    PayersEntry,
    ScopeEntry,
    TeamEntry,
    TierEntry,
)
from proxy.config.problems import Marks, Problem, near
from proxy.config.rule_building import RuleBuilder
from proxy.config.schema import Bucket, Limits, PayerLimits, ScopeLimits, Team
from proxy.identities import CapSetting
from proxy.policy.rules import ScopedRules


def build_limits(file: LimitsFile, tiers: Mapping[str, TierEntry]) -> Limits:
    """A tier's limits are those of `key` with what the tier itself says in their place."""
    key = _scope(file.key)
    return Limits(
        ip=_scope(file.ip),
        key=key,
        user=_scope(file.user),
        team=_scope(file.team),
        total_streams=file.total_streams,
        tiers={name: _over(key, entry) for name, entry in tiers.items()},
        payers=_payers(file.payers),
    )


def _payers(entry: PayersEntry) -> PayerLimits:
    return PayerLimits(_bucket(entry.free), _bucket(entry.invoice), _bucket(entry.paid), entry.streams)


def _scope(entry: ScopeEntry) -> ScopeLimits:
    return ScopeLimits(_bucket(entry.requests), entry.tokens_per_minute, entry.streams)


def _bucket(entry: BucketEntry | None) -> Bucket | None:
    return None if entry is None else Bucket(entry.per_minute, entry.burst, entry.burst_seconds)


def _over(key: ScopeLimits, tier: TierEntry) -> ScopeLimits:
    """`null` in a tier lifts a limit; a key that is absent leaves it."""
    said = tier.model_fields_set
    return ScopeLimits(
        _bucket(tier.requests) if "requests" in said else key.requests,
        tier.tokens_per_minute if "tokens_per_minute" in said else key.tokens_per_minute,
        tier.streams if "streams" in said else key.streams,
    )


def build_organisations(entries: Mapping[str, OrganisationEntry]) -> dict[str, tuple[CapSetting, ...]]:
    """Organisation -> its caps."""
    return {name: _caps(entry.caps) for name, entry in entries.items()}


def build_organisation_rules(
    entries: Mapping[str, OrganisationEntry], marks: Marks, rules: RuleBuilder
) -> dict[str, ScopedRules]:
    """Organisation -> its rules."""
    return {
        name: rules.scoped("organisation", name, entry, marks.below(name), tier=entry.tier)
        for name, entry in entries.items()
    }


def build_teams(
    entries: Mapping[str, TeamEntry],
    marks: Marks,
    problems: list[Problem],
    *,
    organisations: Mapping[str, OrganisationEntry],
    rules: RuleBuilder,
) -> dict[str, Team]:
    """The teams; unknown organisations and tiers, and whatever is wrong with their rules, go to `problems`."""
    built = {}
    for name, entry in entries.items():
        part = marks.below(name)
        organisation = organisations.get(entry.organisation)
        if organisation is None:
            problems.append(
                part.problem(
                    ("organisation",),
                    f"there is no organisation '{entry.organisation}' above",
                    suggestion=near(entry.organisation, organisations),
                )
            )
        tier = entry.tier or (organisation.tier if organisation is not None else None)
        if tier is None:
            problems.append(part.problem((), "the key 'tier' is missing, here and at the organisation", key=True))
        built[name] = _team(name, entry, part, rules, tier or "")
    return built


def _team(name: str, entry: TeamEntry, marks: Marks, rules: RuleBuilder, tier: str) -> Team:
    users, keys = marks.below("users"), marks.below("keys")
    return Team(
        name=name,
        organisation=entry.organisation,
        tier=tier,
        caps=_caps(entry.caps),
        user_caps=_caps(entry.user_caps),
        key_caps=_caps(entry.key_caps),
        users={user: _caps(own.caps) for user, own in entry.users.items() if own.caps is not None},
        rules=rules.scoped("team", name, entry, marks, tier=entry.tier),
        user_rules={
            user: rules.scoped("user", f"{name}/{user}", own, users.below(user), tier=own.tier)
            for user, own in entry.users.items()
        },
        key_rules={
            key: rules.scoped("key", key, own, keys.below(key), tier=own.tier) for key, own in entry.keys.items()
        },
        key_own_caps={key: _caps(own.caps) for key, own in entry.keys.items() if own.caps is not None},
        prepaid=entry.prepaid,
    )


def _caps(entries: Iterable[CapEntry]) -> tuple[CapSetting, ...]:
    return tuple(CapSetting(e.usd, e.window, e.basis, e.soft_percent, e.clamp) for e in entries)
