"""Lanes: models whose candidates are those of other models, flattened at load."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace

from proxy.catalogue import Candidate, Model
from proxy.config.model_entries import ModelEntry
from proxy.config.problems import Marks, Problem, near

Entries = Mapping[str, ModelEntry]
Names = Mapping[str, str]
"""Every spelling -> the entry's own name."""


def lane_problems(entries: Entries, models: Mapping[str, Model], names: Names, marks: Marks) -> Iterator[Problem]:
    """Unknown members, members that would need a translation, and cycles, each once."""
    reported: set[frozenset[str]] = set()
    for name, entry in entries.items():
        for index, member in enumerate(entry.lane):
            place, found = ("lane", index), names.get(member.model)
            part = marks.below(name)
            if found is None:
                yield part.problem(
                    place, f"there is no model or lane '{member.model}'", suggestion=near(member.model, names)
                )
                continue
            missing = sorted(set(entry.operations) - models[found].operations)
            if missing:
                yield part.problem(
                    place,
                    f"'{member.model}' serves {', '.join(sorted(models[found].operations))}, not {', '.join(missing)}: "
                    "it would need a translation between formats. Leave it out, or change the lane's 'operations'",
                )
            cycle = _cycle(name, found, entries, names)
            if cycle and frozenset(cycle) not in reported:
                reported.add(frozenset(cycle))
                yield part.problem(place, f"a lane cannot lead back to itself: {' -> '.join(cycle)}")


def _cycle(start: str, first: str, entries: Entries, names: Names) -> list[str]:
    """The way from `start` over its member `first` back to `start`; empty if there is none."""
    came_from, waiting = {first: ""}, [first]
    while waiting:
        name = waiting.pop()
        if name == start:
            break
        for member in entries[name].lane:
            found = names.get(member.model)
            if found is not None and found not in came_from:
                came_from[found] = name
                waiting.append(found)
    else:
        return []
    way = [start]
    while before := came_from[way[-1]]:
        way.append(before)
    return [start, *reversed(way)]


def as_lane(name: str, entries: Entries, models: Mapping[str, Model], names: Names) -> Model:
    """The lane with the candidates of its members, and of theirs, in the order of the file; each of them once."""
    model, entry = models[name], entries[name]
    if not model.lane:
        return model
    found: dict[tuple[str, str], Candidate] = {}
    seen, waiting = {name}, [(member, 1) for member in reversed(entry.lane)]
    while waiting:
        member, weight = waiting.pop()
        target = names.get(member.model)
        if target is None or target in seen:
            continue
        seen.add(target)
        weight *= member.weight
        for candidate in models[target].candidates:
            key = candidate.upstream, candidate.upstream_model
            found.setdefault(key, _of_member(models[target], candidate, weight, entry))
        waiting += [(deeper, weight) for deeper in reversed(entries[target].lane)]
    return widest(replace(model, candidates=tuple(found.values())), entry)


def _of_member(member: Model, candidate: Candidate, weight: int, lane: ModelEntry) -> Candidate:
    """With all that it has from its own model written into it, within the limits that the lane sets itself."""
    context = member.context_of(candidate)
    output = candidate.output_tokens_max or member.output_tokens_max
    can = candidate.capabilities
    return replace(
        candidate,
        model=member.name,
        cost=member.list_rates(candidate),
        context_tokens=context if lane.context is None else min(context, lane.context),
        output_tokens_max=min(output, lane.output_max) if _given(lane, "output_max") else output,
        image_tokens_max=member.image_tokens_max,
        encoding=member.encoding,
        capabilities=can if lane.capabilities is None else can.intersection(lane.capabilities),
        weight=candidate.weight * weight,
    )


def widest(model: Model, entry: ModelEntry) -> Model:
    """A lane that takes what the largest of its candidates take, where its entry says nothing else."""
    if not model.lane or not model.candidates:
        return model
    context, output = entry.context, entry.output_max
    if context is None:
        context = max(candidate.context_tokens for candidate in model.candidates)
    if not _given(entry, "output_max"):
        output = max(candidate.output_tokens_max for candidate in model.candidates)
    default = min(entry.output_default, output)
    return replace(model, context_tokens=context, output_tokens_max=output, output_tokens_default=default)


def _given(entry: ModelEntry, key: str) -> bool:
    return key in entry.model_fields_set
