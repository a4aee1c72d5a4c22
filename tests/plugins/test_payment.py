"""Three links between a price and a provider: asked for, leased with the hold, taken, burnt as the answer goes out."""

from __future__ import annotations

import asyncio
import hashlib
import sqlite3
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, replace
from decimal import Decimal
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import orjson
import pytest

from plugins.challenge.plugin import ChallengePlugin
from plugins.payment.plugin import PaymentPlugin
from plugins.payment.reconciler import Reconciler
from plugins.spend_caps.plugin import SpendCapsPlugin, SpendCapsSettings
from proxy.chain import compose
from proxy.dialects import DIALECTS
from proxy.errors import Refusal
from proxy.exchange import Exchange, Finish, Response
from proxy.headers import Headers
from proxy.identities import IdentityKind
from proxy.ledger.payment_api import Payment, PaymentState, Receipt, Unit
from proxy.ledger.store import SqliteLedger
from proxy.payments.api import Credential, Declined, Doubtful, Presented, Settled
from proxy.payments.bitcoin_price import BitcoinPriceSource
from proxy.payments.keys import DerivedKeys
from proxy.payments.rails import Rails
from proxy.payments.settings import X402, Balance, BitcoinPrice, Payments
from proxy.plugin import PluginSettings
from proxy.quoting import quote
from proxy.routes import Route, Try
from tests.support.fakes import RATES, FakeClock, Log, cap, exchange, generation, identity, model, origin, team
from tests.support.shop import ScriptedRail

BODY = {"model": "gpt-4o", "messages": [{"role": "user", "content": "hi"}], "max_tokens": 100}
SETTINGS = Payments(x402=X402("0x" + "a" * 40, ()), balance=Balance())
PAID = "5000/nonce"


class Metrics:
    """Takes anything."""

    def __getattr__(self, name: str) -> Any:
        return lambda *_args, **_fields: None


@dataclass(slots=True)
class Till:
    """The three plugins over a real ledger, behind them a provider that a test scripts."""

    ledger: SqliteLedger
    usdc: ScriptedRail
    ecash: ScriptedRail
    rails: Rails
    log: Log
    clock: FakeClock
    payment: PaymentPlugin
    chain: Callable[[Exchange], Any]
    answers: list[Response | BaseException]
    calls: list[Exchange]

    def request(
        self, shown: str | None = None, *, credential: Credential = Credential.X402, body: dict[str, Any] | None = None
    ) -> Exchange:
        """A payer's request, priced by the byte bound as `pricing` does."""
        asked = exchange(body=body or BODY, at=origin(loopback=False), under=self.generation)
        asked.request_id = f"req_{len(self.calls)}_{id(asked)}"
        asked.identity = identity(kind=IdentityKind.PAYER, key_id="payer", user="payer", team="payers", tier="")
        call = DIALECTS["openai.chat"].parse(orjson.dumps(body or BODY))
        found = self.generation.models["gpt-4o"]
        asked.call, asked.model, asked.quote = call, found, quote(found, call, provider_credential=False)
        if shown is not None:
            asked.presented = Presented(credential, shown, hashlib.sha256(shown.encode()).hexdigest())
        return asked

    @property
    def generation(self) -> Any:
        return self.payment.services.generation

    async def serve(self, asked: Exchange, finish: Finish = Finish.SERVED) -> Response:
        """The whole exchange, to its end."""
        response: Response = await self.chain(asked)
        asked.finish(finish)
        await self.ledger.flush()
        return response

    async def paid(self, key: str = "nonce", rail: str = "x402") -> Payment:
        """The payment as the ledger has it."""
        found = await self.ledger.payment(rail, key)
        assert found is not None
        return found

    async def upstream(self, asked: Exchange) -> Response:
        self.calls.append(asked)
        answer = self.answers.pop(0) if self.answers else Response.of(200, b'{"id":"a"}')
        assert asked.hold is not None
        attempt = await self.ledger.dispatch(asked.hold, upstream="openai", upstream_model="m")
        asked.dispatched = True
        assert asked.model is not None
        tried = Try(asked.model.candidates[0], attempt)
        asked.route = Route([tried])
        if isinstance(answer, BaseException):
            raise answer
        tried.status, tried.outcome = answer.status, "served" if answer.status < 300 else "status"
        return answer


