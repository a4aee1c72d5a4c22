"""Settling in process, on a real chain: money arrives once, or nothing is taken, or the chain tells later."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from dataclasses import replace

import pytest

from proxy.payments.api import Declined, Doubtful, Settled
from proxy.payments.x402.responses import NONCE_USED, TRANSACTION_FAILED
from proxy.payments.x402.reverts import REVERTS_MAX
from tests.peers.chain.faults import Fault
from tests.support.fakes import Log
from tests.support.onchain import PRICE, Till, settler, till

SHORT = 1.0
"""Where the wait for something that never comes is what is tested."""


@pytest.fixture
def at() -> Iterator[Till]:
    with till() as own:
        yield own


async def test_money_arrives(at: Till) -> None:
    """One transfer of exactly what was signed; its transaction is the reference."""
    authorization = at.authorization()
    async with settler(at.settings()) as own:
        outcome = await own.settle(authorization, {})
    assert isinstance(outcome, Settled)
    assert outcome.receipt.amount == PRICE == at.received
    receipt = at.chain.call("eth_getTransactionReceipt", outcome.receipt.reference)
    assert receipt["status"] == "0x1"
    assert receipt["from"] == at.chain.signer.address.lower()


async def test_used_nonce_is_declined_for_good(at: Till) -> None:
    """The same authorization again takes nothing, and never will."""
    authorization = at.authorization()
    async with settler(at.settings()) as own:
        await own.settle(authorization, {})
        again = await own.settle(authorization, {})
    assert isinstance(again, Declined)
    assert again.final
    assert again.reason == NONCE_USED
    assert at.received == PRICE


async def test_three_settlements_at_once_are_one_transfer(at: Till) -> None:
    """The others wait for the first, send nothing, and find the nonce used."""
    authorization = at.authorization()
    async with settler(at.settings()) as own:
        outcomes = await asyncio.gather(*(own.settle(authorization, {}) for _ in range(3)))
    assert sorted(type(outcome).__name__ for outcome in outcomes) == ["Declined", "Declined", "Settled"]
    assert at.received == PRICE
    assert at.node.methods.count("eth_sendRawTransaction") == 1


async def test_many_payments_at_once_each_get_a_number(at: Till) -> None:
    """Twelve authorizations settle side by side through one signer."""
    authorizations = [at.authorization() for _ in range(12)]
    async with settler(at.settings()) as own:
        outcomes = await asyncio.gather(*(own.settle(one, {}) for one in authorizations))
    assert all(isinstance(outcome, Settled) for outcome in outcomes)
    assert at.received == 12 * PRICE


async def test_two_processes_may_share_a_signer(at: Till) -> None:
    """The node refuses one of two transactions with the same number, and that one takes the next."""
    authorizations = [at.authorization() for _ in range(8)]
    async with settler(at.settings()) as one, settler(at.settings()) as other:
        outcomes = await asyncio.gather(
            *((one if index % 2 else other).settle(each, {}) for index, each in enumerate(authorizations))
        )
    assert all(isinstance(outcome, Settled) for outcome in outcomes)
    assert at.received == 8 * PRICE


async def test_two_processes_with_one_authorization_make_one_transfer(at: Till) -> None:
    """Whoever's transaction lands second did nothing, and is told by the chain that the payment was made."""
    authorization = at.authorization()
    at.chain.automine(False)
    async with settler(at.settings()) as one, settler(at.settings()) as other:
        both = [asyncio.create_task(own.settle(authorization, {})) for own in (one, other)]
        await _until(lambda: at.node.methods.count("eth_sendRawTransaction") == 2)
        at.chain.mine()
        outcomes = await asyncio.gather(*both)
    references = {outcome.receipt.reference for outcome in outcomes if isinstance(outcome, Settled)}
    assert len(references) == 1
    assert at.received == PRICE


