"""The transfer rail: dollars sent before the request, by a plain transfer, and proven by its hash and a signature.

One transaction pays once, of one sender, for ever: `chain:transaction:sender` is the payment's key, so that nobody
who merely saw a transaction stands in its sender's way. All that it moved from the sender to us counts. A transaction
that used a signed authorization is no such payment: it has been one already.

A transfer that is worth less than its request costs is ours all the same. It is left unknown, settled for what it is
worth by the reconciler, and from then on can be refunded; what it was sent for is not served.
"""

from __future__ import annotations

import asyncio
import base64
from dataclasses import dataclass
from typing import Any, ClassVar, Final

import orjson

from proxy.clock import Clock
from proxy.errors import Refusal
from proxy.ledger.payment_api import Lease, Payment, PaymentLedger, PaymentTaken, Proof, Receipt, Taken, Tender, Unit
from proxy.ledger.payment_states import PaymentState
from proxy.payments.api import (
    Ask,
    Credential,
    Declined,
    Doubtful,
    IssuedInvoice,
    Offer,
    Outcome,
    Presented,
    Rail,
    Settled,
)
from proxy.payments.settings import X402, Payments
from proxy.payments.x402 import eip3009
from proxy.payments.x402.chain import Chain, Landed
from proxy.payments.x402.onchain import OnChain
from proxy.payments.x402.responses import settlement_failed
from proxy.payments.x402.rpc import NodeError, NodeFailure
from proxy.payments.x402.transfer_proof import TransferSent, check_shown, check_signed, read_transfer, text_for
from proxy.payments.x402.typed_data import checksummed

RETRY_SECONDS: Final = 5
LEASES_MAX: Final = 20
"""At least, once it is settled."""
ASKED_MAX: Final = 1000
"""Before: who asks while the node does not know the transaction yet uses one up. It is paid already, and what is not
settled cannot be refunded, so that only asking again helps.
"""
POLL_SECONDS: Final = 0.25
RESPONSE_HEADER: Final = "X-PAYMENT-RESPONSE"
NOT_FOUND: Final = "transaction_not_found"
FAILED: Final = "transaction_failed"
NO_TRANSFER: Final = "transfer_not_to_us"
AUTHORIZED: Final = "transfer_was_authorization"
TOO_OLD: Final = "transfer_too_old"
_SAID: Final = {
    NOT_FOUND: "This transaction is not known on its network yet. Send the same again once it is in a block.",
    FAILED: "This transaction failed on chain: it moved nothing.",
    NO_TRANSFER: "This transaction moved nothing of a token that is taken here from its sender to this service.",
    AUTHORIZED: "This transaction used a signed authorization, which was a payment of its own.",
    TOO_OLD: "This transfer is too old: pay after the 402, and send its hash soon.",
}


@dataclass(frozen=True, slots=True)
class _Claim:
    """All that is needed to ask again after a crash: what `Proof.detail` holds."""

    transaction: str
    payer: str
    network: str
    shown_ms: int
    """When it was first shown: its age is counted to here, however long nobody could be asked."""

    def json(self) -> bytes:
        return orjson.dumps([self.transaction, self.payer, self.network, self.shown_ms])

    @classmethod
    def parse(cls, detail: bytes) -> _Claim:
        return cls(*orjson.loads(detail))


