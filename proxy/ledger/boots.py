"""Which processes share the ledger, and which of them are dead.

Each process holds an flock on a file named after its boot id for as long as it lives; the kernel lets go of
it however the process ends. A boot whose lock can be taken is dead.
"""

from __future__ import annotations

import fcntl
import os
from pathlib import Path


class FileLock:
    """An flock on a file. Held until `release` or the end of the process."""

    def __init__(self, path: Path, descriptor: int) -> None:
        self.path = path
        self._descriptor = descriptor

    @classmethod
    def acquire(cls, path: Path, *, create: bool = True) -> FileLock | None:
        """The lock, or None where another process has it or (`create=False`) there is no such file."""
        try:
            descriptor = os.open(path, os.O_RDWR | (os.O_CREAT if create else 0), 0o600)
        except FileNotFoundError:
            return None
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(descriptor)
            return None
        return cls(path, descriptor)

    def write(self, text: str) -> None:
        """Leave a note in the file, for people."""
        os.ftruncate(self._descriptor, 0)
        os.pwrite(self._descriptor, text.encode(), 0)

    def release(self, *, remove: bool = False) -> None:
        """Let go, once; `remove` deletes the file first."""
        if self._descriptor < 0:
            return
        if remove:
            self.path.unlink(missing_ok=True)
        os.close(self._descriptor)
        self._descriptor = -1


def boots_folder(database: Path) -> Path:
    """Where the boot files of a ledger stand."""
    return database.with_name(database.name + ".boots")


def sweeper_path(database: Path) -> Path:
    """The lock file that names the process which sweeps up after dead ones."""
    return database.with_name(database.name + ".sweeper")


def claim(database: Path, boot: str) -> FileLock | None:
    """Say that this process lives under `boot`; None where another process has that id."""
    folder = boots_folder(database)
    folder.mkdir(mode=0o700, exist_ok=True)
    lock = FileLock.acquire(folder / boot)
    if lock is not None:
        lock.write(f"{os.getpid()}\n")
    return lock


def is_alive(database: Path, boot: str) -> bool:
    """Whether the process of this boot id still runs."""
    path = boots_folder(database) / boot
    lock = FileLock.acquire(path, create=False)
    if lock is None:
        return path.exists()
    lock.release()
    return False
