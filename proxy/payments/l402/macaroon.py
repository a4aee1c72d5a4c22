"""V2 binary macaroons (libmacaroons, doc/format.txt) with first-party caveats only, signed by pymacaroons.

There is exactly one spelling of a macaroon: what does not encode to the very bytes it was read from is refused.
"""

from __future__ import annotations

import base64
import hmac
from dataclasses import dataclass, field
from typing import Final

import pymacaroons  # type: ignore[import-untyped]

BYTES_MAX: Final = 3072
CHARS_MAX: Final = BYTES_MAX // 3 * 4
CAVEAT_COUNT_MAX: Final = 16

_VERSION: Final = 2
_END: Final = 0
_LOCATION: Final = 1
_IDENTIFIER: Final = 2
_SIGNATURE: Final = 6
_SIGNATURE_BYTES: Final = 32
_TWO_BYTES: Final = 0x80
"""Lengths from here on take two bytes of seven bits; none here takes three."""


class MalformedMacaroon(ValueError):
    """These bytes are no macaroon of ours."""


@dataclass(frozen=True, slots=True)
class Macaroon:
    """A macaroon: who has it may do what its caveats allow, and may add caveats, but take none away."""

    location: bytes
    identifier: bytes
    caveats: tuple[bytes, ...]
    signature: bytes = field(repr=False)

    def signed_by(self, root_key: bytes) -> bool:
        """Whether this root key signed it. Takes the same time wherever they differ."""
        try:
            expected = _chain(root_key, self.identifier, self.caveats)
        except UnicodeDecodeError:
            return False  # Ours are text, and the library takes nothing else.
        return hmac.compare_digest(self.signature, expected)

    def encode(self) -> bytes:
        """Its only spelling."""
        parts = [bytes((_VERSION,)), _packet(_LOCATION, self.location), _packet(_IDENTIFIER, self.identifier)]
        parts += [bytes((_END,)) + _packet(_IDENTIFIER, caveat) for caveat in self.caveats]
        return b"".join(parts) + bytes((_END, _END)) + _packet(_SIGNATURE, self.signature)

    def text(self) -> str:
        """In standard base64 with padding."""
        return base64.b64encode(self.encode()).decode()


def mint(root_key: bytes, *, location: bytes, identifier: bytes, caveats: tuple[bytes, ...]) -> Macaroon:
    """A new one, signed by this root key."""
    return Macaroon(location, identifier, caveats, _chain(root_key, identifier, caveats))


def parse(text: str) -> Macaroon:
    """From standard base64 with padding. Raises MalformedMacaroon, and nothing else, whatever the text."""
    if len(text) > CHARS_MAX:
        raise MalformedMacaroon(f"it is longer than {CHARS_MAX} characters")
    try:
        raw = base64.b64decode(text, validate=True)
    except ValueError as error:
        raise MalformedMacaroon("it is not base64") from error
    macaroon = _decode(raw)
    if macaroon.encode() != raw or base64.b64encode(raw).decode() != text:
        raise MalformedMacaroon("it is not in canonical form")
    return macaroon


def _chain(root_key: bytes, identifier: bytes, caveats: tuple[bytes, ...]) -> bytes:
    signer = pymacaroons.Macaroon(identifier=identifier, key=root_key, version=pymacaroons.MACAROON_V2)
    for caveat in caveats:
        signer.add_first_party_caveat(caveat)
    return bytes.fromhex(signer.signature)


def _packet(kind: int, content: bytes) -> bytes:
    size = len(content)
    if size < _TWO_BYTES:
        return bytes((kind, size)) + content
    return bytes((kind, size & 0x7F | 0x80, size >> 7)) + content


def _decode(raw: bytes) -> Macaroon:
    """Field by field; where a field says it is longer than the rest, the canonical form cannot be met."""
    if raw[:1] != bytes((_VERSION,)):
        raise MalformedMacaroon("it is not version 2")
    location, at = _field(raw, 1, _LOCATION)
    identifier, at = _field(raw, at, _IDENTIFIER)
    at = _end(raw, at)
    caveats: list[bytes] = []
    while raw[at : at + 1] == bytes((_IDENTIFIER,)):
        if len(caveats) == CAVEAT_COUNT_MAX:
            raise MalformedMacaroon(f"it has more than {CAVEAT_COUNT_MAX} caveats")
        caveat, at = _field(raw, at, _IDENTIFIER)
        caveats.append(caveat)
        at = _end(raw, at)
    signature, _ = _field(raw, _end(raw, at), _SIGNATURE)
    if len(signature) != _SIGNATURE_BYTES:
        raise MalformedMacaroon(f"its signature is not {_SIGNATURE_BYTES} bytes")
    return Macaroon(location, identifier, tuple(caveats), signature)


def _field(raw: bytes, at: int, kind: int) -> tuple[bytes, int]:
    head = raw[at : at + 3]
    if len(head) < 2 or head[0] != kind:
        raise MalformedMacaroon("a field is missing or in the wrong place")
    size, start = head[1], at + 2
    if size >= _TWO_BYTES:
        if len(head) < 3:
            raise MalformedMacaroon("it is cut off")
        size, start = size & 0x7F | head[2] << 7, at + 3
    if start + size > len(raw):
        raise MalformedMacaroon("it is cut off")
    return raw[start : start + size], start + size


def _end(raw: bytes, at: int) -> int:
    if raw[at : at + 1] != bytes((_END,)):
        raise MalformedMacaroon("a section does not end")
    return at + 1
