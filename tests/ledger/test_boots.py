"""Who lives and who is dead, by locks that the kernel keeps."""

from __future__ import annotations

import os
from pathlib import Path

from proxy.ledger.boots import FileLock, claim, is_alive


def test_a_boot_lives_as_long_as_its_lock_is_held(tmp_path: Path) -> None:
    """Without a file, or with a file that nobody holds, a boot is dead."""
    database = tmp_path / "tollway.db"
    assert not is_alive(database, "one")
    lock = claim(database, "one")
    assert lock is not None
    assert is_alive(database, "one")
    lock.release()
    assert lock.path.exists()
    assert not is_alive(database, "one")


def test_a_lock_has_one_holder(tmp_path: Path) -> None:
    """The second is told so and can have it later."""
    path = tmp_path / "lock"
    first = FileLock.acquire(path)
    assert first is not None
    assert FileLock.acquire(path) is None
    first.release()
    second = FileLock.acquire(path)
    assert second is not None
    second.release(remove=True)
    assert not path.exists()
    assert FileLock.acquire(path, create=False) is None


def test_releasing_twice_closes_nothing_else(tmp_path: Path) -> None:
    """A descriptor number that was given to somebody else meanwhile stays open."""
    lock = FileLock.acquire(tmp_path / "lock")
    assert lock is not None
    lock.release()
    other = os.open(tmp_path / "other", os.O_CREAT | os.O_RDWR)
    lock.release()
    os.fstat(other)
    os.close(other)


def test_the_boot_file_names_its_process(tmp_path: Path) -> None:
    """So that an operator can find it."""
    lock = claim(tmp_path / "tollway.db", "one")
    assert lock is not None
    assert lock.path.read_text() == f"{os.getpid()}\n"
    lock.release(remove=True)
