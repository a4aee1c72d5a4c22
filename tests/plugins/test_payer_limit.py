"""Callers without a key get so many requests of each kind by address, and so many under way, and lose nothing by it."""

from __future__ import annotations

from dataclasses import replace
from ipaddress import ip_address
from types import SimpleNamespace
from typing import Any

import pytest

from plugins.payer_limit.plugin import PayerLimitPlugin, PayerLimitSettings
from proxy.config.schema import Bucket, Generation, Limits, PayerLimits, ScopeLimits
from proxy.errors import Refusal
from proxy.exchange import Exchange, Finish
from proxy.identities import Identity, IdentityKind
from proxy.operations import LOCAL, MODELS, UNMETERED
from proxy.payments.api import Credential, Presented
from proxy.payments.settings import Payments
from proxy.state import Counters
from tests.support.fakes import FakeClock, Rest, exchange, generation, identity, origin

OPEN = ScopeLimits()
PAYER = identity(kind=IdentityKind.PAYER, key_id="payer", team="payers")
ANONYMOUS = identity(kind=IdentityKind.ANONYMOUS, key_id="anonymous")
PAYMENT = Presented(Credential.L402, "macaroon:preimage", "0" * 64)


def under(payers: PayerLimits, *, payments: Payments | None = Payments()) -> Generation:  # noqa: B008
    """A configuration with these limits."""
    limits = Limits(OPEN, OPEN, OPEN, OPEN, 1_000, payers=payers)
    return replace(generation(limits=limits), payments=payments)


class World:
    """A plugin with its own clock and counters."""

    def __init__(self, payers: PayerLimits | None = None, *, on: bool = True, **settings: Any) -> None:
        self.clock = FakeClock()
        self.generation = under(payers or PayerLimits(), payments=Payments() if on else None)
        self.counters = Counters(self.clock)
        services: Any = SimpleNamespace(clock=self.clock, counters=self.counters, generation=self.generation)
        self.plugin = PayerLimitPlugin(PayerLimitSettings(**settings), services)
        self.rest = Rest()

    async def send(
        self,
        who: Identity = PAYER,
        *,
        peer: str = "203.0.113.7",
        paid: bool = False,
        within: Generation | None = None,
        **fields: Any,
    ) -> Exchange:
        seen = exchange(at=origin(peer=peer), under=within or self.generation, **fields)
        seen.identity, seen.presented = who, PAYMENT if paid else None
        await self.plugin(seen, self.rest)
        return seen

    async def refusal(self, *args: Any, **fields: Any) -> Refusal:
        calls = len(self.rest.seen)
        with pytest.raises(Refusal) as refused:
            await self.send(*args, **fields)
        assert len(self.rest.seen) == calls, "what is refused goes no further"
        return refused.value

    async def finished(self, *args: Any, **fields: Any) -> None:
        (await self.send(*args, **fields)).finish(Finish.SERVED)


@pytest.mark.parametrize(
    ("limit", "fields"),
    [(60, {"operation": MODELS}), (30, {}), (60, {"paid": True})],
    ids=["free", "invoice", "paid"],
)
async def test_each_kind_has_its_own_minute(limit: int, fields: dict[str, Any]) -> None:
    """60, 30 and 60 pass; the next is told the exact wait, passes after it and not a millisecond earlier."""
    world = World()
    for _ in range(limit):
        await world.finished(**fields)
    refused = await world.refusal(**fields)
    assert (refused.code, refused.status) == ("rate_limited", 429)
    assert refused.retry_after_seconds == pytest.approx(60 / limit)
    assert f"{limit} a minute" in refused.message

    world.clock.advance(60 / limit - 0.001)
    assert (await world.refusal(**fields)).retry_after_seconds == pytest.approx(0.001)
    world.clock.advance(0.001)
    await world.finished(**fields)


async def test_kinds_do_not_use_each_other_up() -> None:
    """Who has asked for too many prices can still pay for what was quoted."""
    world = World(PayerLimits(free=Bucket(1, 1, 60), invoice=Bucket(1, 1, 60), paid=Bucket(1, 1, 60)))
    await world.finished()
    await world.refusal()
    await world.finished(paid=True)
    await world.finished(operation=LOCAL, path="/v1/estimate-cost")

    assert "send it again" in (await world.refusal(paid=True)).message


@pytest.mark.parametrize("who", [PAYER, ANONYMOUS], ids=["payer", "anonymous"])
async def test_a_payment_to_an_endpoint_of_ours_counts_as_paid(who: Identity) -> None:
    """A top-up settles outside, as any paid request does."""
    world = World(PayerLimits(free=Bucket(1, 1, 60), paid=Bucket(1, 1, 60)))
    top_up: dict[str, Any] = {"operation": LOCAL, "path": "/v1/balance", "headers": {"x-cashu": "cashuBo2F0"}}
    await world.finished(who, **top_up)
    await world.finished(who, operation=LOCAL, path="/v1/balance")

    assert "paid requests" in (await world.refusal(who, **top_up)).message


