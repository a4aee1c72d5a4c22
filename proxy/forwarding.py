"""Which header fields cross, in either direction, and whose credential goes upstream."""

from __future__ import annotations

import hashlib
from typing import Final

from proxy.credentials import token_of
from proxy.exchange import Exchange
from proxy.headers import Headers
from proxy.upstreams.api import Upstream

HOP_BY_HOP: Final = frozenset(
    {
        "connection", "keep-alive", "proxy-authenticate", "proxy-authorization", "proxy-connection", "te",
        "trailer", "transfer-encoding", "upgrade",
    }
)  # fmt: skip

_NEVER_UPSTREAM: Final = HOP_BY_HOP | {"host", "content-length", "expect", "forwarded", "via", "x-real-ip"}

PANEL_DEPTH: Final = "x-tollway-panel-depth"
"""Header of every call of a panel: whoever asks a panel with it would be a panel within a panel."""
_REQUEST_ALLOWED: Final = frozenset(
    {
        "content-type", "accept", "user-agent", "anthropic-version", "anthropic-beta", "openai-beta", PANEL_DEPTH,
    }
)  # fmt: skip
"""With our own credential the client's other headers are its business with us, not the provider's."""

ANSWER_ALLOWED: Final = (
    "content-type", "x-request-id", "request-id", "openai-processing-ms", "content-language", "retry-after",
)  # fmt: skip
"""All that an answer on our account may keep of an upstream's headers."""
_ANSWER_NEVER: Final = HOP_BY_HOP | {"content-length", "alt-svc", "server", "strict-transport-security"}


def upstream_headers(exchange: Exchange, upstream: Upstream) -> Headers:
    """Request headers for a priced call: the operator's credential and headers put in, or the client's own kept."""
    request = exchange.request
    if exchange.identity is not None and exchange.identity.provider_credential:
        headers = own_headers(exchange)
    else:
        headers = Headers()
        for name, value in request.headers.items():
            if name.lower() in _REQUEST_ALLOWED:
                headers.add(name, value)
        if (chosen := request.headers.get("idempotency-key")) is not None:
            headers["idempotency-key"] = _scoped(exchange, chosen)
        if (credential := upstream.credential) is not None:
            headers[upstream.credential_header] = credential
        for name, value in upstream.headers:
            headers.setdefault(name, value)
    # What it was read, judged and priced as: no second type, no charset or coding in which it says something else.
    headers["content-type"] = "application/json"
    headers.popall("content-encoding", None)
    headers["accept-encoding"] = "identity"
    return headers


def _scoped(exchange: Exchange, chosen: str) -> str:
    """An idempotency key of one caller's own: two callers who chose the same must not share a provider's answer."""
    caller = exchange.identity.key_id if exchange.identity is not None else ""
    if exchange.payment_proof is not None:
        caller = exchange.payment_proof  # Who pays for each request is known by the payment alone.
    return hashlib.sha256(f"{caller}\0{chosen}".encode()).hexdigest()


def own_headers(exchange: Exchange) -> Headers:
    """The client's headers with its own provider credential, minus hop-by-hop ones and any key of ours."""
    ours = exchange.our_credentials
    headers = Headers()
    for name, value in exchange.request.headers.items():
        lower = name.lower()
        if lower in _NEVER_UPSTREAM or lower.startswith("x-forwarded-"):
            continue
        if ours and _holds_one_of(ours, value):
            continue
        headers.add(name, value)
    return headers


def _holds_one_of(ours: tuple[str, ...], value: str) -> bool:
    """Whether a key of ours stands in this header, as it is or within Basic."""
    return any(key in value for key in ours) or token_of(value) in ours


def answer_headers(exchange: Exchange, upstream_answer: Headers) -> Headers:
    """Headers of an answer made on our account: an allow-list, so that nothing of our account leaks."""
    if exchange.identity is not None and exchange.identity.provider_credential:
        return passed_headers(upstream_answer)
    headers = Headers()
    for name in ANSWER_ALLOWED:
        if (value := upstream_answer.get(name)) is not None:
            headers[name] = value
    return headers


def passed_headers(upstream_answer: Headers) -> Headers:
    """Headers of an answer to the client's own credential: all but what belongs to the connection."""
    headers = Headers()
    for name, value in upstream_answer.items():
        if name.lower() not in _ANSWER_NEVER:
            headers.add(name, value)
    return headers
