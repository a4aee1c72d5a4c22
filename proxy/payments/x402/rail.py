"""The x402 rail: USDC by an authorization that comes with the request and is settled before it is served."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar, Final

from proxy.errors import Refusal
from proxy.ledger.payment_api import Lease, OnFailure, Payment, PaymentLedger, PaymentTaken, Proof, Taken, Tender, Unit
from proxy.ledger.payment_states import PaymentState
from proxy.payments.api import Ask, Credential, Declined, HeaderFields, IssuedInvoice, Offer, Outcome, Presented, Rail
from proxy.payments.settings import X402, Payments
from proxy.payments.x402 import v1
from proxy.payments.x402.envelope import HEADER, Envelope
from proxy.payments.x402.payload import Authorization, read
from proxy.payments.x402.responses import (
    INVALID_SIGNATURE,
    NONCE_USED,
    RESPONSE_HEADERS,
    TRANSACTION_FAILED,
    plain,
    response_header,
    settlement_failed,
)
from proxy.payments.x402.typed_data import checksummed
from proxy.payments.x402.verify import SCHEME, Verifier, binding, claim_digest, claim_text, claims

if TYPE_CHECKING:
    from proxy.payments.x402.settlement import Settler

RETRY_SECONDS: Final = 5
"""After which a payment that is under way, or not known, is worth asking about again."""
_VERSIONS: Final = {Credential.X402: 2, Credential.X402_V1: 1}


class X402Rail(Rail):
    """Settled first, then served. One authorization pays for the request that it first came with, and no other.

    An authorization that has expired, or that no longer covers the price, is refused only while the ledger knows of
    no money that came by it: a payment that was settled may be tried with again for the same request, whatever the
    time, until it is burnt or refunded. So a proof has no `use_until`.
    """

    name: ClassVar[str] = "x402"
    money: ClassVar[str] = "USDC"
    proofs: ClassVar[str] = "x402"
    credentials: ClassVar[frozenset[Credential]] = frozenset(_VERSIONS)

    def __init__(self, payments: Payments, settings: X402, settler: Settler, ledger: PaymentLedger) -> None:
        self._leases_max = payments.leases_max
        self._settings = settings
        self._settler = settler
        self._ledger = ledger
        self._verifier = Verifier(settings)
        self._envelope = Envelope(settings, self._verifier, description=payments.description)

    async def start(self) -> None:
        await self._settler.start()

    async def stop(self) -> None:
        await self._settler.aclose()

    def offer(self, ask: Ask, invoice: IssuedInvoice | None) -> Offer | None:
        return self._envelope.offer(ask)

    async def check(self, presented: Presented, ask: Ask) -> Tender:
        required = self._verifier.required(ask.price.usdc)
        authorization: Authorization | None = None
        try:
            authorization = self._authorization(presented)
            try:
                self._verifier.check_amount(authorization, required)
                self._verifier.check_time(authorization, ask.now_ms)
            except Refusal:
                if not await self._known(authorization):
                    raise
        except Refusal as refusal:
            raise self._dressed(refusal, ask, authorization) from refusal
        return Tender(
            unit=Unit.USDC,
            amount=min(required, authorization.value),
            request_digest=ask.request_digest,
            proof=self._proof(authorization, binding(authorization, ask.request_digest)),
        )

    async def settle(self, lease: Lease, ask: Ask) -> Outcome:
        authorization = Authorization.parse(lease.proof.detail)
        outcome: Outcome | None = await self._unverified(authorization)
        if outcome is None:
            outcome = await self._settler.settle(authorization, self._requirements(authorization, ask))
        if isinstance(outcome, Declined):
            self._dressed(outcome.refusal, ask, authorization)
        return outcome

    async def reconcile(self, lease: Lease) -> Outcome:
        return await self._settler.reconcile(Authorization.parse(lease.proof.detail))

    def taken(self, error: PaymentTaken) -> Refusal:
        payment = error.payment
        details = {"payment_id": payment.id}
        match error.why:
            case Taken.UNDER_WAY:
                return Refusal(
                    "payment_under_way",
                    "This payment is being used by a request that is under way. Wait for its answer.",
                    retry_after_seconds=RETRY_SECONDS,
                    details=details,
                )
            case Taken.UNKNOWN:
                return Refusal(
                    "payment_unknown",
                    f"It is not known yet whether this payment was settled; do not sign another. Send the same request "
                    f"again, or ask GET /v1/payments/{payment.id}.",
                    retry_after_seconds=RETRY_SECONDS,
                    details=details,
                )
            case Taken.WORN_OUT if payment.state is PaymentState.SETTLED:
                return Refusal(
                    "payment_spent",
                    "This payment was settled and tried with as often as is allowed, and nothing could be served. "
                    "Have it refunded by POST /v1/payments/refund.",
                    details=details,
                )
            case Taken.WORN_OUT:
                refusal = settlement_failed(
                    TRANSACTION_FAILED, message="This authorization was tried with too often, and nothing was taken."
                )
            case Taken.RETURNED:
                refusal = settlement_failed(NONCE_USED, message="This payment was refunded to a balance: use that.")
            case Taken.REFUSED:
                refusal = settlement_failed(payment.reason)
            case Taken.BOUND:
                refusal = settlement_failed(
                    NONCE_USED,
                    message="This authorization was first sent with another request, and pays for that only.",
                )
            case Taken.SPENT:
                refusal = settlement_failed(NONCE_USED)
        refusal.details = {**(refusal.details or {}), **details}
        return self._with_response(refusal, Authorization.parse(payment.detail)) if payment.detail else refusal

    async def served(self, lease: Lease) -> HeaderFields:
        return _receipt(lease.proof.detail, "" if lease.receipt is None else lease.receipt.reference)

    async def served_again(self, payment: Payment) -> HeaderFields:
        return _receipt(payment.detail, payment.reference)

    async def shown(self, presented: Presented) -> Proof:
        sent = read(presented.value, version=_VERSIONS[presented.credential])
        authorization = self._verifier.authorization(sent, to=checksummed(sent.to))
        kept = await self._kept(authorization)
        if sent.claim is None or not await self._claimed(authorization, sent.claim):
            raise Refusal(
                "invalid_payment",
                "The signature of a payment is public on chain, so the payer must say that it asks: add a member "
                f'"claim" to the payload, its key\'s signature (personal_sign) of: {claim_text(authorization)}',
            )
        return kept

    def _authorization(self, presented: Presented) -> Authorization:
        version = _VERSIONS[presented.credential]
        if version == 1 and not self._settings.v1:
            raise Refusal("payment_not_accepted", "Version 1 of x402 is not taken here: send a Payment-Signature.")
        return self._verifier.authorization(read(presented.value, version=version))

    async def _known(self, authorization: Authorization) -> bool:
        """Whether the ledger must be asked what became of it: something may have come of it before."""
        payment = await self._ledger.payment(self.proofs, authorization.key)
        return payment is not None and payment.state is not PaymentState.SEEN

    async def _kept(self, authorization: Authorization) -> Proof:
        """The proof of a payment as it was when it was first seen: its payer may have signed its nonce again."""
        payment = await self._ledger.payment(self.proofs, authorization.key)
        if payment is None:
            raise Refusal("not_found", "No payment with this authorization has been seen here: nothing was taken.")
        first = Authorization.parse(payment.detail) if payment.detail else authorization
        return self._proof(first, payment.binding)

    def _proof(self, authorization: Authorization, bound: str) -> Proof:
        return Proof(
            rail=self.proofs,
            key=authorization.key,
            unit=Unit.USDC,
            amount=authorization.value,
            settled=False,
            binding=bound,
            detail=authorization.json(),
            leases_max=self._leases_max,
            on_failure=OnFailure.FREE,
        )

    async def _claimed(self, authorization: Authorization, claim: bytes) -> bool:
        """By the payer's key; where its code decides, the wallet is asked. Raises Refusal where it cannot be."""
        if not authorization.contract:
            return claims(authorization, claim)
        agreed = await self._settler.wallet_says(authorization, claim_digest(authorization), claim)
        if agreed is None:
            raise Refusal(
                "payment_unavailable",
                "The payer's wallet could not be asked about its claim. Send the same again.",
                retry_after_seconds=RETRY_SECONDS,
            )
        return agreed

    async def _unverified(self, authorization: Authorization) -> Declined | None:
        """Why a contract wallet's authorization is not settled; None: it may be."""
        if not authorization.contract:
            return None
        verified = await self._settler.verify_contract_wallet(authorization)
        if verified is None:
            refusal = Refusal(
                "payment_unavailable",
                "The payer's wallet could not be asked about its signature. Nothing was taken: send the same again.",
                retry_after_seconds=RETRY_SECONDS,
            )
            return Declined(refusal, "contract wallet not asked", final=False)
        return None if verified else Declined(settlement_failed(INVALID_SIGNATURE), INVALID_SIGNATURE, final=True)

    def _requirements(self, authorization: Authorization, ask: Ask) -> dict[str, Any]:
        """The signed value as the required amount: verifiers of the protocol want the two equal."""
        asset = authorization.asset
        name = v1.name_of(asset.network)
        if authorization.version == 1 and name is not None:
            return v1.requirements(
                asset,
                name,
                amount=authorization.value,
                pay_to=authorization.pay_to,
                seconds=self._settings.timeout_seconds,
                resource=ask.url,
                description=f"{ask.model} inference",
            )
        return {
            "scheme": SCHEME,
            "network": asset.network,
            "amount": str(authorization.value),
            "asset": asset.address,
            "payTo": authorization.pay_to,
            "maxTimeoutSeconds": self._settings.timeout_seconds,
            "extra": {"name": asset.name, "version": asset.version},
        }

    def _dressed(self, refusal: Refusal, ask: Ask, authorization: Authorization | None) -> Refusal:
        """A 402 with a fresh offer and, where it is known whose payment failed, the settlement's header."""
        if refusal.status != 402:
            return refusal
        reason = (refusal.details or {}).get("reason", refusal.code)
        header = self._envelope.header(ask, self._verifier.required(ask.price.usdc), error=str(reason))
        if header is not None:
            refusal.headers[HEADER] = header
        return refusal if authorization is None else self._with_response(refusal, authorization)

    @staticmethod
    def _with_response(refusal: Refusal, authorization: Authorization) -> Refusal:
        reason = (refusal.details or {}).get("reason", refusal.code)
        document = {"success": False, "errorReason": plain(str(reason)), "transaction": "", **_named(authorization)}
        refusal.headers[RESPONSE_HEADERS[authorization.version]] = response_header(document)
        return refusal


def _receipt(detail: bytes, reference: str) -> HeaderFields:
    authorization = Authorization.parse(detail)
    document = {"success": True, "transaction": reference, **_named(authorization)}
    return ((RESPONSE_HEADERS[authorization.version], response_header(document)),)


def _named(authorization: Authorization) -> dict[str, str]:
    """Network, payer and amount in the words of the version that the payment came by."""
    network = authorization.asset.network
    named = (v1.name_of(network) or network) if authorization.version == 1 else network
    return {"network": named, "payer": authorization.payer, "amount": str(authorization.value)}
