"""Settling by the x402 SDK's own facilitator: what it says is taken, looked up on chain, or left in doubt."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest

from proxy.payments.api import Declined, Doubtful, Settled
from proxy.payments.settings import X402
from proxy.payments.x402 import v1
from proxy.payments.x402.responses import NONCE_USED
from tests.peers.chain import Facilitator, facilitator
from tests.peers.chain.facilitator import Lapse
from tests.peers.chain.faults import Fault
from tests.support.fakes import Log
from tests.support.onchain import PRICE, SECONDS, Till, requirements, settler, till

SHORT = 1.0


@dataclass
class Counter:
    """A till and its facilitator."""

    till: Till
    facilitator: Facilitator

    def settings(self, *, node: bool = False, **changes: Any) -> X402:
        """Settled by the facilitator; with `node`, the chain is looked at, too."""
        own = {"facilitator": self.facilitator.url, "signer_key": "", "settle_seconds": SECONDS}
        return self.till.settings(**own | ({} if node else {"rpc": {}}) | changes)


@pytest.fixture(scope="module")
def shop() -> Iterator[Counter]:
    with till() as own, facilitator(own.chain) as peer:
        yield Counter(own, peer)


@pytest.fixture
def at(shop: Counter) -> Iterator[Counter]:
    """The same chain for all: every test counts from what there is."""
    shop.facilitator.said.clear()
    shop.facilitator.changed.clear()
    shop.facilitator.seen.clear()
    shop.till.node.faults.clear()
    yield shop


@pytest.mark.parametrize("node", [False, True])
async def test_money_arrives(at: Counter, node: bool) -> None:
    """Verified and settled by the facilitator, at its cost."""
    before, authorization = at.till.received, at.till.authorization()
    async with settler(at.settings(node=node)) as own:
        outcome = await own.settle(authorization, requirements(authorization))
    assert isinstance(outcome, Settled)
    assert at.till.received - before == PRICE == outcome.receipt.amount
    receipt = at.till.chain.call("eth_getTransactionReceipt", outcome.receipt.reference)
    assert receipt["from"] == at.till.chain.facilitator.address.lower()
    assert [seen.path for seen in at.facilitator.seen] == ["/supported", "/verify", "/settle"]


async def test_first_version_is_settled_too(at: Counter) -> None:
    """With its own names and its own shape of requirements."""
    before, authorization = at.till.received, at.till.authorization(version=1)
    asked = v1.requirements(
        authorization.asset, "base", amount=PRICE, pay_to=authorization.pay_to, seconds=120,
        resource="https://llm.example/v1/chat/completions", description="",
    )  # fmt: skip
    async with settler(at.settings()) as own:
        outcome = await own.settle(authorization, asked)
    assert isinstance(outcome, Settled)
    assert at.till.received - before == PRICE


async def test_used_nonce_is_declined_for_good(at: Counter) -> None:
    """The facilitator's reason is handed on."""
    authorization = at.till.authorization()
    async with settler(at.settings()) as own:
        await own.settle(authorization, requirements(authorization))
        again = await own.settle(authorization, requirements(authorization))
    assert isinstance(again, Declined)
    assert (again.reason, again.final) == (NONCE_USED, True)


async def test_three_settlements_at_once_are_one_transfer(at: Counter) -> None:
    """Two of its transactions fail after they were sent: looked up on chain, it is one payment."""
    before, authorization = at.till.received, at.till.authorization()
    async with settler(at.settings(node=True)) as own:
        outcomes = await asyncio.gather(*(own.settle(authorization, requirements(authorization)) for _ in range(3)))
    assert at.till.received - before == PRICE
    assert len({outcome.receipt.reference for outcome in outcomes if isinstance(outcome, Settled)}) == 1
    assert not any(isinstance(outcome, Doubtful) for outcome in outcomes)


async def test_empty_wallet_is_declined_and_may_be_filled(at: Counter) -> None:
    """By /verify, before anything is done."""
    payer = at.till.chain.other
    authorization = at.till.authorization(payer=payer.address, signer=payer)
    async with settler(at.settings()) as own:
        outcome = await own.settle(authorization, requirements(authorization))
    assert isinstance(outcome, Declined)
    assert (outcome.reason, outcome.final) == ("invalid_exact_evm_insufficient_balance", False)
    assert [seen.path for seen in at.facilitator.seen] == ["/supported", "/verify"]


