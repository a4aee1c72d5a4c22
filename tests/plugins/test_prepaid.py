"""Teams that pay in advance: what is held from their purses, what they pay, and what they are told."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest

from plugins.spend_caps.plugin import SpendCapsPlugin, SpendCapsSettings
from proxy.catalogue import Wallet
from proxy.config.schema import Generation
from proxy.errors import Refusal
from proxy.exchange import Exchange, Finish
from proxy.ledger.api import Purse
from proxy.pricing.rates import parse_rate
from proxy.usage import Usage
from tests.plugins.test_spend_caps import CHAT_BODY, Metrics, answered, quoted
from tests.support.fakes import RATES, FakeClock, Log, Rest, cap, generation, identity, model, team
from tests.support.ledger import MemoryLedger

TEAM = Purse("team", "default")
DOLLAR = 1_000_000_000
LONG = {"model": "gpt-4o", "max_tokens": 10, "messages": [{"role": "user", "content": "hello world " * 2000}]}


def build(ledger: MemoryLedger, **settings: Any) -> SpendCapsPlugin:
    services = SimpleNamespace(clock=FakeClock(), ledger=ledger, metrics=Metrics(), log=Log())
    return SpendCapsPlugin(SpendCapsSettings(**settings), services)  # type: ignore[arg-type]


def prepaid(scope: str = "team", **changes: Any) -> Generation:
    fields = {"wallet": Wallet.BALANCE, "rates": replace(RATES, source="models.yaml 2026-11-01")}
    caps = changes.pop("caps", ())
    return generation(models={"gpt-4o": model(**{**fields, **changes})}, teams=(team(prepaid=scope, caps=caps),))


async def refused(ledger: MemoryLedger, seen: Exchange, **settings: Any) -> Refusal:
    rest = Rest()
    with pytest.raises(Refusal) as caught:
        await build(ledger, **settings)(seen, rest)
    assert rest.seen == [] and ledger.holds == []
    return caught.value


@pytest.mark.parametrize(
    ("scope", "scope_id"),
    [("team", "default"), ("user", "default/tester"), ("key", "key_000000000001"), ("organisation", "acme")],
)
async def test_the_purse_is_whose_the_team_says(scope: str, scope_id: str) -> None:
    """Of the organisation, the team, the user or the very key."""
    ledger = MemoryLedger(granted={Purse(scope, scope_id): DOLLAR})
    await build(ledger)(quoted(under=prepaid(scope)), Rest())
    request = ledger.requests[0]
    assert request.purse == Purse(scope, scope_id)
    assert 0 < request.input_charged < request.charged
    assert request.price_source == "models.yaml 2026-11-01"


async def test_frontier_models_are_paid_from_frontier_credits() -> None:
    """A full balance pays for none of them."""
    ledger = MemoryLedger(granted={TEAM: DOLLAR})
    refusal = await refused(ledger, quoted(under=prepaid(wallet=Wallet.FRONTIER)))
    assert "Frontier Credits of team 'default' have 0.00 USD left" in refusal.message
    assert refusal.details is not None and refusal.details["balance"]["wallet"] == "frontier"


async def test_what_is_charged_to_nobody_takes_nothing_from_a_purse() -> None:
    """The caller's own provider key, and models behind a customer's own upstream key."""
    ledger = MemoryLedger()
    await build(ledger)(quoted(own=True, under=prepaid()), Rest())
    await build(ledger)(quoted(under=prepaid(byo=True)), Rest())
    assert [request.purse for request in ledger.requests] == [None, None]


async def test_a_team_that_does_not_pay_in_advance_has_no_purse() -> None:
    """Caps alone count."""
    ledger = MemoryLedger()
    await build(ledger)(quoted(), Rest())
    assert ledger.requests[0].purse is None


async def test_an_empty_purse_is_402_that_says_what_is_left_and_what_to_do() -> None:
    """Whose purse, what is left, what was needed; nothing is forwarded or held."""
    ledger = MemoryLedger(granted={TEAM: 1000})
    seen = quoted(under=prepaid())
    refusal = await refused(ledger, seen)
    assert (refusal.status, refusal.code) == (402, "quota_exhausted")
    assert "prepaid balance of team 'default' has 0.000001 USD left" in refusal.message
    assert "Top up the balance" in refusal.message
    assert seen.quote is not None and refusal.details is not None
    assert refusal.details["balance"] == {
        "scope": "team",
        "id": "default",
        "wallet": "balance",
        "left_usd": "0.000001",
        "held_usd": "0.00",
        "needed_usd": f"{seen.quote.charged / DOLLAR:.9f}".rstrip("0"),
    }


async def test_near_the_end_of_a_purse_the_input_is_counted() -> None:
    """The byte bound would refuse; the true count fits."""
    bound = quoted(LONG, under=prepaid()).quote
    assert bound is not None
    ledger = MemoryLedger(granted={TEAM: bound.charged // 2})
    seen = quoted(LONG, under=prepaid())
    await build(ledger)(seen, Rest())
    assert seen.quote is not None and seen.quote.counted
    assert ledger.holds[0].request.input_charged == seen.quote.input_charged < bound.input_charged


async def test_a_purse_clamps_only_where_the_operator_says_so() -> None:
    """By default a short answer is nobody's silent decision."""
    granted = {TEAM: 2_000_000}  # 200 output tokens at 10 USD per million
    await refused(MemoryLedger(granted=granted), quoted(under=prepaid()))
    ledger = MemoryLedger(granted=granted)
    seen = quoted(under=prepaid())
    await build(ledger, clamp_purse=True)(seen, Rest())
    assert seen.quote is not None and 16 <= seen.quote.output_tokens < 200
    assert ledger.holds[0].request.charged <= 2_000_000


