"""What the owner of a registered upstream key reads when its provider refuses it."""

from __future__ import annotations

from dataclasses import replace

import pytest

from proxy.catalogue import Candidate
from proxy.errors import Refusal
from proxy.exchange import Exchange, Response
from proxy.upstreams.api import Upstream
from proxy.upstreams.breakers import CircuitState
from proxy.upstreams.health import CUSTOMERS, UpstreamStates
from tests.plugins.test_routing import Upstreams, build, held
from tests.support.fakes import FakeClock, model

ENDPOINT = Upstream("byo:0123456789ab", "https://api.openai.com/v1", "sk-customer")


def byo_exchange() -> Exchange:
    """Held, for a customer's alias."""
    seen = held()
    candidate = Candidate(ENDPOINT.name, "gpt-4o", endpoint=ENDPOINT)
    seen.model = replace(model("byo-gpt"), candidates=(candidate,), byo=True)
    if seen.quote is not None:
        seen.quote = replace(seen.quote, candidates=(candidate,))
    return seen


def answered(status: int) -> Upstreams:
    return Upstreams(*[("status", Response.of(status, b'{"error":{"message":"No."}}')) for _ in range(10)])


@pytest.mark.parametrize(
    ("status", "words"),
    [(401, "registered for 'byo-gpt'"), (403, "/v1/byo/keys/rotate"), (402, "your account"), (404, "'gpt-4o'")],
)
async def test_its_owner_is_told_what_only_the_owner_can_mend(status: int, words: str) -> None:
    """502 with the provider's status beside it: 401 would say that our own key was wrong."""
    with pytest.raises(Refusal, match=words) as caught:
        await build()(byo_exchange(), answered(status))
    refusal = caught.value
    assert (refusal.code, refusal.status, refusal.details) == ("upstream_error", 502, {"upstream_status": status})
    assert "operator" not in refusal.message


async def test_a_refused_key_opens_no_circuit() -> None:
    """The next call is made and told the same, until another key is registered."""
    plugin, upstreams = build(), answered(401)
    for _ in range(10):
        with pytest.raises(Refusal, match="refused the key"):
            await plugin(byo_exchange(), upstreams)
    assert len(upstreams.called) == 10
    assert plugin.services.states.candidate(ENDPOINT.name, "gpt-4o").breaker.state is CircuitState.CLOSED


async def test_the_operators_own_key_is_still_the_operators_business() -> None:
    """Nothing of registered keys where none is meant."""
    with pytest.raises(Refusal, match="this proxy's own credential"):
        await build()(held(), answered(401))


def test_outcomes_of_customers_are_counted_under_one_name() -> None:
    """Registrations come and go; what is remembered of them does not grow."""
    states = UpstreamStates(FakeClock())
    for number in range(50):
        states.record(f"byo:{number}", "served", 0.1)
    assert states.describe(CUSTOMERS)["outcomes"] == {"served": 50}
    assert states.describe("byo:7")["outcomes"] == {}