@pytest.fixture
async def till(tmp_path: Path) -> AsyncIterator[Till]:
    """Open, with a cap that no test reaches unless it says so."""
    clock, log = FakeClock(), Log()
    ledger = SqliteLedger.open(tmp_path / "tollway.db", clock, log)
    usdc = ScriptedRail(Credential.X402, "x402", Unit.USDC, ledger)
    ecash = ScriptedRail(Credential.CASHU, "cashu", Unit.MSAT, ledger)
    bitcoin = BitcoinPriceSource(BitcoinPrice(fixed=Decimal(68_000)), clock, log)
    rails = Rails(SETTINGS, DerivedKeys(b"s" * 32), bitcoin, None, (usdc, ecash))
    priced = model(rates=replace(RATES, source="test"))
    sold = replace(generation(models={"gpt-4o": priced}, teams=(team(), team("payers"))), payments=SETTINGS)
    services: Any = SimpleNamespace(
        ledger=ledger, clock=clock, log=log, rails=rails, metrics=Metrics(), generation=sold
    )
    payment = PaymentPlugin(PluginSettings(), services)
    plugins = [
        ChallengePlugin(PluginSettings(), services),
        SpendCapsPlugin(SpendCapsSettings(), services),
        payment,
    ]
    made = Till(ledger, usdc, ecash, rails, log, clock, payment, None, [], [])  # type: ignore[arg-type]
    made.chain = compose(plugins, made.upstream, log)
    yield made
    await payment.stop()
    assert [str(finding) for finding in await ledger.audit()] == []
    await ledger.close()


# -- the challenge


async def test_a_payer_without_a_payment_is_offered_every_rail(till: Till) -> None:
    """402, nothing held, nobody called; the refusal carries the same body, for who writes answers anew."""
    asked = till.request()
    response = await till.serve(asked, Finish.REFUSED)
    assert response.status == 402
    told = orjson.loads(response.body)
    assert (told["error"], told["model"], told["max_tokens"]) == ("Payment Required", "gpt-4o", 100)
    assert told["x402"] == {"price": asked.ask.price.usdc}  # type: ignore[union-attr]
    assert {"X-Offer-x402", "X-Offer-cashu"} <= set(response.headers)
    assert response.headers["cache-control"] == "no-store"
    assert asked.refusal is not None
    assert (asked.refusal.code, asked.refusal.envelope()) == ("payment_required", response.body)
    assert (asked.hold, till.calls) == (None, [])


async def test_a_stale_exchange_rate_leaves_the_rails_in_dollars(till: Till) -> None:
    """And no rail at all is a 503 that takes nothing."""
    nobody = replace(till.rails, rails=())
    services = till.payment.services
    services.rails = nobody  # type: ignore[misc]
    alone = compose([ChallengePlugin(PluginSettings(), services)], till.upstream, till.log)
    response = await alone(till.request())
    assert (response.status, orjson.loads(response.body)["error"]["code"]) == (503, "payment_unavailable")
    assert "retry-after" in response.headers


@pytest.mark.parametrize(
    ("money", "over"),
    [
        (("Lightning", "Lightning"), " over Lightning"),
        (("USDC", "Cashu"), " over USDC or Cashu"),
        (("", ""), ""),
    ],
)
async def test_the_description_says_what_is_paid_with(till: Till, money: tuple[str, str], over: str) -> None:
    """Each money once, in the order of the offers."""
    till.usdc.money, till.ecash.money = money  # type: ignore[misc]
    told = orjson.loads((await till.serve(till.request(), Finish.REFUSED)).body)
    assert told["description"] == f"gpt-4o inference, pay-per-request{over}"


