"""Hold before, settle after."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from plugins.spend_caps.plugin import SpendCapsPlugin, SpendCapsSettings
from proxy.dialects import DIALECTS
from proxy.errors import Refusal
from proxy.exchange import Exchange, Finish
from proxy.ledger.api import Attempt
from proxy.quoting import quote
from proxy.routes import Route, Try
from proxy.usage import Usage
from tests.support.fakes import (
    CHAT_BODY,
    FakeClock,
    Log,
    Rest,
    cap,
    exchange,
    generation,
    identity,
    model,
    team,
)
from tests.support.ledger import MemoryLedger


class Metrics:
    """Remembers crossings."""

    def __init__(self) -> None:
        self.crossed: list[tuple[str, str, str]] = []
        self.failed: list[str] = []

    def soft_cap_crossed(self, scope: str, scope_id: str, window: str) -> None:
        self.crossed.append((scope, scope_id, window))

    def hold_failed(self, reason: str) -> None:
        self.failed.append(reason)


def build(ledger: MemoryLedger) -> SpendCapsPlugin:
    services = SimpleNamespace(clock=FakeClock(), ledger=ledger, metrics=Metrics(), log=Log())
    return SpendCapsPlugin(SpendCapsSettings(), services)  # type: ignore[arg-type]


def quoted(body: dict[str, Any] | None = None, **fields: Any) -> Exchange:
    """An exchange that has come as far as PRICE."""
    own = fields.pop("own", False)
    who = fields.pop("who", identity(provider_credential=own))
    seen = exchange(body=body, **fields)
    seen.identity = who
    seen.call = DIALECTS["openai.chat"].parse(seen.request._reader._pieces[0])  # type: ignore[attr-defined]
    seen.model = seen.generation.models["gpt-4o"]
    seen.quote = quote(seen.model, seen.call, provider_credential=own)
    return seen


def answered(seen: Exchange, usage: Usage | None, outcome: str = "served") -> None:
    """As routing and metering leave it."""
    assert seen.model is not None
    attempt = Attempt(1, 1, "openai", "gpt-4o-upstream")
    seen.route = Route([Try(seen.model.candidates[0], attempt, 200, outcome, usage=usage)])
    seen.dispatched, seen.usage = True, usage


async def test_hold_is_the_quote_under_every_cap_of_the_caller() -> None:
    """Key, user, team and organisation, narrowest first, one request to the ledger."""
    ledger = MemoryLedger()
    under = generation(
        teams=(team(caps=(cap("100", "month"),), user_caps=(cap("10"),), key_caps=(cap("5", "hour"),)),),
        organisations={"acme": (cap("1000", "total"),)},
    )
    seen, rest = quoted(under=under), Rest()
    await build(ledger)(seen, rest)
    (request,) = ledger.requests
    assert [(c.scope, c.scope_id, c.window) for c in request.caps] == [
        ("key", "key_000000000001", "hour"),
        ("user", "default/tester", "day"),
        ("team", "default", "month"),
        ("organisation", "acme", "total"),
    ]
    assert seen.quote is not None
    assert request.charged == seen.quote.charged > 0
    assert len(rest.seen) == 1


async def test_keys_own_caps_replace_the_teams_for_keys() -> None:
    """A key made with caps has those."""
    ledger = MemoryLedger()
    under = generation(teams=(team(key_caps=(cap("5", "hour"),)),))
    await build(ledger)(quoted(under=under, who=identity(caps=(cap("7", "month"),))), Rest())
    assert [(c.scope, c.window, c.limit) for c in ledger.requests[0].caps] == [("key", "month", 7_000_000_000)]


async def test_exhausted_cap_is_402_that_says_which_how_much_and_when() -> None:
    """Nothing is forwarded, and the answer tells what to do."""
    ledger = MemoryLedger({"team": 100_000_000_000 - 5})
    rest = Rest()
    with pytest.raises(Refusal) as refused:
        await (plugin := build(ledger))(quoted(under=generation(teams=(team(caps=(cap("100", "month"),)),))), rest)
    assert (refused.value.status, refused.value.code) == (402, "quota_exhausted")
    assert refused.value.details is not None
    told = refused.value.details["cap"]
    assert (told["scope"], told["id"], told["window"], told["left_usd"]) == ("team", "default", "month", "0.000000005")
    assert told["resets_at"] == "2023-12-01T00:00:00Z"
    assert rest.seen == [] and ledger.holds == []
    assert plugin.services.metrics.failed == ["quota_exhausted"]


async def test_near_a_cap_the_input_is_counted_and_the_hold_shrinks() -> None:
    """The byte bound would refuse; the true count fits."""
    body = {"model": "gpt-4o", "max_tokens": 10, "messages": [{"role": "user", "content": "hello world " * 2000}]}
    seen = quoted(body)
    assert seen.quote is not None
    by_bytes = seen.quote
    limit = by_bytes.charged // 2
    ledger = MemoryLedger({"team": 1_000_000_000 - limit})
    seen = quoted(body, under=generation(teams=(team(caps=(cap("1", "total"),)),)))
    await build(ledger)(seen, Rest())
    assert seen.quote is not None
    assert seen.quote.counted
    assert ledger.holds[0].request.charged < limit
    assert 4000 <= seen.quote.input_tokens < by_bytes.input_tokens // 2


async def test_clamping_cap_shortens_the_output_to_what_is_left() -> None:
    """The largest limit whose hold fits, forwarded upstream."""
    left = 2_000_000  # 200 output tokens at 10 USD per million
    ledger = MemoryLedger({"team": 1_000_000_000 - left})
    seen = quoted(under=generation(teams=(team(caps=(cap("1", "total", clamp=True),)),)))
    await build(ledger)(seen, Rest())
    assert seen.quote is not None
    assert 16 <= seen.quote.output_tokens < 200
    assert ledger.holds[0].request.charged <= left
    more = seen.quote.with_output(seen.quote.output_tokens + 1)
    assert more.output_tokens * 10_000 + more.input_tokens * 2_500 > left


async def test_clamp_below_a_useful_answer_is_refused() -> None:
    """An answer of a few tokens helps nobody."""
    ledger = MemoryLedger({"team": 1_000_000_000 - 100_000})
    with pytest.raises(Refusal) as refused:
        await build(ledger)(quoted(under=generation(teams=(team(caps=(cap("1", "total", clamp=True),)),))), Rest())
    assert refused.value.code == "quota_exhausted"


async def test_unbounded_request_is_refused_under_a_cap_and_served_without() -> None:
    """What nobody can bound slips past no cap."""
    body = {**CHAT_BODY, "web_search_options": {}}
    with pytest.raises(Refusal) as refused:
        await build(MemoryLedger())(quoted(body, under=generation(teams=(team(caps=(cap("1"),)),))), Rest())
    assert refused.value.code == "unbounded_cost"
    ledger = MemoryLedger()
    await build(ledger)(quoted(body), Rest())
    assert len(ledger.holds) == 1


async def test_own_provider_key_holds_nothing_but_list_caps_count() -> None:
    """Charged 0; a cap on charged money does not concern it, one on list cost does."""
    caps = (cap("1", "day"), cap("1", "month", basis="list"))
    ledger = MemoryLedger()
    seen = quoted(own=True, under=generation(teams=(team(caps=caps),)))
    await build(ledger)(seen, Rest())
    (request,) = ledger.requests
    assert request.charged == 0 and request.list is not None and request.list > 0
    assert [c.basis.value for c in request.caps] == ["list"]
    assert seen.quote is not None and seen.quote.enforced


async def test_own_provider_key_without_list_cap_is_left_as_it_is() -> None:
    """No cap, no splice: the client's request goes out unchanged."""
    seen = quoted(own=True)
    await build(MemoryLedger())(seen, Rest())
    assert seen.quote is not None and not seen.quote.enforced


