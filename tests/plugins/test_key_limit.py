"""A key, its user and its team each get what the limits say: requests, tokens a minute, exchanges under way."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest

from plugins.key_limit.plugin import KeyLimitPlugin, KeyLimitSettings
from proxy.config.schema import Bucket, Limits, ScopeLimits
from proxy.dialects import DIALECTS
from proxy.errors import Refusal
from proxy.exchange import Exchange, Finish
from proxy.identities import Identity, IdentityKind
from proxy.operations import LOCAL, MODELS
from proxy.payments.api import Credential, Presented
from proxy.state import Counters
from proxy.usage import Usage
from tests.support.fakes import FakeClock, Rest, exchange, generation, identity, model, origin

OPEN = ScopeLimits()
ONE = ScopeLimits(requests=Bucket(1, 1, 60))


class World:
    """A plugin with its own clock and counters."""

    def __init__(
        self,
        *,
        key: ScopeLimits = OPEN,
        user: ScopeLimits = OPEN,
        team: ScopeLimits = OPEN,
        tiers: dict[str, ScopeLimits] | None = None,
    ) -> None:
        self.clock = FakeClock()
        self.generation = generation(limits=Limits(OPEN, key, user, team, 1_000, tiers or {}))
        self.counters = Counters(self.clock)
        services: Any = SimpleNamespace(clock=self.clock, counters=self.counters, generation=self.generation)
        self.plugin = KeyLimitPlugin(KeyLimitSettings(), services)

    def exchange(
        self, who: Identity | None = None, peer: str = "203.0.113.7", output: int | None = None, **fields: Any
    ) -> Exchange:
        seen = exchange(at=origin(peer=peer), under=self.generation, **fields)
        seen.identity = who or identity()
        if seen.operation.priced:
            limit = "" if output is None else f', "max_tokens": {output}'
            body = f'{{"model": "gpt-4o", "messages": [{{"role": "user", "content": "hi"}}]{limit}}}'.encode()
            seen.call = DIALECTS["openai.chat"].parse(body + b" " * (400 - len(body)))
            seen.model = model(output_tokens_default=1_000, context_tokens=8_000)
        return seen

    async def send(self, *args: Any, **fields: Any) -> Exchange:
        seen = self.exchange(*args, **fields)
        await self.plugin(seen, Rest())
        return seen

    async def refusal(self, *args: Any, **fields: Any) -> Refusal:
        with pytest.raises(Refusal) as refused:
            await self.send(*args, **fields)
        return refused.value


@pytest.mark.parametrize("scope", ["key", "user", "team"])
async def test_each_scope_is_limited_and_named(scope: str) -> None:
    """The message says whose limit it is, the wait is exact."""
    world = World(**{scope: ONE})
    await world.send()
    refused = await world.refusal()
    assert (refused.code, refused.status, refused.retry_after_seconds) == ("rate_limited", 429, 60)
    assert f"Your {scope} " in refused.message

    world.clock.advance(59.999)
    await world.refusal()
    world.clock.advance(0.001)
    await world.send()


async def test_another_key_user_or_team_has_its_own_limit() -> None:
    """Users of the same name in two teams are two users."""
    world = World(key=ONE, user=ONE, team=ONE)
    await world.send()

    await world.send(identity(key_id="key_2", user="tester", team="other"))
    assert "Your team " in (await world.refusal(identity(key_id="key_3", user="someone"))).message


async def test_request_refused_by_the_team_costs_the_key_nothing() -> None:
    """All scopes admit it, or none counts it."""
    world = World(key=ScopeLimits(requests=Bucket(2, 2, 60)), team=ONE)
    await world.send()
    for _ in range(5):
        assert "Your team " in (await world.refusal()).message
    world.clock.advance(60)

    await world.send()


async def test_limits_of_the_tier_stand_in_place_of_the_keys() -> None:
    """Wider or narrower; a tier without limits of its own has the key's."""
    world = World(key=ONE, tiers={"pro": ScopeLimits(requests=Bucket(3, 3, 60))})
    pro = identity(key_id="key_pro", tier="pro")
    for _ in range(3):
        await world.send(pro)
    await world.refusal(pro)

    await world.send(identity(tier="standard"))
    await world.refusal(identity(tier="standard"))


