"""The ledger against a model in memory: any order of operations, crashes and a second process included."""

from __future__ import annotations

import asyncio
import shutil
import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, initialize, invariant, multiple, rule

from proxy.ledger.api import Basis, Cap, CapExceeded, Hold, Purse, PurseExceeded
from proxy.ledger.errors import HoldNotOpen
from proxy.ledger.store import SqliteLedger
from proxy.pricing.money import ZERO, Nano
from tests.ledger.making import cap, crash, opened, put_in, request, rows, settlement

WINDOW_MS = 1000
LIMIT = 1000
UTC = ZoneInfo("UTC")


@dataclass
class Sum:
    """What the model thinks of one counter."""

    spent: int = 0
    held: int = 0
    overage: int = 0


@dataclass
class Money:
    """What the model thinks of one purse."""

    granted: int = 0
    spent: int = 0
    held: int = 0

    @property
    def left(self) -> int:
        return self.granted - self.spent - self.held


PURSES = {"red": Purse("team", "red"), "frontier": Purse("team", "red", "frontier"), "ann": Purse("user", "red/ann")}


@dataclass
class Open:
    """An open hold, as the model knows it."""

    hold: Hold
    owner: int
    boot: int
    caps: tuple[Cap, ...]
    charged: int
    listed: int
    purse: str | None = None
    input: int = 0
    owed: int | None = None
    attempts: list[Any] = field(default_factory=list)
    committed: bool = False


