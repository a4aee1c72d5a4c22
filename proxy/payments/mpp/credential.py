"""The credential of the Payment scheme: the challenge come back, with the preimage that paying it gave."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Final

from proxy.payments.l402.invoice_rail import preimage_of
from proxy.payments.mpp.challenge import INTENT, METHOD, Challenge
from proxy.payments.mpp.encoding import decode
from proxy.payments.mpp.problems import Problem

CHARS_MAX: Final = 8192
"""The draft asks for 4 kB at least."""


@dataclass(frozen=True, slots=True)
class MppCredential:
    """Well formed, and no more: whether the challenge was made here shows with the digest that it was made for."""

    id: str
    challenge: Challenge
    """`digest` as it came back: some clients leave it out."""
    payment_hash: bytes
    preimage: bytes = field(repr=False)


def parse_credential(value: str) -> MppCredential:
    """Raises Problem: malformed-credential (400), unknown-challenge for another method or intent (401)."""
    if len(value) > CHARS_MAX:
        raise _malformed(f"it is longer than {CHARS_MAX} characters")
    try:
        content = decode(value)
    except ValueError:
        raise _malformed("it is not a JSON object in base64url") from None
    echo, payload = content.get("challenge"), content.get("payload")
    if not isinstance(echo, dict) or not isinstance(payload, dict):
        raise _malformed("it needs the members 'challenge' and 'payload'")
    preimage = preimage_of(_text(payload, "preimage"))
    if preimage is None:
        raise _malformed("'payload.preimage' is not 64 lower-case hex digits")
    challenge = Challenge(
        realm=_text(echo, "realm"),
        method=_text(echo, "method"),
        intent=_text(echo, "intent"),
        request=_text(echo, "request"),
        expires=_text(echo, "expires"),
        digest=_text(echo, "digest", needed=False),
        opaque=_text(echo, "opaque", needed=False),
    )
    if challenge.method != METHOD or challenge.intent != INTENT or "header" in echo:
        raise Problem("lightning/unknown-challenge", "No challenge of this method and intent was made here.")
    return MppCredential(_text(echo, "id"), challenge, _payment_hash(challenge.request), preimage)


def _text(members: dict[str, Any], name: str, *, needed: bool = True) -> str:
    """A '|' would let one set of parameters pass for another, and stands in none of ours."""
    value = members.get(name, None if needed else "")
    if not isinstance(value, str) or "|" in value:
        raise _malformed(f"'{name}' is missing or not a text of ours")
    return value


def _payment_hash(request: str) -> bytes:
    try:
        details = decode(request).get("methodDetails")
    except ValueError:
        raise _malformed("'challenge.request' is not a JSON object in base64url") from None
    text = details.get("paymentHash") if isinstance(details, dict) else None
    raw = preimage_of(text) if isinstance(text, str) else None
    if raw is None:
        raise _malformed("'challenge.request' names no payment hash")
    return raw


def _malformed(why: str) -> Problem:
    return Problem(
        "lightning/malformed-credential",
        f"Malformed Payment credential: {why}. Send the challenge exactly as it came, with the preimage.",
    )
