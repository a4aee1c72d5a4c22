"""POST /api/invoice/status: whether a Lightning invoice is paid, and its preimage, for who was offered it."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Request
from pydantic import BaseModel, ConfigDict, Field
from starlette.responses import Response

from proxy.endpoints.public import json_answer
from proxy.errors import Refusal
from proxy.payments.api import Credential
from proxy.payments.l402.rail import L402Rail
from proxy.payments.rails import Rails


class InvoiceStatus(BaseModel):
    """Both as they came in one 402 answer."""

    model_config = ConfigDict(extra="forbid", hide_input_in_errors=True, strict=True)

    payment_hash: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
    macaroon: Annotated[str, Field(min_length=1, max_length=8192)]


def add(routes: APIRouter, rails: Rails) -> None:
    """Add the endpoint."""

    @routes.post("/api/invoice/status")
    async def status(request: Request, body: InvoiceStatus) -> Response:
        """The macaroon says who may know: whoever forwarded the payment knows its hash."""
        rail, invoices = rails.taking(Credential.L402), rails.invoices
        if invoices is None or not isinstance(rail, L402Rail):
            raise Refusal("not_found", "L402 is off here: there are no invoices to ask about.")
        rail.check_ownership(body.macaroon, body.payment_hash)
        found = await invoices.status(body.payment_hash)
        content: dict[str, object] = {"paid": found.paid}
        if found.paid and found.preimage is not None:
            content["preimage"] = found.preimage
        answer = json_answer(content)
        answer.headers["cache-control"] = "no-store"
        return answer
