"""Whether an object is what `response_format` asks for: the part of JSON Schema that structured outputs allow.

Known: type, properties, required, additionalProperties, enum, const, items, anyOf, $ref into $defs, and bounds of
numbers, lengths and counts. Other keywords are not looked at: what a provider accepts as a schema is its own business.
"""

from __future__ import annotations

from operator import ge, gt, le, lt
from typing import Any, Final

import orjson

from proxy.consensus.objects import NESTING_MAX, depth

DEPTH_MAX: Final = 64
STEPS_MAX: Final = 100_000
"""Values looked at, each way of `anyOf` anew: a schema that branches without end costs no more than this."""
LISTED_PER_STEP: Final = 16
"""Entries of an `enum` or of types, and characters of a reference, that count as one more: a caller writes both the
schema and, by its question, the answer, and thousands of the one for each of thousands of the other take seconds."""

_TYPES: Final[dict[str, tuple[type, ...]]] = {
    "object": (dict,),
    "array": (list,),
    "string": (str,),
    "boolean": (bool,),
    "null": (type(None),),
    "number": (int, float),
    "integer": (int, float),
}
_BOUNDS: Final = {"minimum": ge, "maximum": le, "exclusiveMinimum": gt, "exclusiveMaximum": lt}
_FENCE: Final = "```"


def schema_of(response_format: dict[str, Any] | None) -> dict[str, Any] | None:
    """The JSON Schema that an answer must fit; None where none is asked for. `json_object` is any object."""
    if response_format is None or response_format.get("type") in (None, "text"):
        return None
    if response_format.get("type") == "json_schema":
        named = response_format.get("json_schema")
        schema = named.get("schema") if isinstance(named, dict) else None
        if isinstance(schema, dict):
            return schema
    return {"type": "object"}


def parsed(text: str, schema: dict[str, Any]) -> tuple[Any, str]:
    """The JSON value that `text` is, and what is wrong with it ("": it fits). A fence of Markdown around it is
    forgiven; words around it are not."""
    try:
        value = orjson.loads(bare(text))
    except orjson.JSONDecodeError:
        return None, "it is not one JSON value and nothing else"
    if depth(value) > NESTING_MAX:
        return None, "it is nested too deep"
    return value, problem(value, schema)


def bare(text: str) -> str:
    """`text` without white space and a fence of Markdown around it."""
    inner = text.strip()
    if inner.startswith(_FENCE) and inner.endswith(_FENCE) and "\n" in inner:
        inner = inner[inner.index("\n") + 1 : -len(_FENCE)].strip()
    return inner


def problem(value: Any, schema: dict[str, Any]) -> str:
    """The first thing about `value` that does not fit, with its place (`$.items[2]: ...`); "" where all of it fits."""
    return _Check(schema).value(value, schema, "$", 0)


