"""Which payment came with a request: the one place that knows what header carries what.

`Authorization` with L402, LSAT, Payment or `Bearer bal_...`; `X-API-Key: bal_...`, where Anthropic's SDK puts its key;
`Payment-Signature`; `X-PAYMENT`; `X-Cashu`. Nothing is looked into here but the shape of `X-PAYMENT`, which two
protocols share.
"""

from __future__ import annotations

import base64
import hashlib
from typing import Final

import orjson

from proxy.credentials import token_of
from proxy.errors import Refusal
from proxy.headers import Headers
from proxy.payments.api import Credential, Presented

BALANCE_PREFIX: Final = "bal_"
CREDENTIAL_CHARS_MAX: Final = 16_384
"""Of one credential: twice the largest that a rail takes."""

_SCHEMES: Final = {"l402": Credential.L402, "lsat": Credential.L402, "payment": Credential.MPP}
_WHOLE: Final = (("payment-signature", Credential.X402), ("x-cashu", Credential.CASHU))
_OUR_KEYS: Final = ("authorization", "x-api-key", "api-key", "x-goog-api-key")


def presented(headers: Headers, *, key_prefix: str) -> Presented | None:
    """The payment that came with the request; None: there is none.

    The same credential may come twice, as LSAT and as L402. Raises Refusal `ambiguous_payment` for two different ones
    and for one beside a key of ours, which begins with `key_prefix`; `headers_too_large` for one that no rail takes.
    """
    found = all_presented(headers)
    if not found:
        return None
    if len(found) > 1:
        kinds = ", ".join(one.credential.value for one in found)
        raise Refusal("ambiguous_payment", f"Two different payments came with this request ({kinds}). Send one.")
    for name in _OUR_KEYS:
        if name in headers and any(token_of(value).startswith(key_prefix) for value in headers.getall(name)):
            raise Refusal(
                "ambiguous_payment",
                "A Tollway key and a payment came with this request. Send the key to be billed, or pay, not both.",
            )
    return found[0]


def all_presented(headers: Headers) -> tuple[Presented, ...]:
    """Every different payment that came with the request, for endpoints that take a balance beside another one.

    Raises Refusal `headers_too_large`.
    """
    found: dict[tuple[Credential, str], None] = {}
    if "authorization" in headers:
        for value in headers.getall("authorization"):
            scheme, _, rest = value.strip().partition(" ")
            credential = _of_scheme(scheme, rest.strip())
            if credential is not None:
                found[credential, rest.strip()] = None
    for value in headers.getall("x-api-key") if "x-api-key" in headers else ():
        if (token := token_of(value)).startswith(BALANCE_PREFIX):
            found[Credential.BALANCE, token] = None
    for name, credential in _WHOLE:
        for value in headers.getall(name) if name in headers else ():
            if value.strip():
                found[credential, value.strip()] = None
    for value in headers.getall("x-payment") if "x-payment" in headers else ():
        if value.strip():
            found[_of_shape(value.strip()), value.strip()] = None
    return tuple(_presented(credential, value) for credential, value in found)


def _of_scheme(scheme: str, rest: str) -> Credential | None:
    """A Bearer that is no balance is an account's, or an SDK's dummy: no payment."""
    if scheme.lower() == "bearer":
        return Credential.BALANCE if rest.startswith(BALANCE_PREFIX) else None
    return _SCHEMES.get(scheme.lower())


def _of_shape(value: str) -> Credential:
    """`{txHash, from}` without a version is a transfer made before; all else is for version 1 of x402 to judge."""
    if len(value) > CREDENTIAL_CHARS_MAX:
        return Credential.X402_V1
    text = value.rstrip("=").replace("-", "+").replace("_", "/")
    try:
        content = orjson.loads(base64.b64decode(text + "=" * (-len(text) % 4), validate=True))
    except ValueError:
        return Credential.X402_V1
    transfer = isinstance(content, dict) and "txHash" in content and "x402Version" not in content
    return Credential.TRANSFER if transfer else Credential.X402_V1


def _presented(credential: Credential, value: str) -> Presented:
    if len(value) > CREDENTIAL_CHARS_MAX:
        raise Refusal("headers_too_large", f"A payment header is longer than {CREDENTIAL_CHARS_MAX} characters.")
    digest = hashlib.sha256(f"{credential.value} {value}".encode()).hexdigest()
    return Presented(credential, value, digest)