async def test_three_ways_are_listed_as_people_write(till: Till) -> None:
    """Lightning, USDC, or Cashu."""
    third = ScriptedRail(Credential.L402, "lightning", Unit.MSAT, till.ledger)
    for rail, money in ((third, "Lightning"), (till.usdc, "USDC"), (till.ecash, "Cashu")):
        rail.money = money  # type: ignore[misc]
    services = till.payment.services
    services.rails = replace(till.rails, rails=(third, till.usdc, till.ecash))  # type: ignore[misc]
    alone = compose([ChallengePlugin(PluginSettings(), services)], till.upstream, till.log)
    told = orjson.loads((await alone(till.request())).body)
    assert told["description"] == "gpt-4o inference, pay-per-request over Lightning, USDC, or Cashu"


async def test_a_stream_that_nothing_on_offer_pays_for_says_so(till: Till) -> None:
    """400 that says what to change: trying again would never help."""
    services = till.payment.services
    services.rails = replace(till.rails, rails=(till.ecash,))  # type: ignore[misc]
    till.ecash.streams = False
    alone = compose([ChallengePlugin(PluginSettings(), services)], till.upstream, till.log)
    response = await alone(till.request(body={**BODY, "stream": True}))
    told = orjson.loads(response.body)["error"]
    assert (response.status, told["code"], told["param"]) == (400, "cashu_no_stream", "stream")
    assert (await alone(till.request())).status == 402


async def test_a_payment_by_a_rail_that_is_off_is_refused(till: Till) -> None:
    """400 that says how to find out what is taken."""
    response = await till.serve(till.request("x", credential=Credential.L402), Finish.REFUSED)
    assert (response.status, orjson.loads(response.body)["error"]["code"]) == (400, "payment_not_accepted")


async def test_an_open_model_on_loopback_is_free(till: Till) -> None:
    """For who does not offer to pay."""
    asked = till.request()
    asked.origin = origin()
    asked.model = replace(till.generation.models["gpt-4o"], open=True)
    response = await till.serve(asked)
    assert (response.status, asked.tender, len(till.calls)) == (200, None, 1)


async def test_a_feature_that_nobody_can_bound_is_not_for_sale(till: Till) -> None:
    """Before anything is taken."""
    asked = till.request(PAID)
    assert asked.quote is not None
    asked.quote = replace(asked.quote, bounded=False, unbounded_reason="a stored prompt")
    response = await till.serve(asked, Finish.REFUSED)
    assert orjson.loads(response.body)["error"]["code"] == "unbounded_cost"
    assert till.usdc.settled == []


# -- paid


async def test_a_payment_buys_one_answer(till: Till) -> None:
    """Settled before the provider is called, burnt before the answer goes out, charged its price."""
    asked = till.request(PAID)
    response = await till.serve(asked)
    assert (response.status, response.headers["cache-control"]) == (200, "no-store")
    paid = await till.paid()
    assert (paid.state, paid.captured, response.headers["x-payment-id"]) == (PaymentState.BURNT, 5000, paid.id)
    assert response.headers["x-served"] == paid.id
    assert asked.settlement is not None
    assert asked.ask is not None
    assert asked.settlement.charged == asked.ask.price.usd


async def test_the_spent_payment_gives_its_answer_again_and_buys_nothing_else(till: Till) -> None:
    """To the same request; another one is refused in the rail's words."""
    first = await till.serve(till.request(PAID))
    again = await till.serve(till.request(PAID))
    assert (again.status, again.body, again.headers["x-dedup"]) == (200, first.body, "hit")
    other = await till.serve(till.request(PAID, body={**BODY, "max_tokens": 99}), Finish.REFUSED)
    assert other.status == 409
    assert len(till.calls) == 1


async def test_no_answer_is_kept_where_none_shall_be(till: Till) -> None:
    """`answer_seconds: 0`: what was bought stands nowhere, and the spent payment is refused."""
    till.payment._rails = replace(till.rails, settings=replace(till.rails.settings, answer_seconds=0))
    assert (await till.serve(till.request(PAID))).status == 200
    assert (await till.serve(till.request(PAID), Finish.REFUSED)).status == 409
    assert len(till.calls) == 1


