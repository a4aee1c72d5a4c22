"""A file of JSON lines, written beside the event loop and rotated by size.

The event loop encodes a line and puts it into a bounded queue; one thread writes what has gathered. A line is
written whole or not at all: what a full disk cut off is cut back, and written again once there is room.
"""

from __future__ import annotations

import errno
import fcntl
import os
import threading
from collections import deque
from json import dumps as ascii_dumps
from pathlib import Path
from typing import Any, Final

import orjson

QUEUE_BYTES_MAX: Final = 16 << 20
"""Lines waiting to be written; beyond it new ones are counted as lost."""
BATCH_LINES_MAX: Final = 4_096
REOPEN_TRIES_MAX: Final = 16
"""Rotations by other writers followed in a row before this batch is left for the next time."""


class JsonLines:
    """Appends to `path` (mode 0600); at `bytes_max` it becomes `path`.1, .1 becomes .2, up to `files_max` old ones.

    `write` is the event loop's; `flush` and `close` may block and belong in a thread. Several writers, in one process
    or many, may share a path: each takes a lock on the file for every batch and follows a rotation made by another.
    """

    def __init__(self, path: Path, bytes_max: int, files_max: int, log: Any, flush_seconds: float = 0.2) -> None:
        if bytes_max < 1 or files_max < 1:
            raise ValueError("bytes_max and files_max are at least 1")
        self.path = path
        self.bytes_max = bytes_max
        self.files_max = files_max
        self.lost = 0
        """Lines that were never written."""
        self._log = log
        self._flush_seconds = flush_seconds
        self._queue: deque[bytes] = deque()
        self._accepted_bytes = 0
        self._done_bytes = 0
        self._accepted = 0
        self._done = 0
        self._full = False
        self._failing = False
        self._fd = -1
        self._wake = threading.Event()
        self._closing = threading.Event()
        self._progress = threading.Condition()
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Open the file and start the thread. Raises OSError if the file cannot be opened."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self._open()
        self._end_torn_line()
        self._thread = threading.Thread(target=self._run, name=f"lines:{self.path.name}", daemon=True)
        self._thread.start()

    def write(self, document: dict[str, Any]) -> None:
        """Queue one line; never blocks. After `close` it is lost. Raises TypeError for what JSON cannot hold."""
        try:
            line = orjson.dumps(document, option=orjson.OPT_APPEND_NEWLINE)
        except TypeError:  # a lone surrogate or an integer beyond 64 bits
            line = ascii_dumps(document).encode() + b"\n"
        if self._accepted_bytes - self._done_bytes + len(line) > QUEUE_BYTES_MAX or self._closing.is_set():
            self._lose()
            return
        self._full = False
        self._accepted_bytes += len(line)
        self._accepted += 1
        self._queue.append(line)
        if not self._wake.is_set():
            self._wake.set()

    def flush(self, timeout_seconds: float = 5.0) -> bool:
        """Wait until all that was queued before is written; whether it was."""
        wanted = self._accepted
        with self._progress:
            return self._progress.wait_for(lambda: self._done >= wanted, timeout_seconds)

    def close(self) -> None:
        """Write what is queued, then stop. What cannot be written now is counted as lost."""
        self._closing.set()
        self._wake.set()
        if self._thread is not None:
            self._thread.join()
            self._thread = None
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def _lose(self) -> None:
        self.lost += 1
        if not self._full:
            self._full = True
            self._log.warning("lines_lost", path=str(self.path), lost=self.lost, queue_bytes_max=QUEUE_BYTES_MAX)

    def _run(self) -> None:
        batch: list[bytes] = []
        while True:
            self._wake.wait()
            self._closing.wait(self._flush_seconds)
            closing = self._closing.is_set()
            self._wake.clear()
            while self._queue or batch:
                while self._queue and len(batch) < BATCH_LINES_MAX:
                    batch.append(self._queue.popleft())
                batch = self._written(batch)
                if batch:
                    break
            if closing:
                self._give_up(len(batch) + len(self._queue))
                return
            if batch:
                self._wake.set()

    def _give_up(self, left: int) -> None:
        if left:
            self.lost += left
            self._log.error("lines_lost", path=str(self.path), lost=left)

    def _written(self, batch: list[bytes]) -> list[bytes]:
        """Write a batch in order; what could not be written is given back."""
        done = 0
        try:
            self._lock_current()
            try:
                while done < len(batch):
                    size = os.fstat(self._fd).st_size
                    count = self._fitting(batch, done, size)
                    if not count:
                        self._rotate()
                        continue
                    self._append(b"".join(batch[done : done + count]), size)
                    done += count
            finally:
                fcntl.flock(self._fd, fcntl.LOCK_UN)
        except OSError as error:
            if not self._failing:
                self._failing = True
                self._log.error(
                    "lines_not_written", path=str(self.path), error=error.strerror, waiting=len(batch) - done
                )
        else:
            if self._failing:
                self._failing = False
                self._log.warning("lines_written_again", path=str(self.path), lost=self.lost)
        self._count(batch[:done])
        return batch[done:]

    def _count(self, written: list[bytes]) -> None:
        with self._progress:
            self._done_bytes += sum(map(len, written))
            self._done += len(written)
            self._progress.notify_all()

    def _fitting(self, batch: list[bytes], start: int, size: int) -> int:
        """Lines from `start` on that still go into this file; at least one goes into an empty file."""
        count = 0
        for line in batch[start:]:
            size += len(line)
            if size > self.bytes_max and size > len(line):
                break
            count += 1
        return count

    def _append(self, data: bytes, size: int) -> None:
        """All of `data`, or the file as it was. Raises OSError."""
        view = memoryview(data)
        try:
            while view:
                view = view[os.write(self._fd, view) :]
        except OSError:
            os.ftruncate(self._fd, size)
            raise

    def _end_torn_line(self) -> None:
        """A power cut may have left half a line: nothing is glued to it."""
        self._lock_current()
        size = os.fstat(self._fd).st_size
        if size and os.pread(self._fd, 1, size - 1) != b"\n":
            self._append(b"\n", size)
        fcntl.flock(self._fd, fcntl.LOCK_UN)

    def _open(self) -> None:
        fd = os.open(self.path, os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
        os.fchmod(fd, 0o600)
        if self._fd >= 0:
            os.close(self._fd)
        self._fd = fd

    def _lock_current(self) -> None:
        """Lock the file that now stands at the path, which another writer may have rotated. Raises OSError."""
        for _ in range(REOPEN_TRIES_MAX):
            fcntl.flock(self._fd, fcntl.LOCK_EX)
            if self._is_current():
                return
            self._open()
        raise OSError(errno.EAGAIN, "the file is being replaced all the time")

    def _is_current(self) -> bool:
        try:
            there = self.path.stat()
        except FileNotFoundError:
            return False
        here = os.fstat(self._fd)
        return (there.st_ino, there.st_dev) == (here.st_ino, here.st_dev)

    def _rotate(self) -> None:
        """Make room for an empty file at the path; the lock is held, then taken on the new file."""
        for number in range(self.files_max, 1, -1):
            older = self._numbered(number - 1)
            if older.exists():
                older.replace(self._numbered(number))
        self.path.replace(self._numbered(1))
        self._open()
        self._lock_current()

    def _numbered(self, number: int) -> Path:
        return self.path.with_name(f"{self.path.name}.{number}")
