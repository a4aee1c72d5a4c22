"""What is wrong with a configuration, where, and what was probably meant. All of it at once."""

from __future__ import annotations

import difflib
import typing
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from pydantic import BaseModel, ValidationError
from pydantic.fields import FieldInfo

Path = tuple[str | int, ...]
"""Keys and indices from a file's top: ("listeners", 0, "bind")."""

PROBLEMS_MAX: Final = 200
_NEAR: Final = 0.6


@dataclass(frozen=True, slots=True)
class Mark:
    """A place in a file; line and column count from 1."""

    line: int
    column: int


@dataclass(frozen=True, slots=True)
class Problem:
    """One mistake. Its text never holds a value that came from the environment or a secret file."""

    file: str
    line: int
    column: int
    key: str
    """Where in the file's own terms: listeners[0].bind; "" for the file as a whole."""
    message: str
    suggestion: str | None = None
    """The near miss, if there is one: what to write instead."""

    def __str__(self) -> str:
        key = f"{self.key}: " if self.key else ""
        hint = f". Did you mean '{self.suggestion}'?" if self.suggestion else ""
        return f"{self.file}:{self.line}:{self.column}: {key}{self.message}{hint}"


class ConfigProblems(Exception):
    """The configuration is refused. `problems` holds every mistake found, in the files' order."""

    def __init__(self, problems: Iterable[Problem]) -> None:
        self.problems = tuple(problems)
        super().__init__("\n".join(str(problem) for problem in self.problems))


@dataclass(frozen=True, slots=True)
class Marks:
    """Where each key and each value of one file (or of a part of it) stands."""

    file: str
    keys: Mapping[Path, Mark] = field(default_factory=dict, repr=False)
    values: Mapping[Path, Mark] = field(default_factory=dict, repr=False)
    prefix: Path = ()

    def below(self, *steps: str | int) -> Marks:
        """The marks of a part: paths are then given from there."""
        return Marks(self.file, self.keys, self.values, (*self.prefix, *steps))

    def top(self) -> Marks:
        """The marks of the whole file again."""
        return Marks(self.file, self.keys, self.values)

    def find(self, path: Path, *, key: bool = False) -> Mark:
        """The place of `path`, or of the nearest thing around it that stands in the file."""
        whole = (*self.prefix, *path)
        if key and whole in self.keys:
            return self.keys[whole]
        while whole:
            if whole in self.values:
                return self.values[whole]
            whole = whole[:-1]
        return self.values.get((), Mark(1, 1))

    def has(self, path: Path) -> bool:
        """Whether `path` stands in the file (and is not a default)."""
        return (*self.prefix, *path) in self.values

    def problem(self, path: Path, message: str, *, suggestion: str | None = None, key: bool = False) -> Problem:
        """A problem at `path`; with `key` at the key itself rather than its value."""
        mark = self.find(path, key=key)
        return Problem(self.file, mark.line, mark.column, key_text((*self.prefix, *path)), message, suggestion)


def key_text(path: Path) -> str:
    """listeners[0].bind"""
    text = ""
    for step in path:
        if isinstance(step, int):
            text += f"[{step}]"
        else:
            text += f".{step}" if text else step
    return text


def near(name: str, known: Iterable[str]) -> str | None:
    """The known name that `name` was probably meant to be."""
    candidates = list(known)
    folded = {candidate.casefold().replace("-", "_"): candidate for candidate in reversed(candidates)}
    if (same := folded.get(name.casefold().replace("-", "_"))) is not None and same != name:
        return same
    found = difflib.get_close_matches(name, candidates, n=1, cutoff=_NEAR)
    return found[0] if found else None


def problems_of(error: ValidationError, marks: Marks, model: type[BaseModel]) -> list[Problem]:
    """What pydantic found, at its place in the file. `model` is the class that was validated."""
    problems: list[Problem] = []
    seen: set[Path] = set()
    for item in error.errors(include_url=False, include_input=False, include_context=True):
        path = _in_file(item["loc"], marks)
        if item["type"] == "extra_forbidden":
            name = str(item["loc"][-1])
            hint = near(name, _keys_at(model, path[:-1]))
            problems.append(marks.problem(path, f"unknown key '{name}'", suggestion=hint, key=True))
        elif item["type"] == "missing":
            problems.append(marks.problem(path, f"the key '{item['loc'][-1]}' is missing"))
        elif path not in seen:
            problems.append(marks.problem(path, _sentence(item)))
        seen.add(path)
    return sorted(problems, key=lambda problem: (problem.line, problem.column))


def _in_file(location: tuple[int | str, ...], marks: Marks) -> Path:
    """pydantic's location without the names of union members, which no file holds."""
    path: Path = ()
    last = len(location) - 1
    for position, step in enumerate(location):
        if marks.has((*path, step)) or (position == last and not _is_union_member(step)):
            path = (*path, step)
    return path


def _is_union_member(step: int | str) -> bool:
    return isinstance(step, str) and (step in ("str", "int", "float", "bool", "none") or "[" in step or "-" in step)


def _keys_at(model: type[BaseModel], path: Path) -> list[str]:
    """The keys that the schema allows at `path`."""
    current: list[type[BaseModel]] = [model]
    for step in path:
        fields = [member.model_fields.get(step) for member in current if isinstance(step, str)]
        if any(fields):
            current = [found for info in fields if info is not None for found in _models_in(info.annotation)]
    return [key for member in current for key in _names(member.model_fields)]


def _names(fields: Mapping[str, FieldInfo]) -> list[str]:
    return [info.alias or name for name, info in fields.items()]


def _models_in(annotation: Any) -> list[type[BaseModel]]:
    """Every model class that an annotation mentions."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    return [found for argument in typing.get_args(annotation) for found in _models_in(argument)]


_SENTENCES: Final = {
    "string_type": "a text is wanted here; put it in quotes",
    "bool_type": "true or false is wanted here",
    "bool_parsing": "true or false is wanted here",
    "int_type": "a whole number is wanted here",
    "int_parsing": "a whole number is wanted here",
    "int_from_float": "a whole number is wanted here",
    "float_type": "a number is wanted here",
    "float_parsing": "a number is wanted here",
    "tuple_type": "a list is wanted here",
    "list_type": "a list is wanted here",
    "dict_type": "a mapping (key: value) is wanted here",
    "model_type": "a mapping (key: value) is wanted here",
}


def _sentence(item: Mapping[str, Any]) -> str:
    if (sentence := _SENTENCES.get(item["type"])) is not None:
        return sentence
    message = str(item["msg"]).removeprefix("Value error, ")
    return message[:1].lower() + message[1:]
