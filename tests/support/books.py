"""What a running proxy's ledger says about an exchange, read beside it."""

from __future__ import annotations

import sqlite3
import time
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from proxy.ledger.books import State

SECONDS_MAX = 15.0
_HOLD = "id, exchange_id, key_id, model, state, held_charged, held_list, charged, list, outcome"
_ATTEMPT = (
    "upstream, outcome, status, input_tokens, output_tokens, cached_tokens, cache_write_tokens,"
    " cache_write_1h_tokens, reasoning_tokens, counted, list_cost"
)


@dataclass(frozen=True, slots=True)
class AttemptRow:
    """One upstream call as the ledger keeps it; amounts in nano-dollars."""

    upstream: str
    outcome: str
    status: int
    input_tokens: int | None
    output_tokens: int | None
    cached_tokens: int | None
    cache_write_tokens: int | None
    cache_write_1h_tokens: int | None
    reasoning_tokens: int | None
    counted: int | None
    list_cost: int | None


@dataclass(frozen=True, slots=True)
class HoldRow:
    """One ended hold with its attempts; amounts in nano-dollars."""

    id: int
    exchange_id: str
    key_id: str
    model: str
    state: int
    held_charged: int
    held_list: int | None
    charged: int
    list_cost: int | None
    outcome: str
    attempts: tuple[AttemptRow, ...]

    @property
    def outcomes(self) -> list[str]:
        """How its attempts ended, in order."""
        return [attempt.outcome for attempt in self.attempts]


class Books:
    """Waits for what is asked for, up to `SECONDS_MAX`: a hold ends a moment after its client has the answer."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def newest(self) -> int:
        """The id of the hold made last; 0 before the first."""
        with closing(sqlite3.connect(self._path)) as connection:
            (newest,) = connection.execute("SELECT coalesce(max(id), 0) FROM holds").fetchone()
        return int(newest)

    def of(self, exchange_id: str) -> HoldRow:
        """The ended hold of an exchange. Raises TimeoutError."""
        return self._ended("exchange_id = ?", exchange_id, 1)[0]

    def since(self, newest: int, count: int = 1) -> list[HoldRow]:
        """At least `count` holds made after `newest()` said so, once all of them have ended. Raises TimeoutError."""
        return self._ended("id > ?", newest, count)

    def _ended(self, condition: str, value: str | int, count: int) -> list[HoldRow]:
        deadline = time.monotonic() + SECONDS_MAX
        while True:
            with closing(sqlite3.connect(self._path)) as connection:
                query = f"SELECT {_HOLD} FROM holds WHERE {condition} ORDER BY id"
                rows: list[tuple[Any, ...]] = connection.execute(query, (value,)).fetchall()
                if len(rows) >= count and all(row[4] >= State.SETTLED for row in rows):
                    return [HoldRow(*(*row, _attempts(connection, row[0]))) for row in rows]
            if time.monotonic() > deadline:
                raise TimeoutError(f"{count} ended holds with {condition} {value}: {rows}")
            time.sleep(0.01)


def _attempts(connection: sqlite3.Connection, hold_id: int) -> tuple[AttemptRow, ...]:
    query = f"SELECT {_ATTEMPT} FROM attempts WHERE hold_id = ? ORDER BY number"
    return tuple(AttemptRow(*row) for row in connection.execute(query, (hold_id,)))
