"""The ledger's contract for money that comes with a request: proofs of payment, prepaid balances, invoices, ecash.

Amounts are integers of a `Unit`. A payment's value is at all times the sum of what became of it:

    amount = captured + credited + returned + change + fee + absorbed + expired + held

Each part is a transfer in the unit's own book. A balance is `deposited - spent - held - expired`, never below zero.
All of this is durable past a loss of power before anybody is told; what a balance holds and pays for exchanges is as
durable as caps and purses are.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum
from typing import Protocol

from proxy.ledger.errors import LedgerError
from proxy.ledger.payment_states import PaymentState


class Unit(Enum):
    """What an amount of a payment counts."""

    MSAT = "msat"
    """Thousandths of a satoshi."""
    USDC = "usdc"
    """Millionths of a dollar: the atomic unit of USDC."""


class OnFailure(Enum):
    """What becomes of settled money where no answer goes out."""

    FREE = "free"
    """The same proof may be used again, or be refunded to a balance on demand."""
    RETURN = "return"
    """It goes back at once, as ecash that `ecash_of` gives."""


@dataclass(frozen=True, slots=True)
class Proof:
    """A proof of payment that a rail found in order as far as that can be seen without asking anybody."""

    rail: str
    """lightning (L402 and MPP: one invoice pays once) | x402 | transfer | cashu"""
    key: str
    """What there is only one of: payment hash; chain:asset:payer:nonce; transaction hash; digest of the token."""
    unit: Unit
    amount: int
    """What it brings."""
    settled: bool
    """The money is ours already: nothing outside needs to be asked."""
    binding: str = ""
    """Digest of the method, path and body that it may pay for, kept at first sight; "": its rail says so otherwise."""
    detail: bytes = field(default=b"", repr=False)
    """The rail's own: all it needs to ask again after a crash. May be bearer money: never logged, 0600 on disk."""
    leases_max: int = 5
    """So often it may be leased; then it can only be refunded."""
    use_until_ms: int = 0
    """Until when it may be leased; then it can only be refunded. 0: no end."""
    on_failure: OnFailure = OnFailure.FREE


@dataclass(frozen=True, slots=True)
class Tender:
    """What pays for an exchange: a proof of payment, or a balance. Part of the hold, and of its transaction."""

    unit: Unit
    amount: int
    """The price: the most that is taken."""
    request_digest: str
    """Of method, path and body: under it a paid answer is kept for whoever shows the proof again."""
    input_amount: int = 0
    """The part that is input: all that a balance pays where a process died with the answer under way."""
    proof: Proof | None = None
    balance: bytes | None = None
    """SHA-256 of the balance's token, in place of a proof."""


@dataclass(slots=True, eq=False)
class Lease:
    """An exchange's (or a top-up's) exclusive right to a proof; part of the `Hold` where one was made."""

    id: str
    """Public id of the payment: `pay_` + 32 hex."""
    row: int
    fence: int
    """Number of this lease: a late word under an older one changes nothing."""
    proof: Proof
    settled: bool
    """Nothing outside is left to be asked: by an earlier lease, or by the proof itself."""
    receipt: Receipt | None = None
    """How it was settled, where it was. Its ecash is with `ecash_of`."""
    asked: bool = True
    """Outside may have been asked: then the word of whoever asked frees the proof, not the end of the hold. Who knows
    that nobody was asked says False before the hold ends."""


@dataclass(frozen=True, slots=True)
class EcashProof:
    """One ecash note. Bearer money: whoever reads it has it."""

    mint: str
    keyset: str
    amount: int
    """sat"""
    secret: str = field(repr=False)
    signature: str = field(repr=False)
    """C, hex."""
    dleq: str = field(default="", repr=False)
    """e, s and r as JSON; "" where there is none."""
    kept: bool = True
    """Ours once the payment is burnt; False: the payer's change."""


@dataclass(frozen=True, slots=True)
class Receipt:
    """What settling brought: `amount` in all, of which `fee`, `change` and `absorbed` are not what was bought with."""

    amount: int
    fee: int = 0
    """Kept outside (a mint's fee)."""
    change: int = 0
    """Goes back to the payer with the answer."""
    absorbed: int = 0
    """Too small, or too large in bytes, to go back."""
    reference: str = ""
    """For the payer and the books: transaction hash, payment hash, mint."""
    detail: bytes = field(default=b"", repr=False)
    """The rail's own, for the headers of the answer."""
    ecash: tuple[EcashProof, ...] = field(default=(), repr=False)


