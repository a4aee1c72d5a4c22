"""LND over its REST API, as of v0.18 (lightning.engineering/api-docs: AddInvoice, LookupInvoice)."""

from __future__ import annotations

import base64
import re
from typing import Any, Final

from proxy.payments.lightning.api import NodeInvoice, NodeStatus
from proxy.payments.lightning.rest import RestNode
from proxy.payments.settings import Lightning

_MACAROON: Final = re.compile(r"(?:[0-9a-fA-F]{2}){16,4096}")


class LndNode(RestNode):
    """The credential is a macaroon in hex that may read and write invoices. Bytes are standard base64 in JSON, 64-bit
    integers are text, and an invoice is looked up by its hash in hex."""

    name = "lnd"

    def __init__(self, settings: Lightning) -> None:
        """Raises ValueError for a credential that is no macaroon in hex."""
        if not _MACAROON.fullmatch(settings.credential):
            raise ValueError("a macaroon in hex is needed, as 'lncli bakemacaroon' prints it")
        super().__init__(settings, {"grpc-metadata-macaroon": settings.credential})

    async def create_invoice(self, *, msat: int, memo: str, seconds: int) -> NodeInvoice:
        """Raises NodeFailure."""
        asked = {"value_msat": str(msat), "memo": memo, "expiry": str(seconds)}
        body = await self.ask("POST", "/v1/invoices", json=asked)
        return NodeInvoice(self._bytes(body, "r_hash"), self.text(body, "payment_request"))

    async def lookup(self, payment_hash: str) -> NodeStatus:
        """`r_preimage` is there from the beginning: it counts once the state is SETTLED. Raises NodeFailure."""
        body = await self.ask("GET", f"/v1/invoice/{payment_hash}")
        if self._bytes(body, "r_hash") != payment_hash:
            raise self.failure("it answered with another invoice")
        if self.text(body, "state") != "SETTLED":
            return NodeStatus(False)
        return NodeStatus(True, self._bytes(body, "r_preimage"))

    def _bytes(self, body: dict[str, Any], member: str) -> str:
        return self.decoded(self.text(body, member), _standard)


def _standard(text: str) -> bytes:
    return base64.b64decode(text, validate=True)
