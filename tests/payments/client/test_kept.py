"""What was paid and bought nothing is on disk before it is sent, and struck out once."""

from __future__ import annotations

import stat
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from proxy.payments.client.errors import PayError
from proxy.payments.client.kept import Kept, KeptFile

SECRET = "L402 macaroon:preimage"


def add(file: KeptFile) -> Kept:
    return file.add(
        1000,
        url="https://llm.example.com",
        path="/v1/chat/completions",
        rail="l402",
        amount="21 sats",
        headers=[["Authorization", SECRET]],
        body="{}",
    )


def test_numbers_are_not_used_twice_while_they_are_there(tmp_path: Path) -> None:
    """The oldest first; what is struck out is gone."""
    file = KeptFile(tmp_path / "new" / "kept.json")
    first, second = add(file), add(file)
    file.strike(first.id)
    third = add(file)
    assert [one.id for one in KeptFile(file.path).all()] == [second.id, third.id] == [2, 3]
    assert third.credentials == (("Authorization", SECRET),)


def test_the_file_is_its_owners_alone_and_no_repr_tells(tmp_path: Path) -> None:
    """Whoever reads it could spend what is in it."""
    file = KeptFile(tmp_path / "new" / "kept.json")
    made = add(file)
    assert stat.S_IMODE(file.path.stat().st_mode) == 0o600
    assert stat.S_IMODE(file.path.parent.stat().st_mode) == 0o700
    assert (SECRET in repr(made), made.shown_by) == (False, "Authorization")


def test_payments_made_at_once_are_all_kept(tmp_path: Path) -> None:
    """Several of us write one file."""
    path = tmp_path / "kept.json"
    with ThreadPoolExecutor(8) as threads:
        made = list(threads.map(lambda _: add(KeptFile(path)), range(16)))
    assert sorted(one.id for one in made) == [one.id for one in KeptFile(path).all()] == list(range(1, 17))


@pytest.mark.parametrize("damaged", ["{", '[{"id": 1}]', "[1]"])
def test_a_damaged_file_is_left_alone(tmp_path: Path, damaged: str) -> None:
    """It may hold money: nothing is paid, nothing is written over it."""
    path = tmp_path / "kept.json"
    path.write_text(damaged)
    with pytest.raises(PayError, match="damaged"):
        KeptFile(path).check()
    assert path.read_text() == damaged


def test_the_first_payment_ever_finds_its_folder(tmp_path: Path) -> None:
    """The check before it makes what is missing."""
    KeptFile(tmp_path / "not" / "there" / "kept.json").check()
    assert (tmp_path / "not" / "there" / "kept.json").stat().st_mode & 0o777 == 0o600
