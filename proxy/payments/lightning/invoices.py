"""Invoices as they are handed out: counted, kept in the ledger first, and made once where one will do."""

from __future__ import annotations

import asyncio
from collections import Counter, OrderedDict
from dataclasses import dataclass, field
from typing import Any, Final

from proxy.clock import Clock
from proxy.errors import Refusal
from proxy.ledger.payment_api import Invoice, PaymentLedger, TooManyInvoices
from proxy.payments.api import IssuedInvoice
from proxy.payments.lightning.api import Node, NodeFailure, NodeStatus
from proxy.payments.settings import Lightning
from proxy.pricing.money import MSAT_PER_SAT

PAUSE_SECONDS: Final = 5.0
"""After a failure of the node Lightning is not on offer for so long; then one invoice at a time tries it."""
FULL_SECONDS: Final = 10.0
"""Whoever has too many pending invoices is refused for so long without asking node or ledger again."""
CLIENTS_FULL_MAX: Final = 10_000
CREATING_MAX: Final = 16
"""Invoices being made at once; more wait their turn within the same time limit."""
KEPT_MAX: Final = 4096
UNPAID_SECONDS: Final = 2.0
"""The node's word that an invoice is unpaid is taken for so long before it goes out again."""
MEMO_CHARS_MAX: Final = 100


@dataclass(slots=True, eq=False)
class _Kept:
    """The last invoice of one key, and the turn of whoever makes the next."""

    turn: asyncio.Lock = field(default_factory=asyncio.Lock)
    invoice: IssuedInvoice | None = None
    asked_at: float = 0.0


type _Key = tuple[str, int, str, str, str]