@dataclass(frozen=True, slots=True)
class StoredAnswer:
    """A whole answer that was paid for, kept for whoever shows the same proof with the same request."""

    request_digest: str
    status: int
    headers: tuple[tuple[str, str], ...]
    body: bytes = field(repr=False)
    at_ms: int = 0


@dataclass(frozen=True, slots=True)
class Payment:
    """A payment as it stands."""

    id: str
    row: int
    fence: int
    rail: str
    key: str
    unit: Unit
    state: PaymentState
    leased: bool
    amount: int
    captured: int
    credited: int
    """Put on a balance."""
    returned: int
    """Given back as ecash."""
    change: int
    fee: int
    absorbed: int
    expired: int
    binding: str
    detail: bytes = field(repr=False)
    receipt_detail: bytes = field(repr=False)
    reference: str
    reason: str
    """Of its last event, in words for the operator."""
    leases: int
    leases_max: int
    use_until_ms: int
    created_ms: int
    changed_ms: int
    balance: int | None = None
    """Row of the balance that it was put on."""

    @property
    def held(self) -> int:
        """What is settled and not yet spoken for."""
        if self.state is not PaymentState.SETTLED:
            return 0
        spoken = self.captured + self.credited + self.returned + self.change + self.fee + self.absorbed + self.expired
        return self.amount - spoken


class Taken(Enum):
    """Why a proof cannot be leased."""

    UNDER_WAY = "under_way"
    """Another exchange has it."""
    UNKNOWN = "unknown"
    SPENT = "spent"
    RETURNED = "returned"
    REFUSED = "refused"
    BOUND = "bound"
    """It was first shown for another request."""
    WORN_OUT = "worn_out"
    """Leased too often, or too late: it can be refunded."""


class PaymentTaken(LedgerError):
    """The proof cannot be leased. Nothing was held anywhere."""

    def __init__(self, why: Taken, payment: Payment, answer: StoredAnswer | None = None) -> None:
        super().__init__(f"{payment.id} is {why.value}")
        self.why = why
        self.payment = payment
        self.answer = answer
        """What it bought, where that is kept and the request is the same."""


class LeaseLost(LedgerError):
    """The word comes too late: the payment is in another state, or in other hands."""


class BalanceKind(Enum):
    """How long a balance lives."""

    BOUGHT = "bought"
    """`idle_days` since it was last used, `days` in all."""
    REFUND = "refund"
    """A year."""


@dataclass(frozen=True, slots=True)
class NewBalance:
    """A balance to be opened. Only the digest of its token is kept."""

    digest: bytes
    kind: BalanceKind
    idle_ms: int
    """It ends so long after it was last used or topped up ..."""
    life_ms: int
    """... and so long after it was opened, whatever happens."""


@dataclass(frozen=True, slots=True)
class BalanceState:
    """Where a balance stands: `left = deposited - spent - held - expired`."""

    row: int
    unit: Unit
    kind: BalanceKind
    deposited: int
    spent: int
    held: int
    expired: int
    requests: int
    """Answers it has paid for."""
    created_ms: int
    expires_ms: int
    """As it stands now, if it is not used."""

    @property
    def left(self) -> int:
        return max(0, self.deposited - self.spent - self.held - self.expired)


class BalanceExceeded(LedgerError):
    """A hold does not fit into the balance, or there is none (`state` None), or it has ended. Nothing was held."""

    def __init__(self, state: BalanceState | None) -> None:
        super().__init__("no such balance" if state is None else f"balance {state.row}: {state.left} left")
        self.state = state


class BalanceMismatch(LedgerError):
    """A payment does not fit the balance: other unit, ended, gone, or its digest opened by another payment."""


@dataclass(frozen=True, slots=True)
class Invoice:
    """A Lightning invoice of ours, kept until long after it ended: what it pays for is refundable for a year."""

    payment_hash: str
    """64 hex digits."""
    bolt11: str
    msat: int
    purpose: str
    """request | balance"""
    client: str
    """Under whom it is counted while it is pending."""
    created_ms: int
    expires_ms: int
    backend: str
    terms: str = ""
    """request: the rail's own JSON of what was quoted. balance: the row of the balance that it tops up, "" for a
    new one."""
    poll_digest: bytes = b""
    """SHA-256 of the secret that polling wants."""
    settled_ms: int | None = None
    """When it was first seen paid."""


