"""What a test of a Lightning rail needs: a request that is asked for, its invoice, and the ledger's view of it."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from typing import Any, cast

from proxy.ledger.payment_api import Invoice, Payment, PaymentLedger, Unit
from proxy.ledger.payment_states import PaymentState
from proxy.payments.api import Ask, Credential, IssuedInvoice, Presented, Price
from proxy.payments.keys import DerivedKeys
from proxy.payments.l402.terms import Terms
from proxy.pricing.money import Nano

NOW_MS = 1_700_000_000_000
KEYS = DerivedKeys(b"s" * 32)
PREIMAGE = bytes(range(32))
HASH = hashlib.sha256(PREIMAGE).hexdigest()
BOLT11 = "lnbc420n1pexample"
MSAT = 42_000
SECONDS = 300

PRICE = Price(
    usd=Nano(305_000),
    input_usd=Nano(5_000),
    msat=41_500,
    input_tokens=12,
    input_chars=60,
    input_items=0,
    output_tokens=50,
    max_tokens=50,
    rates_digest="rates-1",
)


def asked(body: bytes = b'{"model":"gpt-4o"}', price: Price = PRICE, **changes: Any) -> Ask:
    """A request for a chat; `changes` are of the ask or of its price."""
    of_price = {name: changes.pop(name) for name in list(changes) if hasattr(price, name)}
    ask = Ask(
        method="POST",
        path="/v1/chat/completions",
        url="https://api.test/v1/chat/completions",
        operation="chat.completions",
        model="gpt-4o",
        stream=False,
        price=replace(price, **of_price),
        request_digest="",
        client="203.0.113.7",
        now_ms=NOW_MS,
        body_digest=hashlib.sha256(body).hexdigest(),
    )
    ask = replace(ask, **changes)
    digest = hashlib.sha256(b"%s %s\n%s" % (ask.method.encode(), ask.path.encode(), body)).hexdigest()
    return replace(ask, request_digest=changes.get("request_digest", digest))


def issued(preimage: bytes = PREIMAGE, **changes: Any) -> IssuedInvoice:
    """The invoice whose preimage this is."""
    invoice = IssuedInvoice(hashlib.sha256(preimage).hexdigest(), BOLT11, MSAT, NOW_MS + SECONDS * 1000)
    return replace(invoice, **changes)


class InvoiceBook:
    """The part of the ledger that keeps invoices."""

    def __init__(self) -> None:
        self.invoices: dict[str, Invoice] = {}
        self.asked = 0
        self.burnt: set[str] = set()

    def add(self, made: IssuedInvoice, ask: Ask, **changes: Any) -> None:
        """As it is kept when a 402 offers it."""
        invoice = Invoice(
            payment_hash=made.payment_hash,
            bolt11=made.bolt11,
            msat=made.msat,
            purpose="request",
            client=ask.client,
            created_ms=ask.now_ms,
            expires_ms=made.expires_ms,
            backend="dev",
            terms=Terms.of(ask).json(),
        )
        self.invoices[made.payment_hash] = replace(invoice, **changes)

    async def invoice(self, payment_hash: str) -> Invoice | None:
        self.asked += 1
        return self.invoices.get(payment_hash)

    async def invoice_settled(self, payment_hash: str, at_ms: int) -> None:
        self.invoices[payment_hash] = replace(self.invoices[payment_hash], settled_ms=at_ms)

    async def payment(self, rail: str, key: str) -> Payment | None:
        return spent_payment(key) if rail == "lightning" and key in self.burnt else None

    @property
    def ledger(self) -> PaymentLedger:
        """As a rail takes it."""
        return cast("PaymentLedger", self)


def spent_payment(key: str = HASH, **changes: Any) -> Payment:
    """A payment that has bought its answer."""
    made = Payment(
        id="pay_" + "0" * 32, row=1, fence=1, rail="lightning", key=key, unit=Unit.MSAT, state=PaymentState.BURNT,
        leased=False, amount=MSAT, captured=MSAT, credited=0, returned=0, change=0, fee=0, absorbed=0, expired=0,
        binding="", detail=b"", receipt_detail=b"", reference="", reason="", leases=1, leases_max=5, use_until_ms=0,
        created_ms=0, changed_ms=NOW_MS + 5000,
    )  # fmt: skip
    return replace(made, **changes)


def shows(credential: Credential, value: str) -> Presented:
    """A credential as it is recognised."""
    return Presented(credential, value, hashlib.sha256(value.encode()).hexdigest())
