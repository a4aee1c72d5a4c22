"""The catalogue: aliases and lanes, candidates that are available, prices as exact integers."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass, field, replace

from proxy.catalogue import BYO_PREFIX, CAPABILITIES, Candidate, Model, Strategy, Wallet
from proxy.config.lanes import as_lane, lane_problems, widest
from proxy.config.model_entries import CandidateEntry, ModelEntry, ModelsFile
from proxy.config.prices import Prices
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
    default_rate: Rates | None = None


def build_models(
    file: ModelsFile,
    marks: Marks,
    problems: list[Problem],
    *,
    upstreams: Upstreams,
    tiers: Collection[str],
    at_ms: int,
) -> Models:
    """A model without an available candidate is `unavailable`, with what the operator has to set."""
    below = marks.below("models")
    names = _claim_names(file, below, problems)
    prices = Prices(marks, problems, at_ms)
    found: dict[str, Model] = {}
    for name, entry in file.models.items():
        problems.extend(_problems(entry, below.below(name), upstreams, tiers))
        found[name] = _model(name, entry, prices, upstreams)
    problems.extend(lane_problems(file.models, found, names, below))
    built = Models()
    if file.default_rate is not None:
        built.default_rate = prices.rates(file.default_rate, ("default_rate",), generates=True)
    whole = {name: as_lane(name, file.models, found, names) for name in found}
    for spelling, name in names.items():
        built.known[spelling] = model = whole[name]
        serving = tuple(c for c in model.candidates if c.upstream in upstreams.available)
        if serving:
            built.available[spelling] = _serving(model, file.models[name], serving)
        else:
            built.unavailable[spelling] = _remedy(model, upstreams)
    return built


def _claim_names(file: ModelsFile, marks: Marks, problems: list[Problem]) -> dict[str, str]:
    """Every name a client may use, and the entry it stands for; in the file's order."""
    names: dict[str, str] = {}
    for name, entry in file.models.items():
        part = marks.below(name)
        spellings = [(name, part.problem((), "", key=True))]
        spellings += [(alias, part.problem(("aliases", at), "")) for at, alias in enumerate(entry.aliases)]
        for spelling, place in spellings:
            if spelling in names:
                message = f"the name '{spelling}' is already taken by the model '{names[spelling]}': rename one of them"
                problems.append(replace(place, message=message))
            elif spelling.startswith(BYO_PREFIX):
                message = f"names that begin with '{BYO_PREFIX}' are kept for customers' own models"
                problems.append(replace(place, message=message))
            else:
                names[spelling] = name
    return names


def _model(name: str, entry: ModelEntry, prices: Prices, upstreams: Upstreams) -> Model:
    """The entry by itself: a lane has no candidates yet."""
    place, generates = ("models", name), _generates(entry)
    candidates = []
    for index, one in enumerate(entry.candidates):
        cost = prices.rates(one.cost, (*place, "candidates", index, "cost"), generates=generates)
        candidates.append(_candidate(name, entry, one, cost, upstreams))
    lane = bool(entry.lane)
    return Model(
        name=name,
        candidates=tuple(candidates),
        rates=prices.rates(entry.price, (*place, "price"), generates=generates),
        context_tokens=entry.context or 0,
        output_tokens_default=min(entry.output_default, entry.output_max),
        output_tokens_max=entry.output_max,
        operations=frozenset(entry.operations),
        tiers=frozenset(entry.tiers),
        open=entry.open,
        encoding=entry.encoding,
        image_tokens_max=entry.image_tokens_max,
        created=entry.created,
        tags=entry.tags,
        display_name=entry.display_name,
        dimensions=entry.dimensions,
        strategy=Strategy(entry.strategy or ("cheapest" if lane else "priority")),
        lane=lane,
        sticky=lane if entry.sticky is None else entry.sticky,
        hedge=entry.hedge,
        consortium=entry.consortium,
        wallet=Wallet(entry.wallet),
    )


def _candidate(
    name: str, entry: ModelEntry, one: CandidateEntry, cost: Rates | None, upstreams: Upstreams
) -> Candidate:
    upstream = upstreams.find(one.upstream)
    can = entry.capabilities if one.capabilities is None else one.capabilities
    return Candidate(
        upstream=one.upstream,
        upstream_model=one.model or name,
        cost=cost,
        capabilities=CAPABILITIES if can is None else frozenset(can),
        weight=one.weight,
        partner=None if upstream is None else upstream.partner,
    )


def _serving(model: Model, entry: ModelEntry, serving: tuple[Candidate, ...]) -> Model:
    """With the candidates that are available; a lane promises no more than these."""
    if len(serving) == len(model.candidates):
        return model
    return widest(replace(model, candidates=serving), entry)


def _remedy(model: Model, upstreams: Upstreams) -> str:
    remedies = dict.fromkeys(
        upstreams.unavailable[c.upstream] for c in model.candidates if c.upstream in upstreams.unavailable
    )
    return " or ".join(remedies) or "configure one of its upstreams"


def _problems(entry: ModelEntry, marks: Marks, upstreams: Upstreams, tiers: Collection[str]) -> Iterator[Problem]:
    if bool(entry.candidates) == bool(entry.lane):
        yield marks.problem((), "a model has either 'candidates' or 'lane', the models that serve it", key=True)
    for index, candidate in enumerate(entry.candidates):
        yield from _candidate_problems(candidate, index, entry, marks, upstreams)
    if entry.price is None:
        yield marks.problem(
            (),
            "a model without a price is never served: add 'price', rates or genai:PROVIDER/MODEL (unpriced: deny)",
            key=True,
        )
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
    if "output_default" in entry.model_fields_set and entry.output_default > entry.output_max and not entry.lane:
        yield marks.problem(("output_default",), f"more than output_max, which is {entry.output_max}")
    if entry.context is not None and entry.output_max > entry.context and _generates(entry):
        yield marks.problem(("output_max",), f"more than context, which is {entry.context}")


def _candidate_problems(
    candidate: CandidateEntry, index: int, entry: ModelEntry, marks: Marks, upstreams: Upstreams
) -> Iterator[Problem]:
    place, name = ("candidates", index, "upstream"), candidate.upstream
    upstream = upstreams.find(name)
    if upstream is None:
        known = upstreams.known
        yield marks.problem(place, f"there is no upstream '{name}' in config.yaml", suggestion=near(name, known))
        return
    missing = sorted(operation for operation in entry.operations if operation not in upstream.operations)
    if missing:
        speakers = [other for other in upstreams.known if _speaks(upstreams, other, entry)]
        yield marks.problem(
            place,
            f"the upstream '{name}' does not speak {', '.join(missing)}, and nothing is translated between formats: "
            f"take it out of this model's operations, or, if it does, add it to upstreams.{name}.operations in "
            "config.yaml",
            suggestion=near(name, speakers),
        )
    if entry.consortium and upstream.partner is None:
        yield marks.problem(place, f"consortium: the upstream '{name}' has no 'partner' in config.yaml")


def _speaks(upstreams: Upstreams, name: str, entry: ModelEntry) -> bool:
    upstream = upstreams.find(name)
    return upstream is not None and upstream.operations.issuperset(entry.operations)


def _generates(entry: ModelEntry) -> bool:
    return any(name != EMBEDDINGS.name for name in entry.operations)
