"""What an operator lets one caller do: the typed form of the rules in policies/teams.yaml.

Rules stand at four scopes, organisation > team > user > key. Restrictions add up: what one scope denies no narrower
one allows again, and of two limits the lower counts. The tier is the narrowest scope's. A forced parameter is the
widest scope's: a team cannot undo what its organisation forces. System prefixes are joined, the widest first.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from typing import Any, Final

SCOPES: Final = ("organisation", "team", "user", "key")
PREFIX_SEPARATOR: Final = "\n\n"
"""Between the prefixes of two scopes, and between them and the client's own system prompt."""


@dataclass(frozen=True, slots=True)
class Hours:
    """When calls are allowed: local minutes of the day, on weekdays 0 (Monday) to 6, in `time_zone`.

    `end` <= `start` goes over midnight into the next day. Minutes are those of the wall clock, whatever daylight
    saving does to the length of the day.
    """

    days: frozenset[int]
    start_minute: int
    end_minute: int
    """Up to 1440, the end of the day; the minute itself is outside."""
    time_zone: str = "UTC"
    """IANA name, checked at load."""


@dataclass(frozen=True, slots=True)
class ContentRule:
    """A pattern that requests or answers must not carry."""

    name: str
    pattern: str
    """RE2 syntax, checked at load; matched in linear time."""
    action: str
    """refuse | redact"""
    requests: bool = True
    answers: bool = True
    replacement: str = "[redacted]"
    match_chars_max: int = 128
    """The longest text that counts as one match; of a stream, so much is held back."""
    check: str | None = None
    """luhn: a match whose digits fail the check sum of card numbers is none."""


@dataclass(frozen=True, slots=True)
class Rules:
    """The rules of one scope, as written. None and empty: this scope says nothing about it."""

    tier: str | None = None
    models_allowed: tuple[str, ...] | None = None
    """Names or patterns with `*`; a model must match one of them."""
    models_denied: tuple[str, ...] = ()
    models_allowed_named: frozenset[str] = frozenset()
    """Models of the catalogue that `models_allowed` means by any of their names, each by its own name."""
    models_denied_named: frozenset[str] = frozenset()
    paths_allowed: tuple[str, ...] | None = None
    """Paths as the operation table spells them, or prefixes ending in `*`."""
    paths_denied: tuple[str, ...] = ()
    hours: tuple[Hours, ...] | None = None
    ip_ranges: tuple[str, ...] | None = None
    """CIDR; the client's address must lie in one."""
    output_tokens_max: int | None = None
    """A client's larger limit is lowered to this."""
    parameters: dict[str, Any] = field(default_factory=dict)
    """Top-level members forced into the body, for example temperature."""
    system_prefix: str | None = None
    """Put before the system prompt."""
    content: tuple[ContentRule, ...] = ()

    @property
    def enforces(self) -> bool:
        """Whether anything but the tier is said here."""
        return self != Rules(tier=self.tier)


@dataclass(frozen=True, slots=True)
class ScopedRules:
    """Where rules come from: scope, whose, and file and line for people."""

    scope: str
    scope_id: str
    rules: Rules
    place: str = ""
    lines: dict[str, int] = field(default_factory=dict, compare=False)
    """Rule as the file names it (`hours`, `models.deny`) -> its line."""

    def place_of(self, rule: str) -> str:
        """File and line of one rule, of the scope where the rule has none of its own."""
        line = self.lines.get(rule.partition(" ")[0])
        return self.place if line is None else f"{self.place.rpartition(':')[0]}:{line}"


@dataclass(frozen=True, slots=True)
class Policy:
    """All that applies to one caller, widest scope first. Written to the exchange by `team_policy`."""

    scopes: tuple[ScopedRules, ...] = ()
    """Those that say more than a tier."""
    tier: str = ""
    output_tokens_max: int | None = None
    """The lowest of all scopes."""
    content: tuple[ContentRule, ...] = ()
    """Those of all scopes, widest first."""
    restricts_models: bool = False
    """Some scope allows or denies models by name."""
    parameters: dict[str, Any] = field(default_factory=dict)
    """Members forced into the body, each by the widest scope that names it."""
    system_prefix: str = ""
    """Of all scopes, widest first."""


NO_RULES: Final = Policy()


def denied_model(policy: Policy, name: str, *, member: str = "") -> ScopedRules | None:
    """The scope that keeps this model from the caller; None where every scope lets it through.

    Lists of allowed models judge the name that the caller asked for; lists of denied ones also judge the `member`
    of a lane that would serve it.
    """
    for scoped in policy.scopes:
        rules = scoped.rules
        if denies(rules, name) or (member and denies(rules, member)):
            return scoped
        if rules.models_allowed is not None and not allows(rules, name):
            return scoped
    return None


def denies(rules: Rules, name: str) -> bool:
    """Whether the scope's list of denied models has this name."""
    return name in rules.models_denied_named or matches(rules.models_denied, name)


def allows(rules: Rules, name: str) -> bool:
    """Whether the scope's list of allowed models has this name; without a list every name is allowed."""
    return rules.models_allowed is None or name in rules.models_allowed_named or matches(rules.models_allowed, name)


def matches(patterns: tuple[str, ...], name: str) -> bool:
    """Whether `name` is one of the names, or fits one that has a `*`."""
    return any(pattern == name or ("*" in pattern and fnmatchcase(name, pattern)) for pattern in patterns)
