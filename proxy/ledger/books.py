"""What each operation of the ledger writes. Synchronous; always inside one transaction of the writer's.

Counters are read under the write lock, decided on in memory and written back by compare and set before the
commit: a batch of many exchanges that share a team's cap writes its row once. `PRAGMA data_version` tells when
another process has committed; only then is what is remembered of the counters read again.
"""

# ruff: noqa: S608 (statements are put together from constants of this file only)

from __future__ import annotations

import sqlite3
from enum import IntEnum
from typing import Final, Literal

from proxy.ledger.api import Attempt, AttemptOutcome, Basis, Cap, CapExceeded, CapState, Hold, HoldRequest, Settlement
from proxy.ledger.balances import Balances
from proxy.ledger.errors import DuplicateHold, HoldNotOpen, StaleCounters
from proxy.ledger.invoices import Invoices
from proxy.ledger.payment_api import StoredAnswer
from proxy.ledger.payments import Payments
from proxy.ledger.purses import Purses
from proxy.ledger.tenders import Tenders
from proxy.ledger.transfers import TransferKind, Transfers
from proxy.pricing.money import Nano
from proxy.usage import Usage

COUNTERS_CACHED_MAX: Final = 50_000
_TOKENS_MAX: Final = 1 << 53


class State(IntEnum):
    """The life of a hold. Everything below SETTLED is open."""

    HELD = 0
    DISPATCHED = 1
    COMMITTED = 2
    SETTLED = 3
    RELEASED = 4


class Counter:
    """A counter as it will stand after this batch, and as it stood in the file."""

    __slots__ = ("held", "id", "limit_max", "of_list", "overage", "read_held", "read_spent", "spent")

    def __init__(self, row: tuple[int, str, int, int, int, int]) -> None:
        self.id, basis, self.spent, self.held, self.overage, self.limit_max = row
        self.of_list = basis == "list"
        self.read_spent = self.spent
        self.read_held = self.held

    def written(self) -> None:
        """The file now says the same."""
        self.read_spent = self.spent
        self.read_held = self.held


_CounterKey = tuple[str, str, str, int, Basis]
_FIELDS: Final = "id, basis, spent, held, overage, limit_max"


