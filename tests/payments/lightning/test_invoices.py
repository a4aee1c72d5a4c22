"""Invoices as they are handed out: kept first, limited, made once where one will do."""

from __future__ import annotations

import asyncio
import hashlib
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from proxy.errors import Refusal
from proxy.ledger.payment_api import Invoice, TooManyInvoices
from proxy.payments.api import IssuedInvoice
from proxy.payments.keys import DerivedKeys
from proxy.payments.lightning.api import NodeFailure, NodeInvoice, NodeStatus
from proxy.payments.lightning.dev import DevWallet
from proxy.payments.lightning.invoices import FULL_SECONDS, PAUSE_SECONDS, Invoices
from proxy.payments.lightning.nodes import build_node
from proxy.payments.settings import Lightning
from tests.ledger.making import opened
from tests.support.fakes import FakeClock


class FakeLedger:
    """What Invoices asks of the ledger."""

    def __init__(self) -> None:
        self.rows: dict[str, Invoice] = {}
        self.failing = False

    async def add_invoice(self, invoice: Invoice, *, pending_max: int, pending_client_max: int) -> None:
        await asyncio.sleep(0)
        pending = [row for row in self.rows.values() if row.settled_ms is None]
        if sum(row.client == invoice.client for row in pending) >= pending_client_max:
            raise TooManyInvoices(own=True, limit=pending_client_max)
        if len(pending) >= pending_max:
            raise TooManyInvoices(own=False, limit=pending_max)
        self.rows[invoice.payment_hash] = invoice

    async def invoice(self, payment_hash: str) -> Invoice | None:
        return self.rows.get(payment_hash)

    async def invoice_settled(self, payment_hash: str, at_ms: int) -> None:
        self.rows[payment_hash] = replace(self.rows[payment_hash], settled_ms=at_ms)


class FakeNode:
    """Makes numbered invoices."""

    name = "fake"

    def __init__(self, clock: FakeClock) -> None:
        self.clock = clock
        self.made: list[tuple[int, str, int]] = []
        self.lookups = 0
        self.paid: set[str] = set()
        self.failure: NodeFailure | None = None
        self.gate: asyncio.Event | None = None
        self.closed = False

    async def create_invoice(self, *, msat: int, memo: str, seconds: int) -> NodeInvoice:
        self.made.append((msat, memo, seconds))
        if self.gate is not None:
            await self.gate.wait()
        if self.failure is not None:
            raise self.failure
        payment_hash = hashlib.sha256(str(len(self.made)).encode()).hexdigest()
        return NodeInvoice(payment_hash, f"lnbcrt{len(self.made)}", self.clock.now_ms() + seconds * 1000)

    async def lookup(self, payment_hash: str) -> NodeStatus:
        self.lookups += 1
        if self.gate is not None:
            await self.gate.wait()
        if self.failure is not None:
            raise self.failure
        return NodeStatus(payment_hash in self.paid, "ab" * 32 if payment_hash in self.paid else None)

    async def aclose(self) -> None:
        self.closed = True


class FakeLog:
    def __init__(self) -> None:
        self.events: list[str] = []

    def warning(self, event: str, **_: object) -> None:
        self.events.append(event)

    info = warning


class Set:
    """Invoices over fakes."""

    def __init__(self, **settings: Any) -> None:
        self.clock = FakeClock()
        self.node = FakeNode(self.clock)
        self.ledger = FakeLedger()
        self.log = FakeLog()
        self.invoices = Invoices(self.node, self.ledger, self.clock, Lightning("fake", **settings), self.log)  # type: ignore[arg-type]

    async def issue(self, **changes: Any) -> IssuedInvoice:
        asked = {"msat": 21_000, "memo": "m", "client": "c", "purpose": "request", "seconds": 300, "terms": "{}"}
        return await self.invoices.issue(**(asked | changes))

    async def refusal(self, **changes: Any) -> Refusal:
        with pytest.raises(Refusal) as caught:
            await self.issue(**changes)
        return caught.value


async def test_an_invoice_stands_in_the_ledger_before_it_is_handed_out() -> None:
    """With all that is known of it."""
    it = Set()
    made = await it.issue(poll_digest=b"d" * 32)
    assert made == IssuedInvoice(made.payment_hash, "lnbcrt1", 21_000, it.clock.now_ms() + 300_000)
    assert it.ledger.rows[made.payment_hash] == Invoice(
        payment_hash=made.payment_hash, bolt11="lnbcrt1", msat=21_000, purpose="request", client="c",
        created_ms=it.clock.now_ms(), expires_ms=made.expires_ms, backend="fake", terms="{}", poll_digest=b"d" * 32,
    )  # fmt: skip


async def test_amounts_are_rounded_up_to_whole_sats_and_memos_are_printable() -> None:
    """What some nodes and most wallets show."""
    it = Set()
    assert (await it.issue(msat=20_001, memo="a\nb" + "x" * 200)).msat == 21_000
    await it.issue(memo="\n ")
    assert [(msat, memo[:3], len(memo)) for msat, memo, _ in it.node.made] == [(21_000, "a b", 100), (21_000, "inv", 7)]