async def test_refused_further_in_releases_the_hold() -> None:
    """Nothing was dispatched: nothing is charged."""
    ledger = MemoryLedger()
    seen = quoted()
    await build(ledger)(seen, Rest())
    seen.finish(Finish.REFUSED)
    assert [reason for _, reason in ledger.released] == ["refused"]
    assert ledger.settled == []


async def test_served_exchange_is_charged_its_usage() -> None:
    """Reported tokens at the model's rates, once."""
    ledger = MemoryLedger()
    seen = quoted()
    await build(ledger)(seen, Rest())
    answered(seen, Usage(100, 20, cached_tokens=40))
    seen.finish(Finish.SERVED)
    seen.finish(Finish.SERVED)
    ((_, settlement),) = ledger.settled
    expected = 60 * 2_500 + 40 * 1_250 + 20 * 10_000
    assert (settlement.charged, settlement.list) == (expected, expected)
    assert seen.settlement is settlement


async def test_unknown_usage_takes_the_full_hold() -> None:
    """Leaving just before the end is no discount."""
    ledger = MemoryLedger()
    seen = quoted()
    await build(ledger)(seen, Rest())
    answered(seen, None)
    seen.finish(Finish.CLIENT_GONE)
    assert ledger.settled[0][1].charged == ledger.holds[0].request.charged