async def test_estimate_of_tokens_is_taken_on_the_way_in() -> None:
    """400 bytes / 4 + 1 + the output limit; what does not fit waits exactly until it does."""
    world = World(key=ScopeLimits(tokens_per_minute=1_000))
    await world.send(output=499)
    refused = await world.refusal(output=499)

    assert (refused.code, refused.retry_after_seconds) == ("rate_limited", 12)
    world.clock.advance(12)
    await world.send(output=499)


async def test_models_default_output_is_estimated_where_the_client_set_none() -> None:
    """And never more than the context window."""
    world = World(key=ScopeLimits(tokens_per_minute=10_000))
    await world.send()
    account = world.counters.key.find("key_000000000001")
    assert account is not None
    assert account.tokens - int(world.clock.seconds * 1e9) == 1_101 * 6_000_000

    wide = World(key=ScopeLimits(tokens_per_minute=10_000))
    await wide.send(output=1_000_000)
    account = wide.counters.key.find("key_000000000001")
    assert account is not None
    assert account.tokens - int(wide.clock.seconds * 1e9) == 8_000 * 6_000_000


async def test_usage_replaces_the_estimate() -> None:
    """Less than estimated comes back at once, more is a debt."""
    world = World(key=ScopeLimits(tokens_per_minute=1_000))
    first = await world.send(output=899)
    first.usage = Usage(10, 90)
    first.finish(Finish.SERVED)
    second = await world.send(output=799)
    second.usage = Usage(900, 900)
    second.finish(Finish.SERVED)

    refused = await world.refusal(output=1)
    assert refused.retry_after_seconds == pytest.approx((100 + 1_800 + 102 - 1_000) * 0.06)


@pytest.mark.parametrize(
    ("dispatched", "reason", "kept"),
    [
        (False, Finish.REFUSED, False),
        (False, Finish.CLIENT_GONE, False),
        (True, Finish.UPSTREAM_FAILED, False),
        (True, Finish.CLIENT_GONE, True),
        (True, Finish.SERVED, True),
        (True, Finish.DRAINED, True),
    ],
)
async def test_estimate_stands_only_where_an_upstream_may_have_used_it(
    dispatched: bool, reason: Finish, kept: bool
) -> None:
    """Leaving before the usage is known is no way to free tokens; a refusal costs none."""
    world = World(key=ScopeLimits(tokens_per_minute=1_000))
    first = await world.send(output=899)
    first.dispatched = dispatched
    first.finish(reason)

    if kept:
        await world.refusal(output=899)
    else:
        await world.send(output=899)


async def test_request_larger_than_a_minutes_tokens_passes_alone() -> None:
    """It would otherwise never pass; what it took is owed afterwards."""
    world = World(key=ScopeLimits(tokens_per_minute=1_000))
    await world.send(output=5_000)

    refused = await world.refusal(output=1)
    assert refused.retry_after_seconds is not None
    assert refused.retry_after_seconds > 240


async def test_streams_of_a_key_are_limited_until_one_ends() -> None:
    """Another key has its own slots, its team's are shared."""
    world = World(key=ScopeLimits(streams=1), team=ScopeLimits(streams=2))
    first = await world.send()
    refused = await world.refusal()
    assert (refused.code, refused.status, refused.retry_after_seconds) == ("too_many_streams", 429, 1)
    assert "Your key " in refused.message
    await world.send(identity(key_id="key_2"))
    assert "Your team " in (await world.refusal(identity(key_id="key_3"))).message

    first.finish(Finish.FAILED)
    await world.send()


async def test_rate_limited_request_holds_no_slot() -> None:
    """Nor does one refused for its slots count as a request."""
    world = World(key=replace(ONE, streams=5))
    await world.send()
    for _ in range(10):
        assert (await world.refusal()).code == "rate_limited"

    assert world.counters.streams.in_use("key:key_000000000001") == 1


