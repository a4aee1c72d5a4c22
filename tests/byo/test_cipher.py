"""Secrets at rest."""

from __future__ import annotations

import pytest

from proxy.byo.cipher import Cipher, Unreadable, new_key
from tests.byo.making import SECRET

BINDING = ("id", "red", "byo-gpt", "openai", "https://api.openai.com/v1", "authorization")


def test_what_was_sealed_is_opened() -> None:
    """And the sealed form says nothing of it."""
    cipher = Cipher((new_key(),))
    sealed = cipher.seal(BINDING, SECRET)
    assert SECRET.encode() not in sealed
    assert cipher.open(BINDING, sealed) == SECRET


def test_two_seals_of_one_secret_differ() -> None:
    """Nobody sees from the file that two customers have the same key."""
    cipher = Cipher((new_key(),))
    assert cipher.seal(BINDING, SECRET) != cipher.seal(BINDING, SECRET)


@pytest.mark.parametrize("position", range(len(BINDING)))
def test_a_secret_belongs_to_all_of_its_row(position: int) -> None:
    """With any column changed it is not given away."""
    cipher = Cipher((new_key(),))
    sealed = cipher.seal(BINDING, SECRET)
    other = (*BINDING[:position], "another", *BINDING[position + 1 :])
    with pytest.raises(Unreadable, match="another registration") as caught:
        cipher.open(other, sealed)
    assert SECRET not in repr(caught.value)


def test_columns_cannot_be_moved_into_each_other() -> None:
    """Lengths count: ("ab", "c") is not ("a", "bc"), and a column less is another row."""
    cipher = Cipher((new_key(),))
    sealed = cipher.seal(("ab", "c"), SECRET)
    for other in (("a", "bc"), ("ab", "c", ""), ("ab",)):
        with pytest.raises(Unreadable):
            cipher.open(other, sealed)


def test_every_key_decrypts_and_the_first_encrypts() -> None:
    """What a rotation of encryption keys stands on."""
    old, new = new_key(), new_key()
    sealed = Cipher((old,)).seal(BINDING, SECRET)
    both = Cipher((new, old))
    assert both.open(BINDING, sealed) == SECRET
    renewed = both.reseal(sealed)
    assert Cipher((new,)).open(BINDING, renewed) == SECRET
    with pytest.raises(Unreadable, match="none of the encryption keys"):
        Cipher((old,)).open(BINDING, renewed)


@pytest.mark.parametrize("damage", [b"", b"gAAAA", b"\x00" * 200])
def test_what_is_damaged_is_unreadable(damage: bytes) -> None:
    """One named error, whatever stands there."""
    cipher = Cipher((new_key(),))
    for method in (lambda: cipher.open(BINDING, damage), lambda: cipher.reseal(damage)):
        with pytest.raises(Unreadable):
            method()


def test_a_changed_byte_is_noticed() -> None:
    """Authenticated, not only encrypted."""
    cipher = Cipher((new_key(),))
    sealed = bytearray(cipher.seal(BINDING, SECRET))
    sealed[40] ^= 1
    with pytest.raises(Unreadable):
        cipher.open(BINDING, bytes(sealed))


def test_without_a_key_nothing_is_sealed_or_opened() -> None:
    """It says so."""
    cipher = Cipher(())
    assert not cipher.ready
    with pytest.raises(Unreadable, match="no encryption key is configured"):
        cipher.seal(BINDING, SECRET)
    with pytest.raises(Unreadable, match="no encryption key is configured"):
        cipher.open(BINDING, b"x")