async def test_a_failed_upstream_leaves_the_payment_with_its_payer(till: Till) -> None:
    """Usable again without a second settlement, as often as `leases_max` says; then it can only be refunded."""
    leases_max = 5
    till.answers += [Response.of(500, b"{}"), *[Refusal("upstream_error", "Broken.")] * (leases_max - 1)]
    for _ in range(leases_max):
        failed = await till.serve(till.request(PAID), Finish.UPSTREAM_FAILED)
        assert failed.status >= 500
        assert (await till.paid()).state is PaymentState.SETTLED
    worn = await till.serve(till.request(PAID), Finish.REFUSED)
    assert worn.status == 409
    assert (till.usdc.settled, len(till.calls)) == (["nonce"], leases_max)


async def test_a_provider_that_refuses_the_request_is_paid_nothing(till: Till) -> None:
    """Its 400 goes through and the payment stays free."""
    till.answers.append(Response.of(400, b'{"error":{}}'))
    asked = till.request(PAID)
    assert (await till.serve(asked)).status == 400
    assert (await till.paid()).state is PaymentState.SETTLED
    assert asked.settlement is not None
    assert asked.settlement.charged == 0


async def test_a_declined_payment_calls_nobody(till: Till) -> None:
    """In the rail's own words; final or not, as the rail says."""
    refusal = Refusal("x402_settlement_failed", "Empty wallet.")
    till.usdc.outcomes += [Declined(refusal, "empty", final=False), Declined(refusal, "used", final=True)]
    for state in (PaymentState.SEEN, PaymentState.REFUSED):
        response = await till.serve(till.request(PAID), Finish.REFUSED)
        assert (response.status, (await till.paid()).state) == (402, state)
    assert till.calls == []


async def test_an_unknown_payment_is_never_asked_for_again(till: Till) -> None:
    """503 with its id and Retry-After, twice; once the reconciler knows, the same request is served for it."""
    till.usdc.outcomes.append(Doubtful("timed out"))
    for _ in range(2):
        response = await till.serve(till.request(PAID), Finish.REFUSED)
        assert response.status in (409, 503)
        assert "retry-after" in response.headers
        assert "www-authenticate" not in response.headers
    assert (await till.paid()).state is PaymentState.UNKNOWN
    till.clock.advance(60)
    assert await Reconciler(till.rails, till.ledger, till.clock, till.log).round() == 1
    assert (await till.serve(till.request(PAID))).status == 200
    assert (till.usdc.settled, len(till.calls)) == (["nonce"], 1)


async def test_what_takes_too_long_to_tell_keeps_nobody_waiting(till: Till, monkeypatch: Any) -> None:
    """A node that hangs holds up its own payment alone: the others of the round are told, and the next one begins."""
    for key, rail in (("5000/slow", till.usdc), ("5000000/quick", till.ecash)):
        rail.outcomes = [Doubtful("no answer")]
        credential = Credential.X402 if rail is till.usdc else Credential.CASHU
        assert (await till.serve(till.request(key, credential=credential), Finish.REFUSED)).status == 503
    monkeypatch.setattr("plugins.payment.reconciler.ASKED_SECONDS_MAX", 0.05)
    monkeypatch.setattr(till.usdc, "reconcile", lambda _: asyncio.Event().wait())
    till.clock.advance(60)
    async with asyncio.timeout(5):
        assert await Reconciler(till.rails, till.ledger, till.clock, till.log).round() == 2
    assert (await till.paid("slow")).state is PaymentState.UNKNOWN
    assert (await till.paid("quick", "cashu")).state is PaymentState.SETTLED
    assert "payment_still_unknown" in till.log.names()


async def test_a_file_that_fails_once_does_not_end_the_reconciler(till: Till, monkeypatch: Any) -> None:
    """Whatever it says: who is owed an answer has nobody else."""
    asked, own = 0, till.ledger.unknown_payments

    async def failing(**limits: int) -> Any:
        nonlocal asked
        asked += 1
        if asked == 1:
            raise sqlite3.DatabaseError("disk image is malformed")
        return await own(**limits)

    monkeypatch.setattr("plugins.payment.reconciler.ROUND_SECONDS", 0.0)
    monkeypatch.setattr(till.ledger, "unknown_payments", failing)
    reconciler = Reconciler(till.rails, till.ledger, till.clock, till.log)
    reconciler.start()
    async with asyncio.timeout(5):
        while asked < 2:
            await asyncio.sleep(0)
    await reconciler.stop()
    assert "reconcile_failed" in till.log.names()


