"""policies/consensus.yaml -> panels, and a model in the catalogue for each of their modes."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from typing import Final

from proxy.catalogue import Candidate, Model
from proxy.config.consensus_checks import budget_problems, mode_problems, name_problems, size_problems
from proxy.config.consensus_entries import ConsensusFile, ModeEntry
from proxy.config.consensus_prompts import build_prompts
from proxy.config.consensus_seats import Seating
from proxy.config.consensus_weights import build_rules, build_weights
from proxy.config.models import Models
from proxy.config.problems import Marks, Problem
from proxy.consensus.settings import AUTO, Consensus, Deadlines, Mode, Price, Tokens
from proxy.operations import CHAT, ORCHESTRATE
from proxy.panels import filled, model_name, shortage
from proxy.pricing.money import MSAT_PER_SAT, Nano

TAG: Final = "consensus"
AUTO_TITLE: Final = "Consensus auto"


def build_consensus(
    file: ConsensusFile, marks: Marks, problems: list[Problem], *, models: Models, tiers: Collection[str]
) -> Consensus:
    """The panels; a model for each mode, and one for `auto`, is put into `models`, available or not.

    A mode whose members cannot all be served is seated with its spares. One that is left without a quorum is
    unavailable, with what the operator has to set; `Consensus.modes` then has it as the file has it.
    """
    plain, places = dict(models.known), marks.below("modes")
    panels = {f"{file.prefix}{mode}": mode for mode in (*file.modes, *([] if file.auto is None else [AUTO]))}
    problems.extend(name_problems(file, marks, panels, plain))
    seating = Seating(models, plain, panels, problems)
    whole = {name: _mode(name, entry, seating, places.below(name)) for name, entry in file.modes.items()}
    seated = {name: filled(mode, models.available) for name, mode in whole.items()}
    consensus = Consensus(
        modes={name: whole[name] if shortage(mode) else mode for name, mode in seated.items()},
        prompts=build_prompts(file.prompts, marks.below("prompts"), problems),
        weights=build_weights(file.weights, marks.below("weights"), problems),
        rules=build_rules(file.rules, marks.below("rules"), problems),
        prefix=file.prefix,
        default_mode=file.default,
        auto=file.auto,
        auto_domain=file.auto_domain,
        history_hours=file.history.hours,
        conversation_turns_max=file.history.turns_max,
        batch_prompts_max=file.batch.prompts_max,
        batch_at_once_max=file.batch.at_once_max,
        idempotency_hours=file.idempotency.hours,
    )
    for name, mode in whole.items():
        entry, place = file.modes[name], places.below(name)
        found = [*mode_problems(mode, entry, place, tiers), *size_problems(mode, place, plain)]
        problems.extend(found or budget_problems(consensus, mode, place, plain))
    _enter(file, consensus, whole, models, plain)
    return consensus


def _mode(name: str, entry: ModeEntry, seating: Seating, place: Marks) -> Mode:
    seats, spares, synthesisers = seating.of(entry, place)
    limits, sats = entry.deadlines, entry.price.sats
    return Mode(
        name=name,
        seats=seats,
        spares=spares,
        synthesisers=synthesisers,
        quorum=entry.quorum,
        vendors_min=entry.vendors_min,
        evaluate=entry.evaluate,
        refine_rounds_max=entry.refine_rounds_max,
        reevaluate=entry.reevaluate,
        check_claims=entry.check_claims,
        early_exit=entry.early_exit,
        deadlines=Deadlines(limits.total_seconds, limits.call_seconds, limits.first_byte_seconds, limits.idle_seconds),
        tokens=Tokens(**entry.tokens.model_dump()),
        input_tokens_max=entry.input_tokens_max,
        budget=Nano(entry.budget_usd),
        price=Price(Nano(entry.price.usd), entry.price.credits, None if sats is None else sats * MSAT_PER_SAT),
        degraded_percent=entry.degraded_percent,
        hedge=entry.hedge,
        display_name=entry.display_name,
        open=entry.open,
        tiers=frozenset(entry.tiers),
    )


def _enter(
    file: ConsensusFile,
    consensus: Consensus,
    whole: Mapping[str, Mode],
    models: Models,
    plain: Mapping[str, Model],
) -> None:
    """Put the panels' models into the catalogue, but under names that are taken."""
    parts: dict[str, tuple[str, ...]] = {name: (name,) for name in whole}
    if consensus.auto is not None and set(consensus.auto) <= whole.keys():
        parts[AUTO] = consensus.auto
    for mode, names in parts.items():
        name = model_name(consensus, mode)
        if name in plain:
            continue
        created = file.modes[names[-1]].created
        models.known[name] = _model(name, [whole[part] for part in names], plain, created)
        lacking = [part for part in names if shortage(filled(whole[part], models.available))]
        missing = _remedy(whole[mode], models) if lacking == [mode] else _awaited(consensus, lacking)
        if missing:
            models.unavailable[name] = missing
        else:
            models.available[name] = _model(name, [consensus.modes[part] for part in names], models.available, created)


