"""When two requests are one: the same caller asks for the same thing, to the last member of the body."""

from __future__ import annotations

import hashlib
from enum import Enum
from typing import Any, Final

import orjson

from plugins.dedup.memory import Twin
from proxy.catalogue import Model
from proxy.dialects.base import Call
from proxy.exchange import Exchange
from proxy.identities import IdentityKind
from proxy.payments.api import Credential

_HEADERS_THAT_ASK: Final = ("anthropic-version", "anthropic-beta", "openai-beta", "idempotency-key")
"""Header fields that go upstream and change what is asked for."""
_NO: Final = ("0", "false")


class TwinRule(Enum):
    """What becomes of a request whose twin is under way."""

    SHARE = "share"
    """It waits, and gets the same answer."""
    REFUSE = "refuse"
    """409: what pays for it is spent by the first."""


def twin_rule(exchange: Exchange) -> TwinRule:
    """A proof of payment buys one answer, so that a second bearer of it must not wait beside the first."""
    return TwinRule.SHARE if exchange.payment_proof is None else TwinRule.REFUSE


def caller_of(exchange: Exchange) -> str | None:
    """Whose requests are compared: those of one key, one balance, or one proof of payment. Never those of one address.

    None for a caller who is neither, and for one who brings its own provider key: its answers are its provider's.
    """
    identity = exchange.identity
    if identity is None or identity.provider_credential:
        return None
    if exchange.payment_proof is not None:
        return f"proof:{exchange.payment_proof}"
    if exchange.presented is not None and exchange.presented.credential is Credential.BALANCE:
        return f"balance:{exchange.presented.digest}"
    return f"key:{identity.key_id}" if identity.kind is IdentityKind.KEY else None


def served_name(model: Model) -> str:
    """The model. A customer's alias may be registered anew at any time: with what it stands for now."""
    return f"{model.name} {model.candidates[0].upstream}" if model.byo else model.name


def wants_memory(exchange: Exchange) -> bool:
    """Whether the client left it to us: `X-No-Cache` with any value but 0 and false wants an answer of its own."""
    value = exchange.request.headers.get("x-no-cache")
    return value is None or value.strip().lower() in _NO


def twin_of(exchange: Exchange, call: Call, caller: str, model: str) -> Twin | None:
    """What this request and its twins have in common; None where its body cannot be normalised."""
    try:
        body = normalised(call.document)
    except orjson.JSONEncodeError:
        return None
    digest = hashlib.sha256(body)
    headers = exchange.request.headers
    for name in _HEADERS_THAT_ASK:
        if name in headers:
            digest.update(f"\n{name}:{','.join(headers.getall(name))}".encode())
    return caller, exchange.operation.name, model, digest.digest()


def normalised(document: dict[str, Any]) -> bytes:
    """The body without what means nothing: white space, the order of members, the spelling of numbers and texts."""
    return orjson.dumps(document, option=orjson.OPT_SORT_KEYS)
