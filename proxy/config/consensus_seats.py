"""Seats of policies/consensus.yaml: from the names of models to who may answer, judge and write."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace

from proxy.catalogue import JSON_SCHEMA, STREAMING, TOOLS, VISION, Model
from proxy.config.consensus_entries import ModeEntry, SeatEntry
from proxy.config.models import Models
from proxy.config.problems import Marks, Path, Problem, near
from proxy.consensus.settings import Seat
from proxy.operations import CHAT


class Seating:
    """Finds the models of one file's seats. `panels` are the names that panels go by, and that none may sit under."""

    def __init__(
        self, models: Models, plain: Mapping[str, Model], panels: Collection[str], problems: list[Problem]
    ) -> None:
        self._models = models
        self._plain = plain
        self._panels = panels
        self._problems = problems
        self._said: dict[str, SeatEntry] = {}

    def of(self, entry: ModeEntry, place: Marks) -> tuple[tuple[Seat, ...], tuple[Seat, ...], tuple[Seat, ...]]:
        """Members, spares, synthesisers; those without a usable model are left out, and the problems say why."""
        self._said = _first_said((*entry.members, *entry.spares, *entry.synthesisers), self._plain)
        members = self._seats(entry.members, place, "members", ())
        spares = self._seats(entry.spares, place, "spares", members)
        return members, spares, self._synthesisers(entry, place, (*members, *spares))

    def _seats(self, entries: Sequence[SeatEntry], place: Marks, key: str, beside: Sequence[Seat]) -> tuple[Seat, ...]:
        """Named one by one; `beside` have their names already."""
        taken = [seat.model for seat in beside]
        seats = []
        for index, entry in enumerate(entries):
            seat = self._seat(entry, place, (key, index))
            if seat is not None:
                taken.append(seat.model)
                seats.append(_numbered(seat, taken.count(seat.model)))
        return tuple(seats)

    def _synthesisers(self, entry: ModeEntry, place: Marks, seats: Sequence[Seat]) -> tuple[Seat, ...]:
        """One that sits on the panel, too, is that very seat."""
        found: dict[str, Seat] = {}
        for index, one in enumerate(entry.synthesisers):
            seat = self._seat(one, place, ("synthesisers", index))
            if seat is None:
                continue
            if seat.model in found:
                self._problems.append(place.problem(("synthesisers", index), f"'{seat.model}' is there twice"))
            found.setdefault(seat.model, next((other for other in seats if other.model == seat.model), seat))
        return tuple(found.values())

    def _seat(self, entry: SeatEntry, place: Marks, path: Path) -> Seat | None:
        model = self._plain.get(entry.model)
        wrong = self._wrong(entry.model, model)
        if wrong is not None or model is None:
            hint = near(entry.model, self._plain) if model is None and entry.model not in self._panels else None
            self._problems.append(place.problem(path, wrong or "", suggestion=hint))
            return None
        seat = Seat(
            name=model.name,
            model=model.name,
            vendor=entry.vendor or self._said[model.name].vendor or model.candidates[0].upstream,
            family=entry.family or self._said[model.name].family or model.name,
            weight=entry.weight,
        )
        return _able(seat, self._models.available.get(model.name, model))

    def _wrong(self, name: str, model: Model | None) -> str | None:
        """Why this model cannot sit on a panel; None where it can."""
        if name in self._panels:
            return f"'{name}' is a panel itself: a panel has no panels as members"
        if model is None:
            return f"there is no model '{name}' in models.yaml"
        if model.lane:
            return f"'{name}' is a lane, which any of its members may serve: name one of them"
        if CHAT.name not in model.operations:
            served = ", ".join(sorted(model.operations))
            return f"'{name}' serves {served}, and members are called by {CHAT.name}"
        if not any(STREAMING in candidate.capabilities for candidate in model.candidates):
            return f"'{name}' does not stream, and members are listened to as they answer"
        return None


def _first_said(entries: Sequence[SeatEntry], models: Mapping[str, Model]) -> dict[str, SeatEntry]:
    """By model, the first entry of a mode: what it says of vendor and family holds of the others, too."""
    found: dict[str, SeatEntry] = {}
    for entry in entries:
        if entry.model in models:
            found.setdefault(models[entry.model].name, entry)
    return found


def _numbered(seat: Seat, number: int) -> Seat:
    return seat if number == 1 else replace(seat, name=f"{seat.model}#{number}")


def _able(seat: Seat, model: Model) -> Seat:
    """With what the model can do. Images whose tokens nobody bounds are not shown to it."""
    can = frozenset[str]().union(*[candidate.capabilities for candidate in model.candidates])
    bounded = all(model.image_tokens_max_of(candidate) is not None for candidate in model.candidates)
    return replace(
        seat,
        vision=VISION in can and bounded,
        tools=TOOLS in can,
        json_schema=JSON_SCHEMA in can,
        context_tokens=model.context_tokens,
    )