async def test_empty_wallet_is_declined_and_may_be_filled(at: Till) -> None:
    """Not for good: the payer can send the same again."""
    authorization = at.authorization(payer=at.chain.other.address, signer=at.chain.other)
    async with settler(at.settings()) as own:
        outcome = await own.settle(authorization, {})
        assert isinstance(outcome, Declined)
        assert (outcome.reason, outcome.final) == ("invalid_exact_evm_insufficient_balance", False)
        at.chain.mint(at.chain.other.address, PRICE)
        assert isinstance(await own.settle(authorization, {}), Settled)


async def test_wallet_drained_between_check_and_settlement_costs_gas_alone(at: Till) -> None:
    """The transaction lands and does nothing: declined, and nothing was taken."""
    authorization = at.authorization()
    everything = at.chain.balance(at.chain.payer.address)
    at.node.before["eth_sendRawTransaction"] = lambda: _drain(at, everything)
    async with settler(at.settings()) as own:
        outcome = await own.settle(authorization, {})
    assert isinstance(outcome, Declined)
    assert (outcome.reason, outcome.final) == (TRANSACTION_FAILED, False)
    assert at.received == 0


async def test_payer_who_drains_its_wallet_again_and_again_costs_no_more_gas(at: Till) -> None:
    """Not even a trial is made for it for an hour; nothing was taken, and others pay as ever."""
    everything = at.chain.balance(at.chain.payer.address)
    async with settler(at.settings()) as own:
        for _ in range(REVERTS_MAX):
            at.node.before["eth_sendRawTransaction"] = lambda: _drain(at, everything)
            assert isinstance(await own.settle(at.authorization(), {}), Declined)
            at.chain.mint(at.chain.payer.address, everything)
        at.node.before.clear()
        sent = at.node.methods.count("eth_sendRawTransaction")
        assert sent == REVERTS_MAX
        outcome = await own.settle(at.authorization(), {})
        assert isinstance(outcome, Declined)
        assert (outcome.reason, outcome.final) == (TRANSACTION_FAILED, False)
        assert at.node.methods.count("eth_sendRawTransaction") == sent
        at.chain.mint(at.chain.other.address, PRICE)
        other = at.authorization(payer=at.chain.other.address, signer=at.chain.other)
        assert isinstance(await own.settle(other, {}), Settled)


async def test_cancelled_authorization_is_declined_for_good(at: Till) -> None:
    """Before it is tried, and also where the cancellation comes in between."""
    first, second = at.authorization(), at.authorization()
    at.chain.cancel(at.chain.payer, first.nonce)
    async with settler(at.settings()) as own:
        before = await own.settle(first, {})
        at.node.before["eth_sendRawTransaction"] = lambda: at.chain.cancel(at.chain.payer, second.nonce) and None
        between = await own.settle(second, {})
    for outcome in (before, between):
        assert isinstance(outcome, Declined)
        assert (outcome.reason, outcome.final) == (NONCE_USED, True)
    assert at.received == 0


async def test_wrong_domain_is_declined_by_the_token(at: Till) -> None:
    """A configuration that names the token wrongly takes nothing, and says whose fault it is not."""
    authorization = at.authorization()
    foreign = replace(authorization, signature=at.payload(asset=replace(authorization.asset, version="1")).signed())
    async with settler(at.settings()) as own:
        outcome = await own.settle(foreign, {})
    assert isinstance(outcome, Declined)
    assert (outcome.reason, outcome.final) == ("invalid_exact_evm_payload_signature", True)


async def test_expired_authorization_is_declined_for_good(at: Till) -> None:
    """By the chain's time, whatever ours is."""
    authorization = at.authorization()
    at.chain.mine(seconds=300)
    async with settler(at.settings()) as own:
        outcome = await own.settle(authorization, {})
        found = await own.reconcile(authorization)
    for each in (outcome, found):
        assert isinstance(each, Declined)
        assert each.reason == "invalid_exact_evm_payload_authorization_valid_before"
        assert each.final


async def test_address_without_a_token_is_declined(at: Till) -> None:
    """Money is never taken to have come from where there is no code."""
    authorization = at.authorization()
    empty = replace(authorization, asset=replace(authorization.asset, address=at.chain.other.address))
    async with settler(at.settings()) as own:
        outcome = await own.settle(empty, {})
    assert isinstance(outcome, Declined)
    assert outcome.reason == "asset_not_deployed_contract"