async def test_a_client_that_leaves_while_its_payment_settles_loses_nothing(till: Till) -> None:
    """The settlement goes on in its own task; afterwards the payment is its payer's to use."""
    till.usdc.gate = asyncio.Event()
    asked = till.request(PAID)
    task = asyncio.ensure_future(till.serve(asked))
    while not till.usdc.settled:
        await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    asked.finish(Finish.CLIENT_GONE)
    await till.ledger.flush()
    busy = await till.serve(till.request(PAID), Finish.REFUSED)
    assert busy.status == 409
    till.usdc.gate.set()
    await till.payment.stop()
    paid = await till.paid()
    assert (paid.state, paid.leased) == (PaymentState.SETTLED, False)
    assert (await till.serve(till.request(PAID))).status == 200
    assert till.usdc.settled == ["nonce"]


async def test_a_cap_of_the_operators_takes_nothing(till: Till) -> None:
    """503, the payment unseen."""
    tight = replace(till.generation, teams={"payers": team("payers", caps=(cap("0.000001"),))})
    asked = till.request(PAID)
    asked.generation = tight
    response = await till.serve(asked, Finish.REFUSED)
    assert (response.status, orjson.loads(response.body)["error"]["code"]) == (503, "payment_unavailable")
    assert (await till.ledger.payment("x402", "nonce"), till.usdc.settled) == (None, [])


async def test_a_stream_is_burnt_before_its_head_and_not_kept(till: Till) -> None:
    """The answer is the client's alone; a second bearer of the proof gets a refusal."""

    class Stream:
        async def __aiter__(self) -> AsyncIterator[bytes]:
            yield b"data: x\n\n"

        async def aclose(self) -> None:
            """Nothing is open."""

    till.answers.append(Response(200, Headers({"content-type": "text/event-stream"}), stream=Stream(), sse=True))
    asked = till.request(PAID)
    response = await till.chain(asked)
    assert (await till.paid()).state is PaymentState.BURNT
    assert response.stream is not None
    asked.finish(Finish.CLIENT_GONE)
    await till.ledger.flush()
    assert (await till.serve(till.request(PAID), Finish.REFUSED)).status == 409


async def test_a_payer_without_a_tender_is_never_served(till: Till) -> None:
    """A chain whose challenge is missing closes the path."""
    services = till.payment.services
    for links in ([SpendCapsPlugin(SpendCapsSettings(), services), till.payment], [till.payment]):
        response = await compose(links, till.upstream, till.log)(till.request(PAID))
        assert (response.status, till.calls) == (500, [])


async def test_what_settles_late_is_kept_with_its_receipt(till: Till) -> None:
    """The same authorization, shown again, asks nobody outside."""
    till.usdc.outcomes.append(Settled(Receipt(5000, reference="0xabc")))
    till.answers.append(Response.of(502, b"{}"))
    await till.serve(till.request(PAID), Finish.UPSTREAM_FAILED)
    assert (await till.paid()).reference == "0xabc"
    assert (await till.serve(till.request(PAID))).status == 200
    assert till.usdc.settled == ["nonce"]


async def test_a_rail_that_breaks_leaves_the_payment_to_the_reconciler(till: Till, monkeypatch: Any) -> None:
    """Outside may have been asked: 500, and never free to be asked for again before somebody knows."""

    async def broken(*_: Any) -> Any:
        raise RuntimeError("CANARY")

    monkeypatch.setattr(till.usdc, "settle", broken)
    response = await till.serve(till.request(PAID), Finish.FAILED)
    assert (response.status, (await till.paid()).state) == (500, PaymentState.UNKNOWN)
    assert till.calls == []


async def test_an_impossible_receipt_is_a_doubt(till: Till) -> None:
    """More fee than came in: nobody knows what that is."""
    till.usdc.outcomes.append(Settled(Receipt(5000, fee=6000)))
    response = await till.serve(till.request(PAID), Finish.REFUSED)
    assert (response.status, (await till.paid()).state) == (503, PaymentState.UNKNOWN)
