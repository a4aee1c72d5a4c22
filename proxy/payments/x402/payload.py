"""What a client sends to pay by x402: read strictly, before anything is computed for it.

`Payment-Signature` (version 2) and `X-PAYMENT` (version 1) are base64 of a JSON object; shapes are those of the x402
specification's `exact` scheme on EVM with EIP-3009. Everything that may not be in order here is malformed, and answered
400; what is well formed and does not pay is `verify`'s.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import re
from dataclasses import dataclass, field
from typing import Any, Final

import orjson

from proxy.dialects.json_scan import scan
from proxy.errors import Refusal
from proxy.payments.settings import Asset
from proxy.payments.x402.typed_data import transfer_digest

HEADER_CHARACTERS_MAX: Final = 16_384
"""An envelope of ours, echoed whole, and a wallet's long signature fit twice."""
SIGNATURE_BYTES_MAX: Final = 4_096
VALUE_MAX: Final = 10**15
"""A billion dollars: more is a mistake, and past what the ledger counts."""
TIME_MAX: Final = (1 << 256) - 1
"""uint256, as the token has it."""
NONCE_BYTES: Final = 32
ADDRESS: Final = re.compile(r"0x[0-9a-fA-F]{40}")

_UINT: Final = re.compile(r"0|[1-9][0-9]{0,77}")
_NONCE: Final = re.compile(r"0x[0-9a-fA-F]{64}")
_HEX: Final = re.compile(r"0x(?:[0-9a-fA-F]{2})+")
_TEXT_CHARACTERS_MAX: Final = 128
_DIGEST_HEX: Final = 32
_HINT: Final = "Sign accepts[0] of the Payment-Required header of a fresh 402, as x402 clients do, and send that."


@dataclass(frozen=True, slots=True)
class Authorization:
    """A signed EIP-3009 `TransferWithAuthorization` that was found in order, to us and in an asset of ours."""

    asset: Asset
    payer: str
    """Checksummed."""
    pay_to: str
    """Checksummed."""
    value: int
    valid_after: int
    """Seconds, as `valid_before`."""
    valid_before: int
    nonce: bytes
    """32 bytes."""
    signature: bytes = field(repr=False)
    """As it is to be given to the token: v of a plain 65-byte signature is 27 or 28."""
    version: int
    """Of the protocol it came by: 1 or 2."""
    payload: dict[str, Any] = field(repr=False)
    """The payment payload as sent, for a facilitator."""
    contract: bool = False
    """The signature is not the payer's own key's: a contract wallet's (EIP-1271, ERC-6492), or junk. Nobody has
    verified it yet.

    A wallet may take several signatures for one nonce, and each is a payment of its own here: who looks on chain for
    what became of it must find this very signature, without its ERC-6492 wrapping, in the transaction's input. A key
    may have code, too (EIP-7702): where the transaction was given a signature that is not the key's, it paid for that
    one, and not for an authorization that is no contract's.
    """
    given: bytes = field(default=b"", repr=False)
    """Of a contract's: the signature without its ERC-6492 wrapping, v spelt in one way. For `key` alone."""

    @property
    def key(self) -> str:
        """What there is only one of: `chain:asset:payer:nonce`, and of a contract's also the signature that the token
        is given, so that junk under somebody's nonce never stands in the way of its owner."""
        nonce = f"{self.asset.network}:{self.asset.address.lower()}:{self.payer.lower()}:{self.nonce.hex()}"
        return f"{nonce}:{_digest(self.given or self.signature)}" if self.contract else nonce

    @property
    def signed(self) -> bytes:
        """The 32 bytes that its payer signed: every term of the transfer, and the token."""
        return transfer_digest(
            self.asset,
            payer=self.payer,
            to=self.pay_to,
            value=self.value,
            valid_after=self.valid_after,
            valid_before=self.valid_before,
            nonce=self.nonce,
        )

    def json(self) -> bytes:
        """For `Proof.detail`; `parse` reads it again."""
        return orjson.dumps(
            {
                "network": self.asset.network,
                "address": self.asset.address,
                "name": self.asset.name,
                "version": self.asset.version,
                "decimals": self.asset.decimals,
                "payer": self.payer,
                "pay_to": self.pay_to,
                "value": self.value,
                "valid_after": str(self.valid_after),
                "valid_before": str(self.valid_before),
                "nonce": self.nonce.hex(),
                "signature": self.signature.hex(),
                "x402": self.version,
                "contract": self.contract,
                "given": self.given.hex(),
                "payload": self.payload,
            }
        )

    @classmethod
    def parse(cls, detail: bytes) -> Authorization:
        """What `json` wrote. The asset is the one of that day, whatever the configuration says now."""
        kept = orjson.loads(detail)
        return cls(
            asset=Asset(kept["network"], kept["address"], kept["name"], kept["version"], kept["decimals"]),
            payer=kept["payer"],
            pay_to=kept["pay_to"],
            value=kept["value"],
            valid_after=int(kept["valid_after"]),
            valid_before=int(kept["valid_before"]),
            nonce=bytes.fromhex(kept["nonce"]),
            signature=bytes.fromhex(kept["signature"]),
            version=kept["x402"],
            payload=kept["payload"],
            contract=kept["contract"],
            given=bytes.fromhex(kept["given"]),
        )


def _digest(signature: bytes) -> str:
    return hashlib.sha256(signature).hexdigest()[:_DIGEST_HEX]


