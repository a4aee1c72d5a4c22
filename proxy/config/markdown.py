"""The files' schemas as a page for people: every key with its type, bounds and default."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any, Final

Schema = Mapping[str, Any]
INTRODUCTION: Final = """\
# Configuration

Every key of every file, made by `tollway schema --markdown`. A key without a default must be given; an unknown one
stops the start. `NAME` stands for a name of yours, `[]` for each entry of a list. `${NAME}` and `${NAME:-default}` are
taken from the environment, in any value. Names that end in `_seconds`, `_bytes_max` and the like carry their unit.
"""
_HEAD: Final = ("| key | type | default | |", "|---|---|---|---|")
_BOUNDS: Final = {
    "minimum": "at least {}",
    "exclusiveMinimum": "more than {}",
    "maximum": "at most {}",
    "minLength": "at least {} characters",
    "maxLength": "at most {} characters",
    "minItems": "{} or more",
    "maxItems": "at most {}",
    "minProperties": "{} or more",
}
_NAMES: Final = {"string": "text", "boolean": "true or false"}


def markdown(schemas: Mapping[str, Schema]) -> str:
    """The page. `schemas` by file name, as `json_schemas` makes them."""
    lines = [INTRODUCTION]
    for name, schema in schemas.items():
        page = _Page(schema)
        lines += [f"## {schema['title']}\n", *page.table(schema), *page.sections(page.below("", schema))]
        if name == "config.yaml":
            lines += ["## Settings of plugins, in the chain of config.yaml\n", *page.sections(_plugins(schema))]
    return "\n".join(lines).rstrip() + "\n"


def _plugins(schema: Schema) -> list[tuple[str, Schema]]:
    links = schema["properties"]["chain"]["items"]["anyOf"][1]["properties"]
    settings = [(name, kinds["anyOf"][0]) for name, kinds in sorted(links.items())]
    return [(name, one) for name, one in settings if one["properties"]]


class _Page:
    """One file: its definitions are looked up by reference."""

    def __init__(self, schema: Schema) -> None:
        self._definitions: Mapping[str, Schema] = schema.get("$defs", {})

    def sections(self, places: list[tuple[str, Schema]]) -> Iterator[str]:
        """A section for each different schema, under all the places where it stands."""
        named: dict[int, tuple[list[str], Schema]] = {}
        for place, schema in places:
            named.setdefault(id(schema), ([], schema))[0].append(place)
        for paths, schema in named.values():
            yield f"### {', '.join(paths)}\n"
            yield f"{_escaped(schema['description'])}\n"
            yield from self.table(schema)

    def table(self, schema: Schema) -> Iterator[str]:
        """One row a key."""
        yield from _HEAD
        for key, value in schema["properties"].items():
            needed = key in schema.get("required", ())
            default = "" if needed else "see below" if "$ref" in value else f"`{_default(value)}`"
            description = value.get("description") or self._target(value).get("description", "")
            yield f"| `{key}` | {_escaped(self._type(value))} | {default} | {_escaped(description)} |"
        yield ""

    def below(self, path: str, schema: Schema) -> list[tuple[str, Schema]]:
        """Everything under `path` that has keys of its own, outer before inner."""
        found: list[tuple[str, Schema]] = []
        for key, value in schema["properties"].items():
            place, target = self._place(f"{path}.{key}" if path else key, value)
            if "properties" in target:
                found += [(place, target), *self.below(place, target)]
        return found

    def _place(self, path: str, schema: Schema) -> tuple[str, Schema]:
        """Through lists, mappings and `or null`, to what is there in the end."""
        schema = self._target(schema)
        if "items" in schema:
            return self._place(f"{path}[]", schema["items"])
        if (values := _values(schema)) is not None:
            return self._place(f"{path}.NAME", values)
        return path, schema

    def _target(self, schema: Schema) -> Schema:
        """What a reference, or one that may be null, stands for."""
        kinds = [kind for kind in schema.get("anyOf", ()) if kind.get("type") != "null"]
        if len(kinds) == 1:
            schema = kinds[0]
        reference = schema.get("$ref")
        return schema if reference is None else self._definitions[reference.rpartition("/")[2]]

    def _type(self, schema: Schema) -> str:
        if "$ref" in schema:
            schema = self._target(schema)
        kinds = schema.get("anyOf")
        if kinds is not None:
            if {kind.get("type") for kind in kinds} >= {"number", "string"}:
                rest = [kind for kind in kinds if kind.get("type") == "null"]
                return "decimal or null" if rest else "decimal"
            return " or ".join(self._type(kind) for kind in kinds)
        if "enum" in schema:
            return " or ".join(f"`{value}`" for value in schema["enum"])
        if "const" in schema:
            return f"`{schema['const']}`"
        return ", ".join((self._plain(schema), *_bounds(schema)))

    def _plain(self, schema: Schema) -> str:
        kind = str(schema.get("type", "anything"))
        if kind == "array":
            return f"list of {self._type(schema['items'])}" if "items" in schema else "list"
        if kind == "object":
            values = _values(schema)
            return "mapping" if values is None else f"mapping to {self._type(values)}"
        return _NAMES.get(kind, kind)


def _values(schema: Schema) -> Schema | None:
    """What the names of a mapping lead to; None where its keys are known ones."""
    if "properties" in schema:
        return None
    patterns: Mapping[str, Schema] = schema.get("patternProperties", {})
    other: Schema | bool | None = next(iter(patterns.values()), schema.get("additionalProperties"))
    return other if isinstance(other, Mapping) else None


def _bounds(schema: Schema) -> Iterator[str]:
    if schema.get("minLength") == 1:
        schema = {**schema, "minLength": None}
        yield "not empty"
    low, high = schema.get("minimum"), schema.get("maximum")
    if low is not None and high is not None:
        yield f"{low} to {high}"
    for key, text in _BOUNDS.items():
        if schema.get(key) is not None and not (key in ("minimum", "maximum") and low is not None and high is not None):
            yield text.format(schema[key])
    if "pattern" in schema:
        yield f"`{schema['pattern']}`"


def _default(schema: Schema) -> str:
    value = schema.get("default")
    if schema.get("uniqueItems") and isinstance(value, list):
        value = sorted(value)
    return json.dumps(value, ensure_ascii=False)


def _escaped(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|")
