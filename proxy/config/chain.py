"""The chain as the file spells it: names, settings, and where each settings block stands."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from proxy.config.problems import Marks, Problem, near


def build_chain(
    entries: tuple[str | dict[str, Any], ...],
    marks: Marks,
    problems: list[Problem],
    *,
    known: Collection[str] | None,
) -> tuple[tuple[tuple[str, dict[str, Any]], ...], tuple[Marks, ...]]:
    """(name, settings) in the file's order, and beside them the marks of each settings block.

    `known` holds the short names; None: any name is taken. `package.module:Class` always is.
    """
    chain: list[tuple[str, dict[str, Any]]] = []
    places: list[Marks] = []
    seen: set[str] = set()
    for index, entry in enumerate(entries):
        if isinstance(entry, dict) and len(entry) != 1:
            problems.append(marks.problem((index,), "one plugin an entry: '- name' or '- name: {settings}'"))
            continue
        name, settings = next(iter(entry.items())) if isinstance(entry, dict) else (entry, {})
        if known is not None and ":" not in name and name not in known:
            problems.append(marks.problem((index,), f"there is no plugin '{name}'", suggestion=near(name, known)))
        if name in seen:
            problems.append(marks.problem((index,), f"the plugin '{name}' stands in the chain twice"))
        seen.add(name)
        if settings is None:
            settings = {}
        if not isinstance(settings, dict):
            problems.append(marks.problem((index, name), "a plugin's settings are a mapping (key: value)"))
            continue
        chain.append((name, settings))
        places.append(marks.below(index, name) if isinstance(entry, dict) else marks.below(index))
    return tuple(chain), tuple(places)
