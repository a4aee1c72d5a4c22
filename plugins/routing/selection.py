"""In which order a model's candidates are tried. Pure but for the draw: health is not looked at here."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import inf
from random import Random

from proxy.catalogue import Candidate, Model, Strategy
from proxy.pricing.quote import Quote
from proxy.upstreams.health import CandidateState

StateOf = Callable[[Candidate], CandidateState]


def ranked(
    model: Model, candidates: Sequence[Candidate], quote: Quote | None, *, state_of: StateOf, now: float, draw: Random
) -> Sequence[Candidate]:
    """All of `candidates`, the one to call first in front. Equals stay in the file's order."""
    if len(candidates) < 2 or model.strategy is Strategy.PRIORITY:
        return candidates
    if model.strategy is Strategy.CHEAPEST:
        return _by_cost(model, candidates, quote)
    if model.strategy is Strategy.LEAST_BUSY:
        return sorted(candidates, key=lambda candidate: state_of(candidate).in_flight)
    if model.strategy is Strategy.WEIGHTED:
        # Each draws the time until its first event of a Poisson process with its weight as rate: the earliest first.
        return sorted(candidates, key=lambda one: draw.expovariate(one.weight) if one.weight > 0 else inf)
    return _by_two_choices(candidates, state_of, now, draw)


def _by_cost(model: Model, candidates: Sequence[Candidate], quote: Quote | None) -> Sequence[Candidate]:
    """By what this very call costs at most at each one's list prices; those without a price last."""
    if quote is None:
        return candidates
    into, output = quote.input_tokens, quote.output_tokens * quote.choices
    prices = model.common.prices
    costs: list[int] | list[float]
    if prices is not None and candidates is model.candidates:
        costs = [into * of_input + output * of_output for of_input, of_output in prices]
    else:
        rates = [model.list_rates(candidate) for candidate in candidates]
        costs = [inf if one is None else one.bound(into, output) for one in rates]
    return [candidates[place] for place in sorted(range(len(costs)), key=costs.__getitem__)]


def _by_two_choices(candidates: Sequence[Candidate], state_of: StateOf, now: float, draw: Random) -> list[Candidate]:
    """The better of two drawn at random, then the other, then the rest as drawn.

    Choosing the best of all would send every caller to the same one at once, until its figures tell.
    """
    drawn = draw.sample(candidates, len(candidates))
    first, second = state_of(drawn[0]), state_of(drawn[1])
    if second.peak.load(second.in_flight, now) < first.peak.load(first.in_flight, now):
        drawn[0], drawn[1] = drawn[1], drawn[0]
    return drawn


def preferred(candidates: Sequence[Candidate], upstream: str, upstream_model: str) -> Sequence[Candidate]:
    """The same with the named one in front, where it is among them."""
    for place, candidate in enumerate(candidates):
        if candidate.upstream == upstream and candidate.upstream_model == upstream_model:
            return [candidate, *candidates[:place], *candidates[place + 1 :]] if place else candidates
    return candidates
