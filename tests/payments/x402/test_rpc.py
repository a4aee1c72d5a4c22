"""JSON-RPC over a real socket: whatever a node says is an answer, its error, or no answer at all."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from proxy.egress import Egress
from proxy.payments.x402 import rpc
from proxy.payments.x402.rpc import JsonRpc, NodeError, NodeFailure
from tests.peers.chain.serving import Peer, Reply, Seen


class Says(Peer):
    """Answers every call with the same, the id filled in."""

    def __init__(self, *said: Any, status: int = 200) -> None:
        super().__init__()
        self.said = list(said)
        self.status = status

    def answer(self, seen: Seen) -> Reply | None:
        said = self.said.pop(0) if len(self.said) > 1 else self.said[0]
        if said is None:
            return None
        if isinstance(said, bytes):
            return Reply(said, self.status)
        return Reply(json.dumps({"jsonrpc": "2.0", "id": json.loads(seen.body)["id"]} | said).encode(), self.status)


@asynccontextmanager
async def node(*said: Any, status: int = 200) -> AsyncIterator[JsonRpc]:
    with Says(*said, status=status) as peer:
        own = JsonRpc(Egress(f"{peer.url}/v2/hush", private=True, timeout_seconds=5))
        try:
            yield own
        finally:
            await own.aclose()


async def test_result_is_given_back() -> None:
    """Null is one, too."""
    async with node({"result": "0x1"}) as own:
        assert await own.call("eth_chainId") == "0x1"
    async with node({"result": None}) as own:
        assert await own.call("eth_getTransactionReceipt", "0x") is None


@pytest.mark.parametrize("status", [200, 400, 500])
async def test_error_is_the_nodes_own(status: int) -> None:
    """Whatever status it comes with."""
    async with node(
        {"error": {"code": 3, "message": "execution reverted: no", "data": "0x1234"}}, status=status
    ) as own:
        with pytest.raises(NodeError) as caught:
            await own.call("eth_call")
    assert (caught.value.code, caught.value.data, caught.value.reverted) == (3, b"\x12\x34", True)


@pytest.mark.parametrize("data", [{"data": "0x1234"}, "0x1234"])
async def test_data_of_an_error_may_be_wrapped(data: Any) -> None:
    """Nodes differ."""
    async with node({"error": {"code": -32000, "message": "m" * 500, "data": data}}) as own:
        with pytest.raises(NodeError) as caught:
            await own.call("eth_call")
    assert caught.value.data == b"\x12\x34"
    assert len(caught.value.message) == rpc.MESSAGE_CHARACTERS_MAX


@pytest.mark.parametrize(
    "said",
    [b"", b"<html>", b"[]", b"1", b"{}", {"result": "0x1", "id": 77}, {"error": "no"}, {"error": {"message": "x"}}],
    ids=str,
)
async def test_anything_else_is_no_answer(said: Any) -> None:
    """And what was asked for may have been done."""
    async with node(said) as own:
        with pytest.raises(NodeFailure) as caught:
            await own.call("eth_sendRawTransaction", "0x")
    assert caught.value.sent
    assert "hush" not in str(caught.value)


async def test_result_with_another_status_is_no_answer() -> None:
    """A gateway's page may look like one."""
    async with node({"result": "0x1"}, status=502) as own:
        with pytest.raises(NodeFailure):
            await own.call("eth_chainId")


async def test_read_without_an_answer_is_asked_once_more_and_a_write_is_not() -> None:
    """A connection that is cut under a read costs no payment."""
    async with node(None, {"result": "0x1"}) as own:
        assert await own.call("eth_chainId") == "0x1"
    async with node(None, {"result": "0x1"}) as own:
        with pytest.raises(NodeFailure) as caught:
            await own.call("eth_sendRawTransaction", "0x")
    assert caught.value.sent


async def test_node_that_cannot_be_reached_was_not_asked() -> None:
    """Nothing can have come of it."""
    own = JsonRpc(Egress("http://127.0.0.1:9", private=True, timeout_seconds=5))
    with pytest.raises(NodeFailure) as caught:
        await own.call("eth_sendRawTransaction", "0x")
    await own.aclose()
    assert not caught.value.sent


@pytest.mark.parametrize("value", [None, 1, "", "0x", "1", "0x01", "-0x1", "0xg", "0x" + "f" * 65, [], True])
def test_number_is_written_as_one(value: Any) -> None:
    """As the specification of JSON-RPC has quantities."""
    with pytest.raises(NodeFailure):
        rpc.quantity(value)


@pytest.mark.parametrize("value", [None, 1, "", "0x1", "0xgg", "00", []])
def test_bytes_are_written_as_hex(value: Any) -> None:
    """Two digits each."""
    with pytest.raises(NodeFailure):
        rpc.data(value)


def test_numbers_and_bytes_are_read() -> None:
    """The good ones."""
    assert (rpc.quantity("0x0"), rpc.quantity("0x1f"), rpc.data("0x"), rpc.data("0x0aFF")) == (0, 31, b"", b"\n\xff")
    with pytest.raises(NodeFailure):
        rpc.member([], "x")
    with pytest.raises(NodeFailure):
        rpc.items({})