async def test_node_of_another_network_is_never_believed(at: Till) -> None:
    """It is logged at start, and nothing is settled through it."""
    at.node.results["eth_chainId"] = lambda _: "0x1"
    log = Log()
    async with settler(at.settings(), log) as own:
        outcome = await own.settle(at.authorization(), {})
    assert isinstance(outcome, Declined)
    assert outcome.refusal.code == "payment_unavailable"
    assert "eth_sendRawTransaction" not in at.node.methods
    assert "x402_node_unusable" in str(log.events)


@pytest.mark.parametrize("fault", [Fault.HANGS, Fault.GARBAGE, Fault.ERROR, Fault.DOWN, Fault.NULL])
async def test_node_that_fails_before_takes_nothing(at: Till, fault: Fault) -> None:
    """Nothing was sent: declined, not the payer's fault, and the same payment may be sent again."""
    authorization = at.authorization()
    async with settler(at.settings(settle_seconds=SHORT)) as own:
        at.node.faults["eth_call"] = fault
        outcome = await own.settle(authorization, {})
    assert isinstance(outcome, Declined)
    assert (outcome.refusal.code, outcome.final) == ("payment_unavailable", False)
    assert "eth_sendRawTransaction" not in at.node.methods
    assert at.received == 0


@pytest.mark.parametrize("fault", [Fault.CUTS_AFTER, Fault.GARBAGE_AFTER, Fault.ERROR_AFTER])
async def test_answer_lost_after_broadcast_is_found_on_chain(at: Till, fault: Fault) -> None:
    """The transaction's hash was known before it was sent, so its receipt tells."""
    at.node.faults["eth_sendRawTransaction"] = fault
    async with settler(at.settings()) as own:
        outcome = await own.settle(at.authorization(), {})
    assert isinstance(outcome, Settled)
    assert at.received == PRICE


async def test_broadcast_that_hangs_is_a_doubt_and_found_later(at: Till) -> None:
    """The handing over itself is waited for, past the deadline of the rest."""
    at.node.faults["eth_sendRawTransaction"] = Fault.HANGS_AFTER
    authorization = at.authorization()
    async with settler(at.settings(settle_seconds=SHORT)) as own:
        assert isinstance(await own.settle(authorization, {}), Doubtful)
        assert isinstance(await own.reconcile(authorization), Settled)


@pytest.mark.parametrize("fault", [Fault.HANGS, Fault.GARBAGE, Fault.ERROR, Fault.DOWN, Fault.NULL])
async def test_node_that_fails_after_broadcast_leaves_a_doubt_that_is_settled_later(at: Till, fault: Fault) -> None:
    """Never declined, for the money may have moved; the reconciler finds that it has."""
    authorization = at.authorization()
    async with settler(at.settings(settle_seconds=SHORT)) as own:
        at.node.faults["eth_getTransactionReceipt"] = fault
        outcome = await own.settle(authorization, {})
        assert isinstance(outcome, Doubtful)
        assert outcome.reason.startswith("0x")
        at.node.faults.clear()
        found = await own.reconcile(authorization)
    assert isinstance(found, Settled)
    assert found.receipt.reference == outcome.reason[:66]
    assert found.receipt.amount == PRICE == at.received


async def test_transaction_that_waits_is_a_doubt_until_it_lands_or_expires(at: Till) -> None:
    """While it may still land nobody says that nothing was taken."""
    first, second = at.authorization(), at.authorization()
    at.chain.automine(False)
    async with settler(at.settings(settle_seconds=SHORT)) as own:
        outcome = await own.settle(first, {})
        assert isinstance(outcome, Doubtful)
        assert isinstance(await own.reconcile(first), Doubtful)
        assert isinstance(await own.reconcile(second), Doubtful)
        at.chain.mine()
        assert isinstance(await own.reconcile(first), Settled)
        at.chain.mine(seconds=300)
        gone = await own.reconcile(second)
    assert isinstance(gone, Declined)
    assert gone.final
    assert at.received == PRICE


