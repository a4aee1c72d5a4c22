"""The vocabulary of allow-lists: a shape names the members that an object may have, a rule what of one may stay.

What no shape names is dropped, so a member that a provider invents tomorrow is concealed today. Text that a model
wrote is exempt. A value of another type than its rule expects is dropped, too: a number has no room for a name,
but a string in its place has.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final

from plugins.conceal.names import BLOCK_ID_CHARS, CALL_ID_CHARS, Names

Rule = Callable[[Any, Names], Any]
"""From the upstream's value to ours, or DROP."""
Shape = Mapping[str, Rule]
DROP: Final = object()


def projected(value: Mapping[str, Any], shape: Shape, names: Names) -> dict[str, Any]:
    """The members of `value` that `shape` allows, in the shape's order: an order of its own tells who wrote it."""
    kept = {}
    for key, rule in shape.items():
        if key in value and (ours := rule(value[key], names)) is not DROP:
            kept[key] = ours
    return kept


def text(value: Any, _: Names) -> Any:
    """What a model wrote, or null."""
    return value if value is None or isinstance(value, str) else DROP


def count(value: Any, _: Names) -> Any:
    """A whole number, or null."""
    return value if value is None or type(value) is int else DROP


def number(value: Any, _: Names) -> Any:
    """A number, or null."""
    return value if value is None or type(value) in (int, float) else DROP


def flag(value: Any, _: Names) -> Any:
    """true, false or null."""
    return value if value is None or isinstance(value, bool) else DROP


def generated(value: Any, _: Names) -> Any:
    """JSON that a model wrote: the input of a tool."""
    return value


def numbers(value: Any, _: Names) -> Any:
    """A list of numbers, or the same in base64."""
    if isinstance(value, list):
        return value if {int, float}.issuperset(map(type, value)) else DROP
    return value if isinstance(value, str) else DROP


def tree(*members: str, types: frozenset[str]) -> Rule:
    """What a provider's tool found: JSON of any depth, whose objects have these members and a `type` of these alone."""
    allowed = frozenset(members)

    def rule(value: Any, names: Names) -> Any:
        if isinstance(value, list):
            return [rule(one, names) for one in value]
        if not isinstance(value, dict):
            return value
        kept = {key: rule(one, names) for key, one in value.items() if key in allowed}
        if isinstance(kind := value.get("type"), str) and kind in types:
            return {"type": kind, **kept}
        return kept

    return rule


def constant(ours: Any) -> Rule:
    """Ours, whatever the upstream wrote."""
    return lambda _value, _names: ours


def echoed(member_name: str, default: Any = None) -> Rule:
    """What the client itself wrote in its request, whatever the upstream repeats of it."""
    return lambda _value, names: names.asked.get(member_name, default)


def word(*known: str, other: str | None = None, meaning: Mapping[str, str] | None = None) -> Rule:
    """One of the format's own words. Vendors' own are translated by `meaning`, any else becomes `other`."""
    words = {one: one for one in known} | dict(meaning or {})

    def rule(value: Any, _: Names) -> Any:
        if isinstance(value, str):
            return words.get(value, other)
        return None if value is None else other

    return rule


def member(shape: Shape) -> Rule:
    """An object, or null."""

    def rule(value: Any, names: Names) -> Any:
        if isinstance(value, dict):
            return projected(value, shape, names)
        return None if value is None else DROP

    return rule


def listed(rule: Rule) -> Rule:
    """A list of what the rule lets stay, or null."""

    def rule_of_list(value: Any, names: Names) -> Any:
        if isinstance(value, list):
            return [ours for one in value if (ours := rule(one, names)) is not DROP]
        return None if value is None else DROP

    return rule_of_list


def typed(shapes: Mapping[str, Shape], other: Callable[[], Any] = lambda: DROP) -> Rule:
    """An object whose type says which shape it has; `other()` where no shape is known."""

    def rule(value: Any, names: Names) -> Any:
        kind = value.get("type") if isinstance(value, dict) else None
        shape = shapes.get(kind) if isinstance(kind, str) else None
        return other() if shape is None else {"type": kind} | projected(value, shape, names)

    return rule


def objects(shape: Shape) -> Rule:
    """A list of objects, or null."""

    def rule(value: Any, names: Names) -> Any:
        return projected(value, shape, names) if isinstance(value, dict) else DROP

    return listed(rule)


def call_id(value: Any, names: Names) -> Any:
    """The id of a tool call. Null and "" (in a stream: already said) stay."""
    if isinstance(value, str):
        return names.hidden(value, CALL_ID_CHARS) if value else value
    return None if value is None else DROP


def block_id(prefix: str) -> Rule:
    """The id of a block or item, of a format whose ids tell by a prefix what they name."""

    def rule(value: Any, names: Names) -> Any:
        if isinstance(value, str):
            return prefix + names.hidden(value, BLOCK_ID_CHARS) if value else value
        return None if value is None else DROP

    return rule
