"""`X-Payment: base64({"txHash", "from", "signature"})`: paid before, by a plain transfer; what is sent and signed.

Everybody can read on chain who paid whom, so the hash alone proves nothing: the key of `from` signs this text
(EIP-191, `personal_sign`), lines parted by a single newline and none at the end:

    This transfer pays for one request.
    host: api.example.com
    request: POST /v1/chat/completions
    digest: <SHA-256 in lower-case hex of "POST /v1/chat/completions", a newline and the body>
    network: eip155:8453
    transaction: 0x<64 lower-case hex digits>

The 402 gives the text for the request that it answers, but for the last line. `network` may be left out of the header
where it is the first that is taken. Whoever shows the payment again without its request (to ask about it, or to have
it refunded) adds the text itself as `message`.
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Collection
from dataclasses import dataclass, field
from typing import Any, Final
from urllib.parse import urlsplit

import orjson

from proxy.errors import Refusal
from proxy.payments.api import Ask
from proxy.payments.x402.typed_data import SIGNATURE_BYTES, checksummed, has_high_s, signer_of, text_digest

HEADER_CHARACTERS_MAX: Final = 4_096
MESSAGE_CHARACTERS_MAX: Final = 1_024
HEADING: Final = "This transfer pays for one request."
LINES: Final = 6
_TRANSACTION: Final = re.compile(r"0x[0-9a-fA-F]{64}")
_ADDRESS: Final = re.compile(r"0x[0-9a-fA-F]{40}")
_SIGNATURE: Final = re.compile(r"0x[0-9a-fA-F]{130}")


@dataclass(frozen=True, slots=True)
class TransferSent:
    """A header that is well formed."""

    transaction: str
    """Lower case."""
    payer: str
    """Checksummed."""
    network: str
    signature: bytes = field(repr=False)
    message: str = ""
    """The text, where the header has it: not believed where the request is there to make it from."""


def read_transfer(value: str, networks: Collection[str]) -> TransferSent:
    """A header's value. `networks`: those taken, the first by default. Raises Refusal `x402_bad_payload`."""
    document = _document(value)
    first = next(iter(networks))
    network = document.get("network", first)
    if network not in networks:
        raise _bad(f"network must be one of {', '.join(networks)}.")
    message = document.get("message", "")
    if not isinstance(message, str) or len(message) > MESSAGE_CHARACTERS_MAX:
        raise _bad("message must be the text that was signed.")
    return TransferSent(
        transaction=_matched(document, "txHash", _TRANSACTION, "0x and 64 hex digits").lower(),
        payer=checksummed(_matched(document, "from", _ADDRESS, "an address")),
        network=network,
        signature=bytes.fromhex(_matched(document, "signature", _SIGNATURE, "65 bytes in hex, by personal_sign")[2:]),
        message=message,
    )


def text_for(ask: Ask, network: str) -> str:
    """All of the text for a request but the transaction at its end."""
    host = urlsplit(ask.url).netloc
    lines = (
        HEADING,
        f"host: {host}",
        f"request: {ask.method} {ask.path}",
        f"digest: {ask.request_digest}",
        f"network: {network}",
        "transaction: ",
    )
    return "\n".join(lines)


def check_signed(sent: TransferSent, text: str) -> None:
    """Raises Refusal `invalid_payment` where the key of `from` did not sign `text`."""
    if len(sent.signature) != SIGNATURE_BYTES or has_high_s(sent.signature):
        raise Refusal("invalid_payment", "The signature is not one of a key: sign with personal_sign (EIP-191).")
    if signer_of(text_digest(text), sent.signature) != sent.payer:
        raise Refusal(
            "invalid_payment",
            f"The signature is not {sent.payer}'s over this text. Nothing was taken. Sign exactly: {text!r}",
        )


def check_shown(sent: TransferSent) -> None:
    """The same where there is no request: over the `message` of the header, which must be of this transaction."""
    lines = sent.message.split("\n")
    about = lines[-2:] == [f"network: {sent.network}", f"transaction: {sent.transaction}"]
    if len(lines) != LINES or lines[0] != HEADING or not about:
        raise _bad("Without its request, the payment must come with the signed text of this transaction as 'message'.")
    check_signed(sent, sent.message)


def _document(value: str) -> dict[str, Any]:
    text = value.rstrip("=").replace("-", "+").replace("_", "/")
    if len(value) > HEADER_CHARACTERS_MAX:
        raise _bad(f"The header is longer than {HEADER_CHARACTERS_MAX} characters.")
    try:
        document = orjson.loads(base64.b64decode(text + "=" * (-len(text) % 4), validate=True))
    except (binascii.Error, ValueError) as error:
        raise _bad("The header is not base64 of a JSON object.") from error
    if not isinstance(document, dict):
        raise _bad("The header is not base64 of a JSON object.")
    return document


def _matched(document: dict[str, Any], name: str, pattern: re.Pattern[str], words: str) -> str:
    found = document.get(name)
    if not isinstance(found, str) or pattern.fullmatch(found) is None:
        raise _bad(f"{name} must be {words}.")
    return found


def _bad(message: str) -> Refusal:
    return Refusal(
        "x402_bad_payload",
        f"{message} X-Payment is base64 of "
        '{"txHash": "0x...", "from": "0x...", "signature": "0x..."}; the text to sign is in the 402.',
    )