@pytest.mark.parametrize("lapse", [Lapse.CUTS_AFTER, Lapse.FAILS_AFTER, Lapse.HANGS_AFTER])
async def test_settlement_whose_answer_is_lost_is_found_on_chain(at: Counter, lapse: Lapse) -> None:
    """At once, or by the reconciler: never declined."""
    before, authorization = at.till.received, at.till.authorization()
    at.facilitator.lapse = lapse
    async with settler(at.settings(node=True, settle_seconds=SHORT)) as own:
        outcome = await own.settle(authorization, requirements(authorization))
        assert not isinstance(outcome, Declined)
        found = await own.reconcile(authorization)
    assert isinstance(found, Settled)
    assert at.till.received - before == PRICE == found.receipt.amount


@pytest.mark.parametrize("lapse", [Lapse.CUTS_AFTER, Lapse.FAILS_AFTER, Lapse.CUTS_BEFORE, Lapse.HANGS_BEFORE])
async def test_without_a_node_a_lost_answer_stays_a_doubt(at: Counter, lapse: Lapse) -> None:
    """There is nobody to ask: the operator decides."""
    authorization = at.till.authorization()
    at.facilitator.lapse = lapse
    async with settler(at.settings(settle_seconds=SHORT)) as own:
        assert isinstance(await own.settle(authorization, requirements(authorization)), Doubtful)
        again = await own.reconcile(authorization)
    assert isinstance(again, Doubtful)
    assert "x402.rpc" in again.reason


async def test_settlement_that_was_never_made_is_declined_once_it_cannot_be(at: Counter) -> None:
    """While the authorization is valid a facilitator may yet use it."""
    authorization = at.till.authorization()
    at.facilitator.lapse = Lapse.CUTS_BEFORE
    async with settler(at.settings(node=True)) as own:
        assert isinstance(await own.settle(authorization, requirements(authorization)), Doubtful)
        snapshot = at.till.chain.call("evm_snapshot")
        at.till.chain.mine(seconds=300)
        gone = await own.reconcile(authorization)
        at.till.chain.call("evm_revert", snapshot)
    assert isinstance(gone, Declined)
    assert gone.final


@pytest.mark.parametrize(
    "lie",
    [
        {"transaction": ""},
        {"transaction": "0x12"},
        {"network": "eip155:1"},
        {"payer": "0x" + "9" * 40},
        {"amount": "1"},
    ],
    ids=str,
)
async def test_success_that_contradicts_what_was_asked_is_looked_up(at: Counter, lie: dict[str, Any]) -> None:
    """In doubt by itself; with a node, what really happened counts."""
    first, second, log = at.till.authorization(), at.till.authorization(), Log()
    at.facilitator.changed.update(lie)
    async with settler(at.settings(), log) as own:
        assert isinstance(await own.settle(first, requirements(first)), Doubtful)
    async with settler(at.settings(node=True)) as own:
        assert isinstance(await own.settle(second, requirements(second)), Settled)
    assert "x402_facilitator_contradicts" in log.names()


async def test_success_that_never_happened_is_no_money(at: Counter) -> None:
    """It names a transaction of somebody else's payment, or none at all."""
    authorization, other = at.till.authorization(), at.till.authorization()
    async with settler(at.settings(node=True)) as own:
        paid = await own.settle(other, requirements(other))
        assert isinstance(paid, Settled)
        said = {"success": True, "network": authorization.asset.network, "payer": authorization.payer}
        at.facilitator.said["/settle"] = (200, said | {"transaction": paid.receipt.reference})
        assert isinstance(await own.settle(authorization, requirements(authorization)), Doubtful)
    async with settler(at.settings(node=True, settle_seconds=SHORT)) as own:
        at.facilitator.said["/settle"] = (200, said | {"transaction": "0x" + "1" * 64})
        assert isinstance(await own.settle(authorization, requirements(authorization)), Doubtful)


async def test_node_that_fails_leaves_the_facilitators_word_in_doubt(at: Counter) -> None:
    """Who configures a node wants the chain's word."""
    authorization = at.till.authorization()
    async with settler(at.settings(node=True, settle_seconds=SHORT)) as own:
        at.till.node.faults["eth_getTransactionReceipt"] = Fault.DOWN
        assert isinstance(await own.settle(authorization, requirements(authorization)), Doubtful)
        at.till.node.faults.clear()
        assert isinstance(await own.reconcile(authorization), Settled)


@pytest.mark.parametrize(
    ("path", "status", "said", "expected"),
    [
        ("/verify", 200, {"isValid": False, "invalidReason": "invalid_scheme"}, "invalid_scheme"),
        ("/verify", 200, {"isValid": True, "payer": "0x" + "9" * 40}, "/verify speaks of another payer"),
        ("/verify", 200, ["isValid"], "/verify answered status 200 without a verdict"),
        ("/verify", 500, {}, "/verify answered status 500 without a verdict"),
        ("/settle", 200, {"success": False, "errorReason": "invalid_payment"}, "invalid_payment"),
        ("/settle", 401, {"message": "no such key"}, "/settle was refused with status 401"),
        ("/settle", 429, {}, "/settle was refused with status 429"),
    ],
)
async def test_what_was_not_carried_out_is_declined(
    at: Counter, path: str, status: int, said: Any, expected: str
) -> None:
    """Clearly refused, before anything was done."""
    authorization = at.till.authorization()
    at.facilitator.said[path] = (status, said)
    async with settler(at.settings()) as own:
        outcome = await own.settle(authorization, requirements(authorization))
    assert isinstance(outcome, Declined)
    assert (outcome.reason, outcome.final) == (expected, False)


