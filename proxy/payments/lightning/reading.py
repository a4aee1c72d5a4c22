"""BOLT-11 invoices as they are read: the few facts that matter, and whether they are what was asked for."""

from __future__ import annotations

import hashlib
import hmac
import re
from dataclasses import dataclass
from typing import Final

from proxy.clock import Clock
from proxy.payments.lightning.api import Node, NodeFailure, NodeInvoice, NodeStatus

INVOICE_CHARS_MAX: Final = 4096
LIFE_SECONDS_MAX: Final = 86_400
LIFE_PERCENT_MIN: Final = 80
"""An invoice must still be payable for so much of the time asked for; less, and the node's clock is off."""
_HEX_64: Final = re.compile(r"[0-9a-f]{64}")
_CHARACTERS: Final = {character: value for value, character in enumerate("qpzry9x8gf2tvdw0s3jn54khce6mua7l")}
_GENERATORS: Final = (0x3B6A57B2, 0x26508E6D, 0x1EA119FA, 0x3D4233DD, 0x2A1462B3)
_PREFIX: Final = re.compile(r"ln(?:bcrt|bc|tbs|tb)(?:([1-9][0-9]{0,17})([munp]?))?")
_PICO_BTC: Final = {"": 10**12, "m": 10**9, "u": 10**6, "n": 10**3, "p": 1}
_PICO_PER_MSAT: Final = 10
_CHECKSUM_WORDS, _TIME_WORDS, _SIGNATURE_WORDS, _HASH_WORDS = 6, 7, 104, 52
_HASH, _SECRET, _LIFE = _CHARACTERS["p"], _CHARACTERS["s"], _CHARACTERS["x"]
_LIFE_WORDS_MAX: Final = 8
_LIFE_SECONDS_DEFAULT: Final = 3600


@dataclass(frozen=True, slots=True)
class ReadInvoice:
    """What an invoice says."""

    payment_hash: str
    msat: int
    """0: any amount."""
    expires_ms: int
    payment_secret: str


class NotAnInvoice(ValueError):
    """A text that is no BOLT-11 invoice."""


def read_invoice(text: str) -> ReadInvoice:
    """The facts of an invoice whose checksum is right. Raises NotAnInvoice.

    Its signature is not looked at: it would be held against a key that only the invoice itself names.
    """
    prefix, words = _words(text)
    known = _PREFIX.fullmatch(prefix)
    if known is None:
        raise NotAnInvoice("not a Lightning invoice of a network that is known")
    pico = int(known[1] or 0) * _PICO_BTC[known[2] or ""]
    if pico % _PICO_PER_MSAT:
        raise NotAnInvoice("its amount is no whole number of msat")
    if len(words) < _TIME_WORDS + _SIGNATURE_WORDS:
        raise NotAnInvoice("too short")
    created = _number(words[:_TIME_WORDS])
    fields = _fields(words[_TIME_WORDS:-_SIGNATURE_WORDS])
    payment_hash, life = fields.get(_HASH), fields.get(_LIFE)
    if payment_hash is None:
        raise NotAnInvoice("it has no payment hash")
    seconds = _LIFE_SECONDS_DEFAULT if life is None else _number(life)
    secret = fields.get(_SECRET)
    return ReadInvoice(
        payment_hash=_hex_64(payment_hash),
        msat=pico // _PICO_PER_MSAT,
        expires_ms=(created + seconds) * 1000,
        payment_secret="" if secret is None else _hex_64(secret),
    )


def _words(text: str) -> tuple[str, list[int]]:
    """Prefix and five-bit words of a bech32 text (BIP 173, without its limit of 90 characters), checksum taken off."""
    lower = text.lower()
    if len(text) > INVOICE_CHARS_MAX or (text != lower and text != text.upper()):
        raise NotAnInvoice(f"longer than {INVOICE_CHARS_MAX} characters, or of mixed case")
    prefix, _, data = lower.rpartition("1")
    try:
        words = [_CHARACTERS[character] for character in data]
    except KeyError as error:
        raise NotAnInvoice("not bech32") from error
    codes = prefix.encode(errors="replace")
    if _checksum([*(code >> 5 for code in codes), 0, *(code & 31 for code in codes), *words]) != 1:
        raise NotAnInvoice("its checksum is wrong")
    return prefix, words[:-_CHECKSUM_WORDS]