@dataclass(frozen=True, slots=True)
class Accepted:
    """The offer that a payload of version 2 says it takes."""

    asset: str
    pay_to: str
    name: str | None
    version: str | None


@dataclass(frozen=True, slots=True)
class Sent:
    """A payload that is well formed. Nothing in it has been compared with anything."""

    version: int
    scheme: str
    network: str
    """CAIP-2 in version 2, a name such as `base` in version 1."""
    accepted: Accepted | None
    """None in version 1, which does not say."""
    payer: str
    """0x and 40 hex digits, in whatever case; so is `to`."""
    to: str
    value: int
    valid_after: int
    valid_before: int
    nonce: bytes
    signature: bytes = field(repr=False)
    payload: dict[str, Any] = field(repr=False)
    """As sent, without a `claim`."""
    claim: bytes | None = field(default=None, repr=False)
    """The payer's word for having its money back: see `claims`."""


def read(value: str, *, version: int) -> Sent:
    """A header's value. Raises Refusal `x402_bad_payload`."""
    document = _document(value)
    said = document.get("x402Version")
    if type(said) is not int or said != version:
        raise _bad(f"x402Version must be {version} in this header.")
    if version == 1:
        scheme, network, accepted = _text(document, "scheme"), _text(document, "network"), None
    else:
        offer = _object(document, "accepted")
        scheme, network = _text(offer, "scheme", "accepted."), _text(offer, "network", "accepted.")
        accepted = _accepted(offer)
    inner = _object(document, "payload")
    if "authorization" not in inner and "permit2Authorization" in inner:
        raise _bad("Permit2 is not taken here: sign an EIP-3009 transferWithAuthorization.")
    signed = _object(inner, "authorization", "payload.")
    where = "payload.authorization."
    claim = document.pop("claim", None)
    return Sent(
        version=version,
        scheme=scheme,
        network=network,
        accepted=accepted,
        payer=_address(signed, "from", where),
        to=_address(signed, "to", where),
        value=_uint(signed, "value", where, VALUE_MAX),
        valid_after=_uint(signed, "validAfter", where, TIME_MAX),
        valid_before=_uint(signed, "validBefore", where, TIME_MAX),
        nonce=_nonce(signed, where),
        signature=_signature(inner.get("signature"), "payload.signature"),
        payload=document,
        claim=None if claim is None else _signature(claim, "claim"),
    )


def _document(value: str) -> dict[str, Any]:
    if len(value) > HEADER_CHARACTERS_MAX:
        raise _bad(f"The header is longer than {HEADER_CHARACTERS_MAX} characters.")
    try:
        raw = base64.b64decode(value.encode("ascii"), validate=True)
    except (binascii.Error, ValueError) as error:
        raise _bad("The header is not standard base64 with its padding.") from error
    try:
        return scan(raw).document
    except Refusal as refusal:
        raise _bad(f"What the header encodes is not one plain JSON object. {refusal.message}") from refusal


def _accepted(offer: dict[str, Any]) -> Accepted:
    where = "accepted."
    extra = offer.get("extra", {})
    if not isinstance(extra, dict):
        raise _bad("accepted.extra must be an object.")
    _uint(offer, "amount", where, VALUE_MAX)
    return Accepted(
        asset=_address(offer, "asset", where),
        pay_to=_address(offer, "payTo", where),
        name=_text(extra, "name", "accepted.extra.") if "name" in extra else None,
        version=_text(extra, "version", "accepted.extra.") if "version" in extra else None,
    )


def _object(holder: dict[str, Any], key: str, where: str = "") -> dict[str, Any]:
    found = holder.get(key)
    if not isinstance(found, dict):
        raise _bad(f"{where}{key} must be an object.")
    return found


def _text(holder: dict[str, Any], key: str, where: str = "") -> str:
    found = holder.get(key)
    if not isinstance(found, str) or not 0 < len(found) <= _TEXT_CHARACTERS_MAX:
        raise _bad(f"{where}{key} must be text of at most {_TEXT_CHARACTERS_MAX} characters.")
    return found


def _address(holder: dict[str, Any], key: str, where: str) -> str:
    found = holder.get(key)
    if not isinstance(found, str) or ADDRESS.fullmatch(found) is None:
        raise _bad(f"{where}{key} must be an address: 0x and 40 hex digits.")
    return found


def _uint(holder: dict[str, Any], key: str, where: str, most: int) -> int:
    found = holder.get(key)
    if not isinstance(found, str) or _UINT.fullmatch(found) is None or int(found) > most:
        raise _bad(f"{where}{key} must be a whole number as decimal text, at most {most}.")
    return int(found)


def _nonce(signed: dict[str, Any], where: str) -> bytes:
    found = signed.get("nonce")
    if not isinstance(found, str) or _NONCE.fullmatch(found) is None:
        raise _bad(f"{where}nonce must be 0x and {2 * NONCE_BYTES} hex digits.")
    return bytes.fromhex(found[2:])


def _signature(found: object, where: str) -> bytes:
    if not isinstance(found, str) or len(found) > 2 + 2 * SIGNATURE_BYTES_MAX or _HEX.fullmatch(found) is None:
        raise _bad(f"{where} must be 0x and the hex digits of at most {SIGNATURE_BYTES_MAX} bytes.")
    return bytes.fromhex(found[2:])


def _bad(what: str) -> Refusal:
    return Refusal("x402_bad_payload", f"{what} {_HINT}")