class TransferRail(Rail):
    """Off unless told otherwise: its payers pay gas, wait for a block, and trust us before they are served."""

    name: ClassVar[str] = "transfer"
    proofs: ClassVar[str] = "transfer"
    credentials: ClassVar[frozenset[Credential]] = frozenset({Credential.TRANSFER})

    def __init__(self, payments: Payments, settings: X402, ledger: PaymentLedger, clock: Clock, log: Any) -> None:
        self._settings = settings
        self._leases_max = max(payments.leases_max, LEASES_MAX)
        self._ledger = ledger
        self._clock = clock
        self._onchain = OnChain(settings, log)
        self._pay_to = checksummed(settings.pay_to)
        self._assets = tuple(asset for asset in settings.assets if asset.network in settings.rpc)
        self._networks = tuple(dict.fromkeys(asset.network for asset in self._assets))

    async def start(self) -> None:
        await self._onchain.start()

    async def stop(self) -> None:
        await self._onchain.aclose()

    def offer(self, ask: Ask, invoice: IssuedInvoice | None) -> Offer | None:
        if not self._assets:
            return None
        asset = self._assets[0]
        member = {
            "header": "X-Payment",
            "network": asset.network,
            "asset": asset.address,
            "payTo": self._pay_to,
            "amount": str(self._required(ask)),
            "sign": text_for(ask, asset.network) + "{txHash}",
        }
        return Offer((), {"transfer": member})

    async def check(self, presented: Presented, ask: Ask) -> Tender:
        sent = self._read(presented)
        check_signed(sent, text_for(ask, sent.network) + sent.transaction)
        required = self._required(ask)
        payment = await self._ledger.payment(self.proofs, _key(sent))
        if payment is not None and payment.state is PaymentState.SETTLED and payment.amount < required:
            raise _too_little(payment.amount, required)
        shown_ms = ask.now_ms if payment is None else payment.created_ms
        claim = _Claim(sent.transaction, sent.payer, sent.network, shown_ms)
        asked = payment is None or payment.state is PaymentState.SEEN
        leases_max = ASKED_MAX if asked else self._leases_max
        proof = self._proof(sent, claim.json(), required, ask.request_digest, leases_max)
        return Tender(Unit.USDC, required, ask.request_digest, proof=proof)

    async def settle(self, lease: Lease, ask: Ask) -> Outcome:
        claim, required = _Claim.parse(lease.proof.detail), self._required(ask)
        chain = self._onchain.of(claim.network)
        if chain is None:
            return self._declined(NOT_FOUND, final=False)
        trouble = "it lacks confirmations"
        try:
            async with asyncio.timeout(self._settings.settle_seconds):
                while True:
                    try:
                        outcome = await self._looked_at(chain, claim)
                    except (NodeError, NodeFailure) as error:
                        trouble, outcome = f"the node could not be asked: {error}", None
                    if isinstance(outcome, Settled) and outcome.receipt.amount < required:
                        return Doubtful(f"it moved {outcome.receipt.amount}, less than the {required} that are asked")
                    if outcome is not None:
                        return outcome
                    await asyncio.sleep(POLL_SECONDS)
        except TimeoutError:
            return Doubtful(f"{claim.transaction}: {trouble}")

    async def reconcile(self, lease: Lease) -> Outcome:
        claim = _Claim.parse(lease.proof.detail)
        chain = self._onchain.of(claim.network)
        if chain is None:
            return Doubtful(f"no node of {claim.network} is configured")
        try:
            outcome = await self._looked_at(chain, claim)
        except (NodeError, NodeFailure) as error:
            return Doubtful(f"the node could not be asked: {error}")
        return Doubtful("it lacks confirmations") if outcome is None else outcome

    def taken(self, error: PaymentTaken) -> Refusal:
        payment = error.payment
        details = {"payment_id": payment.id}
        match error.why:
            case Taken.UNDER_WAY:
                words = "This transfer is being used by a request that is under way. Wait for its answer."
                return Refusal("payment_under_way", words, retry_after_seconds=RETRY_SECONDS, details=details)
            case Taken.UNKNOWN:
                words = "It is not known yet what this transfer brought. Do not pay again: send the same in a moment."
                return Refusal("payment_unknown", words, retry_after_seconds=RETRY_SECONDS, details=details)
            case Taken.REFUSED:
                refusal = settlement_failed(payment.reason, message=_SAID.get(payment.reason))
                refusal.details = {**(refusal.details or {}), **details}
                return refusal
            case Taken.BOUND:
                words = "This transfer was first sent with another request, and pays for that one only."
            case Taken.WORN_OUT:
                words = "This transfer was tried with too often. POST /v1/payments/refund returns its money."
            case Taken.RETURNED:
                words = "This transfer was refunded to a balance: use that."
            case Taken.SPENT:
                words = "This transfer has bought an answer."
        return Refusal("payment_spent", words, details=details)

    async def served(self, lease: Lease, payment: Payment | None = None) -> tuple[tuple[str, str], ...]:
        claim = _Claim.parse(lease.proof.detail if payment is None else payment.detail)
        said = {"success": True, "transaction": claim.transaction, "network": claim.network, "payer": claim.payer}
        return ((RESPONSE_HEADER, base64.b64encode(orjson.dumps(said)).decode()),)

    async def shown(self, presented: Presented) -> Proof:
        sent = self._read(presented)
        check_shown(sent)
        payment = await self._ledger.payment(self.proofs, _key(sent))
        if payment is None:
            raise Refusal("not_found", "No payment by this transfer has been seen here: send it with its request.")
        return self._proof(sent, payment.detail, payment.amount, payment.binding, self._leases_max)

    def _read(self, presented: Presented) -> TransferSent:
        if not self._networks:
            raise Refusal("payment_not_accepted", "Transfers are not taken here. Take another way to pay from the 402.")
        return read_transfer(presented.value, self._networks)

    def _required(self, ask: Ask) -> int:
        return max(ask.price.usdc, self._settings.usdc_min, 1)

    def _proof(self, sent: TransferSent, detail: bytes, amount: int, binding: str, leases_max: int) -> Proof:
        return Proof(
            rail=self.proofs,
            key=_key(sent),
            unit=Unit.USDC,
            amount=amount,
            settled=False,
            binding=binding,
            detail=detail,
            leases_max=leases_max,
        )

    async def _looked_at(self, chain: Chain, claim: _Claim) -> Outcome | None:
        """What the chain says of it; None: not yet final. Raises NodeError and NodeFailure."""
        await chain.check()
        landed = await chain.confirmed(claim.transaction)
        if landed is None:
            return None if await chain.knows(claim.transaction) else self._declined(NOT_FOUND, final=False)
        if not landed.succeeded:
            return self._declined(FAILED, final=True)
        reason, value = self._worth(landed, claim)
        if reason is not None:
            return self._declined(reason, final=True)
        age = claim.shown_ms // 1000 - (await chain.block(landed.block)).timestamp
        if age > self._settings.transfer_seconds_max:
            return self._declined(TOO_OLD, final=True)
        return Settled(Receipt(amount=value, reference=claim.transaction))

    def _worth(self, landed: Landed, claim: _Claim) -> tuple[str | None, int]:
        assets = [asset.address for asset in self._assets if asset.network == claim.network]
        if any(eip3009.uses_authorization(landed.events, asset) for asset in assets):
            return AUTHORIZED, 0
        value = sum(
            eip3009.transferred(landed.events, asset=asset, payer=claim.payer, pay_to=self._pay_to) for asset in assets
        )
        return (None, value) if value else (NO_TRANSFER, 0)

    @staticmethod
    def _declined(reason: str, *, final: bool) -> Declined:
        return Declined(settlement_failed(reason, message=_SAID[reason]), reason, final=final)


def _key(sent: TransferSent) -> str:
    return f"{sent.network}:{sent.transaction}:{sent.payer.lower()}"


def _too_little(amount: int, required: int) -> Refusal:
    return Refusal(
        "x402_underpayment",
        f"The transfer moved {amount} units, and this request costs {required}. POST /v1/payments/refund puts them on "
        "a balance.",
        details={"required": str(required), "paid": str(amount)},
    )
