"""The catalogue: aliases, candidates that are available, prices as exact integers."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field, replace

from proxy.catalogue import Candidate, Model
from proxy.config.policies import ModelEntry, PriceEntry
from proxy.config.problems import Marks, Problem, near
from proxy.config.upstreams import Upstreams
from proxy.operations import BY_NAME, EMBEDDINGS
from proxy.pricing.rates import Rates

_SERVABLE = tuple(name for name, operation in BY_NAME.items() if operation.priced)


@dataclass(slots=True)
class Models:
    """Models by every name a client may use."""

    available: dict[str, Model] = field(default_factory=dict)
    unavailable: dict[str, str] = field(default_factory=dict)
    known: dict[str, Model] = field(default_factory=dict)
    """All of them with all their candidates, available or not."""


def build_models(
    entries: Mapping[str, ModelEntry],
    marks: Marks,
    problems: list[Problem],
    *,
    upstreams: Upstreams,
    tiers: Collection[str],
) -> Models:
    """A model without an available candidate is `unavailable`, with what the operator has to set."""
    built = Models()
    for name, entry in entries.items():
        part = marks.below(name)
        problems.extend(_problems(entry, part, upstreams, tiers))
        model = _model(name, entry)
        serving = tuple(c for c in model.candidates if c.upstream in upstreams.available)
        for spelling, place in ((name, part.problem((), "", key=True)), *_aliases(entry, part)):
            if spelling in built.known:
                message = f"the name '{spelling}' is already taken by the model '{built.known[spelling].name}'"
                problems.append(replace(place, message=message))
                continue
            built.known[spelling] = model
            if serving:
                built.available[spelling] = replace(model, candidates=serving)
            else:
                built.unavailable[spelling] = _remedy(model, upstreams)
    return built


def _aliases(entry: ModelEntry, marks: Marks) -> Iterator[tuple[str, Problem]]:
    for position, alias in enumerate(entry.aliases):
        yield alias, marks.problem(("aliases", position), "")


def _model(name: str, entry: ModelEntry) -> Model:
    return Model(
        name=name,
        candidates=tuple(
            Candidate(c.upstream, c.model or name, None if c.cost is None else rates_of(c.cost))
            for c in entry.candidates
        ),
        rates=None if entry.price is None else rates_of(entry.price),
        context_tokens=entry.context,
        output_tokens_default=entry.output_default,
        output_tokens_max=entry.output_max,
        operations=frozenset(entry.operations),
        tiers=frozenset(entry.tiers),
        open=entry.open,
        encoding=entry.encoding,
        image_tokens_max=entry.image_tokens_max,
        created=entry.created,
        tags=entry.tags,
    )


def rates_of(price: PriceEntry) -> Rates:
    """Rates as the rest of the house reads them."""
    return Rates(
        input=price.input,
        output=0 if price.output is None else price.output,
        cached_input=price.cached_input,
        cache_write=price.cache_write,
        cache_write_1h=price.cache_write_1h,
        reasoning=price.reasoning,
    )


def _remedy(model: Model, upstreams: Upstreams) -> str:
    remedies = dict.fromkeys(
        upstreams.unavailable[c.upstream] for c in model.candidates if c.upstream in upstreams.unavailable
    )
    return " or ".join(remedies) or "configure one of its upstreams"


def _problems(entry: ModelEntry, marks: Marks, upstreams: Upstreams, tiers: Collection[str]) -> Iterator[Problem]:
    known = upstreams.known
    for index, candidate in enumerate(entry.candidates):
        if candidate.upstream not in known:
            yield marks.problem(
                ("candidates", index, "upstream"),
                f"there is no upstream '{candidate.upstream}' in config.yaml",
                suggestion=near(candidate.upstream, known),
            )
        if candidate.cost is not None:
            yield from _price_problems(candidate.cost, entry, marks, ("candidates", index, "cost"))
    if entry.price is None:
        yield marks.problem((), "a model without a price is never served: add 'price'", key=True)
    else:
        yield from _price_problems(entry.price, entry, marks, ("price",))
    for index, name in enumerate(entry.operations):
        if name not in _SERVABLE:
            yield marks.problem(
                ("operations", index),
                f"'{name}' is not one of {', '.join(_SERVABLE)}",
                suggestion=near(name, _SERVABLE),
            )
    for index, tier in enumerate(entry.tiers):
        if tier not in tiers:
            yield marks.problem(
                ("tiers", index), f"there is no tier '{tier}' in tiers.yaml", suggestion=near(tier, tiers)
            )
    if marks.has(("output_default",)) and entry.output_default > entry.output_max:
        yield marks.problem(("output_default",), f"more than output_max, which is {entry.output_max}")
    if entry.output_max > entry.context and _generates(entry):
        yield marks.problem(("output_max",), f"more than context, which is {entry.context}")


def _generates(entry: ModelEntry) -> bool:
    return any(name != EMBEDDINGS.name for name in entry.operations)


def _price_problems(
    price: PriceEntry, entry: ModelEntry, marks: Marks, path: tuple[str | int, ...]
) -> Iterator[Problem]:
    if price.output is None and _generates(entry):
        yield marks.problem(path, "the key 'output' is missing: a model that generates has a price for it")
    if price.cached_input is not None and price.cached_input > price.input:
        yield marks.problem((*path, "cached_input"), "cached input is never dearer than input; are the two swapped?")
