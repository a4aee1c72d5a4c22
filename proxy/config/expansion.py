"""`${NAME}`, `${NAME:-default}` and `file:PATH` in a file's texts. Nothing else is a template."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path as FilePath
from typing import Any

from proxy.config.problems import Path, Problem
from proxy.config.source import Document
from proxy.secrets import FILE_PREFIX, SecretError, Unset, expand, read_secret_file


@dataclass(slots=True)
class Expanded:
    """A file's data with the references replaced."""

    data: Any
    unset: dict[Path, str] = field(default_factory=dict)
    """Where an optional secret's variable is not set: the value there is None, and this is the variable."""
    problems: list[Problem] = field(default_factory=list)


def expand_document(
    document: Document,
    variables: Mapping[str, str],
    *,
    root: FilePath,
    secret: Callable[[Path], bool],
    optional: Callable[[Path], bool],
) -> Expanded:
    """Replace references in every text value (never in keys).

    `secret` tells where `file:PATH` is read (relative to `root`), `optional` where an unset variable means None
    instead of a problem.
    """
    expanded = Expanded(None)
    walker = _Walker(document, variables, root, secret, optional, expanded)
    expanded.data = walker.walk(document.data, ())
    return expanded


@dataclass(slots=True)
class _Walker:
    document: Document
    variables: Mapping[str, str]
    root: FilePath
    secret: Callable[[Path], bool]
    optional: Callable[[Path], bool]
    expanded: Expanded

    def walk(self, value: Any, path: Path) -> Any:
        if isinstance(value, dict):
            return {key: self.walk(item, (*path, key)) for key, item in value.items()}
        if isinstance(value, list):
            return [self.walk(item, (*path, index)) for index, item in enumerate(value)]
        if isinstance(value, str):
            return self._text(value, path)
        return value

    def _text(self, text: str, path: Path) -> str | None:
        try:
            value = expand(text, self.variables)
            if self.secret(path) and value.startswith(FILE_PREFIX):
                return read_secret_file(self.root / value.removeprefix(FILE_PREFIX))
        except Unset as error:
            if self.optional(path):
                self.expanded.unset[path] = error.name
                return None
            self._problem(path, f"{error}: set it, or write ${{{error.name}:-default}}")
            return text
        except SecretError as error:
            self._problem(path, str(error))
            return text
        return value

    def _problem(self, path: Path, message: str) -> None:
        self.expanded.problems.append(self.document.marks.problem(path, message))
