"""From an exchange to what its payer asks for."""

from __future__ import annotations

import hashlib

from proxy.catalogue import Model
from proxy.client_addresses import key_of, parse
from proxy.exchange import Exchange
from proxy.operations import ORCHESTRATE
from proxy.panels import mode_of
from proxy.payments.api import Ask, Price
from proxy.payments.settings import Payments


def ask_of(exchange: Exchange, price: Price, settings: Payments, now_ms: int) -> Ask:
    """The request as rails see it. `call` and `model` are known by now."""
    request, call, model = exchange.request, exchange.call, exchange.model
    if call is None or model is None:
        raise ValueError("a request is priced before it is asked to be paid for")
    return Ask(
        method=request.method,
        path=request.path,
        url=public_url(exchange, settings) + request.path,
        operation=exchange.operation.name,
        model=model.name,
        stream=call.stream,
        price=price,
        request_digest=request_digest(request.method, request.path, call.body),
        client=key_of(exchange.client_address or parse(exchange.origin.peer)),
        now_ms=now_ms,
        request_id=exchange.request_id,
        body_digest=hashlib.sha256(call.body).hexdigest(),
        named=_mode(exchange, model) if exchange.operation is ORCHESTRATE else "",
    )


def _mode(exchange: Exchange, model: Model) -> str:
    consensus = exchange.generation.consensus
    return model.name if consensus is None else mode_of(consensus, model.name)


def public_url(exchange: Exchange, settings: Payments) -> str:
    """The address that clients know us by, without a trailing slash."""
    return settings.url or f"{exchange.request.scheme}://{exchange.request.authority}"


def request_digest(method: str, path: str, body: bytes) -> str:
    """SHA-256 in hex of all that a payment for one request is for."""
    return hashlib.sha256(b"%s %s\n%s" % (method.encode(), path.encode(), body)).hexdigest()
