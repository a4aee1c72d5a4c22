"""What a rail is: a way to pay for one request, and the words it shares with the plugins that ask for the money."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from enum import Enum
from typing import Any, ClassVar

from proxy.errors import Refusal
from proxy.ledger.payment_api import Lease, Payment, PaymentTaken, Proof, Receipt, Tender
from proxy.pricing.money import NANO_PER_USDC, Nano


class Credential(Enum):
    """How a payment came with a request."""

    L402 = "l402"
    """`Authorization: L402 macaroon:preimage`, or the older scheme LSAT."""
    MPP = "mpp"
    """`Authorization: Payment ...`"""
    BALANCE = "balance"
    """`Authorization: Bearer bal_...`"""
    X402 = "x402"
    """`Payment-Signature`"""
    X402_V1 = "x402_v1"
    """`X-PAYMENT` in the shape of version 1."""
    TRANSFER = "transfer"
    """`X-PAYMENT` with `{txHash, from}`."""
    CASHU = "cashu"
    """`X-Cashu`"""


@dataclass(frozen=True, slots=True)
class Presented:
    """The one payment that came with a request, not yet looked into."""

    credential: Credential
    value: str = field(repr=False)
    """Without its scheme."""
    digest: str
    """SHA-256 of the credential's kind and value, hex."""


@dataclass(frozen=True, slots=True)
class Price:
    """What one request costs whoever pays for it, in every unit, each rounded up once.

    Made by `proxy.payments.prices` alone, wherever a price is asked for. Floors are the rails' own and in none of
    these.
    """

    usd: Nano
    input_usd: Nano
    """The part that is input."""
    msat: int | None
    """None: no exchange rate is known, or it is stale. Rails in sats are then not on offer."""
    input_tokens: int
    """Counted."""
    input_chars: int
    """Of all text that the model reads."""
    input_items: int
    """Inputs of an embeddings request; 0 elsewhere."""
    output_tokens: int
    """Output limit for all choices together."""
    max_tokens: int
    """Output limit for one choice, as it is forwarded."""
    rates_digest: str
    """Of everything that the price depends on but tokens: rates, surcharge, features of the request."""
    nano_per_btc: int | None = None
    credits_milli: int | None = None
    """Thousandths of a credit; None where no price of a credit is set."""

    @property
    def usdc(self) -> int:
        """Millionths of a dollar, rounded up."""
        return -(-self.usd // NANO_PER_USDC)


@dataclass(frozen=True, slots=True)
class Ask:
    """A request that is to be paid for."""

    method: str
    path: str
    url: str
    """Absolute, as the operator's public address has it; for envelopes that name the resource."""
    operation: str
    model: str
    stream: bool
    price: Price
    request_digest: str
    """SHA-256 of method, path and body, hex."""
    client: str
    """Under whom invoices are counted."""
    now_ms: int
    request_id: str = ""
    body_digest: str = ""
    """SHA-256 of the body alone, hex: what a `Content-Digest` (RFC 9530) is made of. "": it binds nothing."""
    named: str = ""
    """As the request names the model: the mode of a panel, for the format that asks for one; "": `model`."""


@dataclass(frozen=True, slots=True)
class IssuedInvoice:
    """A Lightning invoice that one 402 offers to L402 and MPP alike."""

    payment_hash: str
    bolt11: str
    msat: int
    expires_ms: int


@dataclass(frozen=True, slots=True)
class Offer:
    """One rail's part of the 402 answer."""

    headers: tuple[tuple[str, str], ...]
    """In the order they are sent; a name may repeat."""
    members: dict[str, Any] = field(default_factory=dict)
    """Of the JSON body."""


@dataclass(frozen=True, slots=True)
class Settled:
    """The money is ours."""

    receipt: Receipt


@dataclass(frozen=True, slots=True)
class Declined:
    """Nothing was taken. `final`: and never will be with this proof."""

    refusal: Refusal
    reason: str
    final: bool


@dataclass(frozen=True, slots=True)
class Doubtful:
    """Nobody knows."""

    reason: str


Outcome = Settled | Declined | Doubtful
HeaderFields = tuple[tuple[str, str], ...]


class Rail(ABC):
    """One way to pay. Stateless but for connections; all that must survive is in the ledger."""

    name: ClassVar[str]
    proofs: ClassVar[str]
    """`Proof.rail` of what it makes: what `reconcile` is called for."""
    credentials: ClassVar[frozenset[Credential]]
    money: ClassVar[str] = ""
    """What a 402 says that it is paid over; empty: nothing."""

    async def start(self) -> None:
        """Before the first request. Raises StartError-like errors with what to change."""

    async def stop(self) -> None:
        """After the last one."""

    @abstractmethod
    def offer(self, ask: Ask, invoice: IssuedInvoice | None) -> Offer | None:
        """Its part of a 402; None where it cannot take this payment now. Never raises, asks nobody, under 0.3 ms."""

    @abstractmethod
    async def check(self, presented: Presented, ask: Ask) -> Tender:
        """Everything that can be seen without asking anybody outside. Raises Refusal in the rail's own words."""

    @abstractmethod
    async def settle(self, lease: Lease, ask: Ask) -> Outcome:
        """Ask outside for the money; only where `lease.settled` is False. Never raises but CancelledError: what went
        wrong after anything was sent is Doubtful."""

    @abstractmethod
    async def reconcile(self, lease: Lease) -> Outcome:
        """Find out what became of an unknown payment from `lease.proof` alone. Doubtful: ask again later."""

    @abstractmethod
    def taken(self, error: PaymentTaken) -> Refusal:
        """Its own words for a proof that cannot be used (again); never a fresh 402 for what may still be served."""

    async def served(self, lease: Lease) -> HeaderFields:
        """Header fields of the paid answer. The payment is burnt by now."""
        return ()

    async def served_again(self, payment: Payment) -> HeaderFields:
        """The same, for an answer that is given out again to who shows the spent proof."""
        return ()

    async def returned(self, lease: Lease) -> HeaderFields:
        """Header fields of a failed answer whose payment has just gone back to the payer (`OnFailure.RETURN`)."""
        return ()

    @abstractmethod
    async def shown(self, presented: Presented) -> Proof:
        """The proof that somebody shows to ask about its payment or to have it back: the right to it is proven as in
        `check`, but expiry and what it was for do not matter. Raises Refusal."""
