"""Nostr Wallet Connect over a relay, and the encryption and events beneath it."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from proxy.clock import SystemClock
from proxy.payments.keys import DerivedKeys
from proxy.payments.lightning.api import Node, NodeFailure
from proxy.payments.lightning.nodes import NodeMisconfigured, build_node
from proxy.payments.settings import Lightning
from tests.peers.lightning.nostr import CLIENT_SECRET, NwcPeer, settled


def built(peer: NwcPeer, **more: Any) -> Node:
    settings = Lightning("nwc", credential=more.pop("credential", peer.credential), **more)
    return build_node(settings, DerivedKeys(b"s" * 32), Path("/nowhere"), SystemClock())


@pytest.mark.parametrize("auth", [False, True])
@pytest.mark.parametrize("scheme", ["nip44_v2 nip04", "nip44_v2", "nip04", None])
async def test_an_invoice_is_made_paid_and_known(scheme: str | None, auth: bool) -> None:
    """In the encryption that the wallet announces, on one connection, on relays that want to know us too."""
    async with NwcPeer(scheme=scheme, auth=auth) as peer:
        node = built(peer)
        made = await node.create_invoice(msat=21_000, memo="gpt-4o inference", seconds=300)
        assert peer.invoices[made.payment_hash].seconds == 300
        before = await node.lookup(made.payment_hash)
        assert (before.paid, before.preimage) == (False, None)
        preimage = peer.pay(made.payment_hash)
        after = await node.lookup(made.payment_hash)
        assert (after.paid, after.preimage) == (True, preimage)
        assert peer.connections == 1
        assert peer.methods == ["make_invoice", "lookup_invoice", "lookup_invoice"]
        await node.aclose()


async def test_answers_find_whoever_asked() -> None:
    """Many questions at once on one connection."""
    async with NwcPeer() as peer:
        node = built(peer)
        made = await asyncio.gather(*(node.create_invoice(msat=1000 * n, memo="m", seconds=300) for n in range(1, 20)))
        assert [peer.invoices[invoice.payment_hash].msat for invoice in made] == [1000 * n for n in range(1, 20)]
        assert peer.connections == 1
        await node.aclose()


@pytest.mark.parametrize("fault", ["forge", "stranger", "noise"])
async def test_what_the_wallet_did_not_sign_for_us_is_not_heard(fault: str) -> None:
    """Forged and foreign events, other kinds, answers to others, noise; the true answer still is."""
    async with NwcPeer() as peer:
        peer.fault = fault
        node = built(peer)
        made = await node.create_invoice(msat=21_000, memo="m", seconds=300)
        assert made.payment_hash in peer.invoices
        await node.aclose()


@pytest.mark.parametrize(
    ("fault", "words"),
    [("hang", "no answer within"), ("refuse", "the relay refused the request: blocked"), ("close", "nwc: "),
     ("other question", "another question"), ("error", "RESTRICTED: not allowed"), ("junk", "cannot be read"),
     ("no result", "no result"), ("redirect", "redirect"), ("never ready", "no answer within")],
)  # fmt: skip
async def test_failures_are_told_without_the_secret(fault: str, words: str) -> None:
    """Every one of them in time."""
    async with NwcPeer() as peer:
        peer.fault = fault
        node = built(peer, timeout_seconds=0.3)
        with pytest.raises(NodeFailure) as caught:
            await node.create_invoice(msat=21_000, memo="m", seconds=300)
        assert words in caught.value.detail
        assert CLIENT_SECRET.hex() not in caught.value.detail
        await node.aclose()


@pytest.mark.parametrize("lie", ["amount", "no amount", "hash", "life", "clock", "junk"])
async def test_invoices_that_are_not_what_was_asked_for_are_refused(lie: str) -> None:
    """As with every backend."""
    async with NwcPeer() as peer:
        peer.lie = lie
        node = built(peer)
        with pytest.raises(NodeFailure, match="its invoice"):
            await node.create_invoice(msat=21_000, memo="m", seconds=300)
        await node.aclose()


async def test_a_preimage_of_another_hash_is_refused() -> None:
    """And an invoice that the wallet does not know is a failure."""
    async with NwcPeer() as peer:
        node = built(peer)
        made = await node.create_invoice(msat=21_000, memo="m", seconds=300)
        peer.pay(made.payment_hash)
        peer.lie = "preimage"
        with pytest.raises(NodeFailure, match="not this invoice's"):
            await node.lookup(made.payment_hash)
        with pytest.raises(NodeFailure, match="NOT_FOUND"):
            await node.lookup("ab" * 32)
        await node.aclose()


async def test_a_lost_connection_is_made_again() -> None:
    """Whoever waits on it fails; the next one connects anew."""
    async with NwcPeer() as peer:
        node = built(peer)
        await node.create_invoice(msat=1000, memo="m", seconds=300)
        peer.fault = "hang"
        waiting = asyncio.ensure_future(node.create_invoice(msat=1000, memo="m", seconds=300))
        await settled(lambda: len(peer.methods) == 2)
        await peer.cut[0].close()
        with pytest.raises(NodeFailure, match="closed"):
            await waiting
        peer.fault = ""
        await node.create_invoice(msat=1000, memo="m", seconds=300)
        assert peer.connections == 2
        await node.aclose()


async def test_a_relay_that_was_never_ready_is_dialled_again() -> None:
    """A connection on which nothing came is not kept."""
    async with NwcPeer() as peer:
        peer.fault = "never ready"
        node = built(peer, timeout_seconds=0.2)
        with pytest.raises(NodeFailure):
            await node.create_invoice(msat=1000, memo="m", seconds=300)
        peer.fault = ""
        await node.create_invoice(msat=1000, memo="m", seconds=300)
        assert peer.connections == 2
        await node.aclose()


async def test_a_relay_that_is_down_is_a_failure() -> None:
    """In words."""
    async with NwcPeer() as peer:
        pass
    node = built(peer)
    with pytest.raises(NodeFailure, match="no connection"):
        await node.lookup("ab" * 32)
    await node.aclose()


async def test_a_private_relay_needs_the_operators_word() -> None:
    """Else wss and public addresses alone."""
    async with NwcPeer() as peer:
        with pytest.raises(NodeMisconfigured):
            built(peer, private=False)
        node = built(peer, private=False, credential=peer.credential.replace("ws://", "wss://"))
        with pytest.raises(NodeFailure, match="no connection"):
            await node.lookup("ab" * 32)
        assert peer.connections == 0
        await node.aclose()


KEY = "b889ff5b1513b641e2a139f661a661364979c5beee91842f8f0ef42ab558e9d4"


@pytest.mark.parametrize(
    "uri",
    ["", "https://example.com", f"nostr+walletconnect://{KEY}", f"nostr+walletconnect://{KEY}?relay=wss://a",
     f"nostr+walletconnect://{KEY}?relay=wss://a&secret=abc", f"nostr+walletconnect://{KEY[1:]}?relay=wss://a&secret={KEY}",
     f"nostr+walletconnect://{KEY}?relay=http://a&secret={KEY}",
     f"nostr+walletconnect://{'f' * 64}?relay=wss://a&secret={KEY}",
     f"nostr+walletconnect://{KEY}?relay=wss://a&secret={'0' * 64}"],
)  # fmt: skip
def test_a_uri_that_is_none_stops_the_start(uri: str) -> None:
    """Without repeating it: it holds a key."""
    with pytest.raises(NodeMisconfigured) as caught:
        build_node(Lightning("nwc", credential=uri), DerivedKeys(b"s" * 32), Path("/nowhere"), SystemClock())
    assert KEY not in str(caught.value)