class Invoices:
    """Makes invoices and says whether they are paid. One for a process."""

    def __init__(self, node: Node, ledger: PaymentLedger, clock: Clock, settings: Lightning, log: Any) -> None:
        self._node = node
        self._ledger = ledger
        self._clock = clock
        self._settings = settings
        self._log = log
        self._kept: OrderedDict[_Key, _Kept] = OrderedDict()
        self._places = asyncio.Semaphore(CREATING_MAX)
        self._creating: Counter[str] = Counter()
        self._full_until: dict[str, float] = {}
        self._failing = False
        self._trying = False
        self._paused_until = 0.0

    async def issue(
        self,
        *,
        msat: int,
        memo: str,
        client: str,
        purpose: str,
        seconds: int,
        terms: str = "",
        poll_digest: bytes = b"",
        reuse: str = "",
    ) -> IssuedInvoice:
        """An invoice that stands in the ledger, over `msat` rounded up to whole sats.

        `reuse` names what exactly is asked for (a digest of the request): the same client asking for the same again
        gets the same invoice while it is unpaid and has half of its life before it. "": always a new one.

        Raises Refusal `payment_unavailable` (503: the node, or too many in all) and `rate_limited` (429: too many of
        this client).
        """
        msat = -(-msat // MSAT_PER_SAT) * MSAT_PER_SAT
        if not reuse:
            return await self._create(msat, memo, client, purpose, seconds, terms, poll_digest)
        kept = self._entry((client, msat, purpose, terms, reuse))
        async with kept.turn:
            if await self._is_good(kept, seconds) and kept.invoice is not None:
                return kept.invoice
            kept.invoice = await self._create(msat, memo, client, purpose, seconds, terms, poll_digest)
            kept.asked_at = self._clock.monotonic()
            return kept.invoice

    async def status(self, payment_hash: str) -> NodeStatus:
        """Whether an invoice of ours is paid, by the node's word. Raises Refusal `not_found`, `payment_unavailable`."""
        invoice = await self._ledger.invoice(payment_hash)
        if invoice is None:
            raise Refusal("not_found", "This payment hash is of no invoice made here. Check it.")
        try:
            async with asyncio.timeout(self._settings.timeout_seconds):
                status = await self._node.lookup(payment_hash)
        except (NodeFailure, TimeoutError) as error:
            if invoice.settled_ms is not None:
                return NodeStatus(True)
            raise self._unavailable(PAUSE_SECONDS, _detail(error)) from error
        if status.paid and invoice.settled_ms is None:
            await self._ledger.invoice_settled(payment_hash, self._clock.now_ms())
        return status

    async def aclose(self) -> None:
        """Close the node's connections."""
        await self._node.aclose()

    async def _create(
        self, msat: int, memo: str, client: str, purpose: str, seconds: int, terms: str, poll_digest: bytes
    ) -> IssuedInvoice:
        self._check_room(client)
        self._creating[client] += 1
        try:
            made = await self._of_node(msat, _printable(memo), seconds)
            invoice = Invoice(
                payment_hash=made.payment_hash,
                bolt11=made.bolt11,
                msat=msat,
                purpose=purpose,
                client=client,
                created_ms=self._clock.now_ms(),
                expires_ms=made.expires_ms,
                backend=self._node.name,
                terms=terms,
                poll_digest=poll_digest,
            )
            await self._add(invoice)
        finally:
            self._creating[client] -= 1
            if not self._creating[client]:
                del self._creating[client]
        return made

    async def _of_node(self, msat: int, memo: str, seconds: int) -> IssuedInvoice:
        now = self._clock.monotonic()
        if now < self._paused_until or (self._failing and self._trying):
            raise self._unavailable(max(self._paused_until - now, 1.0), "it failed just before")
        trying = self._trying = self._failing
        try:
            async with asyncio.timeout(self._settings.timeout_seconds), self._places:
                made = await self._node.create_invoice(msat=msat, memo=memo, seconds=seconds)
        except (NodeFailure, TimeoutError) as error:
            raise self._failed(error) from error
        finally:
            if trying:
                self._trying = False
        if self._failing:
            self._failing = False
            self._log.info("lightning_back", backend=self._node.name)
        return IssuedInvoice(made.payment_hash, made.bolt11, msat, made.expires_ms)

    def _failed(self, error: NodeFailure | TimeoutError) -> Refusal:
        detail = _detail(error)
        if not self._failing:
            self._log.warning("lightning_failed", backend=self._node.name, reason=detail)
        self._failing = True
        self._paused_until = self._clock.monotonic() + PAUSE_SECONDS
        return self._unavailable(PAUSE_SECONDS, detail)

    def _check_room(self, client: str) -> None:
        """Before the node is bothered. Raises Refusal."""
        now = self._clock.monotonic()
        until = self._full_until.get(client, 0.0)
        if until > now or self._creating[client] >= self._settings.pending_client_max:
            raise _too_many_of_client(max(until - now, 1.0))
        until = self._full_until.get("", 0.0)
        if until > now:
            raise self._unavailable(until - now, "too many unpaid invoices in all (lightning.pending_max)")

    async def _add(self, invoice: Invoice) -> None:
        limits = self._settings
        try:
            await self._ledger.add_invoice(
                invoice, pending_max=limits.pending_max, pending_client_max=limits.pending_client_max
            )
        except TooManyInvoices as error:
            now = self._clock.monotonic()
            if len(self._full_until) >= CLIENTS_FULL_MAX:
                self._full_until = {client: until for client, until in self._full_until.items() if until > now}
            if len(self._full_until) < CLIENTS_FULL_MAX:
                self._full_until[invoice.client if error.own else ""] = now + FULL_SECONDS
            if error.own:
                raise _too_many_of_client(FULL_SECONDS) from error
            raise self._unavailable(FULL_SECONDS, "too many unpaid invoices in all (lightning.pending_max)") from error

    def _entry(self, key: _Key) -> _Kept:
        kept = self._kept.get(key)
        if kept is None:
            while len(self._kept) >= KEPT_MAX:
                self._kept.popitem(last=False)
            kept = self._kept[key] = _Kept()
        self._kept.move_to_end(key)
        return kept

    async def _is_good(self, kept: _Kept, seconds: int) -> bool:
        """It has half of its life before it and, as the node says, nobody has paid it. Raises Refusal."""
        invoice, now_ms = kept.invoice, self._clock.now_ms()
        if invoice is None or (invoice.expires_ms - now_ms) * 2 < seconds * 1000:
            return False
        if self._clock.monotonic() - kept.asked_at <= UNPAID_SECONDS:
            return True
        try:
            status = await self.status(invoice.payment_hash)
        except Refusal:
            kept.invoice = None  # The next one asked for is a new one: perhaps the node does not know this one.
            raise
        kept.asked_at = self._clock.monotonic()
        return not status.paid

    def _unavailable(self, seconds: float, detail: str) -> Refusal:
        return Refusal(
            "payment_unavailable",
            "Payments over Lightning are not to be had right now. Try again later, or pay another way.",
            retry_after_seconds=seconds,
            operator_note=f"The Lightning node ({self._node.name}): {detail}.",
        )


def _too_many_of_client(seconds: float) -> Refusal:
    return Refusal(
        "rate_limited",
        "Too many of your invoices are waiting to be paid. Pay one of them, or wait until they end.",
        retry_after_seconds=seconds,
    )


def _printable(memo: str) -> str:
    """Never empty: an invoice must have a description."""
    return "".join(char if char.isprintable() else " " for char in memo[:MEMO_CHARS_MAX]).strip() or "invoice"


def _detail(error: NodeFailure | TimeoutError) -> str:
    return error.detail if isinstance(error, NodeFailure) else "no answer in time"