class TooManyInvoices(LedgerError):
    """So many invoices are waiting to be paid already. `own`: of this client, else in all."""

    def __init__(self, *, own: bool, limit: int) -> None:
        super().__init__("too many pending invoices")
        self.own = own
        self.limit = limit


class PaymentLedger(Protocol):
    """What the ledger does beside holds. A hold with a `Tender` leases its proof, or holds in its balance, in the same
    transaction, and raises PaymentTaken or BalanceExceeded; `commit` burns; `settle` and `release` end the lease by
    the proof's `on_failure` where it was not burnt, and settle the balance by `Settlement.tendered`.
    """

    async def lease(self, proof: Proof, request_digest: str) -> Lease:
        """Without a hold: for a top-up or a refund. Raises PaymentTaken."""
        ...

    def unlease(self, lease: Lease, *, reason: str) -> None:
        """End a lease without a hold, by the proof's `on_failure`. Only enqueued; a burnt one stays burnt."""
        ...

    async def note_payment(self, lease: Lease, detail: bytes) -> None:
        """Replace the proof's `detail` before an outside call. Raises LeaseLost."""
        ...

    async def payment_settled(self, lease: Lease, receipt: Receipt) -> None:
        """The money came; ecash in the receipt is kept with it. Works after the exchange has ended, too: then the
        payment is freed, or returned, at once. Raises LeaseLost.
        """
        ...

    async def payment_unknown(self, lease: Lease, reason: str) -> None:
        """Nobody knows. From now on it is the reconciler's. Raises LeaseLost."""
        ...

    async def payment_refused(self, lease: Lease, reason: str) -> None:
        """It did not come and never will. Raises LeaseLost."""
        ...

    async def payment_freed(self, lease: Lease, reason: str) -> None:
        """It did not come; the payer may try again. Raises LeaseLost."""
        ...

    async def payment_returned(self, lease: Lease, reason: str) -> None:
        """SETTLED -> REFUNDED as ecash, while the hold is still open: the caller is about to hand it out."""
        ...

    async def unknown_payments(self, *, count_max: int, idle_ms: int) -> list[Lease]:
        """For the reconciler of one process: UNKNOWN ones that nobody has asked about for `idle_ms`, fenced anew, and
        LEASED ones of dead processes, made UNKNOWN first."""
        ...

    async def payment(self, rail: str, key: str) -> Payment | None: ...

    async def payment_by_id(self, id_: str) -> Payment | None: ...

    async def fund(self, lease: Lease, balance: NewBalance | int) -> BalanceState:
        """SETTLED -> BURNT, its value onto a new balance or a known one (row). The same payment again: same answer.

        Raises LeaseLost, BalanceMismatch.
        """
        ...

    async def refund(self, lease: Lease, balance: NewBalance) -> BalanceState:
        """SETTLED -> REFUNDED, its value onto a new balance. The same payment again: same answer.

        Raises LeaseLost, BalanceMismatch.
        """
        ...

    async def balance(self, digest: bytes) -> BalanceState | None: ...

    async def add_invoice(self, invoice: Invoice, *, pending_max: int, pending_client_max: int) -> None:
        """Raises TooManyInvoices."""
        ...

    async def invoice(self, payment_hash: str) -> Invoice | None: ...

    async def invoice_settled(self, payment_hash: str, at_ms: int) -> None:
        """It was seen paid: it counts as pending no more."""
        ...

    async def ecash_of(self, payment_row: int, *, kept: bool | None) -> tuple[EcashProof, ...]:
        """What came of a payment: our notes (True), the payer's change (False, once it is burnt), or all that is the
        payer's (None: everything after a return)."""
        ...

    async def wallet(self, mint: str | None = None) -> tuple[EcashProof, ...]:
        """Our own ecash, of burnt payments and not exported."""
        ...

    async def export(self, secrets: tuple[str, ...]) -> None:
        """These notes of ours are handed out and no longer ours. Raises LedgerError if one of them is not."""
        ...

    async def expire_payments(self, now_ms: int) -> int:
        """End balances past their end and money that nobody used for a year; says how many. Forgets old junk."""
        ...

    async def prune_answers(self, before_ms: int) -> int: ...