async def test_the_same_asked_again_gets_the_same_invoice() -> None:
    """At once or one after the other; the node is written to once."""
    it = Set()
    made = await asyncio.gather(*(it.issue(reuse="digest") for _ in range(20)))
    it.clock.advance(149)
    assert await it.issue(reuse="digest") == made[0]
    assert len(set(made)) == len(it.node.made) == len(it.ledger.rows) == 1


@pytest.mark.parametrize(
    "change",
    [{"client": "d"}, {"msat": 22_000}, {"purpose": "balance"}, {"terms": "[]"}, {"reuse": "other"}, {"reuse": ""}],
)
async def test_anything_else_gets_another_one(change: dict[str, Any]) -> None:
    """Another client, amount, purpose, terms or request; or whoever did not ask for it."""
    it = Set()
    assert await it.issue(reuse="digest") != await it.issue(**({"reuse": "digest"} | change))


async def test_an_invoice_past_half_its_life_is_not_handed_out_again() -> None:
    """Nobody gets one that ends under their hands."""
    it = Set()
    first = await it.issue(reuse="digest")
    it.clock.advance(151)
    assert await it.issue(reuse="digest") != first


async def test_a_paid_invoice_is_not_handed_out_again() -> None:
    """A second payment of it would fail; the ledger is told."""
    it = Set()
    first = await it.issue(reuse="digest")
    it.node.paid.add(first.payment_hash)
    it.clock.advance(3)
    assert await it.issue(reuse="digest") != first
    assert it.ledger.rows[first.payment_hash].settled_ms == it.clock.now_ms()


async def test_the_node_is_asked_now_and_then_only() -> None:
    """Within two seconds its word stands."""
    it = Set()
    for _ in range(10):
        await it.issue(reuse="digest")
    assert it.node.lookups == 0
    it.clock.advance(2.1)
    for _ in range(10):
        await it.issue(reuse="digest")
    assert (it.node.lookups, len(it.node.made)) == (1, 1)


async def test_an_invoice_that_the_node_has_forgotten_is_not_handed_out_for_ever() -> None:
    """One refusal, then a new one."""
    it = Set()
    first = await it.issue(reuse="digest")
    it.clock.advance(3)
    it.node.failure = NodeFailure("unable to locate invoice")
    assert (await it.refusal(reuse="digest")).code == "payment_unavailable"
    it.node.failure = None
    assert await it.issue(reuse="digest") != first


async def test_a_client_with_too_many_pending_is_told_to_wait() -> None:
    """429; and neither node nor ledger is bothered again for a while."""
    it = Set(pending_client_max=3)
    for _ in range(3):
        await it.issue()
    refusal = await it.refusal()
    assert (refusal.code, refusal.status, refusal.retry_after_seconds) == ("rate_limited", 429, FULL_SECONDS)
    for _ in range(5):
        assert (await it.refusal()).code == "rate_limited"
    assert len(it.node.made) == 4
    await it.issue(client="d")
    for payment_hash in list(it.ledger.rows):
        await it.ledger.invoice_settled(payment_hash, 1)
    it.clock.advance(FULL_SECONDS + 0.1)
    await it.issue()


async def test_many_at_once_do_not_get_past_the_limit_of_a_client() -> None:
    """Nor does the node see more than that."""
    it = Set(pending_client_max=5)
    made = await asyncio.gather(*(it.issue(terms=str(n)) for n in range(50)), return_exceptions=True)
    assert sum(isinstance(one, IssuedInvoice) for one in made) == 5
    assert {one.code for one in made if isinstance(one, Refusal)} == {"rate_limited"}
    assert len(it.node.made) == 5


async def test_too_many_in_all_take_lightning_off_offer() -> None:
    """503 for everybody, for a while."""
    it = Set(pending_max=2)
    await it.issue(client="a")
    await it.issue(client="b")
    for client in "cde":
        refusal = await it.refusal(client=client)
        assert (refusal.code, refusal.status) == ("payment_unavailable", 503)
        assert refusal.retry_after_seconds == FULL_SECONDS
        assert "pending_max" in refusal.operator_note
    assert len(it.node.made) == 3


async def test_a_failing_node_is_left_alone_for_a_while_and_logged_once() -> None:
    """503 with the cause for the operator alone; then one try."""
    it = Set()
    it.node.failure = NodeFailure("lnd: status 500: locked")
    refusal = await it.refusal()
    assert (refusal.code, refusal.status, refusal.retry_after_seconds) == ("payment_unavailable", 503, PAUSE_SECONDS)
    assert "locked" in refusal.operator_note and "locked" not in refusal.message
    for _ in range(5):
        assert (await it.refusal()).code == "payment_unavailable"
    assert len(it.node.made) == 1
    for _ in range(3):
        it.clock.advance(PAUSE_SECONDS)
        await it.refusal()
    assert len(it.node.made) == 4
    it.node.failure = None
    it.clock.advance(PAUSE_SECONDS)
    await it.issue()
    assert it.log.events == ["lightning_failed", "lightning_back"]
    assert len(it.ledger.rows) == 1


