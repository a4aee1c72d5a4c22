"""The order in which candidates are tried, and how long finding it takes."""

from __future__ import annotations

import random
from collections import Counter
from dataclasses import replace

from plugins.routing.selection import preferred, ranked
from proxy.catalogue import Candidate, Model, Strategy
from proxy.pricing.money import Nano
from proxy.pricing.quote import Quote
from proxy.pricing.rates import Band, Rates, parse_rate
from proxy.upstreams.health import CandidateState, UpstreamStates
from tests.support.fakes import FakeClock, model

STATES = 2000
DRAW = random.Random(1)


def rates(into: str, out: str) -> Rates:
    return Rates(input=parse_rate(into), output=parse_rate(out))


def lane(strategy: Strategy, *candidates: Candidate) -> Model:
    return replace(model(), strategy=strategy, lane=True, candidates=candidates)


def quote(input_tokens: int, output_tokens: int) -> Quote:
    return Quote(input_tokens, output_tokens, 1, Nano(0), Nano(0))


class States(UpstreamStates):
    """States of candidates."""

    def of(self, candidate: Candidate) -> CandidateState:
        return self.candidate(candidate.upstream, candidate.upstream_model)


def order(of: Model, states: States | None = None, asked: Quote | None = None, draw: random.Random = DRAW) -> list[str]:
    states = states or States(FakeClock())
    found = ranked(of, of.candidates, asked or quote(1000, 100), state_of=states.of, now=1000.0, draw=draw)
    return [candidate.upstream for candidate in found]


def test_priority_is_the_files_order() -> None:
    """Whatever it costs."""
    dear = Candidate("dear", "m", rates("9", "9"))
    assert order(lane(Strategy.PRIORITY, dear, Candidate("cheap", "m", rates("1", "1")))) == ["dear", "cheap"]


def test_cheapest_is_by_what_this_call_costs() -> None:
    """A long question and a long answer have different cheapest candidates; one without a price comes last."""
    reader = Candidate("reader", "m", rates("1", "10"))
    writer = Candidate("writer", "m", rates("3", "2"))
    unpriced = Candidate("unpriced", "m")
    cheapest = replace(lane(Strategy.CHEAPEST, unpriced, reader, writer), rates=None)
    assert order(cheapest, asked=quote(10_000, 100)) == ["reader", "writer", "unpriced"]
    assert order(cheapest, asked=quote(100, 10_000)) == ["writer", "reader", "unpriced"]


def test_prices_worked_out_beforehand_give_the_same_order_as_each_candidates_own() -> None:
    """For any length of question and answer; the same candidates in a tuple of their own are priced one by one."""
    draw = random.Random(11)
    dearer = {"cached_input": parse_rate("9"), "reasoning": parse_rate("8.125")}
    for _ in range(200):
        some = tuple(
            Candidate(f"u{number}", "m", replace(rates(f"{draw.randint(1, 40) / 8}", f"{draw.randint(1, 40) / 8}"),
                                                 **draw.choice([{}, dearer])))
            for number in range(draw.randint(2, 12))
        )  # fmt: skip
        cheapest = lane(Strategy.CHEAPEST, *some)
        asked = quote(8 * draw.randint(1, 5000), 8 * draw.randint(0, 5000))
        states = States(FakeClock())
        one_by_one = ranked(cheapest, (*some[:-1], some[-1]), asked, state_of=states.of, now=0.0, draw=draw)
        assert cheapest.common.prices is not None
        assert order(cheapest, asked=asked) == [candidate.upstream for candidate in one_by_one]


def test_a_price_that_depends_on_the_length_is_worked_out_for_each_call() -> None:
    """Past its band the one that was cheaper is dearer."""
    banded = replace(rates("1", "1"), bands=(Band(1000, rates("9", "9")),))
    cheapest = lane(Strategy.CHEAPEST, Candidate("flat", "m", rates("2", "2")), Candidate("banded", "m", banded))
    assert cheapest.common.prices is None
    assert order(cheapest, asked=quote(1000, 10)) == ["banded", "flat"]
    assert order(cheapest, asked=quote(1001, 10)) == ["flat", "banded"]


def test_equally_cheap_ones_stay_in_the_files_order() -> None:
    """So that prompt caches fill at one of them."""
    same = [Candidate(name, "m", rates("1", "1")) for name in "abc"]
    assert order(lane(Strategy.CHEAPEST, *same)) == ["a", "b", "c"]


def test_least_busy_goes_by_calls_under_way() -> None:
    """Fewest first."""
    busy, idle = Candidate("busy", "m"), Candidate("idle", "m")
    states = States(FakeClock())
    states.of(busy).in_flight = 3
    assert order(lane(Strategy.LEAST_BUSY, busy, idle), states) == ["idle", "busy"]


def test_weights_are_shares_of_the_first_place() -> None:
    """Three to one; weight 0 serves only where nobody else does."""
    heavy, light, none = (Candidate(name, "m", weight=weight) for name, weight in (("h", 3), ("l", 1), ("n", 0)))
    weighted = lane(Strategy.WEIGHTED, none, light, heavy)
    draw = random.Random(7)
    drawn = [order(weighted, draw=draw) for _ in range(2000)]
    firsts = Counter(one[0] for one in drawn)
    assert 0.70 < firsts["h"] / 2000 < 0.80
    assert {one[2] for one in drawn} == {"n"}


def test_latency_takes_the_better_of_two() -> None:
    """The slowest of three is first only if it was drawn with nobody, which cannot be; every other one may be."""
    states, names = States(FakeClock()), ("fast", "medium", "slow")
    candidates = [Candidate(name, "m") for name in names]
    for candidate, seconds in zip(candidates, (0.1, 0.5, 2.0), strict=True):
        states.of(candidate).peak.observe(seconds, 1000.0)
    draw = random.Random(3)
    firsts = Counter(order(lane(Strategy.LATENCY, *candidates), states, draw=draw)[0] for _ in range(300))
    assert set(firsts) == {"fast", "medium"}
    assert firsts["fast"] > firsts["medium"]


def test_latency_leaves_a_crowded_fast_one() -> None:
    """What is under way counts with the peak."""
    states = States(FakeClock())
    fast, slow = Candidate("fast", "m"), Candidate("slow", "m")
    states.of(fast).peak.observe(0.1, 1000.0)
    states.of(slow).peak.observe(0.4, 1000.0)
    states.of(fast).in_flight = 9
    assert order(lane(Strategy.LATENCY, fast, slow), states)[0] == "slow"


def test_preferred_one_comes_first_and_the_others_keep_their_order() -> None:
    """One that is not among them changes nothing."""
    candidates = tuple(Candidate(name, "m") for name in "abc")
    assert [one.upstream for one in preferred(candidates, "c", "m")] == ["c", "a", "b"]
    assert preferred(candidates, "a", "m") is candidates
    assert preferred(candidates, "c", "other") is candidates
