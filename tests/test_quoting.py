"""The hold covers whatever candidate serves the call."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import orjson
from hypothesis import given
from hypothesis import strategies as st

from proxy.catalogue import Candidate, Model
from proxy.dialects import DIALECTS
from proxy.dialects.base import Call
from proxy.pricing.rates import Band, Rates, parse_rate
from proxy.quoting import narrowed, priced, quote
from proxy.usage import Usage
from tests.support.fakes import CHAT_BODY, model

CHEAP = Rates(parse_rate("0.1"), parse_rate("0.2"))
DEAR = Rates(parse_rate(3), parse_rate(15), cache_write=parse_rate("3.75"))
OURS = Rates(parse_rate(1), parse_rate(2))
IMAGE = {"type": "image_url", "image_url": {"url": "https://example.test/a.png"}}


def chat(**members: Any) -> Call:
    return DIALECTS["openai.chat"].parse(orjson.dumps({**CHAT_BODY, **members}))


def lane(*costs: Rates | None, rates: Rates | None = OURS, **changes: Any) -> Model:
    candidates = tuple(Candidate(f"u{n}", "m", cost, model=f"m{n}") for n, cost in enumerate(costs))
    return model("lane", candidates=candidates, rates=rates, lane=True, **changes)


def test_charged_is_at_our_rates_and_list_at_the_dearest_candidate() -> None:
    """Whatever the order of the candidates."""
    found = quote(lane(CHEAP, DEAR, CHEAP), chat(max_tokens=100), provider_credential=False)
    assert found.charged == OURS.bound(found.input_tokens, 100)
    assert found.list == DEAR.bound(found.input_tokens, 100, cache_write=True)
    assert found.input_charged == OURS.bound(found.input_tokens, 0)
    assert len(found.candidates) == 3


def test_a_hedge_holds_the_list_cost_of_two_answers() -> None:
    """Where there are two to call; the caller is charged one."""
    alone = quote(lane(DEAR, hedge=True), chat(), provider_credential=False)
    hedged = quote(lane(DEAR, CHEAP, hedge=True), chat(), provider_credential=False)
    assert alone.list is not None
    assert (hedged.list, hedged.charged) == (2 * alone.list, alone.charged)


def test_inadmissible_candidates_cost_nothing() -> None:
    """Fewer candidates, a lower hold; and the output limit that they take."""
    route = lane(CHEAP, DEAR)
    small = replace(route.candidates[0], output_tokens_max=50)
    route = replace(route, candidates=(small, route.candidates[1]))
    found = quote(route, chat(max_tokens=400), provider_credential=False)
    less = narrowed(found, route, chat(max_tokens=400), (small,))
    assert (found.output_tokens, less.output_tokens) == (400, 50)
    assert less.candidates == (small,)
    assert less.list == CHEAP.bound(found.input_tokens, 50)


def test_working_out_again_gives_the_same() -> None:
    """`priced` after a change back to the same tokens changes nothing."""
    route, call = lane(CHEAP, DEAR, hedge=True), chat(n=3)
    found = quote(route, call, provider_credential=False)
    assert (
        priced(found.with_output(7).with_output(found.output_tokens), route, call, provider_credential=False) == found
    )


def test_a_customers_own_model_is_charged_nothing_and_has_a_list_cost_where_known() -> None:
    """Not known: unbounded, so that a cap on list cost refuses it and no other cap sees it."""
    known = quote(lane(DEAR, rates=Rates(0, 0), byo=True), chat(), provider_credential=False)
    assert (known.charged, known.bounded) == (0, True) and (known.list or 0) > 0
    unknown = quote(lane(None, rates=Rates(0, 0), byo=True), chat(), provider_credential=False)
    assert (unknown.charged, unknown.list, unknown.bounded) == (0, None, False)
    assert "no list price" in unknown.unbounded_reason


def test_an_own_provider_key_is_held_one_list_cost() -> None:
    """Its call goes to its provider alone, never hedged."""
    own = quote(lane(DEAR, CHEAP, hedge=True), chat(), provider_credential=True)
    assert own.charged == own.input_charged == 0
    assert own.list == DEAR.bound(own.input_tokens, own.output_tokens, cache_write=True)


def test_images_are_held_at_the_largest_bound_of_all_candidates() -> None:
    """One that cannot bound them leaves the call unbounded."""
    call = chat(messages=[{"role": "user", "content": [IMAGE, {"type": "text", "text": "x"}]}])
    route = lane(CHEAP, DEAR)
    sizes = [replace(one, image_tokens_max=size) for one, size in zip(route.candidates, (100, 900), strict=True)]
    both = quote(replace(route, candidates=tuple(sizes)), call, provider_credential=False)
    first = quote(replace(route, candidates=(sizes[0],)), call, provider_credential=False)
    assert both.input_tokens == first.input_tokens + 800
    open_end = quote(replace(route, candidates=(sizes[0], route.candidates[1])), call, provider_credential=False)
    assert not open_end.bounded


RATE = st.integers(0, 10**14)
RATES = st.builds(Rates, RATE, RATE, RATE | st.none(), RATE | st.none(), reasoning=RATE | st.none())
BANDED = st.builds(
    lambda base, above, start: replace(base, bands=(Band(start, above),)), RATES, RATES, st.integers(1, 2000)
)


@given(
    st.lists(RATES | BANDED, min_size=1, max_size=4),
    RATES | BANDED,
    st.integers(1, 500),
    st.data(),
)
def test_no_candidate_costs_more_than_is_held(costs: list[Rates], ours: Rates, limit: int, data: st.DataObject) -> None:
    """Any usage within the bound, at any candidate; and the caller is charged no more than was said."""
    route = lane(*costs, rates=ours)
    found = quote(route, chat(max_tokens=limit), provider_credential=False)
    into, out = data.draw(st.integers(0, found.input_tokens)), data.draw(st.integers(0, limit))
    part = st.integers(0, 3000)
    usage = Usage.reported(
        input_tokens=into,
        output_tokens=out,
        cached_tokens=data.draw(part),
        cache_write_tokens=data.draw(part),
        reasoning_tokens=data.draw(part),
    )
    assert ours.cost(usage) <= found.charged
    assert ours.cost(replace(usage, output_tokens=0, reasoning_tokens=0)) <= found.charged
    assert found.list is not None
    for candidate in found.candidates:
        rates = route.list_rates(candidate)
        assert rates is not None and rates.cost(usage) <= found.list
