"""Keysets: ids by the vectors of NUT-02, short ids, fees."""

from __future__ import annotations

from typing import Any

import pytest

from proxy.payments.cashu.blinding import BadSignature
from proxy.payments.cashu.keysets import (
    KEYSETS_MAX,
    BadKeyset,
    Keyset,
    KeysetInfo,
    Keysets,
    UnknownKeyset,
    fee_of,
    parse_keys,
    parse_keysets,
)

KEYS = {
    "1": "03a40f20667ed53513075dc51e715ff2046cad64eb68960632269ba7f0210e38bc",
    "2": "03fd4ce5a16b65576145949e6f99f445f8249fee17c606b688b504a849cdc452de",
    "4": "02648eccfa4c026960966276fa5a4cae46ce0fd432211a4f449bf84f13aa5f8303",
    "8": "02fdfd6796bfeac490cbee12f778f867f0a2c68f6508d17c649759ea0dc3547528",
}
V1 = "00456a94ab4e1c46"
V2 = "015ba18a8adcd02e715a58358eb618da4a4b3791151a4bee5e968bb88406ccf76a"
"""NUT-02: the same keys, the second with a fee of 100 and an expiry."""
EXPIRY = 2059210353


def info(id_: str = V1, **changes: Any) -> KeysetInfo:
    return KeysetInfo(**{"id": id_, "unit": "sat", "active": True, "fee_ppk": 0, **changes})


def listed(**changes: Any) -> dict[str, Any]:
    return {"keysets": [{"id": V1, "unit": "sat", "active": True, "input_fee_ppk": 100, **changes}]}


def of(id_: str, **changes: Any) -> Keyset:
    return Keyset(info(id_, **changes), {int(amount): key for amount, key in KEYS.items()})


@pytest.mark.parametrize("entry", [info(), info(V2, fee_ppk=100, expiry=EXPIRY)])
def test_vectors_of_ids(entry: KeysetInfo) -> None:
    """NUT-02: both versions are made of their keys."""
    keyset = parse_keys(entry, {"keysets": [{"id": entry.id, "keys": KEYS}]})
    assert list(keyset.keys) == [1, 2, 4, 8]
    assert keyset.key(8).format().hex() == KEYS["8"]


@pytest.mark.parametrize("entry", [info("00456a94ab4e1c47"), info(V2), info(V2, expiry=EXPIRY)])
def test_keys_that_do_not_make_the_id_are_refused(entry: KeysetInfo) -> None:
    """A mint cannot give one payer other keys under the same id."""
    with pytest.raises(BadKeyset):
        parse_keys(entry, {"keysets": [{"id": entry.id, "keys": KEYS}]})


@pytest.mark.parametrize(
    "keys", [{"1": "02"}, {"0": KEYS["1"]}, {"-1": KEYS["1"]}, {"1.0": KEYS["1"]}, {"1": 5}, {"1" * 30: KEYS["1"]}]
)
def test_malformed_keys_are_refused(keys: dict[str, Any]) -> None:
    """Amounts are whole numbers, keys compressed points."""
    with pytest.raises(BadKeyset):
        parse_keys(info(), {"keysets": [{"id": V1, "keys": keys}]})


def test_keysets_are_read() -> None:
    """With their fee; ids that no token can name are left out."""
    members = {"keysets": [*listed()["keysets"], {"id": "DSAl9nvvyfva", "unit": "sat", "active": False}]}
    assert parse_keysets(members) == [info(fee_ppk=100)]


@pytest.mark.parametrize(
    "members",
    [
        None,
        [],
        {},
        {"keysets": [1]},
        {"keysets": [{}] * (KEYSETS_MAX + 1)},
        listed(active="yes"),
        listed(unit=None),
        listed(input_fee_ppk=-1),
        listed(input_fee_ppk=1.5),
        listed(input_fee_ppk=10**9),
        listed(final_expiry="soon"),
    ],
)
def test_malformed_lists_are_refused(members: Any) -> None:
    """A mint's answer is input like any other."""
    with pytest.raises(BadKeyset):
        parse_keysets(members)


def test_short_ids_are_expanded() -> None:
    """Eight bytes stand for the only whole id that begins with them; two are an error."""
    other = V2[:16] + "00" * 25
    assert Keysets({V2: of(V2), V1: of(V1)}).expand(V2[:16]).info.id == V2
    assert Keysets({V2: of(V2), V1: of(V1)}).expand(V1).info.id == V1
    with pytest.raises(UnknownKeyset) as unknown:
        Keysets({V2: of(V2), other: of(other)}).expand(V2[:16])
    assert unknown.value.ambiguous
    with pytest.raises(UnknownKeyset) as unknown:
        Keysets({V2: of(V2)}).expand(V1)
    assert not unknown.value.ambiguous
    with pytest.raises(UnknownKeyset):
        Keysets({V2: of(V2)}).expand(V2[:15])


def test_new_notes_are_made_of_an_active_keyset() -> None:
    """Inactive ones sign no more; of the latest version, however cheap an older one is."""
    for entry in (of(V1, active=False), of(V1)):
        keysets = Keysets({V1: entry, V2: of(V2, fee_ppk=100)})
        assert keysets.current is not None
        assert keysets.current.info.id == V2
    assert Keysets({V1: of(V1, active=False)}).current is None


@pytest.mark.parametrize(("fees", "sats"), [((), 0), ((0,), 0), ((1,), 1), ((100,) * 10, 1), ((100,) * 11, 2)])
def test_fee_is_rounded_up_once(fees: tuple[int, ...], sats: int) -> None:
    """NUT-02: of the sum over all notes."""
    assert fee_of(info(fee_ppk=fee) for fee in fees) == sats


def test_sums_are_split_into_amounts_of_the_keyset() -> None:
    """The largest first; an amount without a key is refused."""
    assert of(V1).split(21) == [8, 8, 4, 1]
    assert of(V1).split(0) == []
    with pytest.raises(BadSignature):
        of(V1).key(16)
    with pytest.raises(BadKeyset):
        Keyset(info(), {2: KEYS["2"]}).split(3)
