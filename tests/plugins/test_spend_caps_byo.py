"""Customers' own upstream keys: charged nothing, counted at list by the caps that count list cost."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from proxy.catalogue import Candidate
from proxy.errors import Refusal
from proxy.exchange import Exchange, Finish
from proxy.ledger.api import Basis
from proxy.pricing.rates import Rates
from proxy.quoting import quote
from proxy.usage import Usage
from tests.plugins.test_spend_caps import answered, build, quoted
from tests.support.fakes import CHAT_BODY, RATES, Rest, cap, generation, model, team
from tests.support.ledger import MemoryLedger

FREE = Rates(0, 0)
BOTH = (cap("100"), cap("50", "month", basis="list"))


def byo(*, cost: Rates | None = RATES, body: dict[str, Any] | None = None, caps: tuple[Any, ...] = BOTH) -> Exchange:
    """An exchange for a customer's alias, as far as PRICE."""
    seen = quoted(body, under=generation(teams=(team(caps=caps),)))
    if seen.call is None:
        raise LookupError("call")
    candidate = Candidate("byo:0123456789ab", "gpt-4o", cost)
    seen.model = replace(model("byo-gpt"), candidates=(candidate,), rates=FREE, byo=True)
    seen.quote = quote(seen.model, seen.call, provider_credential=False)
    return seen


async def test_only_caps_on_list_cost_count_it() -> None:
    """Charged 0, held at list."""
    ledger, seen = MemoryLedger(), byo()
    await build(ledger)(seen, Rest())
    (request,) = ledger.requests
    assert [one.basis for one in request.caps] == [Basis.LIST]
    assert request.charged == 0
    assert request.list is not None and request.list > 0


async def test_it_settles_at_nothing_charged_and_its_cost_at_list() -> None:
    """By the usage that the provider reports."""
    ledger, seen = MemoryLedger(), byo()
    await build(ledger)(seen, Rest())
    usage = Usage.reported(input_tokens=1000, output_tokens=100)
    answered(seen, usage)
    seen.finish(Finish.SERVED)
    ((_, settlement),) = ledger.settled
    assert (settlement.charged, settlement.list) == (0, RATES.cost(usage))


async def test_without_a_list_price_a_cap_on_list_cost_refuses_it() -> None:
    """It could not count it."""
    ledger = MemoryLedger()
    with pytest.raises(Refusal) as caught:
        await build(ledger)(byo(cost=None), Rest())
    assert caught.value.code == "unbounded_cost"
    assert ledger.requests == []


async def test_without_a_list_price_a_cap_on_what_is_charged_lets_it_through() -> None:
    """It is charged nothing; its list cost is not known, and so not 0."""
    ledger, seen = MemoryLedger(), byo(cost=None, caps=(cap("100"),))
    await build(ledger)(seen, Rest())
    answered(seen, Usage.reported(input_tokens=1000, output_tokens=100))
    seen.finish(Finish.SERVED)
    (request,) = ledger.requests
    assert (request.caps, request.charged, request.list) == ((), 0, None)
    ((_, settlement),) = ledger.settled
    assert (settlement.charged, settlement.list) == (0, None)


async def test_what_cannot_be_bounded_passes_where_nothing_counts_it() -> None:
    """The customer pays its provider for it."""
    pictured = {
        **CHAT_BODY,
        "messages": [
            {"role": "user", "content": [{"type": "image_url", "image_url": {"url": "data:image/png;base64,"}}]}
        ],
    }
    seen = byo(body=pictured, caps=(cap("100"),))
    rest = Rest()
    await build(MemoryLedger())(seen, rest)
    assert rest.seen == [seen]


@pytest.mark.parametrize(("caps", "enforced"), [((cap("100"),), False), ((), False), (BOTH, True)])
async def test_an_output_limit_is_put_in_only_for_a_cap_that_counts_it(caps: tuple[Any, ...], enforced: bool) -> None:
    """Otherwise the request is the customer's and stays as it was written."""
    seen = byo(caps=caps)
    await build(MemoryLedger())(seen, Rest())
    assert seen.quote is not None
    assert seen.quote.enforced is enforced
