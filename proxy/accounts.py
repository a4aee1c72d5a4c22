"""Whose things are whose, where something is kept for a caller from one request to the next."""

from __future__ import annotations

from typing import Final

from proxy.exchange import Exchange
from proxy.identities import IdentityKind
from proxy.keys import PREFIX
from proxy.operations import Target
from proxy.payments.api import Credential, Presented
from proxy.payments.credentials import presented

ANONYMOUS: Final = "anonymous"
"""Whoever calls open models on loopback: one for all of them."""


def account_of(exchange: Exchange) -> str | None:
    """The key or prepaid balance behind a request. None for who has neither, and for who brings a provider key.

    A key's public id outlives its rotation. A balance is known by its token's digest.
    """
    identity = exchange.identity
    if identity is None or identity.provider_credential:
        return None
    if identity.kind is IdentityKind.KEY:
        return f"key:{identity.key_id}"
    paid = _presented(exchange)
    if paid is not None and paid.credential is Credential.BALANCE:
        return f"balance:{paid.digest}"
    return None


def payer_of(exchange: Exchange) -> str | None:
    """As `account_of`; a proof of payment stands for itself, and on loopback everybody without either is one caller."""
    identity = exchange.identity
    if exchange.payment_proof is not None:
        return f"proof:{exchange.payment_proof}"
    if identity is not None and identity.kind is IdentityKind.ANONYMOUS and exchange.origin.loopback:
        return ANONYMOUS
    return account_of(exchange)


def _presented(exchange: Exchange) -> Presented | None:
    """What `identity` saw; for an endpoint of ours, where payments are not its business, what the headers say."""
    if exchange.presented is not None or exchange.operation.target is not Target.LOCAL:
        return exchange.presented
    if exchange.generation.payments is None:
        return None
    return presented(exchange.request.headers, key_prefix=PREFIX)