async def test_another_address_is_another_caller_and_an_ipv6_subscriber_is_one() -> None:
    """By address, IPv6 by its /64."""
    world = World(PayerLimits(invoice=Bucket(1, 1, 60)))
    await world.finished(peer="203.0.113.7")
    await world.finished(peer="203.0.113.8")
    await world.finished(peer="2001:db8::1")

    await world.refusal(peer="2001:db8::ffff")


async def test_the_address_that_a_trusted_front_names_is_the_one_counted() -> None:
    """What `ip_limit` has established goes before the peer."""
    world = World(PayerLimits(invoice=Bucket(1, 1, 60)))
    for last in (1, 2, 3):
        seen = exchange(at=origin(peer="10.0.0.1"), under=world.generation)
        seen.identity, seen.client_address = PAYER, ip_address(f"203.0.113.{last}")
        await world.plugin(seen, world.rest)
        seen.finish(Finish.SERVED)

    assert len(world.rest.seen) == 3


@pytest.mark.parametrize("paid", [True, False])
async def test_the_sixth_at_once_is_refused_until_one_ends(paid: bool) -> None:
    """A slot is taken before anything is paid, and given back when the exchange ends, however it ends."""
    world = World()
    running = [await world.send(paid=paid) for _ in range(5)]
    refused = await world.refusal(paid=paid)
    assert (refused.code, refused.status, refused.retry_after_seconds) == ("too_many_streams", 429, 1.0)
    await world.finished(paid=paid, peer="203.0.113.8")
    await world.finished(operation=MODELS)

    running.pop().finish(Finish.CLIENT_GONE)
    running.append(await world.send(paid=paid))
    await world.refusal(paid=paid)
    for one in running:
        one.finish(Finish.UPSTREAM_FAILED)
    assert len(world.counters.streams) == 0


async def test_who_is_refused_for_the_rate_keeps_no_slot() -> None:
    """A 429 leaves nothing behind."""
    world = World(PayerLimits(paid=Bucket(1, 1, 60)))
    await world.finished(paid=True)
    await world.refusal(paid=True)

    assert len(world.counters.streams) == 0


@pytest.mark.parametrize(
    ("who", "fields"),
    [
        (identity(), {}),
        (identity(), {"operation": MODELS}),
        (identity(kind=IdentityKind.OWN_KEY), {}),
        (ANONYMOUS, {}),
        (PAYER, {"operation": UNMETERED}),
        (PAYER, {"operation": LOCAL, "path": "/health"}),
        (ANONYMOUS, {"operation": LOCAL, "path": "/v1/health"}),
    ],
    ids=["key", "key_asking_for_models", "own_key", "open_model_on_loopback", "not_ours", "health", "v1_health"],
)
async def test_who_is_not_limited_here(who: Identity, fields: dict[str, Any]) -> None:
    """Keys have limits of their own; health is asked by machines; open models are for who sits at the machine."""
    none = Bucket(1, 1, 3600)
    world = World(PayerLimits(none, none, none, streams=1))
    for _ in range(5):
        await world.send(who, **fields)

    assert len(world.counters.payers) == len(world.counters.streams) == 0


async def test_anonymous_callers_of_our_endpoints_are_free_callers() -> None:
    """/v1/models without a key counts, whether the caller could pay or not."""
    world = World(PayerLimits(free=Bucket(1, 1, 60)))
    await world.send(ANONYMOUS, operation=MODELS)

    assert "without a payment" in (await world.refusal(ANONYMOUS, operation=MODELS)).message


async def test_nothing_is_limited_where_nobody_is_asked_to_pay() -> None:
    """Without payments the plugin does nothing at all."""
    world = World(PayerLimits(free=Bucket(1, 1, 60)), on=False)
    for _ in range(5):
        await world.send(ANONYMOUS, operation=MODELS)


async def test_null_lifts_a_limit() -> None:
    """Each by itself."""
    world = World(PayerLimits(invoice=None, streams=None))
    for _ in range(100):
        await world.send()


async def test_loopback_may_be_exempt() -> None:
    """For who tests on his own machine."""
    world = World(PayerLimits(invoice=Bucket(1, 1, 60), streams=1), exempt_loopback=True)
    for _ in range(3):
        await world.send(peer="127.0.0.1")
    await world.send()
    await world.refusal()


async def test_a_reload_changes_the_limits_and_keeps_what_was_counted() -> None:
    """An exchange obeys the configuration that it began with."""
    world = World(PayerLimits(invoice=Bucket(2, 2, 60)))
    await world.finished()
    tighter = under(PayerLimits(invoice=Bucket(1, 1, 60)))
    world.plugin.follow(tighter)

    await world.refusal(within=tighter)
    await world.finished()
