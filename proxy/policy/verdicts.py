"""What a policy says about one request: which scope decides, by which rule, and what to tell the caller.

One engine for the plugin that refuses and for the commands that explain. Nothing is remembered from one request to
the next: a clock that is moved back and forth is judged anew each time.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection
from dataclasses import dataclass
from datetime import datetime
from functools import lru_cache
from typing import Final
from zoneinfo import ZoneInfo

from proxy.catalogue import Model
from proxy.client_addresses import Address, Network, networks, within
from proxy.consensus.settings import Mode
from proxy.errors import Refusal
from proxy.panels import filled, shortage
from proxy.paths import MODEL, TooDeep, foldings
from proxy.policy.rules import Hours, Policy, Rules, ScopedRules, allows, denied_model, denies, matches

DAYS: Final = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")
CACHED_MAX: Final = 8192
"""Compiled paths and parsed ranges, of all scopes together."""
_MODEL_PATTERN: Final = r"[A-Za-z0-9._~@:+-]+(?:/[A-Za-z0-9._~@:+-]+)*"
_PLAIN: Final = re.compile(r"(?:/[a-z0-9_~-]+(?:\.[a-z0-9_~-]+)*)+")
"""A path that nobody reads as another one."""


@dataclass(frozen=True, slots=True)
class Denial:
    """A request that a rule keeps from being served."""

    code: str
    scoped: ScopedRules
    rule: str
    """The rule as the file has it: `models.deny gpt-4*`, `hours`."""
    message: str
    """For the caller: which scope says so and what to do."""

    def refusal(self) -> Refusal:
        """The answer; `details.policy` has the same in machine form."""
        details = {"policy": {"scope": self.scoped.scope, "id": self.scoped.scope_id, "rule": self.rule}}
        param = "model" if self.code == "model_not_allowed" else None
        return Refusal(self.code, self.message, param=param, details=details)


def denied_path(policy: Policy, path: str, *, path_model: str | None = None, known: bool = True) -> Denial | None:
    """The rule against this path, as the client spelled it.

    `known`: the operation table took it for exactly this. What it does not know goes to a provider, who may read it
    as another path: then every reading must be allowed, and none denied.
    """
    readings: Collection[str] | None = None
    for scoped in policy.scopes:
        rules = scoped.rules
        if rules.paths_allowed is None and not rules.paths_denied:
            continue
        if readings is None:
            readings = (path,) if known else _readings(path)
        for pattern in rules.paths_denied:
            if not readings or any(fits_path(pattern, reading, path_model) for reading in readings):
                return _policy_denied(scoped, f"paths.deny {pattern}", f"does not allow the path {path}")
        allowed = rules.paths_allowed
        if allowed is not None and not (
            readings and all(any(fits_path(p, reading, path_model) for p in allowed) for reading in readings)
        ):
            return _policy_denied(scoped, "paths.allow", f"does not allow the path {path}")
    return None


def denied_unread(policy: Policy, path: str) -> Denial | None:
    """The rule that would go unenforced on a path of a provider that is passed on unread.

    Where an operator lists the paths that are allowed, and this one among them, that is what he wants.
    """
    if any(scoped.rules.paths_allowed is not None for scoped in policy.scopes):
        return None
    for scoped in policy.scopes:
        rule = _read_from_body(scoped.rules)
        if rule is not None:
            what = f"sets '{rule}', and what goes over {path} is not read"
            return _policy_denied(scoped, rule, what, remedy="Use a path that is metered")
    return None


def _read_from_body(rules: Rules) -> str | None:
    """A rule that can only be kept where the request's body is read."""
    found = {
        "models.allow": rules.models_allowed is not None,
        "models.deny": bool(rules.models_denied),
        "max_tokens": rules.output_tokens_max is not None,
        "parameters": bool(rules.parameters),
        "system_prefix": bool(rules.system_prefix),
    }
    return next((rule for rule, there in found.items() if there), None)


def fits_path(pattern: str, path: str, path_model: str | None) -> bool:
    """Whether a rule means this path; one without the model at its end means it with any model, too."""
    if _path_pattern(pattern)(path) is not None:
        return True
    return (
        path_model is not None
        and path.endswith(f"/{path_model}")
        and fits_path(pattern, path[: -len(path_model) - 1], None)
    )


@lru_cache(maxsize=CACHED_MAX)
def _path_pattern(pattern: str) -> Callable[[str], re.Match[str] | None]:
    text = re.escape(pattern).replace(re.escape(MODEL), _MODEL_PATTERN)
    if text.endswith(r"\*"):
        text = text[:-2] + ".*"
    return re.compile(text, re.IGNORECASE | re.DOTALL).fullmatch


def _readings(path: str) -> Collection[str]:
    """The path and all that it could be taken for; nothing where that cannot be told."""
    if _PLAIN.fullmatch(path) is not None:
        return (path,)
    try:
        return {path, *foldings(path)}
    except TooDeep:
        return ()