async def test_callers_without_a_key_of_ours_are_counted_by_address() -> None:
    """Own provider keys and the open model: nobody exhausts it for everybody; the team's limit still holds."""
    world = World(key=ONE, user=ONE, team=ScopeLimits(requests=Bucket(3, 3, 60)))
    own = Identity(IdentityKind.OWN_KEY, "own", "own-key", "default", "acme", "standard", provider_credential=True)
    await world.send(own, peer="203.0.113.1")
    await world.refusal(own, peer="203.0.113.1")
    await world.send(own, peer="203.0.113.2")
    await world.send(own, peer="203.0.113.3")

    assert "Your team " in (await world.refusal(own, peer="203.0.113.4")).message


async def test_what_is_not_priced_counts_as_a_request_without_tokens_or_slots() -> None:
    """The list of models has neither."""
    world = World(key=ScopeLimits(requests=Bucket(2, 2, 60), tokens_per_minute=1, streams=1))
    await world.send(operation=MODELS)
    await world.send(operation=MODELS)

    assert (await world.refusal(operation=MODELS)).code == "rate_limited"
    assert len(world.counters.streams) == 0


async def test_callers_not_known_at_all_are_counted_by_address_for_what_is_priced() -> None:
    """The open model; nobody's requests count against everybody else's, and health is not counted."""
    world = World(key=ONE, team=ONE)
    nobody = Identity(IdentityKind.ANONYMOUS, "anonymous", "anonymous", "anonymous", "anonymous", "anonymous")
    for _ in range(3):
        await world.send(nobody, operation=LOCAL)
    await world.send(nobody, peer="127.0.0.1")
    await world.refusal(nobody, peer="127.0.0.1")

    await world.send(nobody, peer="127.0.0.2")


async def test_exchange_without_identity_passes() -> None:
    """There is nobody to count; what needs an identity is closed further in."""
    world, rest = World(key=ONE), Rest()
    for _ in range(3):
        await world.plugin(exchange(under=world.generation), rest)

    assert len(rest.seen) == 3


async def test_reload_applies_to_the_same_accounts() -> None:
    """An exchange follows its own configuration, the counters outlive it."""
    world = World(key=ONE)
    await world.send()
    world.generation = generation(limits=Limits(OPEN, OPEN, OPEN, OPEN, 10))
    await world.send()
    world.generation = generation(limits=Limits(OPEN, ONE, OPEN, OPEN, 10))

    await world.refusal()


async def test_tokens_of_a_model_without_a_known_context_count() -> None:
    """A provider's own model, under the client's own key: its tokens a minute are limited like any other's."""
    world = World(team=ScopeLimits(tokens_per_minute=1_000))
    seen = world.exchange(output=900)
    seen.model = model(context_tokens=0)
    await world.plugin(seen, Rest())
    assert (await world.refusal(output=900)).code == "rate_limited"


PAYER = identity(kind=IdentityKind.PAYER, key_id="payer", team="default")
PAYMENT = Presented(Credential.L402, "macaroon:preimage", "0" * 64)


async def test_payers_share_their_teams_limits_and_no_others() -> None:
    """By address they are limited elsewhere; what comes without a payment uses nothing up that payers share."""
    world = World(key=ONE, user=ONE, team=ONE)
    for _ in range(3):
        await world.send(PAYER)
    paid = world.exchange(PAYER)
    paid.presented = PAYMENT
    await world.plugin(paid, Rest())

    again = world.exchange(PAYER)
    again.presented = PAYMENT
    with pytest.raises(Refusal, match="Your team "):
        await world.plugin(again, Rest())


async def test_payers_of_no_team_in_the_file_share_nothing() -> None:
    """Who does not name them in teams.yaml sets them no common limit."""
    world = World(key=ONE, user=ONE, team=ONE)
    for _ in range(3):
        seen = world.exchange(replace(PAYER, team="payers"))
        seen.presented = PAYMENT
        await world.plugin(seen, Rest())