class Books:
    """The tables, through one connection that nobody else writes with."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection
        self._execute = connection.execute
        self._ids: dict[_CounterKey, int] = {}
        self._counters: dict[int, Counter] = {}
        self._dirty: dict[Counter, None] = {}
        self._transfers = Transfers(connection)
        self.purses = Purses(connection, self._transfers)
        self.balances = Balances(connection, self._transfers)
        self.payments = Payments(connection, self._transfers, self.balances)
        self.invoices = Invoices(connection)
        self._tenders = Tenders(connection, self.payments, self.balances)
        self._data_version = -1

    @property
    def boot(self) -> int:
        """Row id of the boot under which holds are made and payments leased."""
        return self.payments.boot

    @boot.setter
    def boot(self, boot: int) -> None:
        self.payments.boot = boot

    # -- the transaction around a batch

    def begin(self) -> None:
        """Take the write lock; forget the counters if somebody else has written since."""
        self._execute("BEGIN IMMEDIATE")
        (version,) = self._execute("PRAGMA data_version").fetchone()
        if version != self._data_version or len(self._counters) > COUNTERS_CACHED_MAX:
            self._data_version = version
            self._forget()

    def commit(self) -> None:
        """Write back the counters, purses, balances and transfers of the batch, and commit."""
        if self._dirty:
            self._write_counters()
        self.purses.write()
        self.balances.write()
        self._transfers.write()
        self._execute("COMMIT")

    def rollback(self) -> None:
        """Undo the batch, in the file and in memory."""
        self._forget()
        self._transfers.forget()
        if self._connection.in_transaction:
            self._execute("ROLLBACK")

    def _forget(self) -> None:
        self._ids.clear()
        self._counters.clear()
        self._dirty.clear()
        self.purses.forget()
        self.balances.forget()

    def _write_counters(self) -> None:
        rows = [(c.spent, c.held, c.overage, c.limit_max, c.id, c.read_spent, c.read_held) for c in self._dirty]
        written = self._connection.executemany(
            "UPDATE counters SET spent=?, held=?, overage=?, limit_max=? WHERE id=? AND spent=? AND held=?", rows
        ).rowcount
        if written != len(rows):
            raise StaleCounters("counters changed under the write lock")
        for counter in self._dirty:
            counter.written()
        self._dirty.clear()

    # -- holds

    def hold(self, request: HoldRequest) -> Hold:
        """Set the amounts aside in every cap and the purse, and take what the tender offers, or nothing of it.

        Raises CapExceeded, PurseExceeded, PaymentTaken, BalanceExceeded, DuplicateHold.
        """
        counters = [self._counter(cap) for cap in request.caps]
        self._check(request, counters)
        purse = None if request.purse is None else self.purses.fitting(request.purse, request.charged)
        tender = request.tender
        fitting = None if tender is None else self._tenders.fitting(tender, request)
        distinct = dict.fromkeys(counters)
        ids = tuple([counter.id for counter in distinct])
        purse_id = None if purse is None else purse.id
        hold_id = self._insert_hold(request, ids, purse_id)
        soft = self._soft_crossed(request, counters)
        for cap, counter in zip(request.caps, counters, strict=True):
            counter.limit_max = max(counter.limit_max, cap.limit)
        for counter in distinct:
            counter.held += (request.list or 0) if counter.of_list else request.charged
            self._dirty[counter] = None
        if purse is not None:
            self.purses.hold(purse, request.charged)
        hold = Hold(hold_id, request, soft, counters=ids, purse_id=purse_id)
        if tender is not None and fitting is not None:
            self._tenders.take(hold, tender, fitting)
        return hold

    def _check(self, request: HoldRequest, counters: list[Counter]) -> None:
        exceeded = []
        for cap, counter in zip(request.caps, counters, strict=True):
            amount = request.list if counter.of_list else request.charged
            if amount and counter.spent + counter.held + amount > cap.limit:
                exceeded.append(_state(cap, counter))
        if exceeded:
            raise CapExceeded(tuple(sorted(exceeded, key=lambda state: state.cap.limit - state.spent - state.held)))

    def _insert_hold(self, request: HoldRequest, counters: tuple[int, ...], purse_id: int | None) -> int:
        try:
            cursor = self._execute(
                "INSERT INTO holds (exchange_id, boot, state, key_id, user, team, organisation, model, operation,"
                " held_charged, held_list, counters, at_ms, purse, input_charged, price_source, owed)"
                " VALUES (?,?,0,?,?,?,?,?,?,?,?,?,?,?,?,?,?)",
                (
                    request.exchange_id,
                    self.boot,
                    request.key_id,
                    request.user,
                    request.team,
                    request.organisation,
                    request.model,
                    request.operation,
                    request.charged,
                    request.list,
                    str(list(counters)),
                    request.at_ms,
                    purse_id,
                    request.input_charged,
                    request.price_source,
                    request.owed,
                ),
            )
        except sqlite3.IntegrityError as error:
            raise DuplicateHold(f"exchange {request.exchange_id} already has a hold") from error
        if cursor.lastrowid is None:
            raise StaleCounters("the hold got no id")
        return cursor.lastrowid

    @staticmethod
    def _soft_crossed(request: HoldRequest, counters: list[Counter]) -> tuple[CapState, ...]:
        crossed = []
        for cap, counter in zip(request.caps, counters, strict=True):
            if cap.soft_limit is not None:
                before = counter.spent + counter.held
                amount = (request.list or 0) if counter.of_list else request.charged
                if before < cap.soft_limit <= before + amount:
                    crossed.append(CapState(cap, Nano(counter.spent), Nano(counter.held + amount)))
        return tuple(crossed)

    def dispatch(self, attempt: Attempt, at_ms: int) -> None:
        """Note that an upstream is about to be called. Raises HoldNotOpen."""
        self._move(attempt.hold_id, "UPDATE holds SET state=max(state, 1) WHERE id=? AND state<3")
        self._execute(
            "INSERT INTO attempts (hold_id, number, upstream, upstream_model, role, started_ms, partner)"
            " VALUES (?,?,?,?,?,?,?)",
            (
                attempt.hold_id,
                attempt.number,
                attempt.upstream,
                attempt.upstream_model,
                attempt.role,
                at_ms,
                attempt.partner,
            ),
        )

    def commit_hold(self, hold: Hold, answer: StoredAnswer | None, at_ms: int) -> None:
        """Note that the answer is about to go out, and burn what pays for it. Raises HoldNotOpen, LeaseLost."""
        payment = self._tenders.burnable(hold)
        self._move(hold.id, "UPDATE holds SET state=2 WHERE id=? AND state=1")
        if payment is not None:
            self._tenders.burn(hold, payment, answer, at_ms)

    def _move(self, hold_id: int, statement: str) -> None:
        if self._execute(statement, (hold_id,)).rowcount != 1:
            raise HoldNotOpen(f"hold {hold_id} is not in the state this needs")

    def settle(self, hold: Hold, settlement: Settlement, *, unreported: str = "unreported") -> bool:
        """End the hold with real amounts; says whether they were above it. Raises HoldNotOpen.

        Attempts that the settlement does not name end as `unreported`.
        """
        request = hold.request
        charged, list_, at_ms = settlement.charged, settlement.list, settlement.at_ms
        paid = None if hold.purse_id is None else _paid(settlement, request.charged)
        self._end(hold.id, State.SETTLED, charged, list_, paid, settlement.outcome, at_ms)
        self._count(hold.counters, request.charged, request.list or 0, charged, list_ or 0)
        if hold.purse_id is not None and paid is not None:
            over = max(0, charged - request.charged)
            self.purses.end(hold.purse_id, hold.id, held=request.charged, paid=paid, overage=over, at_ms=at_ms)
        self._pay(hold.id, request.team, request.charged, charged, paid or 0, "charged", at_ms)
        if list_:
            self._pay(hold.id, request.team, request.list or 0, list_, 0, "list", at_ms)
        for end in settlement.attempts:
            self._end_attempt(hold.id, end)
        if len(settlement.attempts) < hold.attempts:
            self._close_attempts(hold.id, unreported, at_ms)
        if request.tender is not None:
            self._tenders.end(hold, settlement.tendered, settlement.outcome, at_ms)
        return charged > request.charged or (list_ or 0) > (request.list or 0)

    def release(self, hold: Hold, reason: str, at_ms: int) -> None:
        """End the hold without any cost. Raises HoldNotOpen."""
        self._end(hold.id, State.RELEASED, 0, 0, None if hold.purse_id is None else 0, reason, at_ms)
        self._count(hold.counters, hold.request.charged, hold.request.list or 0, 0, 0)
        if hold.purse_id is not None:
            self.purses.end(hold.purse_id, hold.id, held=hold.request.charged, paid=0, overage=0, at_ms=at_ms)
        if hold.attempts:
            self._close_attempts(hold.id, reason, at_ms)
        if hold.request.tender is not None:
            self._tenders.end(hold, 0, reason, at_ms)

    def _end_attempt(self, hold_id: int, end: AttemptOutcome) -> None:
        self._execute(
            "UPDATE attempts SET outcome=?, status=?, input_tokens=?, output_tokens=?, cached_tokens=?,"
            " cache_write_tokens=?, cache_write_1h_tokens=?, reasoning_tokens=?, counted=?, list_cost=?,"
            " ended_ms=? WHERE hold_id=? AND number=? AND outcome IS NULL",
            (
                end.outcome,
                end.status,
                *_tokens(end.usage),
                end.list_cost,
                end.ended_ms,
                hold_id,
                end.attempt.number,
            ),
        )

    def _close_attempts(self, hold_id: int, outcome: str, at_ms: int) -> None:
        self._execute(
            "UPDATE attempts SET outcome=?, ended_ms=? WHERE hold_id=? AND outcome IS NULL", (outcome, at_ms, hold_id)
        )

    def _end(
        self, hold_id: int, state: State, charged: int, list_: int | None, paid: int | None, outcome: str, at_ms: int
    ) -> None:
        ended = self._execute(
            "UPDATE holds SET state=?, charged=?, list=?, paid=?, outcome=?, ended_ms=? WHERE id=? AND state<3",
            (int(state), charged, list_, paid, outcome, at_ms, hold_id),
        ).rowcount
        if ended != 1:
            raise HoldNotOpen(f"hold {hold_id} has ended already")

    def _count(self, ids: tuple[int, ...], held_charged: int, held_list: int, charged: int, list_: int) -> None:
        for counter_id in ids:
            counter = self._loaded(counter_id)
            held, spent = (held_list, list_) if counter.of_list else (held_charged, charged)
            counter.held -= held
            counter.spent += spent
            if spent > held:
                counter.overage += spent - held
            self._dirty[counter] = None

    def _pay(
        self, hold_id: int, team: str, held: int, spent: int, paid: int, book: Literal["charged", "list"], at_ms: int
    ) -> None:
        """What the team owes of `spent`: up to the hold, less what its purse `paid`; the rest is our overage's."""
        kind = TransferKind.CHARGED if book == "charged" else TransferKind.LIST
        income = "income" if book == "charged" else "providers"
        if within := min(held, spent) - paid:
            self._transfers.move(hold_id, kind, book, f"team:{team}", income, within, at_ms)
        if spent > held:
            self._transfers.move(hold_id, kind + 1, book, f"overage:{team}", income, spent - held, at_ms)

    # -- counters

    def cap_state(self, cap: Cap) -> CapState:
        """Where a cap stands; an unused one needs no row."""
        key = (cap.scope, cap.scope_id, cap.window, cap.start_ms, cap.basis)
        counter = self._counters.get(self._ids.get(key, -1)) or self._find(key)
        return CapState(cap, Nano(0), Nano(0)) if counter is None else _state(cap, counter)

    def _counter(self, cap: Cap) -> Counter:
        key = (cap.scope, cap.scope_id, cap.window, cap.start_ms, cap.basis)
        counter = self._counters.get(self._ids.get(key, -1))
        if counter is not None:
            return counter
        counter = self._find(key)
        if counter is None:
            self._execute(
                "INSERT INTO counters (scope, scope_id, window, start_ms, end_ms, basis) VALUES (?,?,?,?,?,?)",
                (cap.scope, cap.scope_id, cap.window, cap.start_ms, cap.end_ms, cap.basis.value),
            )
            counter = self._find(key)
        if counter is None:
            raise StaleCounters("a counter just made is not there")
        return counter

    def _find(self, key: _CounterKey) -> Counter | None:
        row = self._execute(
            f"SELECT {_FIELDS} FROM counters WHERE scope=? AND scope_id=? AND window=? AND start_ms=? AND basis=?",
            (*key[:4], key[4].value),
        ).fetchone()
        if row is None:
            return None
        self._ids[key] = row[0]
        return self._counters.setdefault(row[0], Counter(row))

    def _loaded(self, counter_id: int) -> Counter:
        counter = self._counters.get(counter_id)
        if counter is None:
            row = self._execute(f"SELECT {_FIELDS} FROM counters WHERE id=?", (counter_id,)).fetchone()
            if row is None:
                raise StaleCounters(f"counter {counter_id} of an open hold is gone")
            counter = self._counters[counter_id] = Counter(row)
        return counter


def _state(cap: Cap, counter: Counter) -> CapState:
    return CapState(cap, Nano(counter.spent), Nano(counter.held))


def _paid(settlement: Settlement, held: int) -> int:
    wanted = settlement.charged if settlement.paid is None else min(settlement.paid, settlement.charged)
    return min(wanted, held)


def _tokens(usage: Usage | None) -> tuple[int | None, ...]:
    if usage is None:
        return (None,) * 7
    return (
        min(usage.input_tokens, _TOKENS_MAX),
        min(usage.output_tokens, _TOKENS_MAX),
        min(usage.cached_tokens, _TOKENS_MAX),
        min(usage.cache_write_tokens, _TOKENS_MAX),
        min(usage.cache_write_1h_tokens, _TOKENS_MAX),
        min(usage.reasoning_tokens, _TOKENS_MAX),
        int(usage.counted),
    )
