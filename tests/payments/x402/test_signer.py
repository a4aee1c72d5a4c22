"""Our own account: what a node says of a transaction is read as taken, refused, or nobody knows."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest
from eth_account import Account

from proxy.payments.x402.chain import Chain
from proxy.payments.x402.rpc import NodeError, NodeFailure
from proxy.payments.x402.signer import NotSent, Sent, Signer
from tests.support.x402 import USDC

KEY = Account.from_key("0x" + "33" * 32)
GWEI = 10**9


class Node:
    """Answers as told; keeps the transactions it took."""

    def __init__(self, **said: Any) -> None:
        self.said: dict[str, Any] = {
            "eth_getBlockByNumber": {"number": "0x1", "timestamp": "0x1", "baseFeePerGas": hex(GWEI)},
            "eth_maxPriorityFeePerGas": "0x64",
            "eth_getTransactionCount": "0x5",
            "eth_sendRawTransaction": "0x",
            "eth_getTransactionReceipt": None,
        } | said
        self.raw: list[dict[str, Any]] = []

    async def call(self, method: str, *params: Any) -> Any:
        if method == "eth_sendRawTransaction":
            self.raw.append(decoded(params[0]))
        said = self.said[method]
        if isinstance(said, list):
            said = said.pop(0) if len(said) > 1 else said[0]
        if isinstance(said, Exception):
            raise said
        return said


def decoded(raw: str) -> dict[str, Any]:
    from eth_account.typed_transactions import TypedTransaction
    from hexbytes import HexBytes

    assert Account.recover_transaction(raw) == KEY.address
    return dict(TypedTransaction.from_bytes(HexBytes(raw)).as_dict())


async def sent(node: Node, *, gas: int = 90_000, **bounds: int) -> Sent:
    return await signer(node, **bounds).send(USDC.address, b"\x01", gas=gas, deadline=deadline())


def signer(node: Node, **bounds: int) -> Signer:
    chain = Chain(node, USDC.network, confirmations=1)  # type: ignore[arg-type]
    return Signer(KEY, chain, **{"gas_max": 100_000, "fee_wei_max": 10 * GWEI} | bounds)


def deadline() -> float:
    return asyncio.get_running_loop().time() + 20


async def test_transaction_is_numbered_bounded_and_of_this_network() -> None:
    """Twice the base fee and the tip, at most what the operator allows."""
    node = Node()
    assert (await sent(node)).number == 5
    (raw,) = node.raw
    assert (raw["chainId"], raw["nonce"], raw["gas"], raw["value"]) == (8453, 5, 90_000, 0)
    assert (raw["maxFeePerGas"], raw["maxPriorityFeePerGas"]) == (2 * GWEI + 100, 100)
    await sent(node, fee_wei_max=GWEI + 100)
    assert node.raw[-1]["maxFeePerGas"] == GWEI + 100


@pytest.mark.parametrize(
    ("bounds", "words"), [({"fee_wei_max": GWEI}, "fee_gwei_max"), ({"gas_max": 50_000}, "gas_max")]
)
async def test_what_costs_more_than_allowed_is_not_sent(bounds: dict[str, int], words: str) -> None:
    """The message names the setting."""
    node = Node()
    with pytest.raises(NotSent, match=words):
        await sent(node, **bounds)
    assert node.raw == []


async def test_network_without_a_suggested_tip_gets_a_small_one() -> None:
    """Not every node knows the method."""
    node = Node(eth_maxPriorityFeePerGas=NodeError(-32601, "the method does not exist"))
    await sent(node)
    assert node.raw[0]["maxPriorityFeePerGas"] == 1_000_000


@pytest.mark.parametrize(
    "words",
    ["nonce too low: next nonce 6, tx nonce 5", "replacement transaction underpriced", "OldNonce", "Nonce is too low"],
)
async def test_number_that_is_taken_is_followed_by_the_next(words: str) -> None:
    """Even where the node's own count lags behind."""
    node = Node(eth_sendRawTransaction=[NodeError(-32000, words), "0x"])
    assert (await sent(node)).number == 6


async def test_numbers_that_are_all_taken_are_given_up() -> None:
    """Bounded."""
    node = Node(eth_sendRawTransaction=NodeError(-32000, "nonce too low"))
    with pytest.raises(NotSent):
        await sent(node)
    assert len(node.raw) == 8


