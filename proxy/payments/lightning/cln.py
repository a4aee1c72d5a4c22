"""Core Lightning over clnrest, the REST plugin that comes with it, as of v24.08 (docs.corelightning.org: invoice,
listinvoices)."""

from __future__ import annotations

import secrets
from typing import Any

from proxy.payments.lightning.api import NodeInvoice, NodeStatus
from proxy.payments.lightning.rest import RestNode
from proxy.payments.settings import Lightning


class ClnNode(RestNode):
    """The credential is a rune restricted to the methods invoice and listinvoices. Every method is a POST."""

    name = "cln"

    def __init__(self, settings: Lightning) -> None:
        super().__init__(settings, {"rune": settings.credential})

    async def create_invoice(self, *, msat: int, memo: str, seconds: int) -> NodeInvoice:
        """A label must be unique at the node. Raises NodeFailure."""
        asked = {
            "amount_msat": msat,
            "label": f"tollway-{secrets.token_hex(16)}",
            "description": memo,
            "expiry": seconds,
        }
        body = await self.ask("POST", "/v1/invoice", json=asked)
        return NodeInvoice(self.text(body, "payment_hash"), self.text(body, "bolt11"))

    async def lookup(self, payment_hash: str) -> NodeStatus:
        """Raises NodeFailure."""
        body = await self.ask("POST", "/v1/listinvoices", json={"payment_hash": payment_hash})
        invoice = self._only(body)
        if self.text(invoice, "payment_hash") != payment_hash:
            raise self.failure("it answered with another invoice")
        if self.text(invoice, "status") != "paid":
            return NodeStatus(False)
        return NodeStatus(True, self.text(invoice, "payment_preimage"))

    def _only(self, body: dict[str, Any]) -> dict[str, Any]:
        found = body.get("invoices")
        if not isinstance(found, list) or len(found) != 1 or not isinstance(found[0], dict):
            raise self.failure("it does not know this invoice")
        return found[0]