def denied_time(policy: Policy, at_ms: int) -> Denial | None:
    """The scope that is closed at this moment."""
    for scoped in policy.scopes:
        hours = scoped.rules.hours
        if hours is not None and not any(is_open(window, at_ms) for window in hours):
            zone = hours[0].time_zone
            now = local_time(zone, at_ms)
            told = "; ".join(dict.fromkeys(hours_text(window) for window in hours))
            return _policy_denied(
                scoped,
                "hours",
                f"is served at these times: {told}. It is {DAYS[now.weekday()]} {now:%H:%M} in {zone} now",
                remedy="Try again then",
            )
    return None


def local_time(zone: str, at_ms: int) -> datetime:
    """What a clock on the wall there shows."""
    return datetime.fromtimestamp(at_ms // 1000, ZoneInfo(zone))


def is_open(window: Hours, at_ms: int) -> bool:
    """Whether the wall clock stands within the window.

    An hour that daylight saving skips is on no clock, so what lies within it alone does not come that day; one that
    it repeats is open both times.
    """
    now = local_time(window.time_zone, at_ms)
    minute, day = now.hour * 60 + now.minute, now.weekday()
    start, end = window.start_minute, window.end_minute
    if end > start:
        return day in window.days and start <= minute < end
    return (day in window.days and minute >= start) or ((day - 1) % 7 in window.days and minute < end)


def hours_text(window: Hours) -> str:
    """`Mon, Tue 08:00-18:00 (Europe/Berlin)`"""
    days = "every day" if len(window.days) == len(DAYS) else ", ".join(DAYS[day] for day in sorted(window.days))
    return f"{days} {_clock(window.start_minute)}-{_clock(window.end_minute)} ({window.time_zone})"


def _clock(minute: int) -> str:
    return f"{minute // 60:02d}:{minute % 60:02d}"


def denied_address(policy: Policy, address: Address | None) -> Denial | None:
    """The scope whose ranges the client's address lies outside of; an unknown address lies in none."""
    for scoped in policy.scopes:
        ranges = scoped.rules.ip_ranges
        if ranges is not None and not within(address, _networks(ranges)):
            whose = "an unknown address" if address is None else f"the address {address}"
            return _policy_denied(scoped, "ip_ranges", f"is not served at {whose}", remedy="Call from its own networks")
    return None


_networks: Callable[[tuple[str, ...]], tuple[Network, ...]] = lru_cache(maxsize=CACHED_MAX)(networks)


def denied_call(policy: Policy, model: Model, names: Collection[str], meant: Collection[str] = ()) -> Denial | None:
    """The rule against this model under all the `names` it is known by; a lane needs a member that is left,
    a panel so many that it can be run.

    `meant`: more names, for the lists of denied models alone.
    """
    if not policy.restricts_models:
        return None
    for scoped in policy.scopes:
        rules = scoped.rules
        for name in (*names, *sorted(meant)):
            if denies(rules, name):
                return _model_denied(scoped, f"models.deny {_named(rules.models_denied, name)}", model.name)
        if rules.models_allowed is not None and not any(allows(rules, name) for name in names):
            return _model_denied(scoped, "models.allow", model.name)
    if model.panel is not None:
        return _denied_seats(policy, model, model.panel)
    return _denied_members(policy, model) if model.lane else None


def _denied_members(policy: Policy, lane: Model) -> Denial | None:
    """A lane all of whose members are denied cannot be served."""
    found: ScopedRules | None = None
    for candidate in lane.candidates:
        found = denied_model(policy, lane.name, member=lane.served_as(candidate))
        if found is None:
            return None
    return None if found is None else _model_denied(found, "models.deny", lane.name, "none of its members is left")


def _denied_seats(policy: Policy, model: Model, panel: Mode) -> Denial | None:
    """A panel with too few seats left cannot be run."""
    first: ScopedRules | None = None
    left: set[str] = set()
    for candidate in model.candidates:
        found = denied_model(policy, model.name, member=model.served_as(candidate))
        if found is None:
            left.add(candidate.model)
        first = first or found
    lacking = "" if first is None else shortage(filled(panel, left))
    return None if first is None or not lacking else _model_denied(first, "models.deny", model.name, lacking)


def _named(patterns: tuple[str, ...], name: str) -> str:
    """The entry that means this model; its own name where another of its names is listed."""
    return next((pattern for pattern in patterns if matches((pattern,), name)), name)


def _model_denied(scoped: ScopedRules, rule: str, model: str, why: str = "") -> Denial:
    who = f"{scoped.scope.capitalize()} '{scoped.scope_id}'"
    reason = f": {why}" if why else ""
    return Denial(
        "model_not_allowed",
        scoped,
        rule,
        f"{who} may not call the model '{model}'{reason}. Choose another (GET /v1/models), or ask the operator for it.",
    )


def _policy_denied(scoped: ScopedRules, rule: str, what: str, *, remedy: str = "Call another one") -> Denial:
    text = f"The policy of {whose(scoped)} refuses this: it {what}. {remedy}, or ask the operator to change it."
    return Denial("policy_denied", scoped, rule, text)


def whose(scoped: ScopedRules) -> str:
    """`team 'research'`"""
    return f"{scoped.scope} '{scoped.scope_id}'"
