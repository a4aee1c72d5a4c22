"""Credit from outside a running proxy: put into purses, and read, through a connection of one's own."""

from __future__ import annotations

import sqlite3

from proxy.ledger.api import Grant, Purse, PurseState
from proxy.ledger.books import Books
from proxy.ledger.checks import check_grant, refused_grant
from proxy.ledger.errors import GrantConflict, GrantTooLarge
from proxy.pricing.money import Nano


def grant_now(connection: sqlite3.Connection, grant: Grant) -> tuple[PurseState, bool]:
    """As `Ledger.grant`, beside running proxies; says whether it happened now, not before under the same id.

    Durable past a loss of power when it returns. Raises Refusal, PurseExceeded, sqlite3.OperationalError.
    """
    check_grant(grant)
    connection.execute("PRAGMA synchronous=FULL")
    books = Books(connection)
    books.begin()
    try:
        result = books.purses.grant(grant)
        books.commit()
    except (GrantConflict, GrantTooLarge) as error:
        raise refused_grant(error) from error
    finally:
        if connection.in_transaction:
            books.rollback()
    return result


def purses(connection: sqlite3.Connection) -> list[PurseState]:
    """Every purse that there is, by whose it is."""
    rows = connection.execute(
        "SELECT scope, scope_id, wallet, granted, spent, held FROM purses ORDER BY scope, scope_id, wallet"
    ).fetchall()
    return [
        PurseState(Purse(scope, scope_id, wallet), Nano(granted), Nano(spent), Nano(held))
        for scope, scope_id, wallet, granted, spent, held in rows
    ]


def purse_state(connection: sqlite3.Connection, purse: Purse) -> PurseState:
    """Where one stands; empty where nothing was ever put into it."""
    return Books(connection).purses.state(purse)


def grants_of(connection: sqlite3.Connection, purse: Purse, *, count_max: int) -> list[Grant]:
    """The newest grants of a purse, newest first."""
    rows = connection.execute(
        "SELECT grants.name, amount, note, at_ms FROM grants JOIN purses ON purses.id = grants.purse"
        " WHERE scope=? AND scope_id=? AND wallet=? ORDER BY grants.id DESC LIMIT ?",
        (purse.scope, purse.scope_id, purse.wallet, count_max),
    ).fetchall()
    return [Grant(name, purse, Nano(amount), note, at_ms) for name, amount, note, at_ms in rows]
