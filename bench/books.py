"""After the load: did Tollway really hold, count and settle what it answered?"""

from __future__ import annotations

import time
from contextlib import closing
from pathlib import Path
from typing import Any, Final

from bench.gateway import Gateway
from proxy.ledger.audit import audit
from proxy.ledger.books import State
from proxy.ledger.schema import connect

SCOPES: Final = ("key", "organisation", "team", "user")
SETTLE_SECONDS_MAX: Final = 10
POLL_SECONDS: Final = 0.2


def _read(database: Path) -> dict[str, Any]:
    with closing(connect(database, create=False)) as connection:
        (settled, unfinished) = connection.execute(
            "SELECT count(*) FILTER (WHERE state = ?1), count(*) FILTER (WHERE state < ?1) FROM holds", (State.SETTLED,)
        ).fetchone()
        scopes = connection.execute("SELECT DISTINCT scope FROM counters ORDER BY scope").fetchall()
        return {
            "settled": settled,
            "open": unfinished,
            "cap_scopes": [scope for (scope,) in scopes],
            "findings": [str(finding) for finding in audit(connection, database)],
        }


def check(gateway: Gateway, answered: int) -> dict[str, Any]:
    """For a gateway with a ledger: what it says of `answered` served requests, once no hold is open any more.

    `unbooked` counts what does not add up: answers without a settled hold, holds still open, cap scopes that were not
    counted, findings of the audit.
    """
    if gateway.database is None:
        return {}
    deadline = time.monotonic() + SETTLE_SECONDS_MAX
    while (books := _read(gateway.database))["open"] and time.monotonic() < deadline:
        time.sleep(POLL_SECONDS)
    missing = max(0, answered - books["settled"]) + len(set(SCOPES) - set(books["cap_scopes"]))
    return {"unbooked": missing + books["open"] + len(books["findings"]), "ledger": {"answered": answered, **books}}
