"""YAML with places: one file as plain values, and where each of them stands.

Built from the parser's events, not by a YAML constructor, so the document can do nothing: no tags, no merge
keys, no second document, no duplicate keys, and aliases cannot blow up. A number with a point is a `Decimal`
of the text as written: money never passes through a float.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field, replace
from decimal import Decimal
from pathlib import Path as FilePath
from typing import Any, Final

import yaml

from proxy.config.problems import ConfigProblems, Mark, Marks, Path, Problem

FILE_BYTES_MAX: Final = 1 << 20
DEPTH_MAX: Final = 24
NODES_MAX: Final = 100_000
"""Values in one file, those that an alias repeats counted each time."""
DIGITS_MAX: Final = 40

_Loader: type[Any] = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_INT = re.compile(r"[-+]?[0-9][0-9_]*")
_DECIMAL = re.compile(r"[-+]?(?:[0-9][0-9_]*\.[0-9]*|\.[0-9]+|[0-9]+)(?:[eE][-+]?[0-9]{1,2})?")
_WORDS: Final[dict[str, Any]] = {
    **dict.fromkeys(("", "~", "null", "Null", "NULL")),
    **dict.fromkeys(("true", "True", "TRUE"), True),
    **dict.fromkeys(("false", "False", "FALSE"), False),
}
"""YAML 1.2's: `no` and `on` are texts, not booleans."""


@dataclass(frozen=True, slots=True)
class Document:
    """One file: `data` is made of dict, list, str, int, Decimal, bool and None."""

    data: Any
    marks: Marks


def read_document(path: FilePath, name: str) -> Document:
    """Read a file; `name` is what problems call it. Raises ConfigProblems."""
    try:
        with path.open("rb") as file:
            raw = file.read(FILE_BYTES_MAX + 1)
    except OSError as error:
        raise ConfigProblems([Problem(name, 1, 1, "", f"the file cannot be read: {error.strerror}")]) from error
    if len(raw) > FILE_BYTES_MAX:
        raise ConfigProblems([Problem(name, 1, 1, "", f"the file is larger than {FILE_BYTES_MAX} bytes")])
    return parse_document(raw, name)


def parse_document(raw: bytes, name: str) -> Document:
    """Parse a file's bytes. Raises ConfigProblems."""
    try:
        text = raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = raw[: error.start].count(b"\n") + 1
        raise ConfigProblems([Problem(name, line, 1, "", "the file is not UTF-8 text")]) from error
    builder = _Builder(name)
    try:
        for event in yaml.parse(text, Loader=_Loader):
            builder.take(event)
    except yaml.MarkedYAMLError as error:
        raise ConfigProblems([_syntax(name, error)]) from error
    except yaml.reader.ReaderError as error:
        line = text[: error.position].count("\n") + 1
        raise ConfigProblems([Problem(name, line, 1, "", f"not valid YAML: {error.reason}")]) from error
    if builder.problems:
        raise ConfigProblems(builder.problems)
    keys: dict[Path, Mark] = {}
    values: dict[Path, Mark] = {}
    data = _plain(builder.root, (), keys, values) if builder.root is not None else None
    return Document(data, Marks(name, keys, values))


def _syntax(name: str, error: yaml.MarkedYAMLError) -> Problem:
    place = error.problem_mark or error.context_mark
    line, column = (place.line + 1, place.column + 1) if place else (1, 1)
    said = ", ".join(part for part in (error.context, error.problem) if part)
    hint = "; indent with spaces, not tabs" if "\\t" in said or "tab" in said else ""
    return Problem(name, line, column, "", f"not valid YAML: {said}{hint}")


@dataclass(slots=True)
class _Node:
    """A value under construction. `size` counts it and all below it, `depth` the levels it has."""

    kind: str
    mark: Mark
    value: Any = None
    keys: list[_Node] = field(default_factory=list)
    items: list[_Node] = field(default_factory=list)
    names: dict[str, Mark] = field(default_factory=dict)
    anchor: str | None = None
    size: int = 1
    depth: int = 1


