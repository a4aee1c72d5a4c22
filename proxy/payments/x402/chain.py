"""One network, as seen through one node: what settlement asks of it, in typed answers.

Everything raises `NodeError` and `NodeFailure` (rpc.py). Nothing is asked of a node before it has said that it is on
the network it was configured for.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

from proxy.payments.x402 import eip3009, rpc
from proxy.payments.x402.eip3009 import Event
from proxy.payments.x402.payload import Authorization
from proxy.payments.x402.rpc import JsonRpc, NodeFailure

LATEST: Final = "latest"
_HASH_BYTES: Final = 32


@dataclass(frozen=True, slots=True)
class Block:
    """The head of one."""

    number: int
    timestamp: int
    """Seconds."""
    base_fee: int
    """Wei a gas; 0 on networks without EIP-1559."""


@dataclass(frozen=True, slots=True)
class Landed:
    """A transaction that is in a block, and what it did."""

    transaction: str
    block: int
    succeeded: bool
    events: tuple[Event, ...]


@dataclass(frozen=True, slots=True)
class Mention:
    """An event that used, or cancelled, an authorization."""

    transaction: str
    cancelled: bool


class Chain:
    """Reads of one network. `confirmations`: so many blocks, a transaction's own included, make it final here."""

    def __init__(self, node: JsonRpc, network: str, *, confirmations: int) -> None:
        self.node = node
        self.network = network
        self._confirmations = confirmations
        self._id = int(network.partition(":")[2])
        self._right = False
        self._tokens: set[str] = set()

    @property
    def id(self) -> int:
        """The number in transactions."""
        return self._id

    async def check(self) -> None:
        """Once: the node is on the network it was configured for. Raises NodeFailure where it is not."""
        if self._right:
            return
        told = rpc.quantity(await self.node.call("eth_chainId"))
        if told != self._id:
            raise NodeFailure(f"the node is on chain {told}, not on {self._id}: mend x402.rpc", sent=False)
        self._right = True

    async def block(self, number: int | None = None) -> Block:
        """One by its number, or the newest."""
        tag = LATEST if number is None else hex(number)
        found = await self.node.call("eth_getBlockByNumber", tag, False)
        if found is None:
            raise NodeFailure(f"it has no block {tag}", sent=True)
        fee = rpc.member(found, "baseFeePerGas")
        return Block(
            number=rpc.quantity(rpc.member(found, "number")),
            timestamp=rpc.quantity(rpc.member(found, "timestamp")),
            base_fee=0 if fee is None else rpc.quantity(fee),
        )

    async def settled_block(self) -> Block:
        """The newest that has its confirmations."""
        head = await self.block()
        return head if self._confirmations == 1 else await self.block(max(0, head.number - self._confirmations + 1))

    async def has_code(self, address: str) -> bool:
        """Whether a contract is at an address."""
        return rpc.data(await self.node.call("eth_getCode", address, LATEST)) != b""

    async def is_token(self, address: str) -> bool:
        """Whether there is a contract at an asset's address: once seen, it stays."""
        if address not in self._tokens and await self.has_code(address):
            self._tokens.add(address)
        return address in self._tokens

    async def read(self, to: str, call: bytes, *, block: int | None = None, sender: str | None = None) -> bytes:
        """What a contract gives back. Raises NodeError, `reverted`, where it refuses."""
        fields = {"to": to, "data": "0x" + call.hex()} | ({} if sender is None else {"from": sender})
        return rpc.data(await self.node.call("eth_call", fields, LATEST if block is None else hex(block)))

    async def used(self, authorization: Authorization, *, block: int | None = None) -> bool:
        """Whether the authorization was used, or cancelled."""
        call = eip3009.state_call(authorization)
        return eip3009.number(await self.read(authorization.asset.address, call, block=block)) != 0

    async def balance(self, authorization: Authorization) -> int:
        """The payer's, in the token's smallest unit."""
        call = eip3009.balance_call(authorization.payer)
        return eip3009.number(await self.read(authorization.asset.address, call))

    async def gas(self, sender: str, to: str, call: bytes) -> int:
        """What a call would use, having tried it. Raises NodeError, `reverted`, where it is refused."""
        fields = {"from": sender, "to": to, "data": "0x" + call.hex()}
        return rpc.quantity(await self.node.call("eth_estimateGas", fields))

    async def landed(self, transaction: str) -> Landed | None:
        """A transaction's receipt; None while it is in no block."""
        receipt = await self.node.call("eth_getTransactionReceipt", transaction)
        if receipt is None:
            return None
        if str(rpc.member(receipt, "transactionHash")).lower() != transaction.lower():
            raise NodeFailure("a receipt of another transaction", sent=True)
        return Landed(
            transaction=transaction,
            block=rpc.quantity(rpc.member(receipt, "blockNumber")),
            succeeded=rpc.quantity(rpc.member(receipt, "status")) == 1,
            events=eip3009.events_of(receipt),
        )

    async def confirmed(self, transaction: str) -> Landed | None:
        """The same; None also while it lacks confirmations."""
        landed = await self.landed(transaction)
        if landed is None or self._confirmations == 1:
            return landed
        if (await self.block()).number < landed.block + self._confirmations - 1:
            return None
        again = await self.landed(transaction)  # It may have moved to another block meanwhile.
        return again if again is not None and again.block <= landed.block else None

    async def knows(self, transaction: str) -> bool:
        """Whether the node has heard of a transaction, in a block or not."""
        return await self.node.call("eth_getTransactionByHash", transaction) is not None

    async def direct_call(self, transaction: str, to: str) -> bytes | None:
        """The call data of a transaction that calls `to` itself; None where it calls something else."""
        found = await self.node.call("eth_getTransactionByHash", transaction)
        if found is None:
            raise NodeFailure("it no longer knows the transaction", sent=True)
        if str(rpc.member(found, "to")).lower() != to.lower():
            return None
        return rpc.data(rpc.member(found, "input"))

    async def mentions(self, authorization: Authorization, first: int, last: int) -> list[Mention]:
        """The events that used or cancelled it in these blocks, both included."""
        events = ["0x" + topic.hex() for topic in (eip3009.USED_EVENT, eip3009.CANCELLED_EVENT)]
        wanted = {
            "address": authorization.asset.address,
            "fromBlock": hex(first),
            "toBlock": hex(last),
            "topics": [events, eip3009.topic_of(authorization.payer), "0x" + authorization.nonce.hex()],
        }
        return [_mention(log, authorization) for log in rpc.items(await self.node.call("eth_getLogs", wanted))]


def transaction_hash(value: Any) -> str:
    """Raises NodeFailure for what is none."""
    raw = rpc.data(value)
    if len(raw) != _HASH_BYTES:
        raise NodeFailure("a transaction's hash has 32 bytes", sent=True)
    return "0x" + raw.hex()


def _mention(log: Any, authorization: Authorization) -> Mention:
    topics = [rpc.data(topic) for topic in rpc.items(rpc.member(log, "topics"))]
    about = (rpc.data(eip3009.topic_of(authorization.payer)), authorization.nonce)
    ours = str(rpc.member(log, "address")).lower() == authorization.asset.address.lower()
    if not ours or tuple(topics[1:]) != about or topics[0] not in (eip3009.USED_EVENT, eip3009.CANCELLED_EVENT):
        raise NodeFailure("it answered with an event that was not asked for", sent=True)
    return Mention(transaction_hash(rpc.member(log, "transactionHash")), topics[0] == eip3009.CANCELLED_EVENT)