def _remedy(mode: Mode, models: Models) -> str:
    """What would make it available."""
    ways: dict[str, list[str]] = {}
    for seat in (*mode.seats, *mode.synthesisers):
        way = models.unavailable.get(seat.model)
        if way is not None and seat.model not in ways.setdefault(way, []):
            ways[way].append(seat.model)
    told = ", ".join(f"{way} ({', '.join(names)})" for way, names in ways.items())
    return f"{shortage(filled(mode, models.available))}: {told}"


def _awaited(consensus: Consensus, lacking: Sequence[str]) -> str:
    """Of `auto`, which is there when both its modes are; "" where none is lacking."""
    names = " and ".join(model_name(consensus, mode) for mode in lacking)
    return f"it waits for what makes {names} available" if names else ""


def _auto(modes: Sequence[Mode]) -> Mode:
    """What both modes cost and take together: the dearer's price and budget, the shorter's question."""
    first, last = modes[0], modes[-1]
    if len(modes) == 1:
        return last
    return replace(
        last,
        input_tokens_max=min(first.input_tokens_max, last.input_tokens_max),
        display_name=AUTO_TITLE,
        open=first.open and last.open,
        tiers=first.tiers & last.tiers if first.tiers and last.tiers else first.tiers or last.tiers,
    )


def _model(name: str, modes: Sequence[Mode], models: Mapping[str, Model], created: int) -> Model:
    """The catalogue's entry: its candidates are those of everybody who may be called in `modes`."""
    panel = _auto(modes)
    found: dict[tuple[str, str, str], Candidate] = {}
    for mode in modes:
        for seat in (*mode.seats, *mode.spares, *mode.synthesisers):
            served = models[seat.model]
            for candidate in served.candidates:
                key = seat.model, candidate.upstream, candidate.upstream_model
                found.setdefault(key, _of_seat(served, candidate))
    return Model(
        name=name,
        candidates=tuple(found.values()),
        rates=None,
        context_tokens=panel.input_tokens_max + panel.tokens.final_max,
        output_tokens_default=panel.tokens.final,
        output_tokens_max=panel.tokens.final_max,
        operations=frozenset({CHAT.name, ORCHESTRATE.name}),
        tiers=panel.tiers,
        open=panel.open,
        created=created,
        tags=(TAG,),
        display_name=panel.display_name,
        panel=panel,
    )


def _of_seat(model: Model, candidate: Candidate) -> Candidate:
    """With all that it has from its own model written into it."""
    return replace(
        candidate,
        model=model.name,
        cost=model.list_rates(candidate),
        context_tokens=model.context_of(candidate),
        output_tokens_max=model.output_max_of(candidate),
        image_tokens_max=model.image_tokens_max_of(candidate),
        encoding=model.encoding_of(candidate),
    )
