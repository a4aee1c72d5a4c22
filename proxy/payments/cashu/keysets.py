"""A mint's keys (NUT-01, NUT-02): which there are, what spending them costs, and which one a short id means."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from coincurve import PublicKey

from proxy.payments.cashu.blinding import BadSignature, point
from proxy.payments.cashu.tokens import POINT_BYTES

KEYSETS_MAX: Final = 256
"""Of one mint; more make its answer unusable."""
KEYS_MAX: Final = 256
"""Of one keyset."""
FEE_PPK_MAX: Final = 1_000_000
SHORT_HEX: Final = 16
_AMOUNT: Final = re.compile(r"[1-9][0-9]{0,19}")


class BadKeyset(Exception):
    """A mint's answer is no list of keysets, or its keys are not those that the id stands for."""


class UnknownKeyset(Exception):
    """The mint has no such keyset of the unit; or a short id means more than one (`ambiguous`)."""

    def __init__(self, *, ambiguous: bool = False) -> None:
        super().__init__("ambiguous" if ambiguous else "unknown")
        self.ambiguous = ambiguous


@dataclass(frozen=True, slots=True)
class KeysetInfo:
    """A keyset as a mint lists it, without its keys."""

    id: str
    unit: str
    active: bool
    fee_ppk: int
    """Thousandths of a sat for each note that is spent."""
    expiry: int | None = None


@dataclass(frozen=True, slots=True)
class Keyset:
    """A keyset with its keys."""

    info: KeysetInfo
    keys: Mapping[int, str]
    """Amount -> public key, compressed, hex."""
    _points: dict[int, PublicKey] = field(default_factory=dict, repr=False)

    def key(self, amount: int) -> PublicKey:
        """Raises BadSignature where there is none for the amount."""
        if amount not in self._points:
            if amount not in self.keys:
                raise BadSignature(f"the keyset has no key for {amount}")
            self._points[amount] = point(self.keys[amount])
        return self._points[amount]

    def split(self, sats: int) -> list[int]:
        """Amounts of this keyset that add up, the largest first. Raises BadKeyset where none do."""
        amounts: list[int] = []
        for amount in sorted(self.keys, reverse=True):
            while sats >= amount and len(amounts) < KEYS_MAX:
                amounts.append(amount)
                sats -= amount
        if sats:
            raise BadKeyset("its amounts do not add up to every sum")
        return amounts


@dataclass(frozen=True, slots=True)
class Keysets:
    """All keysets in sat of one mint, as they were when it was asked."""

    by_id: Mapping[str, Keyset]

    def expand(self, id_: str) -> Keyset:
        """By its whole id, or by the first 8 bytes of one. Raises UnknownKeyset."""
        if id_ in self.by_id:
            return self.by_id[id_]
        found = [keyset for whole, keyset in self.by_id.items() if len(id_) == SHORT_HEX and whole.startswith(id_)]
        if len(found) != 1:
            raise UnknownKeyset(ambiguous=len(found) > 1)
        return found[0]

    @property
    def current(self) -> Keyset | None:
        """The one that new notes are made of: active, of the latest version, and the cheapest to spend."""
        active = (keyset for keyset in self.by_id.values() if keyset.info.active)
        return max(active, key=lambda keyset: (keyset.info.id[:2], -keyset.info.fee_ppk, keyset.info.id), default=None)


def fee_of(spent: Iterable[KeysetInfo]) -> int:
    """Sat that a mint keeps when one note of each of these is spent at once."""
    return -(-sum(info.fee_ppk for info in spent) // 1000)


def parse_keysets(members: object) -> list[KeysetInfo]:
    """The answer to `GET /v1/keysets`. Ids of kinds that tokens cannot name are left out. Raises BadKeyset."""
    listed = members.get("keysets") if isinstance(members, dict) else None
    if not isinstance(listed, list) or len(listed) > KEYSETS_MAX:
        raise BadKeyset(f"a mint lists 1 to {KEYSETS_MAX} keysets")
    return [info for info in map(_info, listed) if info is not None]


def parse_keys(info: KeysetInfo, members: object) -> Keyset:
    """The answer to `GET /v1/keys/{id}`. The id must be made of these very keys. Raises BadKeyset."""
    listed = members.get("keysets") if isinstance(members, dict) else None
    for entry in listed if isinstance(listed, list) else ():
        if isinstance(entry, dict) and entry.get("id") == info.id and isinstance(entry.get("keys"), dict):
            keys = _keys(entry["keys"])
            if info.id != _id_of(info, keys):
                raise BadKeyset("the keyset's id is not made of its keys")
            return Keyset(info, keys)
    raise BadKeyset("the mint does not give the keyset's keys")


def _info(entry: Any) -> KeysetInfo | None:
    if not isinstance(entry, dict):
        raise BadKeyset("a keyset is an object")
    id_, unit, active = entry.get("id"), entry.get("unit"), entry.get("active")
    fee, expiry = entry.get("input_fee_ppk") or 0, entry.get("final_expiry")
    if not isinstance(id_, str) or not isinstance(unit, str) or not isinstance(active, bool):
        raise BadKeyset("a keyset has an id, a unit, and is active or not")
    if type(fee) is not int or not 0 <= fee <= FEE_PPK_MAX or type(expiry) not in (int, type(None)):
        raise BadKeyset("the fee of a keyset is a small number")
    if not ((len(id_) == SHORT_HEX and id_.startswith("00")) or (len(id_) == 2 * POINT_BYTES and id_.startswith("01"))):
        return None
    return KeysetInfo(id_, unit, active, fee, expiry)


def _keys(entries: dict[Any, Any]) -> dict[int, str]:
    if len(entries) > KEYS_MAX:
        raise BadKeyset(f"a keyset has at most {KEYS_MAX} keys")
    keys: dict[int, str] = {}
    for text, key in entries.items():
        if not _AMOUNT.fullmatch(text) or not isinstance(key, str) or len(key) != 2 * POINT_BYTES:
            raise BadKeyset("keys are points by amount")
        keys[int(text)] = key
    return dict(sorted(keys.items()))


def _id_of(info: KeysetInfo, keys: Mapping[int, str]) -> str:
    """The id by NUT-02: version 00 of the keys alone, 01 of keys, unit, fee and expiry."""
    if info.id.startswith("00"):
        try:
            joined = b"".join(bytes.fromhex(key) for key in keys.values())
        except ValueError as error:
            raise BadKeyset("keys are points by amount") from error
        return "00" + hashlib.sha256(joined).hexdigest()[:14]
    text = ",".join(f"{amount}:{key.lower()}" for amount, key in keys.items()) + f"|unit:{info.unit.lower()}"
    if info.fee_ppk:
        text += f"|input_fee_ppk:{info.fee_ppk}"
    if info.expiry is not None:
        text += f"|final_expiry:{info.expiry}"
    return "01" + hashlib.sha256(text.encode()).hexdigest()