async def test_a_hung_node_hangs_nobody() -> None:
    """Within the time limit all are refused, and after it one tries while the others are refused at once."""
    it = Set(timeout_seconds=0.05)
    it.node.gate = asyncio.Event()
    refused = await asyncio.gather(*(it.issue(terms=str(n)) for n in range(20)), return_exceptions=True)
    assert {one.code for one in refused if isinstance(one, Refusal)} == {"payment_unavailable"}
    assert len(refused) == 20
    assert len(it.node.made) == 16
    it.clock.advance(PAUSE_SECONDS)
    await asyncio.gather(*(it.issue(terms=str(n)) for n in range(20)), return_exceptions=True)
    assert len(it.node.made) == 17
    it.node.gate.set()
    it.clock.advance(PAUSE_SECONDS)
    await it.issue()


async def test_a_client_that_leaves_leaves_nothing_behind() -> None:
    """Cancelled while the node is asked: no row, no place taken, the next one is served."""
    it = Set(pending_client_max=1)
    it.node.gate = asyncio.Event()
    leaving = asyncio.ensure_future(it.issue(reuse="digest"))
    waiting = asyncio.ensure_future(it.issue(reuse="digest"))
    while not it.node.made:
        await asyncio.sleep(0)
    leaving.cancel()
    it.node.gate.set()
    with pytest.raises(asyncio.CancelledError):
        await leaving
    assert (await waiting).payment_hash in it.ledger.rows
    assert len(it.ledger.rows) == 1


async def test_a_status_is_the_nodes_word_and_paid_is_noted_once() -> None:
    """The ledger is told at first sight."""
    it = Set()
    made = await it.issue()
    assert await it.invoices.status(made.payment_hash) == NodeStatus(False)
    it.node.paid.add(made.payment_hash)
    at = it.clock.now_ms()
    for _ in range(2):
        assert await it.invoices.status(made.payment_hash) == NodeStatus(True, "ab" * 32)
        it.clock.advance(1)
    assert it.ledger.rows[made.payment_hash].settled_ms == at


async def test_a_status_of_a_hash_that_is_not_ours_asks_nobody() -> None:
    """404."""
    it = Set()
    with pytest.raises(Refusal) as caught:
        await it.invoices.status("ab" * 32)
    assert caught.value.code == "not_found"
    assert it.node.lookups == 0


async def test_what_is_known_to_be_paid_stays_paid_while_the_node_is_down() -> None:
    """The rest is not to be had."""
    it = Set(timeout_seconds=0.05)
    made = await it.issue()
    it.node.gate = asyncio.Event()
    with pytest.raises(Refusal) as caught:
        await it.invoices.status(made.payment_hash)
    assert caught.value.code == "payment_unavailable"
    await it.ledger.invoice_settled(made.payment_hash, 1)
    assert await it.invoices.status(made.payment_hash) == NodeStatus(True)


async def test_what_is_kept_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """The oldest go first."""
    monkeypatch.setattr("proxy.payments.lightning.invoices.KEPT_MAX", 3)
    it = Set()
    made = [await it.issue(reuse=str(n)) for n in range(5)]
    assert await it.issue(reuse="4") == made[4]
    assert await it.issue(reuse="0") != made[0]
    assert len(it.invoices._kept) == 3


async def test_closing_closes_the_node() -> None:
    """Its connections."""
    it = Set()
    await it.invoices.aclose()
    assert it.node.closed


async def test_the_real_ledger_keeps_them_for_every_process(tmp_path: Path) -> None:
    """Made by one, paid by a wallet, seen by another, with the dev node behind."""
    clock, keys = FakeClock(), DerivedKeys(b"s" * 32)
    settings = Lightning("dev", development=True, pending_client_max=2)
    one, two = (opened(tmp_path / "ledger.db", clock) for _ in range(2))
    here, there = (
        Invoices(build_node(settings, keys, tmp_path, clock), ledger, clock, settings, FakeLog())
        for ledger in (one, two)
    )
    asked = {"msat": 21_000, "memo": "m", "client": "c", "purpose": "request", "seconds": 300, "terms": "{}"}
    try:
        made = await here.issue(**asked)
        assert not (await there.status(made.payment_hash)).paid
        await there.issue(**asked)
        with pytest.raises(Refusal) as caught:
            await here.issue(**asked)
        assert caught.value.code == "rate_limited"
        preimage = DevWallet(keys, tmp_path, clock).pay(made.bolt11)
        assert await there.status(made.payment_hash) == NodeStatus(True, preimage)
        row = await one.invoice(made.payment_hash)
        assert row is not None and row.settled_ms == clock.now_ms()
        assert (await there.issue(**asked)).msat == 21_000
    finally:
        await one.close()
        await two.close()
