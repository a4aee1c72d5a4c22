"""The IETF `Payment` scheme over Lightning: the same invoices as L402, and the same proof of having paid one."""

from __future__ import annotations

import hmac
from typing import ClassVar, Final

from proxy.clock import Clock
from proxy.errors import Refusal
from proxy.ledger.payment_api import Lease, Payment, PaymentLedger, PaymentTaken, Proof, Tender
from proxy.payments.api import Ask, Credential, HeaderFields, IssuedInvoice, Offer, Presented
from proxy.payments.keys import DerivedKeys
from proxy.payments.l402.invoice_rail import InvoiceRail, PaidInvoice, proves
from proxy.payments.l402.terms import ANEW
from proxy.payments.mpp.challenge import challenge_of, content_digest, milliseconds, timestamp
from proxy.payments.mpp.credential import MppCredential, parse_credential
from proxy.payments.mpp.encoding import encode
from proxy.payments.mpp.problems import Problem, as_problem
from proxy.payments.settings import Mpp
from proxy.pricing.money import MSAT_PER_SAT

KEY_PURPOSE: Final = "mpp/challenge"
MS: Final = 1000


class MppRail(InvoiceRail):
    """`WWW-Authenticate: Payment` and `Authorization: Payment`; a receipt with every paid answer."""

    name: ClassVar[str] = "mpp"
    money: ClassVar[str] = "Lightning"
    credentials: ClassVar[frozenset[Credential]] = frozenset({Credential.MPP})

    def __init__(
        self, settings: Mpp, keys: DerivedKeys, ledger: PaymentLedger, clock: Clock, *, leases_max: int
    ) -> None:
        super().__init__(ledger, leases_max=leases_max)
        self._settings = settings
        self._key = keys.derive(KEY_PURPOSE)
        self._clock = clock

    def offer(self, ask: Ask, invoice: IssuedInvoice | None) -> Offer | None:
        """A challenge for this very body. The scheme counts in whole sats: other invoices are not offered."""
        if invoice is None or invoice.msat % MSAT_PER_SAT:
            return None
        challenge = challenge_of(
            invoice, realm=self._settings.realm, body_digest=ask.body_digest, expires_ms=invoice.expires_ms
        )
        members = {
            "price": invoice.msat // MSAT_PER_SAT,
            "invoice": invoice.bolt11,
            "paymentHash": invoice.payment_hash,
        }
        return Offer((("WWW-Authenticate", challenge.header(self._key)),), members)

    async def check(self, presented: Presented, ask: Ask) -> Tender:
        """The challenge is ours and not expired, the preimage is its invoice's, the body is the one that was quoted.

        Raises Refusal `invalid_payment` with a problem document: 400 malformed, else 401.
        """
        try:
            return await self._check(presented, ask)
        except Refusal as refusal:
            raise as_problem(refusal) from None

    async def _check(self, presented: Presented, ask: Ask) -> Tender:
        credential, paid = await self._proven(presented)
        expires_ms = milliseconds(credential.challenge.expires)
        if ask.now_ms >= expires_ms and not await self._spent(credential.payment_hash):
            raise Problem(
                "lightning/expired-invoice",
                "This challenge has expired. If its invoice was paid, POST /v1/payments/refund with the same "
                "Authorization turns it into a balance.",
            )
        if paid.terms.body_digest not in ("", ask.body_digest):
            raise Problem(
                "verification-failed", "This challenge is for another request body. Send the one that was quoted."
            )
        return await self._tender(paid, ask, self._proof_of(credential, paid, expires_ms))

    async def shown(self, presented: Presented) -> Proof:
        """As `check`, for a payment that is asked about or given back; its refusals are plain ones."""
        credential, paid = await self._proven(presented)
        return self._proof_of(credential, paid, milliseconds(credential.challenge.expires))

    def taken(self, error: PaymentTaken) -> Refusal:
        """As for L402, in a problem document."""
        return as_problem(super().taken(error))

    async def served(self, lease: Lease) -> HeaderFields:
        """`Payment-Receipt`."""
        return self._receipt(lease.proof.detail.decode(), lease.proof.key, self._clock.now_ms())

    async def served_again(self, payment: Payment) -> HeaderFields:
        """The receipt of then."""
        return self._receipt(payment.detail.decode(), payment.key, payment.changed_ms)

    async def _proven(self, presented: Presented) -> tuple[MppCredential, PaidInvoice]:
        """A challenge of ours with the preimage of its invoice.

        The digest is taken from what the invoice was made for, since clients need not send it back.
        """
        credential = parse_credential(presented.value)
        if not proves(credential.preimage, credential.payment_hash):
            raise Problem(
                "lightning/invalid-preimage", "The preimage does not match. Send the one that paying this invoice gave."
            )
        paid = await self._paid(credential.payment_hash)
        echo, digest = credential.challenge, content_digest(paid.terms.body_digest)
        if echo.digest not in ("", digest) or not hmac.compare_digest(
            echo.bound_to(digest).id(self._key).encode(), credential.id.encode()
        ):
            raise Problem(
                "lightning/unknown-challenge",
                "This challenge was not made here, or was changed. " + ANEW,
            )
        return credential, paid

    def _proof_of(self, credential: MppCredential, paid: PaidInvoice, expires_ms: int) -> Proof:
        return self._proof(paid.invoice, use_until_ms=expires_ms, detail=credential.id.encode())

    def _receipt(self, challenge_id: str, payment_hash: str, at_ms: int) -> HeaderFields:
        receipt = {
            "method": "lightning",
            "reference": payment_hash,
            "status": "success",
            "timestamp": timestamp(at_ms),
        }
        if challenge_id:
            receipt["challengeId"] = challenge_id
        return (("Payment-Receipt", encode(receipt)),)
