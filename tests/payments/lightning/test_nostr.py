"""Events of NIP-01 and the encryption of NIP-44 and NIP-04, held against the published vectors."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from proxy.payments.lightning.nostr import (
    NIP04,
    NIP44,
    Conversation,
    NotDecrypted,
    padded_length,
    public_key,
    signed_event,
    verified_event,
)

ONE, TWO = (n.to_bytes(32) for n in (1, 2))
# nip44.vectors.json: secret, other secret, conversation key, nonce, plain, payload
VECTORS = [
    ("00" * 31 + "01", "00" * 31 + "02", "c41c775356fd92eadc63ff5a0dc1da211b268cbea22316767095b2871ea1412d",
     "00" * 31 + "01", "a",
     "AgAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAABee0G5VSK0/9YypIObAtDKfYEAjD35uVkHyB0F4DwrcNaCXlCWZKaArsGrY6M9wnuTMxWfp1RTN9Xga8no+kF5Vsb"),
    ("00" * 31 + "02", "00" * 31 + "01", "c41c775356fd92eadc63ff5a0dc1da211b268cbea22316767095b2871ea1412d",
     "f0" + "00" * 14 + "f0" + "00" * 15 + "0f", "🍕🫃",
     "AvAAAAAAAAAAAAAAAAAAAPAAAAAAAAAAAAAAAAAAAAAPSKSK6is9ngkX2+cSq85Th16oRTISAOfhStnixqZziKMDvB0QQzgFZdjLTPicCJaV8nDITO+QfaQ61+KbWQIOO2Yj"),
    ("5c0c523f52a5b6fad39ed2403092df8cebc36318b39383bca6c00808626fab3a",
     "4b22aa260e4acb7021e32f38a6cdf4b673c6a277755bfce287e370c924dc936d",
     "3e2b52a63be47d34fe0a80e34e73d436d6963bc8f39827f327057a9986c20a45",
     "b635236c42db20f021bb8d1cdff5ca75dd1a0cc72ea742ad750f33010b24f73b", "表ポあA鷗ŒéＢ逍Üßªąñ丂㐀𠀀",
     "ArY1I2xC2yDwIbuNHN/1ynXdGgzHLqdCrXUPMwELJPc7s7JqlCMJBAIIjfkpHReBPXeoMCyuClwgbT419jUWU1PwaNl4FEQYKCDKVJz+97Mp3K+Q2YGa77B6gpxB/lr1QgoqpDf7wDVrDmOqGoiPjWDqy8KzLueKDcm9BVP8xeTJIxs="),
]  # fmt: skip


@pytest.mark.parametrize(("secret", "other", "key", "nonce", "plain", "payload"), VECTORS)
def test_nip44_vectors(secret: str, other: str, key: str, nonce: str, plain: str, payload: str) -> None:
    """Conversation key, payload and the way back."""
    own, theirs = bytes.fromhex(secret), bytes.fromhex(other)
    conversation = Conversation(own, public_key(theirs))
    assert conversation.key.hex() == key
    assert conversation.encrypt(plain, NIP44, nonce=bytes.fromhex(nonce)) == payload
    assert Conversation(theirs, public_key(own)).decrypt(payload) == plain


@pytest.mark.parametrize(
    ("length", "padded"),
    [(16, 32), (32, 32), (33, 64), (37, 64), (45, 64), (49, 64), (64, 64), (65, 96), (100, 128), (111, 128),
     (200, 224), (250, 256), (320, 320), (383, 384), (384, 384), (400, 448), (500, 512), (512, 512), (515, 640),
     (700, 768), (800, 896), (900, 1024), (1020, 1024), (74123, 81920)],
)  # fmt: skip
def test_nip44_padding_vectors(length: int, padded: int) -> None:
    """All of the published ones."""
    assert padded_length(length) == padded


@settings(max_examples=60, deadline=None)
@given(st.text(min_size=1, max_size=400), st.sampled_from([NIP44, NIP04]))
def test_what_is_encrypted_is_decrypted_by_the_other_alone(plain: str, scheme: str) -> None:
    """In both schemes."""
    text = Conversation(ONE, public_key(TWO)).encrypt(plain, scheme)
    assert Conversation(TWO, public_key(ONE)).decrypt(text) == plain


@settings(max_examples=200, deadline=None)
@given(st.integers(0, 131), st.integers(1, 255))
def test_a_changed_nip44_payload_is_refused(place: int, change: int) -> None:
    """Whatever byte it is."""
    text = bytearray(Conversation(ONE, public_key(TWO)).encrypt("hello", NIP44).encode())
    text[place] = (text[place] ^ change) & 0x7F
    changed = text.decode()
    if changed == Conversation(ONE, public_key(TWO)).encrypt("hello", NIP44):
        return
    try:
        assert Conversation(TWO, public_key(ONE)).decrypt(changed) == "hello"
    except NotDecrypted:
        return


@settings(max_examples=200, deadline=None)
@given(st.one_of(st.text(max_size=300), st.text("ABCabc019+/=?iv", max_size=300)))
def test_junk_is_refused(text: str) -> None:
    """And nothing else happens."""
    with pytest.raises(NotDecrypted):
        Conversation(TWO, public_key(ONE)).decrypt(text)


def test_too_much_is_refused_before_it_is_decoded() -> None:
    """A payload has at most 65,535 bytes in it."""
    conversation = Conversation(ONE, public_key(TWO))
    assert conversation.decrypt(conversation.encrypt("x" * 65_535, NIP44)) == "x" * 65_535
    with pytest.raises(NotDecrypted, match="too long"):
        conversation.decrypt("A" * 88_001)
    for plain in ("", "x" * 65_536):
        with pytest.raises(ValueError, match="too long"):
            conversation.encrypt(plain, NIP44)


def test_an_event_is_known_by_its_id_and_signature() -> None:
    """Anything that is changed makes it none."""
    event = signed_event(ONE, kind=1, tags=[["e", "x"], ["p", "y", "z"]], content='hé"\n', at=1_700_000_000)
    verified = verified_event(event)
    assert verified is not None
    assert (verified.author, verified.kind, verified.content) == (public_key(ONE), 1, 'hé"\n')
    assert (verified.tag("e"), verified.tag("p"), verified.tag("q")) == ("x", "y", None)
    changes = [
        {"content": "h"}, {"kind": 2}, {"created_at": 1}, {"tags": []}, {"pubkey": public_key(TWO)},
        {"sig": "00" * 64}, {"sig": "zz"}, {"sig": 1}, {"id": "00" * 32}, {"tags": [1]}, {"tags": [[1]]}, {"tags": "x"},
        {"pubkey": "ff" * 32}, {"kind": "1"}, {"created_at": None}, {"content": None}, {"content": "\ud800"},
    ]  # fmt: skip
    for change in changes:
        assert verified_event(event | change) is None, change
    for junk in (None, 1, "x", [], {}):
        assert verified_event(junk) is None


def test_public_keys_are_those_of_the_curve() -> None:
    """The generator's x for the secret 1."""
    assert public_key(ONE) == "79be667ef9dcbbac55a06295ce870b07029bfcdb2dce28d959f2815b16f81798"
