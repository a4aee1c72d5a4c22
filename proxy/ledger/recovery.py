"""What becomes of the holds of a process that died: never dispatched, released; else settled in full.

In full against the caps, but for what is owed of a fixed price whose payment was not burnt yet; a purse and a balance
pay for the input only, because nobody knows what came of the rest.
Payments that were being asked for are unknown; settled ones that were not burnt are free again, or go back.
"""

from __future__ import annotations

import sqlite3
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson

from proxy.ledger.api import Hold, HoldRequest, Settlement
from proxy.ledger.books import Books, State
from proxy.ledger.boots import boots_folder, is_alive
from proxy.ledger.payment_api import Tender, Unit
from proxy.pricing.money import Nano

CRASHED = "crashed"


@dataclass(frozen=True, slots=True)
class Recovered:
    """How many holds of dead processes were ended, and how."""

    boots: int = 0
    released: int = 0
    """Were never dispatched."""
    dispatched: int = 0
    """Had called an upstream: settled in full."""
    committed: int = 0
    """Were answering: settled in full."""
    unknown: int = 0
    """Payments that were being asked for outside: the reconciler's now."""
    freed: int = 0
    """Payments that were settled and not burnt."""

    def __add__(self, other: Recovered) -> Recovered:
        return Recovered(
            self.boots + other.boots,
            self.released + other.released,
            self.dispatched + other.dispatched,
            self.committed + other.committed,
            self.unknown + other.unknown,
            self.freed + other.freed,
        )


def recover(connection: sqlite3.Connection, books: Books, database: Path, at_ms: int) -> Recovered:
    """End every open hold of every dead boot, one transaction a boot. Safe in several processes at once.

    `books` are this connection's own, so that what they remember stays true.
    """
    total = Recovered()
    for boot_id, boot in connection.execute("SELECT id, boot FROM boots ORDER BY id").fetchall():
        if not is_alive(database, boot):
            total += _recover_boot(connection, books, boot_id, at_ms)
            (boots_folder(database) / boot).unlink(missing_ok=True)
    return total


def _recover_boot(connection: sqlite3.Connection, books: Books, boot_id: int, at_ms: int) -> Recovered:
    ended = dict.fromkeys(State, 0)
    unknown = freed = 0
    books.begin()
    try:
        # Another process may have recovered this boot since the list was read.
        gone = connection.execute("SELECT first_hold FROM boots WHERE id=?", (boot_id,)).fetchone() is None
        if not gone:
            unknown, freed = books.payments.recover(boot_id, CRASHED, at_ms)
            for row in _open_holds(connection, boot_id):
                state = State(row["state"])
                _end(connection, books, row, state, at_ms)
                ended[state] += 1
            connection.execute("DELETE FROM boots WHERE id=?", (boot_id,))
        books.commit()
    finally:
        if connection.in_transaction:
            books.rollback()
    holds = (ended[State.HELD], ended[State.DISPATCHED], ended[State.COMMITTED])
    return Recovered(0 if gone else 1, *holds, unknown, freed)


def _open_holds(connection: sqlite3.Connection, boot_id: int) -> list[Any]:
    cursor = connection.cursor()
    cursor.row_factory = sqlite3.Row
    return cursor.execute(
        "SELECT holds.*, (SELECT count(*) FROM attempts WHERE hold_id = holds.id) AS attempts FROM holds"
        " WHERE id >= (SELECT first_hold FROM boots WHERE id = ?1) AND boot = ?1 AND state < 3",
        (boot_id,),
    ).fetchall()


def _end(connection: sqlite3.Connection, books: Books, row: Any, state: State, at_ms: int) -> None:
    hold = _hold(row)
    if state is State.HELD:
        books.release(hold, CRASHED, at_ms)
        return
    request = hold.request
    tendered = 0 if request.tender is None else request.tender.input_amount
    burnt = state is State.COMMITTED and row["payment"] is not None
    charged = request.charged if request.owed is None or burnt else request.owed
    settlement = Settlement(charged, request.list, (), CRASHED, at_ms, paid=request.input_charged, tendered=tendered)
    books.settle(hold, settlement, unreported=CRASHED)
    # The hold was for its dearest attempt and nobody knows which one cost what: the last one bears it.
    connection.execute(
        "UPDATE attempts SET list_cost=? WHERE hold_id=? AND number=?", (hold.request.list, hold.id, hold.attempts)
    )


def _hold(row: Any) -> Hold:
    request = HoldRequest(
        exchange_id=row["exchange_id"],
        key_id=row["key_id"],
        user=row["user"],
        team=row["team"],
        organisation=row["organisation"],
        model=row["model"],
        operation=row["operation"],
        charged=Nano(row["held_charged"]),
        list=None if row["held_list"] is None else Nano(row["held_list"]),
        caps=(),
        at_ms=row["at_ms"],
        input_charged=Nano(row["input_charged"]),
        owed=None if row["owed"] is None else Nano(row["owed"]),
        tender=_tender(row),
    )
    return Hold(
        row["id"],
        request,
        attempts=row["attempts"],
        counters=tuple(orjson.loads(row["counters"])),
        purse_id=row["purse"],
        balance=row["balance"],
    )


def _tender(row: Any) -> Tender | None:
    """Of a balance. A payment's lease was ended before, so that nothing is left to do with its tender."""
    if row["balance"] is None:
        return None
    return Tender(Unit(row["tender_unit"]), row["tender_held"], "", row["tender_input"])