@pytest.mark.parametrize(
    ("status", "said"),
    [
        (200, {"success": False, "errorReason": "settlement_pending", "transaction": "0x" + "1" * 64}),
        (200, {"success": False, "errorReason": "transaction_failed", "transaction": ""}),
        (200, {"success": False, "errorReason": "anything", "transaction": "0x" + "1" * 64}),
        (200, {"success": False, "errorReason": "settle_exact_node_failure"}),
        (200, {"success": False, "errorReason": "invalid_transaction_state", "transaction": ""}),
        (200, {"success": False, "errorReason": NONCE_USED, "transaction": ""}),
        (200, {"success": False}),
        (200, {}),
        (200, "success"),
        (408, {}),
        (500, {"success": False, "errorReason": "invalid_payment"}),
        (503, {}),
    ],
    ids=str,
)
async def test_what_may_have_been_carried_out_is_a_doubt(at: Counter, status: int, said: Any) -> None:
    """A transaction may be under way: no word but the chain's ends that."""
    authorization = at.till.authorization()
    at.facilitator.said["/settle"] = (status, said)
    async with settler(at.settings()) as own:
        assert isinstance(await own.settle(authorization, requirements(authorization)), Doubtful)


async def test_payment_that_somebody_else_carried_out_first_is_money(at: Counter) -> None:
    """Between /verify and /settle: whoever saw the authorization may hand it to the token, and pays us with it."""
    authorization = at.till.authorization()
    async with settler(at.till.settings()) as other:
        assert isinstance(await other.settle(authorization, requirements(authorization)), Settled)
    at.facilitator.said["/verify"] = (200, {"isValid": True, "payer": authorization.payer})
    async with settler(at.settings(node=True)) as own:
        outcome = await own.settle(authorization, requirements(authorization))
    assert isinstance(outcome, Settled)


async def test_facilitator_that_is_down_takes_nothing(at: Counter) -> None:
    """Neither the start nor a payment fails for good."""
    log, authorization = Log(), at.till.authorization()
    async with settler(at.settings(facilitator="http://127.0.0.1:9"), log) as own:
        outcome = await own.settle(authorization, requirements(authorization))
    assert isinstance(outcome, Declined)
    assert (outcome.refusal.code, outcome.final) == ("payment_unavailable", False)
    assert "x402_facilitator_unusable" in log.names()


async def test_network_that_it_lacks_is_told_at_start(at: Counter) -> None:
    """The operator reads it before the first payer does."""
    at.facilitator.said["/supported"] = (200, {"kinds": [{"x402Version": 2, "scheme": "upto", "network": "eip155:1"}]})
    log = Log()
    async with settler(at.settings(), log):
        assert ("warning", "x402_facilitator_lacks", {"network": "eip155:8453", "scheme": "exact"}) in log.events


async def test_network_without_a_node_is_told_at_start(at: Counter) -> None:
    """What stays unclear there stays unknown."""
    without, with_one = Log(), Log()
    async with settler(at.settings(), without), settler(at.settings(node=True), with_one):
        assert "x402_no_node" in without.names()
        assert "x402_no_node" not in with_one.names()


async def test_extension_responses_are_logged(at: Counter) -> None:
    """Catalogues answer there, and nowhere else, why they did not take an entry."""
    log, authorization = Log(), at.till.authorization()
    async with settler(at.settings(), log) as own:
        await own.settle(authorization, requirements(authorization))
    assert ("info", "x402_extension_responses", {"path": "/settle", "said": "e30="}) in log.events


async def test_credentials_go_with_every_call_and_into_no_log(at: Counter) -> None:
    """The operator's headers for the facilitator."""
    log, authorization = Log(), at.till.authorization()
    async with settler(at.settings(facilitator_headers=(("authorization", "Bearer hush"),)), log) as own:
        await own.settle(authorization, requirements(authorization))
    assert [seen.headers["authorization"] for seen in at.facilitator.seen] == ["Bearer hush"] * 3
    assert "hush" not in str(log.events)
    sent = json.loads(at.facilitator.seen[-1].body)
    assert sent == {
        "x402Version": 2,
        "paymentPayload": authorization.payload,
        "paymentRequirements": requirements(authorization),
    }
