"""Tokens as they travel (NUT-00, version 4: `cashuB` and CBOR) and what asks for one (NUT-18: `creqA`).

Nothing is asked of a mint here: a keyset id is as the token spells it, and no signature is looked at.
"""

from __future__ import annotations

import base64
import binascii
import io
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any, Final, Never

import cbor2

PREFIX: Final = "cashuB"
REQUEST_PREFIX: Final = "creqA"
TOKEN_CHARS_MAX: Final = 32_768
DEPTH_MAX: Final = 8
"""A token needs five levels; what is unknown in it may have some more."""
SECRET_CHARS_MAX: Final = 1024
"""What mints take."""
POINT_BYTES: Final = 33
SCALAR_BYTES: Final = 32
KEYSET_BYTES: Final = frozenset({8, 33})
"""Version 1 and short ids; ids of version 2."""
AMOUNT_MAX: Final = 1 << 50
"""Sat, of one note: more than there will ever be."""
_BODY: Final = re.compile(r"[A-Za-z0-9_-]+={0,2}")


class BadToken(Exception):
    """The message says what is wrong, and repeats nothing of the token."""


class TooManyNotes(BadToken):
    """More notes than are taken at once."""


@dataclass(frozen=True, slots=True)
class Dleq:
    """A proof (NUT-12) that a note was signed with the key that its mint publishes."""

    e: bytes
    s: bytes
    r: bytes


@dataclass(frozen=True, slots=True, repr=False)
class Note:
    """One ecash note, which the protocol calls a proof. Bearer money."""

    keyset: str
    """Hex, short or whole."""
    amount: int
    secret: str
    signature: bytes
    """C, 33 bytes."""
    dleq: Dleq | None = None
    witness: bool = False
    """Something that unlocks it came with it."""

    @property
    def locked(self) -> bool:
        """Its secret is a spending condition (NUT-10), which is a JSON array."""
        return self.secret.lstrip()[:1] in ("[", "{")

    def __repr__(self) -> str:
        return f"Note({self.amount} of {self.keyset[:16]})"


@dataclass(frozen=True, slots=True)
class Token:
    """Notes of one mint and unit."""

    mint: str
    """As the token spells it."""
    unit: str
    notes: tuple[Note, ...]
    memo: str = field(default="", repr=False)

    @property
    def amount(self) -> int:
        return sum(note.amount for note in self.notes)


def parse_token(text: str, *, notes_max: int) -> Token:
    """Read `cashuB...`, base64url with or without its padding. Raises BadToken.

    Unknown members are ignored, as NUT-00 wants; a repeated one, lengths left open and CBOR tags are refused. So are
    two notes of one secret, and none at all.
    """
    if len(text) > TOKEN_CHARS_MAX:
        raise BadToken(f"it is longer than {TOKEN_CHARS_MAX} characters")
    if text.startswith("cashuA"):
        raise BadToken("version 3 (cashuA) is not taken: have your wallet write version 4 (cashuB)")
    if not text.startswith(PREFIX):
        raise BadToken(f"it does not begin with {PREFIX}")
    members = _decode(text.removeprefix(PREFIX))
    if not isinstance(members, dict):
        raise BadToken("it is not a map")
    groups = _of(members, "t", list)
    _count(sum(len(_of(group, "p", list)) for group in map(_map, groups)), notes_max)
    notes = tuple(_note(_map(raw), keyset) for keyset, group in _keysets(groups) for raw in group)
    if len({note.secret for note in notes}) != len(notes):
        raise BadToken("it holds the same note twice")
    return Token(
        mint=_of(members, "m", str),
        unit=_of(members, "u", str),
        notes=notes,
        memo=members["d"] if isinstance(members.get("d"), str) else "",
    )


def encode_token(mint: str, notes: Iterable[Note], *, unit: str = "sat", dleq: bool = True) -> str:
    """`cashuB...` without padding, with whole keyset ids; proofs of signature only where `dleq` is True."""
    groups: dict[str, list[dict[str, Any]]] = {}
    for note in notes:
        member: dict[str, Any] = {"a": note.amount, "s": note.secret, "c": note.signature}
        if dleq and note.dleq is not None:
            member["d"] = {"e": note.dleq.e, "s": note.dleq.s, "r": note.dleq.r}
        groups.setdefault(note.keyset, []).append(member)
    members = {"m": mint, "u": unit, "t": [{"i": bytes.fromhex(keyset), "p": p} for keyset, p in groups.items()]}
    return PREFIX + _base64(cbor2.dumps(members))


