"""LNbits over its API, as of v1.0 (its /docs: create payment, get payment)."""

from __future__ import annotations

from proxy.payments.lightning.api import NodeInvoice, NodeStatus
from proxy.payments.lightning.rest import RestNode
from proxy.payments.settings import Lightning
from proxy.pricing.money import MSAT_PER_SAT


class LnbitsNode(RestNode):
    """The credential is a wallet's invoice/read key. Amounts are whole sats; the invoice is called `bolt11` since v1.0,
    `payment_request` before."""

    name = "lnbits"

    def __init__(self, settings: Lightning) -> None:
        super().__init__(settings, {"x-api-key": settings.credential})

    async def create_invoice(self, *, msat: int, memo: str, seconds: int) -> NodeInvoice:
        """Raises NodeFailure."""
        asked = {"out": False, "amount": msat // MSAT_PER_SAT, "unit": "sat", "memo": memo, "expiry": seconds}
        body = await self.ask("POST", "/api/v1/payments", json=asked)
        member = "bolt11" if body.get("bolt11") else "payment_request"
        return NodeInvoice(self.text(body, "payment_hash"), self.text(body, member))

    async def lookup(self, payment_hash: str) -> NodeStatus:
        """The preimage may be missing, or be zeros where the payment stayed within LNbits. Raises NodeFailure."""
        body = await self.ask("GET", f"/api/v1/payments/{payment_hash}")
        if body.get("paid") is not True:
            return NodeStatus(False)
        preimage = body.get("preimage")
        if not isinstance(preimage, str) or not preimage.strip("0"):
            preimage = None
        return NodeStatus(True, preimage)