def _checksum(words: list[int]) -> int:
    value = 1
    for word in words:
        top = value >> 25
        value = (value & 0x1FFFFFF) << 5 ^ word
        for bit, generator in enumerate(_GENERATORS):
            if top >> bit & 1:
                value ^= generator
    return value


def _fields(words: list[int]) -> dict[int, list[int]]:
    """Tagged fields, the first of each kind; those of a length that theirs cannot have are skipped (BOLT 11)."""
    fields: dict[int, list[int]] = {}
    at = 0
    while at < len(words):
        if at + 3 > len(words) or at + 3 + (length := words[at + 1] * 32 + words[at + 2]) > len(words):
            raise NotAnInvoice("one of its fields is cut off")
        tag, value = words[at], words[at + 3 : at + 3 + length]
        at += 3 + length
        fits = length == _HASH_WORDS if tag in (_HASH, _SECRET) else length <= _LIFE_WORDS_MAX
        if fits:
            fields.setdefault(tag, value)
    return fields


def _number(words: list[int]) -> int:
    value = 0
    for word in words:
        value = value << 5 | word
    return value


def _hex_64(words: list[int]) -> str:
    """52 words are 260 bits: 32 bytes and four bits of padding."""
    return (_number(words) >> 4).to_bytes(32).hex()


def preimage_of(preimage: str, payment_hash: str) -> bool:
    """Whether it is the preimage of the hash; in constant time."""
    if not _HEX_64.fullmatch(preimage):
        return False
    return hmac.compare_digest(hashlib.sha256(bytes.fromhex(preimage)).hexdigest(), payment_hash)


class CheckedNode(Node):
    """A node whose answers are held against the invoice itself and the preimage against its hash."""

    def __init__(self, node: Node, clock: Clock) -> None:
        self._node = node
        self._clock = clock

    @property
    def name(self) -> str:
        return self._node.name

    async def create_invoice(self, *, msat: int, memo: str, seconds: int) -> NodeInvoice:
        """Raises NodeFailure where the invoice is not for this amount and time, or not of this hash."""
        made = await self._node.create_invoice(msat=msat, memo=memo, seconds=seconds)
        try:
            read = read_invoice(made.bolt11)
        except NotAnInvoice as error:
            raise NodeFailure(f"{self.name}: its invoice cannot be read: {error}") from error
        if read.payment_hash != made.payment_hash.lower():
            raise NodeFailure(f"{self.name}: its invoice has another payment hash than it says")
        if read.msat != msat:
            raise NodeFailure(f"{self.name}: its invoice is over {read.msat} msat, not the {msat} asked for")
        left_ms = read.expires_ms - self._clock.now_ms()
        if not seconds * 10 * LIFE_PERCENT_MIN <= left_ms <= LIFE_SECONDS_MAX * 1000:
            raise NodeFailure(
                f"{self.name}: its invoice ends in {left_ms // 1000} s, not the {seconds} s asked for: "
                "see whether its clock and ours are right"
            )
        return NodeInvoice(read.payment_hash, made.bolt11, read.expires_ms)

    async def lookup(self, payment_hash: str) -> NodeStatus:
        """Raises NodeFailure where the preimage is another's."""
        if not _HEX_64.fullmatch(payment_hash):
            raise NodeFailure("a payment hash is 64 hex digits")
        status = await self._node.lookup(payment_hash)
        if not status.paid:
            return NodeStatus(False)
        preimage = status.preimage.lower() if status.preimage else None
        if preimage is not None and not preimage_of(preimage, payment_hash):
            raise NodeFailure(f"{self.name}: the preimage that it gives is not this invoice's")
        return NodeStatus(True, preimage)

    async def aclose(self) -> None:
        """Close the node's connections."""
        await self._node.aclose()