async def test_clamped_to_a_cap_and_then_to_a_purse_that_is_shorter() -> None:
    """One after the other, and both fit."""
    ledger = MemoryLedger({"team": DOLLAR - 4_000_000}, {TEAM: 2_000_000})
    seen = quoted(under=prepaid(caps=(cap("1", "total", clamp=True),)))
    await build(ledger, clamp_purse=True)(seen, Rest())
    assert ledger.holds[0].request.charged <= 2_000_000
    unwilling = MemoryLedger({"team": DOLLAR - 4_000_000}, {TEAM: 2_000_000})
    refusal = await refused(unwilling, quoted(under=prepaid(caps=(cap("1", "total", clamp=True),))))
    assert refusal.details is not None and "balance" in refusal.details


async def test_what_nobody_can_bound_is_refused_where_a_purse_pays() -> None:
    """A purse must never be overdrawn."""
    body = {**CHAT_BODY, "web_search_options": {}}
    refusal = await refused(MemoryLedger(granted={TEAM: DOLLAR}), quoted(body, under=prepaid()))
    assert refusal.code == "unbounded_cost"


async def ended(usage: Usage | None, counted: Usage | None = None, outcome: str = "served") -> tuple[Any, Any]:
    """Settlement and hold of an exchange that ended so."""
    ledger = MemoryLedger(granted={TEAM: DOLLAR})
    seen = quoted(under=prepaid())
    await build(ledger)(seen, Rest())
    answered(seen, usage, outcome)
    assert seen.route is not None
    seen.route.current.counted = counted
    seen.finish(Finish.CLIENT_GONE)
    return ledger.settled[0][1], ledger.holds[0].request


async def test_a_known_usage_is_what_a_purse_pays() -> None:
    """What is charged."""
    settlement, _ = await ended(Usage(100, 20))
    assert (settlement.charged, settlement.paid) == (100 * 2_500 + 20 * 10_000, None)


async def test_an_unknown_usage_costs_a_purse_what_was_counted() -> None:
    """The caps count the full hold."""
    settlement, request = await ended(None, Usage(100, 500, counted=True))
    assert settlement.charged == request.charged
    assert settlement.paid == 100 * 2_500 + 500 * 10_000 < request.charged


async def test_a_report_beyond_any_model_costs_a_purse_what_was_counted() -> None:
    """Nobody pays by a figure that cannot be true."""
    lie = Usage.reported(input_tokens=1 << 60, output_tokens=1)
    settlement, request = await ended(lie, Usage(100, 500, counted=True))
    assert (settlement.charged, settlement.paid) == (request.charged, 100 * 2_500 + 500 * 10_000)


async def test_an_unknown_usage_of_which_nothing_was_counted_costs_a_purse_the_input() -> None:
    """It was asked for all the same."""
    settlement, request = await ended(None, None)
    assert settlement.paid == request.input_charged > 0


async def test_what_was_counted_is_paid_and_not_the_bound_of_the_input() -> None:
    """The bound of a hold is far above what a short prompt costs."""
    settlement, request = await ended(None, Usage(10, 0, counted=True))
    assert settlement.paid == 10 * 2_500 < request.input_charged


async def test_a_count_beyond_the_hold_is_paid_up_to_the_hold() -> None:
    """The purse is never asked for more than was set aside."""
    settlement, request = await ended(None, Usage(100, 10**6, counted=True))
    assert settlement.paid == request.charged


async def test_an_attempt_that_failed_costs_a_purse_nothing() -> None:
    """The operator bears what an upstream did not deliver."""
    settlement, _ = await ended(None, outcome="connect_failed")
    assert (settlement.charged, settlement.paid) == (0, None)


async def test_prices_that_change_mid_hold_change_nothing_for_it() -> None:
    """An exchange lives under the configuration it began with: held, charged and recorded at those prices."""
    ledger = MemoryLedger(granted={TEAM: 10 * DOLLAR})
    plugin = build(ledger)
    seen = quoted(under=prepaid())
    await plugin(seen, Rest())
    dearer = prepaid(rates=replace(RATES, input=parse_rate("250"), output=parse_rate("1000"), source="later"))
    plugin.follow(dearer)
    answered(seen, Usage(100, 20))
    seen.finish(Finish.SERVED)
    assert ledger.settled[0][1].charged == 100 * 2_500 + 20 * 10_000
    after = quoted(under=dearer)
    await plugin(after, Rest())
    assert [request.price_source for request in ledger.requests] == ["models.yaml 2026-11-01", "later"]
    assert ledger.requests[1].charged > 50 * ledger.requests[0].charged


async def test_rules_name_a_key_by_its_name_or_id() -> None:
    """Caps of a key in teams.yaml stand in place of its own, its id before its name."""
    ledger = MemoryLedger()
    own = {"ci": (cap("7", "month"),), "key_000000000001": (cap("9", "month"),)}
    under = generation(teams=(team(key_caps=(cap("5"),), key_own_caps=own),))
    for who in (identity(key_name="ci"), identity(key_id="key_2", key_name="ci"), identity(key_id="key_3")):
        await build(ledger)(quoted(under=under, who=who), Rest())
    assert [request.caps[0].limit // DOLLAR for request in ledger.requests] == [9, 7, 5]
