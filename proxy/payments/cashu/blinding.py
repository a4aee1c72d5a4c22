"""Blind signatures and the proofs that they are genuine (NUT-00, NUT-12), on secp256k1.

Of the `cashu` package `cashu.core.crypto.b_dhke` and `.secp` alone are used: the rest reads a `.env` of the working
directory. `.secp` gives operators to coincurve's `PublicKey`, so load this module where the rail is on, not before.
Everything here is arithmetic: about 0.1 ms of CPU a note.
"""

from __future__ import annotations

import hashlib
import secrets
from dataclasses import dataclass, field
from typing import Final

from cashu.core.crypto import b_dhke  # type: ignore[import-untyped]
from coincurve import PrivateKey, PublicKey

from proxy.payments.cashu.tokens import Dleq, Note

SECRET_BYTES: Final = 32
ORDER: Final = b_dhke.SECP256K1_N


class BadSignature(Exception):
    """What a mint gave is no signature of its key on what was sent."""


@dataclass(frozen=True, slots=True)
class Output:
    """What a mint is asked to sign: with `secret` and `blinding` its signature becomes a note."""

    keyset: str
    """Whole id, hex."""
    amount: int
    secret: str = field(repr=False)
    blinding: str = field(repr=False)
    """r, 64 hex digits."""

    @property
    def blinded(self) -> str:
        """B_, hex."""
        point: PublicKey = b_dhke.step1_alice(self.secret, _scalar(self.blinding))[0]
        return point.format().hex()


@dataclass(frozen=True, slots=True)
class BlindSignature:
    """What a mint answers for one output. Hex, as it came."""

    keyset: str
    amount: int
    signature: str
    """C_"""
    e: str
    s: str


def new_output(keyset: str, amount: int) -> Output:
    """Secret and blinding factor come from the operating system's randomness."""
    return Output(keyset, amount, secrets.token_hex(SECRET_BYTES), f"{secrets.randbelow(ORDER - 1) + 1:064x}")


def point(text: str) -> PublicKey:
    """A point in hex, compressed. Raises BadSignature."""
    try:
        return PublicKey(bytes.fromhex(text))
    except ValueError as error:
        raise BadSignature("this is no point") from error


def y_of(secret: str) -> str:
    """What a mint knows a spent note by (NUT-07), hex."""
    found: PublicKey = b_dhke.hash_to_curve(secret.encode())
    return found.format().hex()


def genuine(note: Note, key: PublicKey) -> bool:
    """The note's proof shows that its mint signed it with `key`. A note without one is not shown to be anything."""
    if note.dleq is None:
        return False
    try:
        r = PrivateKey(note.dleq.r)
        blinded_signature = PublicKey.combine_keys([PublicKey(note.signature), key.multiply(r.secret)])
        blinded = b_dhke.step1_alice(note.secret, r)[0]
        return _equal_logarithms(blinded, blinded_signature, note.dleq.e, note.dleq.s, key)
    except ValueError:  # no scalar, no point, or the point at infinity
        return False


def unblind(output: Output, signed: BlindSignature, key: PublicKey) -> Note:
    """The note that a mint's answer makes of an output. Raises BadSignature unless its proof is there and holds."""
    if (signed.keyset, signed.amount) != (output.keyset, output.amount):
        raise BadSignature("signed for another keyset or amount")
    r = _scalar(output.blinding)
    try:
        e, s = bytes.fromhex(signed.e), bytes.fromhex(signed.s)
        blinded = b_dhke.step1_alice(output.secret, r)[0]
        blinded_signature = PublicKey(bytes.fromhex(signed.signature))
        if not _equal_logarithms(blinded, blinded_signature, e, s, key):
            raise BadSignature("its proof does not hold")
        signature: PublicKey = b_dhke.step3_alice(blinded_signature, r, key)
    except ValueError as error:
        raise BadSignature("this is no signature") from error
    return Note(output.keyset, output.amount, output.secret, signature.format(), Dleq(e, s, r.secret))


def spend_key(secrets_: tuple[str, ...]) -> str:
    """What there is only one of: a digest of the notes' secrets, however a token wraps or orders them."""
    digests = sorted(hashlib.sha256(secret.encode()).digest() for secret in secrets_)
    return hashlib.sha256(b"".join(digests)).hexdigest()


def _equal_logarithms(blinded: PublicKey, signed: PublicKey, e: bytes, s: bytes, key: PublicKey) -> bool:
    return bool(b_dhke.alice_verify_dleq(blinded, signed, PrivateKey(e), PrivateKey(s), key))


def _scalar(text: str) -> PrivateKey:
    return PrivateKey(bytes.fromhex(text))
