"""phoenixd over its HTTP API, as of v0.8 (phoenix.acinq.co/server/api)."""

from __future__ import annotations

import base64
from urllib.parse import urlencode

from proxy.payments.lightning.api import NodeInvoice, NodeStatus
from proxy.payments.lightning.rest import RestNode
from proxy.payments.settings import Lightning
from proxy.pricing.money import MSAT_PER_SAT


class PhoenixdNode(RestNode):
    """The credential is `http-password-limited-access` of phoenix.conf. Requests are forms, amounts are whole sats."""

    name = "phoenixd"

    def __init__(self, settings: Lightning) -> None:
        basic = base64.b64encode(f":{settings.credential}".encode()).decode()
        super().__init__(settings, {"authorization": f"Basic {basic}"})

    async def create_invoice(self, *, msat: int, memo: str, seconds: int) -> NodeInvoice:
        """Raises NodeFailure."""
        form = urlencode({"description": memo, "amountSat": msat // MSAT_PER_SAT, "expirySeconds": seconds})
        body = await self.ask(
            "POST",
            "/createinvoice",
            content=form.encode(),
            headers={"content-type": "application/x-www-form-urlencoded"},
        )
        return NodeInvoice(self.text(body, "paymentHash"), self.text(body, "serialized"))

    async def lookup(self, payment_hash: str) -> NodeStatus:
        """`preimage` is there from the beginning: it counts once `isPaid` is true. Raises NodeFailure."""
        body = await self.ask("GET", f"/payments/incoming/{payment_hash}")
        if self.text(body, "paymentHash") != payment_hash:
            raise self.failure("it answered with another invoice")
        if body.get("isPaid") is not True:
            return NodeStatus(False)
        return NodeStatus(True, self.text(body, "preimage"))