async def test_replaced_transaction_is_sent_anew(at: Till) -> None:
    """Another transaction took its number: it never can land, so a second one is safe, and pays."""
    authorization = at.authorization()
    at.chain.automine(False)
    async with settler(at.settings()) as own:
        settling = asyncio.create_task(own.settle(authorization, {}))
        await _until(lambda: "eth_getTransactionReceipt" in at.node.methods)
        pending = at.chain.call("txpool_content")["pending"][at.chain.signer.address.lower()]
        for number in pending:
            at.chain.call("anvil_dropTransaction", pending[number]["hash"])
        _send_anything(at, int(next(iter(pending))))
        at.chain.automine(True)
        at.chain.mine()
        outcome = await settling
    assert isinstance(outcome, Settled)
    assert at.received == PRICE


async def test_confirmations_are_waited_for(at: Till) -> None:
    """Two blocks: in doubt after the first, ours after the second."""
    authorization = at.authorization()
    async with settler(at.settings(settle_seconds=SHORT, confirmations=2)) as own:
        assert isinstance(await own.settle(authorization, {}), Doubtful)
        assert isinstance(await own.reconcile(authorization), Doubtful)
        at.chain.mine()
        assert isinstance(await own.reconcile(authorization), Settled)


async def test_dear_gas_settles_nothing(at: Till) -> None:
    """A node's word on fees costs no more than the operator's limit."""
    async with settler(at.settings(fee_wei_max=1)) as own:
        outcome = await own.settle(at.authorization(), {})
    assert isinstance(outcome, Declined)
    assert "fee_gwei_max" in outcome.reason
    async with settler(at.settings(gas_max=50_000)) as own:
        outcome = await own.settle(at.authorization(), {})
    assert isinstance(outcome, Declined)
    assert "gas_max" in outcome.reason
    assert "eth_sendRawTransaction" not in at.node.methods


async def test_signer_without_ether_settles_nothing(at: Till) -> None:
    """The node refuses the transaction: nothing was taken, and the operator reads why."""
    at.chain.call("anvil_setBalance", at.chain.signer.address, "0x0")
    log = Log()
    async with settler(at.settings(), log) as own:
        outcome = await own.settle(at.authorization(), {})
    assert isinstance(outcome, Declined)
    assert not outcome.final
    assert "nsufficient funds" in str(log.events)


async def test_key_that_is_none_stops_the_start(at: Till) -> None:
    """And is not repeated."""
    with pytest.raises(ValueError, match="signer_key") as caught:
        async with settler(at.settings(signer_key="0xdead")):
            raise AssertionError
    assert "dead" not in str(caught.value)


async def test_no_secret_is_logged(at: Till) -> None:
    """Neither the signer's key nor a signature, whatever goes wrong."""
    log, authorization = Log(), at.authorization()
    async with settler(at.settings(settle_seconds=SHORT), log) as own:
        at.node.faults["eth_sendRawTransaction"] = Fault.ERROR
        await own.settle(authorization, {})
        await own.reconcile(authorization)
    said = str(log.events).lower()
    assert at.chain.signer.key.hex() not in said
    assert authorization.signature.hex() not in said


async def _until(true: Callable[[], bool]) -> None:
    while not true():
        await asyncio.sleep(0.01)


def _drain(at: Till, value: int) -> None:
    at.chain.transfer(at.chain.payer, at.chain.other.address, value)


def _send_anything(at: Till, number: int) -> None:
    signer = at.chain.signer
    fields = {
        "to": at.chain.other.address, "value": 1, "gas": 21_000, "nonce": number, "chainId": 8453,
        "maxFeePerGas": 10**11, "maxPriorityFeePerGas": 10**10,
    }  # fmt: skip
    at.chain.call("eth_sendRawTransaction", "0x" + signer.sign_transaction(fields).raw_transaction.hex())
