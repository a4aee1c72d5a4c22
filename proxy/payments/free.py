"""What is free although payment is asked for elsewhere."""

from __future__ import annotations

from proxy.exchange import Exchange


def is_free(exchange: Exchange) -> bool:
    """An open model, asked for on loopback by somebody who does not offer to pay.

    Whom a trusted front on this machine names is not on loopback for that.
    """
    model, named = exchange.model, exchange.client_address
    local = exchange.origin.loopback and (named is None or named.is_loopback)
    return local and model is not None and model.open and exchange.presented is None
