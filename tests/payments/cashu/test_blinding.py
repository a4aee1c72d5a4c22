"""Blind signatures and their proofs: the vectors of NUT-00 and NUT-12."""

from __future__ import annotations

from dataclasses import replace

import pytest
from cashu.core.crypto import b_dhke
from coincurve import PrivateKey

from proxy.payments.cashu.blinding import (
    ORDER,
    BadSignature,
    BlindSignature,
    Output,
    genuine,
    new_output,
    point,
    spend_key,
    unblind,
    y_of,
)
from proxy.payments.cashu.tokens import Dleq, Note

KEYSET = "00882760bfa2eb41"
KEY = point("0279be667ef9dcbbac55a06295ce870b07029bfcdb2dce28d959f2815b16f81798")
PROVEN = Note(
    KEYSET,
    1,
    "daf4dd00a2b68a0858a80450f52c8a7d2ccf87d375e43e216e0c571f089f63e9",
    bytes.fromhex("024369d2d22a80ecf78f3937da9d5f30c1b9f74f0c32684d583cca0fa6a61cdcfc"),
    Dleq(
        bytes.fromhex("b31e58ac6527f34975ffab13e70a48b6d2b0d35abc4b03f0151f09ee1a9763d4"),
        bytes.fromhex("8fbae004c59e754d71df67e392b6ae4e29293113ddc2ec86592a0431d16306d8"),
        bytes.fromhex("a6d13fcd7a18442e6076f5e1e7c887ad5de40a019824bdfa9fe740d302e8d861"),
    ),
)
"""NUT-12, 'DLEQ verification on Proof'."""


def test_vector_of_a_proven_note() -> None:
    """NUT-12: it holds, and for no other key."""
    assert genuine(PROVEN, KEY)
    assert not genuine(PROVEN, PrivateKey().public_key)


@pytest.mark.parametrize("part", ["e", "s", "r"])
@pytest.mark.parametrize("value", [bytes(32), b"\xff" * 32, b"\x01" * 32])
def test_damaged_proofs_do_not_hold(part: str, value: bytes) -> None:
    """Neither wrong numbers nor such as are none of the curve's."""
    assert PROVEN.dleq is not None
    assert not genuine(replace(PROVEN, dleq=replace(PROVEN.dleq, **{part: value})), KEY)


def test_proof_belongs_to_its_note() -> None:
    """Another secret, or another signature, and it does not hold; without one nothing is shown."""
    assert not genuine(replace(PROVEN, secret="d" * 64), KEY)
    assert not genuine(replace(PROVEN, signature=KEY.format()), KEY)
    assert not genuine(replace(PROVEN, signature=b"\x02" + b"\xff" * 32), KEY)
    assert not genuine(replace(PROVEN, dleq=None), KEY)


@pytest.mark.parametrize(
    ("secret", "blinding", "blinded"),
    [
        (
            "d341ee4871f1f889041e63cf0d3823c713eea6aff01e80f1719f08f9e5be98f6",
            "99fce58439fc37412ab3468b73db0569322588f62fb3a49182d67e23d877824a",
            "033b1a9737a40cc3fd9b6af4b723632b76a67a36782596304612a6c2bfb5197e6d",
        ),
        (
            "f1aaf16c2239746f369572c0784d9dd3d032d952c2d992175873fb58fae31a60",
            "f78476ea7cc9ade20f9e05e58a804cf19533f03ea805ece5fee88c8e2874ba50",
            "029bdf2d716ee366eddf599ba252786c1033f47e230248a4612a5670ab931f1763",
        ),
    ],
)
def test_vectors_of_blinded_messages(secret: str, blinding: str, blinded: str) -> None:
    """NUT-00; the vectors' secrets are bytes, ours are text, so the point is compared by way of those bytes."""
    r = PrivateKey(bytes.fromhex(blinding))
    assert (b_dhke.hash_to_curve(bytes.fromhex(secret)) + r.public_key).format().hex() == blinded
    ours = Output(KEYSET, 1, secret, blinding).blinded
    assert ours == (b_dhke.hash_to_curve(secret.encode()) + r.public_key).format().hex()


def test_unblinded_signature_is_what_the_mint_accepts() -> None:
    """C = k times Y, and the proof travels on with the note."""
    key = PrivateKey()
    output = new_output(KEYSET, 8)
    note = unblind(output, signed(output, key), key.public_key)
    assert b_dhke.hash_to_curve(note.secret.encode()).multiply(key.secret).format() == note.signature
    assert genuine(note, key.public_key)


def test_signatures_without_a_holding_proof_are_none() -> None:
    """Another key, another output, another amount, junk: each is refused."""
    key, output = PrivateKey(), new_output(KEYSET, 8)
    good = signed(output, key)
    bad = [
        signed(output, PrivateKey()),
        signed(new_output(KEYSET, 8), key),
        replace(good, amount=16),
        replace(good, keyset="0" * 16),
        replace(good, e="00" * 32),
        replace(good, s="zz"),
        replace(good, signature="02" + "ff" * 32),
    ]
    for answer in bad:
        with pytest.raises(BadSignature):
            unblind(output, answer, key.public_key)


def test_outputs_are_unlike_each_other() -> None:
    """Secrets of 32 random bytes, factors below the order of the curve."""
    made = [new_output(KEYSET, 1) for _ in range(50)]
    assert len({output.secret for output in made} | {output.blinding for output in made}) == 100
    assert all(0 < int(output.blinding, 16) < ORDER for output in made)
    assert made[0].secret not in repr(made[0])


def test_wrapping_does_not_change_what_is_spent() -> None:
    """Order and everything around the secrets make no difference; one secret more or less does."""
    assert spend_key(("a", "b")) == spend_key(("b", "a"))
    assert len({spend_key(("a", "b")), spend_key(("a",)), spend_key(("ab",)), spend_key(("a", "b", "c"))}) == 4


def test_y_is_the_hash_of_the_secret() -> None:
    """What a mint knows a note by."""
    assert y_of("x") == b_dhke.hash_to_curve(b"x").format().hex()


def signed(output: Output, key: PrivateKey) -> BlindSignature:
    c, e, s = b_dhke.step2_bob(point(output.blinded), key)
    return BlindSignature(output.keyset, output.amount, c.format().hex(), e.to_hex(), s.to_hex())
