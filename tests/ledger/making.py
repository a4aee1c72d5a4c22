"""Short hands for tests of the ledger."""

from __future__ import annotations

import itertools
import sqlite3
from contextlib import closing
from datetime import datetime
from hashlib import sha256
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
from proxy.ledger.payment_api import (
    BalanceKind,
    EcashProof,
    Lease,
    NewBalance,
    OnFailure,
    Payment,
    PaymentTaken,
    Proof,
    Receipt,
    StoredAnswer,
    Tender,
    Unit,
)
from proxy.ledger.schema import connect
from proxy.ledger.spend import SpendRow, spend
from proxy.ledger.store import SqliteLedger
from proxy.pricing.money import Nano
from proxy.usage import Usage
from tests.support.fakes import FakeClock, Log

BERLIN = ZoneInfo("Europe/Berlin")
FOREVER = 1 << 50
DAY_MS = 86_400_000
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


def proof(key: str = "", **changes: Any) -> Proof:
    """Of a payment over Lightning, which needs nobody to be asked."""
    fields: dict[str, Any] = {
        "rail": "lightning",
        "key": key or f"hash-{next(_numbers)}",
        "unit": Unit.MSAT,
        "amount": 21_000,
        "settled": True,
    }
    return Proof(**{**fields, **changes})


def unsettled(key: str = "", **changes: Any) -> Proof:
    """Of an authorization that somebody outside must be asked to settle."""
    fields: dict[str, Any] = {"rail": "x402", "unit": Unit.USDC, "amount": 1_000, "settled": False, "binding": "body"}
    return proof(key, **{**fields, **changes})


def ecash(key: str = "", **changes: Any) -> Proof:
    """Of a token that a mint must be asked to swap."""
    fields: dict[str, Any] = {"rail": "cashu", "amount": 30_000, "settled": False, "on_failure": OnFailure.RETURN}
    return proof(key, **{**fields, **changes})


def notes(*amounts: int, change: tuple[int, ...] = ()) -> tuple[EcashProof, ...]:
    """Fresh ones of a mint, in sats: ours, then the payer's change."""
    return tuple(
        EcashProof("https://mint.test", "00ad", amount, f"secret-{next(_numbers)}", "02c0ffee", kept=kept)
        for kept, amounts_ in ((True, amounts), (False, change))
        for amount in amounts_
    )


def tender(shown: Proof | None = None, amount: int | None = None, **changes: Any) -> Tender:
    """The proof pays all that it brings unless told otherwise."""
    fields: dict[str, Any] = {
        "unit": Unit.MSAT if shown is None else shown.unit,
        "amount": amount if amount is not None or shown is None else shown.amount,
        "request_digest": "request",
        "proof": shown,
    }
    return Tender(**{**fields, **changes})


def bought(shown: Proof, *caps: Cap, **changes: Any) -> HoldRequest:
    """A request that comes with a proof of payment."""
    return request(100, *caps, **{"tender": tender(shown), "key_id": "payer", "team": "payers", **changes})


def drawing(digest: bytes, amount: int, *caps: Cap, unit: Unit = Unit.MSAT, **changes: Any) -> HoldRequest:
    """A request that a balance pays for, a tenth of it for the input."""
    wanted = tender(None, amount, balance=digest, input_amount=amount // 10, unit=unit)
    return request(100, *caps, **{"tender": wanted, "key_id": "payer", "team": "payers", **changes})


def new_balance(name: str = "", **changes: Any) -> NewBalance:
    """30 days idle, 90 in all."""
    digest = sha256((name or f"bal_{next(_numbers)}").encode()).digest()
    fields: dict[str, Any] = {
        "digest": digest,
        "kind": BalanceKind.BOUGHT,
        "idle_ms": 30 * DAY_MS,
        "life_ms": 90 * DAY_MS,
    }
    return NewBalance(**{**fields, **changes})


async def funded(ledger: SqliteLedger, amount: int, **changes: Any) -> bytes:
    """A balance bought over Lightning; gives the digest of its token."""
    balance = new_balance(**changes)
    lease = await ledger.lease(proof(amount=amount), "top-up")
    await ledger.fund(lease, balance)
    return balance.digest


def settlement(
    charged: int,
    *attempts: Attempt,
    list_: int | None = -1,
    at_ms: int = 2000,
    paid: int | None = None,
    tendered: int = 0,
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
    return Settlement(Nano(charged), listed, ends, "served", at_ms, None if paid is None else Nano(paid), tendered)


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


async def stands(ledger: SqliteLedger, shown: Proof) -> Payment:
    """A payment that the ledger knows."""
    payment = await ledger.payment(shown.rail, shown.key)
    assert payment is not None
    return payment


async def taken(ledger: SqliteLedger, shown: Proof, **changes: Any) -> PaymentTaken:
    """Why no hold is to be had with this proof."""
    try:
        await ledger.hold(bought(shown, **changes))
    except PaymentTaken as refused:
        return refused
    raise AssertionError(f"{shown.key} was to be had")


def leased(hold: Hold) -> Lease:
    """The lease of a hold with a proof."""
    assert hold.lease is not None
    return hold.lease


async def served(ledger: SqliteLedger, shown: Proof, answer: StoredAnswer | None = None, **changes: Any) -> Hold:
    """An exchange that a proof has paid for, to its end."""
    hold, attempt = await dispatched(ledger, bought(shown, **changes))
    if not leased(hold).settled:
        await ledger.payment_settled(leased(hold), Receipt(shown.amount))
    await ledger.commit(hold, answer)
    ledger.settle(hold, settlement(60, attempt))
    return hold