def encode_request(sats: int, mints: Iterable[str], *, unit: str = "sat") -> str:
    """`creqA...`: so much is asked for, from one of these mints; without a transport the token comes in a header."""
    return REQUEST_PREFIX + _base64(cbor2.dumps({"a": sats, "u": unit, "m": list(mints)}))


def _base64(raw: bytes) -> str:
    return base64.urlsafe_b64encode(raw).decode().rstrip("=")


class _NoTags(dict[int, Callable[..., Never]]):
    """Dates, regular expressions, shared values: none of cbor2's decoders of tags is ever run."""

    def __contains__(self, key: object) -> bool:
        return True

    def get(self, key: int, default: object = None) -> Callable[..., Never]:
        return _refuse_tag

    def __missing__(self, key: int) -> Callable[..., Never]:
        return _refuse_tag


def _refuse_tag(*_: object) -> Never:
    raise ValueError("a token has no tags")


_NO_TAGS: Final = _NoTags()


def _decode(body: str) -> object:
    if not _BODY.fullmatch(body):
        raise BadToken("it is not base64url")
    body = body.rstrip("=")
    try:
        raw = base64.urlsafe_b64decode(body + "=" * (-len(body) % 4))
    except binascii.Error as error:
        raise BadToken("it is not base64url") from error
    source = io.BytesIO(raw)
    decoder = cbor2.CBORDecoder(
        source,
        max_depth=DEPTH_MAX,
        allow_indefinite=False,
        allow_duplicate_keys=False,
        strict_hashable_types=True,
        semantic_decoders=_NO_TAGS,
        tag_hook=_refuse_tag,
    )
    try:
        members: object = decoder.decode()
    except (cbor2.CBORDecodeError, ValueError) as error:
        raise BadToken("it is not CBOR as a token has it") from error
    if source.tell() != len(raw):
        raise BadToken("something follows its CBOR")
    return members


def _count(notes: int, notes_max: int) -> None:
    if notes > notes_max:
        raise TooManyNotes(f"it holds {notes} notes")
    if notes == 0:
        raise BadToken("it holds no note")


def _map(value: object) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise BadToken("it is not built as NUT-00 says")
    return value


def _of[T](members: dict[str, Any], name: str, kind: type[T]) -> T:
    value = members.get(name)
    if not isinstance(value, kind) or isinstance(value, bool):
        raise BadToken(f"its member '{name}' is missing, or of another kind")
    return value


def _keysets(groups: list[Any]) -> Iterable[tuple[str, list[Any]]]:
    for group in groups:
        keyset = _of(group, "i", bytes)
        if len(keyset) not in KEYSET_BYTES:
            raise BadToken("a keyset id has 8 or 33 bytes")
        yield keyset.hex(), group["p"]


def _note(raw: dict[str, Any], keyset: str) -> Note:
    amount, secret, signature = _of(raw, "a", int), _of(raw, "s", str), _of(raw, "c", bytes)
    if not 0 < amount <= AMOUNT_MAX or amount & (amount - 1):
        raise BadToken("the amount of a note is a power of two")
    if not 0 < len(secret) <= SECRET_CHARS_MAX:
        raise BadToken(f"a secret has 1 to {SECRET_CHARS_MAX} characters")
    if len(signature) != POINT_BYTES or signature[0] not in (2, 3):
        raise BadToken("a signature is a compressed point of 33 bytes")
    dleq = None if raw.get("d") is None else _dleq(_map(raw["d"]))
    return Note(keyset, amount, secret, signature, dleq, raw.get("w") is not None)


def _dleq(raw: dict[str, Any]) -> Dleq:
    e, s, r = (_of(raw, name, bytes) for name in "esr")
    if not all(len(scalar) == SCALAR_BYTES for scalar in (e, s, r)):
        raise BadToken("a proof of signature is three numbers of 32 bytes")
    return Dleq(e, s, r)
