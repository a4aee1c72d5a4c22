"""What became of an authorization is read from the chain: attacks on that reading, and nodes of limited patience."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import pytest

from proxy.payments.api import Declined, Settled
from proxy.payments.x402 import fates
from proxy.payments.x402.chain import Block, Chain, Landed, Mention
from proxy.payments.x402.eip3009 import TRANSFER_EVENT, USED_EVENT, Event, pays, transfer_call
from proxy.payments.x402.fates import Fate, fate_of
from proxy.payments.x402.payload import Authorization
from proxy.payments.x402.responses import NONCE_USED
from proxy.payments.x402.rpc import NodeError
from proxy.payments.x402.wallets import MULTICALL, together
from tests.support.onchain import PRICE, Till, settler, till
from tests.support.x402 import NONCE, PAY_TO, PAYER, USDC

TRANSACTION = "0x" + "ab" * 32


@pytest.fixture(scope="module")
def at() -> Iterator[Till]:
    with till() as own:
        yield own


async def test_nonce_used_for_another_beside_a_payment_to_us_is_no_payment(at: Till) -> None:
    """One transaction uses nonce A for the payer itself and nonce B for us: A paid nobody here, whatever B did."""
    a, b = at.authorization(), at.authorization()
    to_itself = at.authorization(nonce=a.nonce)
    to_itself = replace(
        to_itself,
        pay_to=at.chain.payer.address,
        signature=at.payload(nonce=a.nonce, to=at.chain.payer.address, valid_before=to_itself.valid_before).signed(),
    )
    call = together(*((each.asset.address, transfer_call(each, each.signature)) for each in (to_itself, b)))
    at.chain.send(at.chain.other, MULTICALL, "0x" + call.hex())
    assert at.chain.authorization_state(a.payer, a.nonce)
    async with settler(at.settings()) as own:
        assert isinstance(await own.reconcile(b), Settled)
        found = await own.reconcile(a)
    assert isinstance(found, Declined)
    assert (found.reason, found.final) == (NONCE_USED, True)


async def test_preempted_transaction_is_a_payment_all_the_same(at: Till) -> None:
    """Somebody saw our transaction and sent the same first: the money came, by that one."""
    authorization, before = at.authorization(), at.received
    call = "0x" + transfer_call(authorization, authorization.signature).hex()
    at.node.before["eth_sendRawTransaction"] = lambda: at.chain.send(at.chain.other, at.chain.usdc, call) and None
    async with settler(at.settings()) as own:
        outcome = await own.settle(authorization, {})
    assert isinstance(outcome, Settled)
    receipt = at.chain.call("eth_getTransactionReceipt", outcome.receipt.reference)
    assert receipt["from"] == at.chain.other.address.lower()
    assert at.received - before == PRICE


async def test_payment_is_found_long_after(at: Till) -> None:
    """Blocks later, from its validBefore backwards, by the same transaction."""
    authorization = at.authorization()
    async with settler(at.settings()) as own:
        paid = await own.settle(authorization, {})
        snapshot = at.chain.call("evm_snapshot")
        at.chain.mine(seconds=300)
        at.chain.mine(blocks=40)
        found = await own.reconcile(authorization)
        at.chain.call("evm_revert", snapshot)
    assert isinstance(paid, Settled)
    assert found == paid


class Sparse(Chain):
    """A long chain of two-second blocks on which one transaction used the authorization."""

    def __init__(self, authorization: Authorization, *, at: int | None, head: int = 1_000_000, blocks_max: int = 10**9):
        super().__init__(None, USDC.network, confirmations=1)  # type: ignore[arg-type]
        self.authorization, self.at, self.head, self.blocks_max = authorization, at, head, blocks_max
        self.asked: list[tuple[int, int]] = []

    async def check(self) -> None:
        return

    async def block(self, number: int | None = None) -> Block:
        height = self.head if number is None else number
        return Block(height, 2 * height, 0)

    async def used(self, authorization: Authorization, *, block: int | None = None) -> bool:
        return True

    async def has_code(self, address: str) -> bool:
        return False

    async def mentions(self, authorization: Authorization, first: int, last: int) -> list[Mention]:
        self.asked.append((first, last))
        if last - first + 1 > self.blocks_max:
            raise NodeError(-32005, "query exceeds max block range")
        found = self.at is not None and first <= self.at <= last
        return [Mention(TRANSACTION, cancelled=False)] if found else []

    async def confirmed(self, transaction: str) -> Landed | None:
        return Landed(transaction, self.at or 0, True, events(self.authorization))

    async def direct_call(self, transaction: str, to: str) -> bytes | None:
        return transfer_call(self.authorization, self.authorization.signature)


def authorization(**changes: object) -> Authorization:
    own = Authorization(USDC, PAYER.address, PAY_TO, PRICE, 0, 2_000_100, NONCE, bytes(64) + b"\x1b", 2, {})
    return replace(own, **changes)  # type: ignore[arg-type]


def word(address: str) -> bytes:
    return bytes(12) + bytes.fromhex(address[2:])


def events(of: Authorization) -> tuple[Event, ...]:
    """What the token says of a payment."""
    token = of.asset.address.lower()
    return (
        Event(token, (USED_EVENT, word(of.payer), of.nonce), b"", 4),
        Event(token, (TRANSFER_EVENT, word(of.payer), word(of.pay_to)), of.value.to_bytes(32), 5),
    )


async def test_node_that_refuses_long_ranges_is_asked_for_shorter_ones() -> None:
    """Down to ten blocks."""
    chain = Sparse(authorization(), at=999_990, blocks_max=10)
    found = await fate_of(chain, chain.authorization)
    assert (found.fate, found.transaction) == (Fate.PAID, TRANSACTION)
    assert chain.asked[-1][1] - chain.asked[-1][0] == 9


async def test_node_that_refuses_every_range_leaves_a_doubt() -> None:
    """It is no proof of anything."""
    chain = Sparse(authorization(), at=999_990, blocks_max=5)
    with pytest.raises(NodeError):
        await fate_of(chain, chain.authorization)


async def test_search_begins_where_the_authorization_ended() -> None:
    """A month after it: by the blocks' own times, without asking about the month."""
    own = authorization(valid_before=200_000)
    chain = Sparse(own, at=99_990)
    assert (await fate_of(chain, own)).fate is Fate.PAID
    assert chain.asked == [(98_000, 99_999)]