@pytest.mark.parametrize(
    "outcome", ["unsent", "status", "connect_failed", "first_byte_timeout", "garbage", "error_event"]
)
async def test_failed_attempt_costs_the_caller_nothing(outcome: str) -> None:
    """The operator bears what an upstream did not deliver."""
    ledger = MemoryLedger()
    seen = quoted()
    await build(ledger)(seen, Rest())
    answered(seen, None, outcome)
    seen.finish(Finish.UPSTREAM_FAILED)
    assert ledger.settled[0][1].charged == 0


async def test_own_provider_key_is_charged_0_and_its_list_cost_recorded() -> None:
    """Two amounts for every exchange."""
    ledger = MemoryLedger()
    seen = quoted(own=True)
    await build(ledger)(seen, Rest())
    answered(seen, Usage(100, 20))
    seen.finish(Finish.SERVED)
    settlement = ledger.settled[0][1]
    assert (settlement.charged, settlement.list) == (0, 100 * 2_500 + 20 * 10_000)


async def test_unpriced_own_model_has_no_list_cost() -> None:
    """Unknown is unknown, not free."""
    ledger = MemoryLedger()
    seen = quoted(own=True, under=generation(models={"gpt-4o": model(rates=None)}))
    await build(ledger)(seen, Rest())
    answered(seen, Usage(100, 20))
    seen.finish(Finish.SERVED)
    assert ledger.settled[0][1].list is None


async def test_soft_threshold_warns_in_log_and_metric() -> None:
    """Past the soft limit the exchange is served and the operator told."""
    ledger = MemoryLedger({"team": 900_000_000})
    plugin = build(ledger)
    await plugin(quoted(under=generation(teams=(team(caps=(cap("1", "day", soft_percent=80),)),))), Rest())
    assert plugin.services.metrics.crossed == [("team", "default", "day")]
    assert plugin.services.log.names() == ["soft_cap_crossed"]


async def test_answer_larger_than_we_take_costs_the_full_hold() -> None:
    """Asking for more than can be passed on must not be a way to spend the operator's money past every cap."""
    ledger = MemoryLedger()
    seen = quoted()
    await build(ledger)(seen, Rest())
    answered(seen, None, "too_large")
    seen.finish(Finish.REFUSED)
    request = ledger.holds[0].request
    assert (ledger.settled[0][1].charged, ledger.settled[0][1].list) == (request.charged, request.list)
