"""Payments that were made and have bought nothing yet: one file, readable by its owner alone.

Whoever has a payment's credential can use it, or have it refunded: it is written before it is sent, and struck out
once it was answered, so that no answer that is lost on the way loses money.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Final

import orjson

from proxy.payments.client.errors import PayError

FILE_BYTES_MAX: Final = 64 << 20
ENTRIES_MAX: Final = 1000


@dataclass(frozen=True, slots=True)
class Kept:
    """One payment, and the request that it is for."""

    id: int
    url: str
    path: str
    rail: str
    amount: str
    at_ms: int
    headers: list[list[str]] = field(repr=False)
    """Name and value of what shows the payment."""
    body: str = field(repr=False)
    claim: list[list[str]] = field(default_factory=list, repr=False)
    """What has it refunded, in place of `headers`, where that is something else."""

    waiting: dict[str, str] = field(default_factory=dict, repr=False)
    """Invoice and macaroon of a payment that somebody else may make; `headers` are empty until it is known to be."""

    @property
    def claims(self) -> tuple[tuple[str, str], ...]:
        """What has it refunded."""
        return tuple((name, value) for name, value in self.claim or self.headers)

    @property
    def credentials(self) -> tuple[tuple[str, str], ...]:
        return tuple((name, value) for name, value in self.headers)

    @property
    def shown_by(self) -> str:
        """Names of its header fields."""
        return " and ".join(name for name, _ in self.headers)


class KeptFile:
    """Read and written whole, each time: a payer makes one payment at a time. Raises PayError where it cannot."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def all(self) -> list[Kept]:
        """Oldest first."""
        try:
            raw = self.path.read_bytes()
        except FileNotFoundError:
            return []
        except OSError as error:
            raise PayError(
                f"{self.path} cannot be read ({error.strerror}). Payments are kept there, see --kept."
            ) from error
        try:
            return [Kept(**entry) for entry in orjson.loads(raw[:FILE_BYTES_MAX])]
        except (orjson.JSONDecodeError, TypeError) as error:
            raise PayError(
                f"{self.path} is damaged. Move it away; it may hold payments that can be refunded."
            ) from error

    def check(self) -> None:
        """That a payment could be kept; asked before anything is paid."""
        with self._locked():
            entries = self.all()
            if len(entries) >= ENTRIES_MAX:
                raise PayError(
                    f"{self.path} has {ENTRIES_MAX} payments that bought nothing: 'tollway pay refund' them first."
                )
            self._write(entries)

    def add(self, at_ms: int, **fields: Any) -> Kept:
        """Before it is sent."""
        with self._locked():
            entries = self.all()
            made = Kept(id=max((one.id for one in entries), default=0) + 1, at_ms=at_ms, **fields)
            self._write([*entries, made])
        return made

    def fill(self, kept: Kept, headers: list[list[str]]) -> Kept:
        """It is paid by now, and this is what shows it."""
        made = replace(kept, headers=headers, waiting={})
        with self._locked():
            self._write([made if one.id == kept.id else one for one in self.all()])
        return made

    def strike(self, id_: int) -> None:
        """It was answered, or given back, or never taken."""
        with self._locked():
            self._write([one for one in self.all() if one.id != id_])

    @contextlib.contextmanager
    def _locked(self) -> Iterator[None]:
        """Several of us may be paying at once."""
        try:
            self.path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            lock = self.path.with_suffix(".lock").open("a")
        except OSError as error:
            raise self._failure(error) from error
        with lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield

    def _failure(self, error: OSError) -> PayError:
        return PayError(f"{self.path} cannot be written ({error.strerror}), and payments must be kept. See --kept.")

    def _write(self, entries: list[Kept]) -> None:
        try:
            handle, name = tempfile.mkstemp(dir=self.path.parent, prefix=self.path.name)
            try:
                with os.fdopen(handle, "wb") as file:
                    file.write(orjson.dumps([_plain(one) for one in entries], option=orjson.OPT_INDENT_2))
                    file.flush()
                    os.fsync(file.fileno())
                Path(name).replace(self.path)
            except OSError:
                with contextlib.suppress(FileNotFoundError):
                    Path(name).unlink()
                raise
        except OSError as error:
            raise self._failure(error) from error


def _plain(one: Kept) -> dict[str, Any]:
    return {name: getattr(one, name) for name in Kept.__slots__}
