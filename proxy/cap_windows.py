"""Which caps an exchange falls under, each in its present window."""

from __future__ import annotations

from collections.abc import Iterator
from zoneinfo import ZoneInfo

from proxy.config.schema import Generation, Team
from proxy.identities import CapSetting, Identity, IdentityKind
from proxy.ledger.api import Basis, Cap
from proxy.ledger.windows import window_bounds
from proxy.pricing.money import Nano


def caps_of(identity: Identity, generation: Generation) -> Iterator[tuple[str, str, CapSetting]]:
    """(scope, scope id, setting) for key, user, team and organisation, narrowest first."""
    team = generation.teams.get(identity.team)
    if identity.kind is IdentityKind.KEY:
        for setting in _of_key(identity, team):
            yield "key", identity.key_id, setting
    if team is not None:
        for setting in team.users.get(identity.user, team.user_caps):
            yield "user", f"{team.name}/{identity.user}", setting
        for setting in team.caps:
            yield "team", team.name, setting
    for setting in generation.organisations.get(identity.organisation, ()):
        yield "organisation", identity.organisation, setting


def _of_key(identity: Identity, team: Team | None) -> tuple[CapSetting, ...]:
    """What teams.yaml says about this very key, by id before name; else what it was made with; else the team's."""
    if team is None:
        return identity.caps
    own = team.key_own_caps
    if own:
        for name in (identity.key_id, identity.key_name):
            if name in own:
                return own[name]
    return identity.caps or team.key_caps


def present(scope: str, scope_id: str, setting: CapSetting, at_ms: int, zone: ZoneInfo) -> Cap:
    """The cap in the window that `at_ms` falls into."""
    start, end = window_bounds(setting.window, at_ms, zone)
    soft = setting.soft_percent
    return Cap(
        scope=scope,
        scope_id=scope_id,
        window=setting.window,
        start_ms=start,
        end_ms=end,
        basis=Basis(setting.basis),
        limit=Nano(setting.limit_nano),
        soft_limit=None if soft is None else Nano(setting.limit_nano * soft // 100),
    )
