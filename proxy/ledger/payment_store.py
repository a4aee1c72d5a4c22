"""The half of the ledger that keeps payments: `proxy.ledger.payment_api.PaymentLedger` over the writer's queue."""

from __future__ import annotations

import asyncio
import contextlib
from abc import ABC, abstractmethod
from collections.abc import Callable

from proxy.clock import Clock
from proxy.ledger import payment_expiry
from proxy.ledger.books import Books
from proxy.ledger.errors import LedgerClosed
from proxy.ledger.operations import Operation
from proxy.ledger.payment_api import (
    BalanceState,
    EcashProof,
    Invoice,
    Lease,
    NewBalance,
    Payment,
    Proof,
    Receipt,
)
from proxy.ledger.payment_checks import (
    check_detail,
    check_invoice,
    check_new_balance,
    check_proof,
    check_receipt,
)
from proxy.ledger.payment_operations import Leasing, Looking, Unleasing, Word, Writing


class PaymentStore(ABC):
    """See `PaymentLedger` for what its methods promise. Impossible amounts and sizes raise ValueError."""

    _clock: Clock

    @abstractmethod
    def _submit(self, operation: Operation) -> None:
        """Hand an operation to the writer."""

    async def _ask[T](self, kind: type[Writing], do: Callable[[Books], T]) -> T:
        future: asyncio.Future[T] = asyncio.get_running_loop().create_future()
        self._submit(kind(do, future))
        return await future

    # -- leases without a hold

    async def lease(self, proof: Proof, request_digest: str) -> Lease:
        check_proof(proof)
        future: asyncio.Future[Lease] = asyncio.get_running_loop().create_future()
        self._submit(Leasing(proof, request_digest, self._clock.now_ms(), future))
        try:
            return await future
        except asyncio.CancelledError:
            # Cancelled after the lease was given but before the caller could have it: nobody else can end it.
            if future.done() and not future.cancelled() and future.exception() is None:
                self._abandon(future.result())
            raise

    def unlease(self, lease: Lease, *, reason: str) -> None:
        # A lease that outlives the ledger is ended by the next start.
        with contextlib.suppress(LedgerClosed):
            self._submit(Unleasing(lease, reason, self._clock.now_ms()))

    def _abandon(self, lease: Lease) -> None:
        lease.asked = False
        self.unlease(lease, reason="abandoned")

    # -- the word from outside

    async def note_payment(self, lease: Lease, detail: bytes) -> None:
        check_detail(detail)
        await self._ask(Writing, lambda books: books.payments.note(lease, detail))

    async def payment_settled(self, lease: Lease, receipt: Receipt) -> None:
        check_receipt(receipt)
        now = self._clock.now_ms()
        await self._ask(Word, lambda books: books.payments.settled(lease, receipt, now))

    async def payment_unknown(self, lease: Lease, reason: str) -> None:
        now = self._clock.now_ms()
        await self._ask(Word, lambda books: books.payments.doubtful(lease, reason, now))

    async def payment_refused(self, lease: Lease, reason: str) -> None:
        now = self._clock.now_ms()
        await self._ask(Word, lambda books: books.payments.refused(lease, reason, now))

    async def payment_freed(self, lease: Lease, reason: str) -> None:
        now = self._clock.now_ms()
        await self._ask(Word, lambda books: books.payments.freed(lease, reason, now))

    async def payment_returned(self, lease: Lease, reason: str) -> None:
        now = self._clock.now_ms()
        await self._ask(Writing, lambda books: books.payments.give_back(lease, reason, now))

    async def unknown_payments(self, *, count_max: int, idle_ms: int) -> list[Lease]:
        now = self._clock.now_ms()
        return await self._ask(
            Writing, lambda books: books.payments.unknown(count_max=count_max, idle_ms=idle_ms, at_ms=now)
        )

    # -- what is known

    async def payment(self, rail: str, key: str) -> Payment | None:
        return await self._ask(Looking, lambda books: books.payments.of(rail, key))

    async def payment_by_id(self, id_: str) -> Payment | None:
        return await self._ask(Looking, lambda books: books.payments.named(id_))

    # -- balances

    async def fund(self, lease: Lease, balance: NewBalance | int) -> BalanceState:
        if isinstance(balance, NewBalance):
            check_new_balance(balance)
        now = self._clock.now_ms()
        return await self._ask(Writing, lambda books: books.payments.fund(lease, balance, now))

    async def refund(self, lease: Lease, balance: NewBalance) -> BalanceState:
        check_new_balance(balance)
        now = self._clock.now_ms()
        return await self._ask(Writing, lambda books: books.payments.refund(lease, balance, now))

    async def balance(self, digest: bytes) -> BalanceState | None:
        return await self._ask(Looking, lambda books: books.balances.state(digest))

    # -- invoices

    async def add_invoice(self, invoice: Invoice, *, pending_max: int, pending_client_max: int) -> None:
        check_invoice(invoice)
        await self._ask(
            Writing,
            lambda books: books.invoices.add(invoice, pending_max=pending_max, pending_client_max=pending_client_max),
        )

    async def invoice(self, payment_hash: str) -> Invoice | None:
        return await self._ask(Looking, lambda books: books.invoices.of(payment_hash))

    async def invoice_settled(self, payment_hash: str, at_ms: int) -> None:
        await self._ask(Writing, lambda books: books.invoices.settled(payment_hash, at_ms))

    # -- ecash

    async def ecash_of(self, payment_row: int, *, kept: bool | None) -> tuple[EcashProof, ...]:
        return await self._ask(Looking, lambda books: books.payments.ecash.of(payment_row, kept=kept))

    async def wallet(self, mint: str | None = None) -> tuple[EcashProof, ...]:
        return await self._ask(Looking, lambda books: books.payments.ecash.wallet(mint))

    async def export(self, secrets: tuple[str, ...]) -> None:
        await self._ask(Writing, lambda books: books.payments.ecash.export(secrets))

    # -- what grows old

    async def expire_payments(self, now_ms: int) -> int:
        return await self._until_none(lambda books: payment_expiry.expire(books, now_ms)) + await self._until_none(
            lambda books: payment_expiry.forget(books, now_ms), counted=False
        )

    async def prune_answers(self, before_ms: int) -> int:
        return await self._until_none(lambda books: books.payments.answers.prune(before_ms))

    async def _until_none(self, do: Callable[[Books], int], *, counted: bool = True) -> int:
        # In short transactions, so that exchanges go on between them.
        total = 0
        while some := await self._ask(Writing, do):
            total += some
        return total if counted else 0