class _Check:
    def __init__(self, root: dict[str, Any]) -> None:
        self._root = root
        self._steps = 0

    def value(self, value: Any, schema: Any, place: str, depth: int) -> str:
        self._steps += 1 + _length(schema) // LISTED_PER_STEP
        if depth > DEPTH_MAX or self._steps > STEPS_MAX:
            return f"{place}: nested too deep"
        if schema is True or schema == {}:
            return ""
        if not isinstance(schema, dict):
            return f"{place}: nothing is allowed here"
        if "$ref" in schema:
            return self.value(value, self._referred(schema["$ref"]), place, depth + 1)
        return (
            _type_problem(value, schema.get("type"), place)
            or _listed_problem(value, schema, place)
            or self._any_of(value, schema.get("anyOf"), place, depth)
            or self._inside(value, schema, place, depth)
        )

    def _referred(self, reference: Any) -> Any:
        if not isinstance(reference, str) or not reference.startswith("#"):
            return False
        found: Any = self._root
        for step in reference[1:].split("/")[1:]:
            name = step.replace("~1", "/").replace("~0", "~")
            if not isinstance(found, dict) or name not in found:
                return False
            found = found[name]
        return found

    def _any_of(self, value: Any, ways: Any, place: str, depth: int) -> str:
        if not isinstance(ways, list):
            return ""
        first = ""
        for way in ways:
            wrong = self.value(value, way, place, depth + 1)
            if not wrong:
                return ""
            first = first or wrong
        return first

    def _inside(self, value: Any, schema: dict[str, Any], place: str, depth: int) -> str:
        if isinstance(value, dict):
            return self._object(value, schema, place, depth)
        if isinstance(value, list):
            return _bounds_problem(len(value), schema, ("minItems", "maxItems"), place, "entries") or next(
                filter(None, (self._item(entry, schema, place, n, depth) for n, entry in enumerate(value))), ""
            )
        if isinstance(value, str):
            return _bounds_problem(len(value), schema, ("minLength", "maxLength"), place, "characters")
        if isinstance(value, int | float) and not isinstance(value, bool):
            return _number_problem(value, schema, place)
        return ""

    def _item(self, entry: Any, schema: dict[str, Any], place: str, position: int, depth: int) -> str:
        return self.value(entry, schema.get("items", True), f"{place}[{position}]", depth + 1)

    def _object(self, value: dict[str, Any], schema: dict[str, Any], place: str, depth: int) -> str:
        required = schema.get("required")
        for name in required if isinstance(required, list) else ():
            if name not in value:
                return f"{place}: {name!r} is missing"
        properties = schema.get("properties")
        known = properties if isinstance(properties, dict) else {}
        others = schema.get("additionalProperties", True)
        for name, entry in value.items():
            if name not in known and others is False:
                return f"{place}: {name!r} is not among its properties"
            wrong = self.value(entry, known.get(name, others), f"{place}.{name}", depth + 1)
            if wrong:
                return wrong
        return ""


def _length(schema: Any) -> int:
    """Of what is looked through for one value."""
    if not isinstance(schema, dict):
        return 0
    given = (schema.get("enum"), schema.get("type"), schema.get("$ref"))
    return sum([len(one) for one in given if isinstance(one, list | str)])


def _type_problem(value: Any, types: Any, place: str) -> str:
    names = [types] if isinstance(types, str) else types
    if not isinstance(names, list) or any(_is(value, name) for name in names):
        return ""
    return f"{place}: must be {' or '.join(str(name) for name in names)}"


def _is(value: Any, name: Any) -> bool:
    kinds = _TYPES.get(name) if isinstance(name, str) else None
    if kinds is None or not isinstance(value, kinds) or (isinstance(value, bool) and name != "boolean"):
        return False
    return name != "integer" or not isinstance(value, float) or value.is_integer()


def _listed_problem(value: Any, schema: dict[str, Any], place: str) -> str:
    if "const" in schema and not _same(value, schema["const"]):
        return f"{place}: must be {schema['const']!r}"
    listed = schema.get("enum")
    if not isinstance(listed, list):
        return ""
    among = value in listed if type(value) is str else any(_same(value, one) for one in listed)
    if not among:
        return f"{place}: must be one of {', '.join(repr(one) for one in listed[:8])}"
    return ""


def _same(one: Any, other: Any) -> bool:
    """Equal as JSON: true is not 1, 1.0 is."""
    if isinstance(one, bool) or isinstance(other, bool):
        return one is other
    if isinstance(one, dict) and isinstance(other, dict):
        return one.keys() == other.keys() and all(_same(one[name], other[name]) for name in one)
    if isinstance(one, list) and isinstance(other, list):
        return len(one) == len(other) and all(map(_same, one, other))
    return bool(one == other)


def _bounds_problem(size: int, schema: dict[str, Any], names: tuple[str, str], place: str, unit: str) -> str:
    least, most = (schema.get(name) for name in names)
    if isinstance(least, int) and size < least:
        return f"{place}: fewer than {least} {unit}"
    if isinstance(most, int) and size > most:
        return f"{place}: more than {most} {unit}"
    return ""


def _number_problem(value: float, schema: dict[str, Any], place: str) -> str:
    for name, fits in _BOUNDS.items():
        bound = schema.get(name)
        if isinstance(bound, int | float) and not isinstance(bound, bool) and not fits(value, bound):
            return f"{place}: {name} is {bound}"
    return ""
