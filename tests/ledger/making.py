"""Short hands for tests of the ledger."""

from __future__ import annotations

import itertools
import sqlite3
from contextlib import closing
from datetime import datetime
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

from proxy.ledger.api import (
    Attempt,
    AttemptOutcome,
    Basis,
    Cap,
    Grant,
    Hold,
    HoldRequest,
    Purse,
    PurseState,
    Settlement,
)
from proxy.ledger.schema import connect
from proxy.ledger.spend import SpendRow, spend
from proxy.ledger.store import SqliteLedger
from proxy.pricing.money import Nano
from proxy.usage import Usage
from tests.support.fakes import FakeClock, Log

BERLIN = ZoneInfo("Europe/Berlin")
FOREVER = 1 << 50
_numbers = itertools.count()
USAGE = Usage(100, 20, cached_tokens=40, reasoning_tokens=5)


def opened(path: Path, clock: Any = None, log: Log | None = None, **options: Any) -> SqliteLedger:
    return SqliteLedger.open(path, clock or FakeClock(), log or Log(), **options)


def cap(limit: int, scope: str = "team", scope_id: str = "red", **changes: Any) -> Cap:
    fields: dict[str, Any] = {
        "scope": scope,
        "scope_id": scope_id,
        "window": "day",
        "start_ms": 0,
        "end_ms": 86_400_000,
        "basis": Basis.CHARGED,
        "limit": Nano(limit),
    }
    return Cap(**{**fields, **changes})


def request(charged: int = 100, *caps: Cap, **changes: Any) -> HoldRequest:
    fields: dict[str, Any] = {
        "exchange_id": f"exchange-{next(_numbers)}",
        "key_id": "key_1",
        "user": "ann",
        "team": "red",
        "organisation": "acme",
        "model": "gpt-4o",
        "operation": "chat.completions",
        "charged": Nano(charged),
        "list": Nano(charged),
        "caps": caps,
        "at_ms": 1000,
        "price_source": "models.yaml 2026-11-01",
    }
    return HoldRequest(**{**fields, **changes})


PURSE = Purse("team", "red")


def paying(charged: int, *caps: Cap, **changes: Any) -> HoldRequest:
    """As `request`, paid from the team's balance, a tenth of it for the input."""
    return request(charged, *caps, **{"purse": PURSE, "input_charged": Nano(charged // 10), **changes})


async def put_in(ledger: SqliteLedger, amount: int, purse: Purse = PURSE, **changes: Any) -> PurseState:
    fields = {"id": f"grant-{next(_numbers)}", "purse": purse, "amount": Nano(amount), "note": "", "at_ms": 500}
    return await ledger.grant(Grant(**{**fields, **changes}))


async def dispatched(
    ledger: SqliteLedger, wanted: HoldRequest, *, upstream: str = "openai", partner: str | None = None
) -> tuple[Hold, Attempt]:
    hold = await ledger.hold(wanted)
    return hold, await ledger.dispatch(hold, upstream=upstream, upstream_model="gpt-4o-2024", partner=partner)


def settlement(
    charged: int, *attempts: Attempt, list_: int | None = -1, at_ms: int = 2000, paid: int | None = None
) -> Settlement:
    """The last attempt bears the list cost (as charged unless given), the others none."""
    listed = None if list_ is None else Nano(charged if list_ == -1 else list_)
    ends = tuple(
        AttemptOutcome(
            attempt,
            "served" if attempt is attempts[-1] else "status",
            200 if attempt is attempts[-1] else 500,
            USAGE if attempt is attempts[-1] else None,
            listed if attempt is attempts[-1] else Nano(0),
            at_ms,
        )
        for attempt in attempts
    )
    return Settlement(Nano(charged), listed, ends, "served", at_ms, None if paid is None else Nano(paid))


def rows(path: Path, query: str, *values: Any) -> list[Any]:
    """Straight from the file."""
    with closing(connect(path, create=False)) as connection:
        return connection.execute(query, values).fetchall()


def change(path: Path, statement: str, *values: Any) -> int:
    """Straight into the file: a planted fault. Says how many rows it hit."""
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute("PRAGMA ignore_check_constraints=ON")
        return connection.execute(statement, values).rowcount


def state_of(path: Path, hold: Hold) -> int:
    return int(rows(path, "SELECT state FROM holds WHERE id=?", hold.id)[0][0])


def crash(ledger: SqliteLedger) -> None:
    """What kill -9 leaves: the writer stops, the kernel lets go of the locks, the file stays as it is."""
    ledger._writer.close()
    ledger._join()
    ledger._closed = True
    ledger._connection.close()
    ledger._lock.release()
    if ledger._sweeper is not None:
        ledger._sweeper.release()


def ms(text: str, *, fold: int = 0) -> int:
    return int(datetime.fromisoformat(text).replace(tzinfo=BERLIN, fold=fold).timestamp()) * 1000


def report(path: Path, by: str, since_ms: int = 0, until_ms: int = FOREVER) -> list[SpendRow]:
    with closing(connect(path, create=False)) as connection:
        return spend(connection, by, since_ms=since_ms, until_ms=until_ms, zone=BERLIN)


async def serve(ledger: SqliteLedger, cost: int, text: str = "2026-07-01T12:00", fold: int = 0, **changes: Any) -> None:
    at = ms(text, fold=fold)
    ends = {key: changes.pop(key) for key in ("upstream", "partner") if key in changes}
    paid = changes.pop("paid", None)
    hold, attempt = await dispatched(ledger, request(100, *changes.pop("caps", ()), at_ms=at, **changes), **ends)
    ledger.settle(hold, settlement(cost, attempt, at_ms=at + 5000, paid=paid))
