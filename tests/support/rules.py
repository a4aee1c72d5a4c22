"""Rules at scopes without files, for tests of policies."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from proxy.config.schema import Generation
from proxy.policy.rules import Hours, Rules, ScopedRules
from tests.support.fakes import generation, team

EVERY_DAY = frozenset(range(7))
WEEKDAYS = frozenset(range(5))


def scoped(scope: str, scope_id: str = "", **rules: Any) -> ScopedRules:
    """Rules of one scope; models by name mean themselves."""
    for kind in ("allowed", "denied"):
        listed = rules.get(f"models_{kind}") or ()
        rules.setdefault(f"models_{kind}_named", frozenset(name for name in listed if "*" not in name))
    return ScopedRules(scope, scope_id or scope, Rules(**rules), "teams.yaml:7", {"hours": 9})


def ruled(
    *,
    organisation: Mapping[str, Any] | None = None,
    of_team: Mapping[str, Any] | None = None,
    user: Mapping[str, Any] | None = None,
    key: Mapping[str, Any] | None = None,
    tier: str = "standard",
    **changes: Any,
) -> Generation:
    """A configuration in which organisation acme, team default, user tester and his key have rules."""
    default = team(
        tier=tier,
        rules=None if of_team is None else scoped("team", "default", **of_team),
        user_rules={} if user is None else {"tester": scoped("user", "default/tester", **user)},
        key_rules={} if key is None else {"key_000000000001": scoped("key", "key_000000000001", **key)},
    )
    made = generation(teams=(default,), **changes)
    rules = {} if organisation is None else {"acme": scoped("organisation", "acme", **organisation)}
    return replace(made, organisation_rules=rules)


def hours(start: str, end: str, *, days: frozenset[int] = EVERY_DAY, zone: str = "UTC") -> tuple[Hours, ...]:
    """One window, times as HH:MM."""
    minutes = [int(text[:2]) * 60 + int(text[3:]) for text in (start, end)]
    return (Hours(days, minutes[0], minutes[1], zone),)