async def test_search_ends_where_the_authorization_began_or_the_budget_ends() -> None:
    """And says so: nothing is declined that was merely not found."""
    begun = authorization(valid_after=1_990_000)
    chain = Sparse(begun, at=None)
    assert (await fate_of(chain, begun)).fate is Fate.UNCLEAR
    assert chain.asked[-1][0] * 2 <= 1_990_000
    endless = Sparse(authorization(), at=None)
    assert (await fate_of(endless, endless.authorization)).fate is Fate.UNCLEAR
    assert len(endless.asked) == fates.WINDOWS_MAX


async def test_other_signature_in_the_transaction_is_another_payment() -> None:
    """A payer with a key and code may sign one nonce in two ways."""
    own = authorization()
    chain = Sparse(own, at=999_990)
    assert (await fate_of(chain, own)).fate is Fate.PAID
    assert (await fate_of(chain, replace(own, signature=bytes(65)))).fate is Fate.ELSEWHERE


def test_only_the_exact_pair_of_events_is_a_payment() -> None:
    """Used, then transferred: the token's next event, of this payer, to us, of this amount."""
    own = authorization()
    used, moved = events(own)
    between = Event(used.address, (TRANSFER_EVENT, word(PAY_TO), word(PAY_TO)), (1).to_bytes(32), 5)
    foreign = replace(between, address="0x" + "9" * 40)
    assert pays((used, moved), own)
    assert pays((used, foreign, moved), own)
    assert not pays((used, between, moved), own)
    assert not pays((moved, used), own)
    assert not pays((used,), own)
    assert not pays((), own)
    assert not pays((used, moved), replace(own, value=PRICE + 1))
    assert not pays((used, moved), replace(own, nonce=bytes(32)))
    assert not pays((used, moved), replace(own, pay_to=PAYER.address))
    assert not pays((replace(used, address="0x" + "9" * 40), moved), own)
    assert not pays((used, replace(moved, address="0x" + "9" * 40)), own)
