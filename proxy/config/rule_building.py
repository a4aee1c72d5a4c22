"""One scope's rules of policies/teams.yaml as `proxy.policy` has them, every mistake at its place."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping
from typing import Final

from proxy.catalogue import Model
from proxy.config.problems import Marks, Path, Problem, near
from proxy.config.rule_content import build_content
from proxy.config.rule_hours import build_hours
from proxy.config.rule_lists import ModelNames, check_paths, check_ranges
from proxy.config.rules import RulesEntry
from proxy.policy.forced_members import FORCIBLE, REFUSED, plain
from proxy.policy.rules import Rules, ScopedRules

_RULES: Final = frozenset({*RulesEntry.model_fields, "tier"})
_LISTS: Final = frozenset({"models", "paths"})


class RuleBuilder:
    """Made once a configuration; `scoped` is called for every scope in it."""

    def __init__(
        self,
        problems: list[Problem],
        *,
        catalogue: Mapping[str, Model],
        tiers: Collection[str],
        paths: Iterable[str],
        time_zone: str,
    ) -> None:
        self._problems = problems
        self._models = ModelNames(catalogue)
        self._tiers = tiers
        self._paths = frozenset(paths)
        self._zone = time_zone

    def scoped(self, scope: str, scope_id: str, entry: RulesEntry, marks: Marks, *, tier: str | None) -> ScopedRules:
        """The rules of `entry`, which stands at `marks`; what is wrong goes to the problems."""
        self.check_tier(tier, marks)
        place = f"{marks.file}:{marks.find((), key=True).line}"
        return ScopedRules(scope, scope_id, self._rules(entry, marks, tier), place, _lines(entry, marks))

    def check_tier(self, tier: str | None, marks: Marks) -> None:
        """An unknown tier is a problem."""
        if tier is not None and tier not in self._tiers:
            message = f"there is no tier '{tier}' in tiers.yaml"
            self._problems.append(marks.problem(("tier",), message, suggestion=near(tier, self._tiers)))

    def _rules(self, entry: RulesEntry, marks: Marks, tier: str | None) -> Rules:
        if not entry.model_fields_set & RulesEntry.model_fields.keys():
            return Rules(tier=tier)
        models, paths, problems = entry.models, entry.paths, self._problems
        problems.extend(_empty(entry, marks))
        allowed = None if models is None else models.allow
        denied = () if models is None else models.deny
        problems.extend(check_paths(paths, marks.below("paths"), self._paths))
        problems.extend(check_ranges(entry.ip_ranges or (), marks.below("ip_ranges")))
        return Rules(
            tier=tier,
            models_allowed=allowed,
            models_denied=denied,
            models_allowed_named=self._models.named(allowed or (), marks.below("models", "allow"), problems),
            models_denied_named=self._models.named(denied, marks.below("models", "deny"), problems),
            paths_allowed=None if paths is None else paths.allow,
            paths_denied=() if paths is None else paths.deny,
            hours=None if entry.hours is None else build_hours(entry.hours, marks.below("hours"), problems, self._zone),
            ip_ranges=entry.ip_ranges,
            output_tokens_max=entry.max_tokens,
            parameters=self._parameters(entry, marks.below("parameters")),
            system_prefix=entry.system_prefix,
            content=build_content(entry.content, marks.below("content"), problems),
        )

    def _parameters(self, entry: RulesEntry, marks: Marks) -> dict[str, object]:
        parameters: dict[str, object] = {}
        for name, raw in entry.parameters.items():
            value = parameters[name] = plain(raw)
            known = FORCIBLE.get(name)
            if known is None:
                reason = REFUSED.get(name)
                message = f"'{name}' cannot be forced" + (f": {reason}" if reason else "")
                hint = None if reason else near(name, FORCIBLE)
                listed = "" if reason or hint else f"; these can: {', '.join(FORCIBLE)}"
                self._problems.append(marks.problem((name,), message + listed, suggestion=hint, key=True))
            elif (wanted := known.check(value)) is not None:
                self._problems.append(marks.problem((name,), f"{wanted} is wanted here"))
        return parameters


def _lines(entry: RulesEntry, marks: Marks) -> dict[str, int]:
    """Where each rule stands, by the name that verdicts give it."""
    lines = {}
    for rule in entry.model_fields_set & _RULES:
        lines[rule] = marks.find((rule,), key=True).line
    for lists in _LISTS & lines.keys():
        for key in ("allow", "deny"):
            if marks.has((lists, key)):
                lines[f"{lists}.{key}"] = marks.find((lists, key), key=True).line
    return lines


def _empty(entry: RulesEntry, marks: Marks) -> Iterator[Problem]:
    """Lists that would let nothing through: nobody means that."""
    lists: list[tuple[Path, object]] = [(("hours",), entry.hours), (("ip_ranges",), entry.ip_ranges)]
    for name, one in (("models", entry.models), ("paths", entry.paths)):
        lists.append(((name, "allow"), None if one is None else one.allow))
    lists += [(("hours", index, "days"), window.days) for index, window in enumerate(entry.hours or ())]
    lists += [(("content", index, "on"), rule.on) for index, rule in enumerate(entry.content)]
    for path, values in lists:
        if values == ():
            yield marks.problem(path, "an empty list would let nothing through; leave it out")
