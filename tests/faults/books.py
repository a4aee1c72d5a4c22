"""What the ledger's file says, read beside the proxy or after its death."""

from __future__ import annotations

import asyncio
import sqlite3
import time
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass
from typing import Any

from proxy.clock import SystemClock
from proxy.keys import KeyStore
from proxy.ledger.audit import audit
from proxy.ledger.books import State
from proxy.ledger.schema import DATABASE_NAME, connect
from tests.support.gateway import GatewayProcess

SECONDS_MAX = 15.0


@dataclass(frozen=True, slots=True)
class Row:
    """A hold."""

    exchange_id: str
    model: str
    user: str
    state: State
    outcome: str | None
    held: int
    charged: int | None


def rows(gateway: GatewayProcess, statement: str, *values: Any) -> list[Any]:
    """The result of a query."""
    with closing(sqlite3.connect(gateway.folder / "var" / DATABASE_NAME)) as connection:
        return connection.execute(statement, values).fetchall()


def holds(gateway: GatewayProcess) -> list[Row]:
    """Every hold there ever was."""
    query = "SELECT exchange_id, model, user, state, outcome, held_charged, charged FROM holds"
    return [Row(*row[:3], State(row[3]), *row[4:]) for row in rows(gateway, query)]


def open_count(gateway: GatewayProcess) -> int:
    """Holds that have not ended."""
    return int(rows(gateway, "SELECT count(*) FROM holds WHERE state < ?", State.SETTLED)[0][0])


def team_cap(gateway: GatewayProcess, team: str = "default") -> tuple[int, int]:
    """Spent and held under the team's cap."""
    found = rows(gateway, "SELECT spent, held FROM counters WHERE scope = 'team' AND scope_id = ?", team)
    return found[0] if found else (0, 0)


async def until(condition: Callable[[], bool], what: str) -> None:
    """Return once `condition` holds. Raises TimeoutError with `what`."""
    deadline = time.monotonic() + SECONDS_MAX
    while not condition():
        if time.monotonic() > deadline:
            raise TimeoutError(what)
        await asyncio.sleep(0.01)


async def until_ended(gateway: GatewayProcess) -> None:
    """Return once no hold is open."""
    await until(lambda: open_count(gateway) == 0, "holds are still open")


def assert_clean(gateway: GatewayProcess) -> None:
    """Every sum holds."""
    path = gateway.folder / "var" / DATABASE_NAME
    with closing(connect(path, create=False)) as connection:
        assert audit(connection, path) == []


def assert_proven(gateway: GatewayProcess) -> None:
    """The same by the operator's own command."""
    proof = gateway.cli("ledger", "audit", check=False)
    assert proof.returncode == 0, proof.stdout + proof.stderr


def make_key(gateway: GatewayProcess, *, user: str = "tester", tier: str | None = None) -> str:
    """A new key of the default team, in a hundredth of the time that the command takes."""
    with closing(KeyStore(gateway.folder / "var" / DATABASE_NAME, SystemClock())) as keys:
        return keys.create(user=user, team="default", organisation="acme", tier=tier)[0]


LOST = ("ledger_end_lost", "open_holds", "ledger_double_end", "ledger_overage", "finish_failed", "driver_failed")


def assert_quiet(gateway: GatewayProcess) -> None:
    """No alarm of the ledger and no fault of ours in the log."""
    log = gateway.log()
    found = [word for word in (*LOST, "exchange_failed", "Traceback", "never retrieved") if word in log]
    assert found == [], log[-4000:]