class LedgerMachine(RuleBasedStateMachine):
    """Two ledgers on one file; each can crash and come back."""

    open_holds = Bundle("open_holds")

    def __init__(self) -> None:
        super().__init__()
        self.loop = asyncio.new_event_loop()
        self.folder = Path(tempfile.mkdtemp(prefix="ledger-machine-"))
        self.path = self.folder / "tollway.db"
        self.window = 0
        self.sums: dict[tuple[str, int, str], Sum] = {}
        self.purses = {name: Money() for name in PURSES}
        self.living: list[Open] = []
        self.boots = [0, 0]
        self.grants = 0
        self.charged = 0
        self.listed = 0

    @initialize()
    def open_both(self) -> None:
        self.ledgers: list[SqliteLedger] = [opened(self.path), opened(self.path)]

    def run(self, awaitable: Any) -> Any:
        return self.loop.run_until_complete(awaitable)

    def caps(self, scopes: frozenset[str]) -> tuple[Cap, ...]:
        start = self.window * WINDOW_MS
        ends = {"start_ms": start, "end_ms": start + WINDOW_MS}
        found = {
            "team": cap(LIMIT, "team", "red", **ends),
            "key": cap(LIMIT // 2, "key", "key_1", **ends),
            "list": cap(LIMIT, "team", "red", basis=Basis.LIST, **ends),
            "total": cap(LIMIT * 3, "organisation", "acme", window="total", start_ms=0, end_ms=0),
        }
        return tuple(found[scope] for scope in sorted(scopes))

    def sum_of(self, one: Cap) -> Sum:
        return self.sums.setdefault((one.scope, one.start_ms, one.basis.value), Sum())

    @rule(
        target=open_holds,
        who=st.integers(0, 1),
        scopes=st.frozensets(st.sampled_from(["team", "key", "list", "total"]), max_size=4),
        charged=st.integers(0, 400),
        listed=st.integers(0, 400),
        purse=st.sampled_from([None, *PURSES]),
        fixed=st.booleans(),
    )
    def hold(self, who: int, scopes: frozenset[str], charged: int, listed: int, purse: str | None, fixed: bool) -> Any:
        caps = self.caps(scopes)
        amounts = [listed if one.basis is Basis.LIST else charged for one in caps]
        short = [
            one
            for one, amount in zip(caps, amounts, strict=True)
            if amount and self.sum_of(one).spent + self.sum_of(one).held + amount > one.limit
        ]
        wanted = request(
            charged,
            *caps,
            list=Nano(listed),
            at_ms=self.window * WINDOW_MS,
            purse=None if purse is None else PURSES[purse],
            input_charged=ZERO if fixed else Nano(charged // 3),
            owed=ZERO if fixed else None,
        )
        try:
            hold = self.run(self.ledgers[who].hold(wanted))
        except CapExceeded as refused:
            assert {state.cap for state in refused.states} == set(short)
            for state in refused.states:
                assert (state.spent, state.held) == (self.sum_of(state.cap).spent, self.sum_of(state.cap).held)
            lefts = [state.cap.limit - state.spent - state.held for state in refused.states]
            assert lefts == sorted(lefts)
            return multiple()
        except PurseExceeded as refused:
            assert purse is not None and short == []
            money = self.purses[purse]
            assert charged > money.left == refused.state.left
            assert refused.state.purse == PURSES[purse]
            for one in caps:
                self.sum_of(one)
            return multiple()
        assert short == []
        if purse is not None:
            assert charged <= self.purses[purse].left
            self.purses[purse].held += charged
        for one, amount in zip(caps, amounts, strict=True):
            self.sum_of(one).held += amount
        made = Open(hold, who, self.boots[who], caps, charged, listed, purse, 0 if fixed else charged // 3)
        made.owed = 0 if fixed else None
        self.living.append(made)
        return made

    def is_open(self, one: Open) -> bool:
        return any(one is living for living in self.living)

    @rule(one=open_holds)
    def dispatch(self, one: Open) -> None:
        if self.is_open(one):
            ledger = self.ledgers[one.owner]
            one.attempts.append(self.run(ledger.dispatch(one.hold, upstream="openai", upstream_model="m")))

    @rule(one=open_holds)
    def commit(self, one: Open) -> None:
        if not self.is_open(one):
            return
        ledger = self.ledgers[one.owner]
        if one.attempts and not one.committed:
            self.run(ledger.commit(one.hold))
            one.committed = True
        else:
            with pytest.raises(HoldNotOpen):
                self.run(ledger.commit(one.hold))

    @rule(
        one=consumes(open_holds),
        charged=st.integers(0, 500),
        listed=st.integers(0, 500),
        paid=st.none() | st.integers(0, 500),
    )
    def settle(self, one: Open, charged: int, listed: int, paid: int | None) -> None:
        if self.is_open(one) and one.attempts:
            self.ledgers[one.owner].settle(one.hold, settlement(charged, *one.attempts, list_=listed, paid=paid))
            self.end(one, charged, listed, charged if paid is None else paid)

    @rule(who=st.integers(0, 1), purse=st.sampled_from([*PURSES]), amount=st.integers(-300, 600).filter(bool))
    def grant(self, who: int, purse: str, amount: int) -> None:
        money = self.purses[purse]
        try:
            state = self.run(put_in(self.ledgers[who], amount, PURSES[purse]))
        except PurseExceeded as refused:
            assert -amount > money.left == refused.state.left
            return
        money.granted += amount
        assert (state.granted, state.left) == (money.granted, money.left)
        assert money.left >= 0

    @rule(whos=st.lists(st.integers(0, 1), min_size=2, max_size=3), purse=st.sampled_from([*PURSES]))
    def grant_under_one_id(self, whos: list[int], purse: str) -> None:
        self.grants += 1
        for who in whos:
            self.run(put_in(self.ledgers[who], 50, PURSES[purse], id=f"same-{self.grants}"))
        self.purses[purse].granted += 50

    @rule(one=consumes(open_holds))
    def release(self, one: Open) -> None:
        if self.is_open(one):
            self.ledgers[one.owner].release(one.hold, reason="gone", at_ms=0)
            self.end(one, 0, 0)

    def end(self, one: Open, charged: int, listed: int, paid: int = 0) -> None:
        if one.purse is not None:
            money = self.purses[one.purse]
            money.held -= one.charged
            money.spent += min(paid, charged, one.charged)
        self.living = [living for living in self.living if living is not one]
        self.charged += charged
        self.listed += listed
        for counted in one.caps:
            held, spent = (one.listed, listed) if counted.basis is Basis.LIST else (one.charged, charged)
            sums = self.sum_of(counted)
            sums.held -= held
            sums.spent += spent
            sums.overage += max(0, spent - held)

    @rule(step=st.sampled_from([-1, 1]))
    def move_the_clock(self, step: int) -> None:
        self.window = max(0, self.window + step)

    @rule(who=st.integers(0, 1))
    def crash_and_reopen(self, who: int) -> None:
        self.run(self.ledgers[who].flush())
        crash(self.ledgers[who])
        self.ledgers[who] = opened(self.path)
        mine = [one for one in self.living if one.owner == who and one.boot == self.boots[who]]
        sent = [one for one in mine if one.attempts]
        recovered = self.ledgers[who].recovered
        assert (recovered.released, recovered.dispatched + recovered.committed) == (len(mine) - len(sent), len(sent))
        for one in mine:
            owed = one.charged if one.owed is None else one.owed
            charged, listed = (owed, one.listed) if one.attempts else (0, 0)
            self.end(one, charged, listed, one.input)
        self.boots[who] += 1

    @rule(who=st.integers(0, 1))
    def prune(self, who: int) -> None:
        self.run(self.ledgers[who].flush())
        before_ms = self.window * WINDOW_MS
        self.run(self.ledgers[who].prune(before_ms, UTC))
        kept = self.stored()
        for key, sums in list(self.sums.items()):
            if key not in kept:
                assert 0 < key[1] + WINDOW_MS <= before_ms
                assert sums.held == 0
                del self.sums[key]

    def stored(self) -> dict[tuple[str, int, str], Sum]:
        found = rows(self.path, "SELECT scope, start_ms, basis, spent, held, overage FROM counters")
        return {(scope, start, basis): Sum(*sums) for scope, start, basis, *sums in found}

    @invariant()
    def the_books_agree_with_the_model(self) -> None:
        for ledger in self.ledgers:
            self.run(ledger.flush())
        assert self.stored() == self.sums
        income = (
            "SELECT book, sum(amount) FROM transfers JOIN accounts ON accounts.id = credit"
            " WHERE kind < 20 GROUP BY book"
        )
        paid = dict(rows(self.path, income))
        assert (paid.get("charged", 0), paid.get("list", 0)) == (self.charged, self.listed)

    @invariant()
    def every_purse_is_as_the_model_says(self) -> None:
        self.run(self.ledgers[0].flush())
        states = self.run(self.ledgers[1].purse_states(tuple(PURSES.values())))
        for state, money in zip(states, self.purses.values(), strict=True):
            assert (state.granted, state.spent, state.held) == (money.granted, money.spent, money.held)
            assert money.left >= 0

    @invariant()
    def no_cap_is_overrun_but_by_overage(self) -> None:
        assert rows(self.path, "SELECT * FROM counters WHERE spent + held - overage > limit_max") == []

    @invariant()
    def the_audit_is_clean(self) -> None:
        assert self.run(self.ledgers[0].audit()) == []

    def teardown(self) -> None:
        for ledger in self.ledgers:
            self.run(ledger.close())
        self.run(self.loop.shutdown_default_executor())
        self.loop.close()
        shutil.rmtree(self.folder)


TestLedgerMachine = LedgerMachine.TestCase
TestLedgerMachine.settings = settings(
    max_examples=20, stateful_step_count=20, deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