@pytest.mark.parametrize("words", ["already known", "AlreadyKnown", "transaction already imported"])
async def test_transaction_that_the_node_has_already_is_sent(words: str) -> None:
    """It is the very same one."""
    assert (await sent(Node(eth_sendRawTransaction=NodeError(-32000, words)))).certain


@pytest.mark.parametrize(
    "words",
    [
        "insufficient funds for gas * price + value",
        "max fee per gas less than block base fee",
        "intrinsic gas too low",
        "transaction underpriced",
        "exceeds block gas limit",
        "txpool is full",
        "invalid chain id for signer",
    ],
)
async def test_transaction_that_the_node_refuses_is_not_sent(words: str) -> None:
    """Clearly: nothing can come of it."""
    with pytest.raises(NotSent):
        await sent(Node(eth_sendRawTransaction=NodeError(-32000, words)))


@pytest.mark.parametrize(
    "trouble",
    [NodeError(-32603, "internal error"), NodeError(-32000, "request timed out"), NodeFailure("cut", sent=True)],
    ids=str,
)
async def test_anything_else_may_have_been_sent(trouble: Exception) -> None:
    """Its hash is known, so that the chain can be asked."""
    found = await sent(Node(eth_sendRawTransaction=trouble))
    assert not found.certain
    assert len(found.transaction) == 66


async def test_node_that_was_never_reached_has_nothing() -> None:
    """No byte of it left."""
    with pytest.raises(NotSent):
        await sent(Node(eth_sendRawTransaction=NodeFailure("refused", sent=False)))


@pytest.mark.parametrize("method", ["eth_getBlockByNumber", "eth_getTransactionCount"])
@pytest.mark.parametrize("trouble", [NodeError(-32603, "internal error"), NodeFailure("cut", sent=True)], ids=str)
async def test_node_that_fails_before_has_nothing(method: str, trouble: Exception) -> None:
    """Whatever it says."""
    node = Node(**{method: trouble})
    with pytest.raises(NotSent):
        await sent(node)
    assert node.raw == []


async def test_own_count_is_believed_over_a_node_that_lags() -> None:
    """Several at once: each its number, although the node counts none of them yet."""
    own = signer(Node())
    found = await asyncio.gather(*(own.send(USDC.address, b"", gas=90_000, deadline=deadline()) for _ in range(4)))
    assert sorted(each.number for each in found) == [5, 6, 7, 8]


async def test_own_count_is_forgotten_after_a_while(monkeypatch: pytest.MonkeyPatch) -> None:
    """A transaction that the network dropped leaves no gap behind which all others wait."""
    monkeypatch.setattr("proxy.payments.x402.signer.OWN_COUNT_SECONDS", 0.0)
    own = signer(Node())
    found = [await own.send(USDC.address, b"", gas=90_000, deadline=deadline()) for _ in range(2)]
    assert [each.number for each in found] == [5, 5]


@pytest.mark.parametrize(
    ("used", "receipt", "lost"),
    [("0x5", None, False), ("0x6", None, True), ("0x6", "landed", False)],
    ids=["number still free", "number used up", "landed meanwhile"],
)
async def test_transaction_is_lost_only_where_its_number_is_used_up(used: str, receipt: Any, lost: bool) -> None:
    """By another, while it is in no block itself."""
    mined: Callable[[str], dict[str, Any]] = lambda hash_: {  # noqa: E731
        "transactionHash": hash_, "blockNumber": "0x1", "status": "0x1", "logs": [],
    }  # fmt: skip
    transaction = "0x" + "ab" * 32
    node = Node(eth_getTransactionCount=used, eth_getTransactionReceipt=receipt and mined(transaction))
    assert await signer(node).lost(Sent(transaction, 5, certain=True)) is lost


async def test_turn_that_does_not_come_in_time_sends_nothing() -> None:
    """Waiting for others is bounded; handing over is not."""
    node = Node()
    own = signer(node)
    await own._count.lock.acquire()
    with pytest.raises(NotSent):
        await own.send(USDC.address, b"", gas=90_000, deadline=asyncio.get_running_loop().time() + 0.05)
    assert node.raw == []