class _Builder:
    """Turns events into nodes, without recursion, under the limits above."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.root: _Node | None = None
        self.problems: list[Problem] = []
        self._open: list[_Node] = []
        self._anchors: dict[str, _Node] = {}
        self._documents = 0
        self._nodes = 0

    def take(self, event: yaml.Event) -> None:
        """The next event."""
        if isinstance(event, yaml.DocumentStartEvent):
            self._documents += 1
            if self._documents > 1:
                self._stop(event, "one document a file: remove '---' and what follows")
        elif isinstance(event, yaml.AliasEvent):
            self._alias(event)
        elif isinstance(event, yaml.ScalarEvent):
            self._refuse_tag(event)
            self._add(_Node("scalar", _mark(event), _scalar(event), anchor=event.anchor), event)
        elif isinstance(event, yaml.MappingStartEvent | yaml.SequenceStartEvent):
            self._refuse_tag(event)
            kind = "mapping" if isinstance(event, yaml.MappingStartEvent) else "sequence"
            if len(self._open) >= DEPTH_MAX:
                self._stop(event, f"nested deeper than {DEPTH_MAX} levels")
            self._open.append(_Node(kind, _mark(event), anchor=event.anchor))
        elif isinstance(event, yaml.MappingEndEvent | yaml.SequenceEndEvent):
            self._add(self._open.pop(), event)

    def _alias(self, event: yaml.AliasEvent) -> None:
        target = self._anchors.get(event.anchor or "")
        if target is None:
            self._stop(event, f"the alias *{event.anchor} names no finished &{event.anchor} before it")
            return
        if len(self._open) + target.depth > DEPTH_MAX:
            self._stop(event, f"nested deeper than {DEPTH_MAX} levels")
        self._add(replace(target, mark=_mark(event), anchor=None), event)

    def _add(self, node: _Node, event: yaml.Event) -> None:
        """A finished value: a key or an item of what is open, or the whole document."""
        self._nodes += node.size if node.kind == "scalar" or isinstance(event, yaml.AliasEvent) else 1
        if self._nodes > NODES_MAX:
            self._stop(event, f"more than {NODES_MAX} values, aliases counted each time")
        if node.anchor is not None:
            self._anchors[node.anchor] = node
        if not self._open:
            self.root = node
            return
        parent = self._open[-1]
        parent.size += node.size
        parent.depth = max(parent.depth, node.depth + 1)
        if parent.kind == "mapping" and len(parent.keys) == len(parent.items):
            self._key(parent, node)
        else:
            parent.items.append(node)

    def _key(self, parent: _Node, node: _Node) -> None:
        if node.kind != "scalar":
            self._problem(node.mark, "a key is a text")
        elif node.value[0] == "<<":
            self._problem(node.mark, "merge keys (<<) are not supported: repeat the keys")
        else:
            first = parent.names.setdefault(node.value[0], node.mark)
            if first is not node.mark:
                self._problem(node.mark, f"the key '{node.value[0]}' stands twice; the first is on line {first.line}")
        parent.keys.append(node)

    def _refuse_tag(self, event: yaml.NodeEvent) -> None:
        tag = getattr(event, "tag", None)
        if tag is not None:
            self._problem(_mark(event), f"tags such as '{tag}' are not supported")

    def _problem(self, mark: Mark, message: str) -> None:
        self.problems.append(Problem(self.name, mark.line, mark.column, "", message))

    def _stop(self, event: yaml.Event, message: str) -> None:
        mark = _mark(event)
        raise ConfigProblems([*self.problems, Problem(self.name, mark.line, mark.column, "", message)])


def _mark(event: yaml.Event) -> Mark:
    start = event.start_mark
    return Mark(1, 1) if start is None else Mark(start.line + 1, start.column + 1)


def _scalar(event: yaml.ScalarEvent) -> tuple[str, Any]:
    """The text as written, and the value it stands for."""
    text = event.value
    if not event.implicit[0]:
        return text, text
    if text in _WORDS:
        return text, _WORDS[text]
    if len(text) <= DIGITS_MAX:
        if _INT.fullmatch(text):
            return text, int(text)
        if _DECIMAL.fullmatch(text):
            return text, Decimal(text.replace("_", ""))
    return text, text


def _plain(node: _Node, path: Path, keys: dict[Path, Mark], values: dict[Path, Mark]) -> Any:
    """Plain values; recursion is bounded by DEPTH_MAX."""
    values[path] = node.mark
    if node.kind == "scalar":
        return node.value[1]
    if node.kind == "sequence":
        return [_plain(item, (*path, index), keys, values) for index, item in enumerate(node.items)]
    mapping: dict[str, Any] = {}
    for key, item in zip(node.keys, node.items, strict=True):
        name = key.value[0]
        keys[*path, name] = key.mark
        mapping[name] = _plain(item, (*path, name), keys, values)
    return mapping
