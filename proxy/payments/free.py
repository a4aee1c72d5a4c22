"""What is free although payment is asked for elsewhere."""

from __future__ import annotations

from proxy.exchange import Exchange


def is_free(exchange: Exchange) -> bool:
    """An open model, asked for on loopback by somebody who does not offer to pay."""
    model = exchange.model
    return model is not None and model.open and exchange.origin.loopback and exchange.presented is None
