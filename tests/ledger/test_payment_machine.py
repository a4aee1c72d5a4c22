"""Payments and balances against a plain model: any order of operations, crashes and a second process included."""

from __future__ import annotations

import asyncio
import shutil
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from proxy.ledger.api import CapExceeded
from proxy.ledger.payment_api import (
    BalanceExceeded,
    Lease,
    LeaseLost,
    PaymentTaken,
    Receipt,
    StoredAnswer,
    Taken,
)
from proxy.ledger.payment_states import PaymentState as S
from proxy.ledger.store import SqliteLedger
from tests.ledger.making import (
    BERLIN,
    bought,
    cap,
    crash,
    drawing,
    ecash,
    new_balance,
    notes,
    opened,
    proof,
    rows,
    settlement,
    unsettled,
)
from tests.ledger.payment_model import Running, Saved, Shown

KEYS = 6
LEASES_MAX = 4
CAP = 600
"""Good for six holds at a time: the caps refuse now and then."""
ANSWER = StoredAnswer("request", 200, (), b"answer", 5)


class PaymentMachine(RuleBasedStateMachine):
    """Two ledgers on one file; each can crash and come back. Old leases are kept, to say late words with."""

    def __init__(self) -> None:
        super().__init__()
        self.loop = asyncio.new_event_loop()
        self.folder = Path(tempfile.mkdtemp(prefix="payment-machine-"))
        self.path = self.folder / "tollway.db"
        kinds = [proof, unsettled, ecash] * (KEYS // 3)
        self.shown = [Shown(make(f"key-{n}", leases_max=LEASES_MAX)) for n, make in enumerate(kinds)]
        self.balances: list[Saved] = []
        self.running: list[Running] = []
        self.leases: list[tuple[int, int, Lease]] = []
        self.boots = [0, 0]

    @initialize()
    def open_both(self) -> None:
        self.ledgers: list[SqliteLedger] = [opened(self.path), opened(self.path)]

    def run(self, awaitable: Any) -> Any:
        return self.loop.run_until_complete(awaitable)

    # -- leases

    def why_not(self, one: Shown, *, for_hold: bool) -> Taken | None:
        final = {S.BURNT: Taken.SPENT, S.REFUNDED: Taken.RETURNED, S.REFUSED: Taken.REFUSED, S.UNKNOWN: Taken.UNKNOWN}
        if one.state in final:
            return final[one.state]
        if one.owner is not None:
            return Taken.UNDER_WAY
        return Taken.WORN_OUT if for_hold and one.leases >= LEASES_MAX else None

    def lease(self, who: int, key: int, lease: Lease) -> None:
        one = self.shown[key]
        assert lease.settled == (one.state is S.SETTLED or one.proof.settled)
        one.known, one.leases, one.fence = True, one.leases + 1, one.fence + 1
        one.owner = (who, self.boots[who])
        assert lease.fence == one.fence
        if one.state is S.SEEN:
            one.state, one.value = (S.SETTLED, one.proof.amount) if one.proof.settled else (S.LEASED, 0)
        self.leases.append((who, key, lease))

    @rule(who=st.integers(0, 1), key=st.integers(0, KEYS - 1), capped=st.booleans())
    def hold(self, who: int, key: int, capped: bool) -> None:
        one = self.shown[key]
        why = self.why_not(one, for_hold=True)
        caps = (cap(CAP),) if capped else ()
        full = capped and 100 * (1 + sum(bool(r.hold and r.hold.request.caps) for r in self.running)) > CAP
        try:
            hold = self.run(self.ledgers[who].hold(bought(one.proof, *caps)))
        except CapExceeded:
            assert full
            return
        except PaymentTaken as taken:
            assert not full
            assert taken.why is why
            assert taken.answer == (ANSWER if why is Taken.SPENT and one.answered else None)
            return
        assert why is None
        assert not full
        self.lease(who, key, hold.lease)
        self.running.append(Running((who, self.boots[who]), hold, hold.lease, key))

    @rule(who=st.integers(0, 1), key=st.integers(0, KEYS - 1))
    def lease_alone(self, who: int, key: int) -> None:
        one = self.shown[key]
        why = self.why_not(one, for_hold=False)
        try:
            lease = self.run(self.ledgers[who].lease(one.proof, "other"))
        except PaymentTaken as taken:
            assert taken.why is why
            assert taken.answer is None
            return
        assert why is None
        self.lease(who, key, lease)
        self.running.append(Running((who, self.boots[who]), None, lease, key))

    def has(self, lease: Lease, one: Shown) -> bool:
        return one.fence == lease.fence

    # -- the word

    @precondition(lambda self: self.leases)
    @rule(data=st.data(), word=st.sampled_from(["settled", "unknown", "refused", "freed", "returned"]))
    def say(self, data: st.DataObject, word: str) -> None:
        who, key, lease = data.draw(st.sampled_from(self.leases))
        one = self.shown[key]
        ledger = self.ledgers[who]
        brought = notes(one.proof.amount // 1000) if one.proof.rail == "cashu" else ()
        said = {
            "settled": lambda: ledger.payment_settled(lease, Receipt(one.proof.amount, ecash=brought)),
            "unknown": lambda: ledger.payment_unknown(lease, "x"),
            "refused": lambda: ledger.payment_refused(lease, "x"),
            "freed": lambda: ledger.payment_freed(lease, "x"),
            "returned": lambda: ledger.payment_returned(lease, "x"),
        }[word]
        mine = self.has(lease, one)
        asked = one.state in (S.LEASED, S.UNKNOWN)
        here = one.owner == (who, self.boots[who])
        may = {
            "settled": asked,
            "unknown": asked,
            "refused": asked or one.state is S.SEEN,
            "freed": asked or one.state is S.SETTLED,
            "returned": one.state is S.SETTLED and here and bool(one.notes),
        }[word]
        if not (mine and may):
            with pytest.raises(LeaseLost):
                self.run(said())
            return
        self.run(said())
        unserved = one.orphaned or one.state is S.UNKNOWN
        if word == "settled":
            one.state, one.value, one.notes = S.SETTLED, one.proof.amount, brought
            if unserved:
                self.let_go(one)
        elif word == "freed":
            one.owner, one.orphaned = None, False
            one.state = S.SETTLED if one.state is S.SETTLED else S.SEEN
        else:
            one.state = {"unknown": S.UNKNOWN, "refused": S.REFUSED, "returned": S.REFUNDED}[word]
            one.owner, one.orphaned = None, False

    def let_go(self, one: Shown) -> None:
        one.owner, one.orphaned = None, False
        if one.state is S.SETTLED and one.notes:
            one.state = S.REFUNDED
        elif one.state is S.LEASED:
            one.state = S.SEEN

    @rule(who=st.integers(0, 1), count=st.integers(1, 4))
    def reconcile(self, who: int, count: int) -> None:
        unknown = [key for key, one in enumerate(self.shown) if one.state is S.UNKNOWN]
        leases = self.run(self.ledgers[who].unknown_payments(count_max=count, idle_ms=0))
        assert len(leases) == min(count, len(unknown))
        for lease in leases:
            key = int(lease.proof.key.partition("-")[2])
            one = self.shown[key]
            assert key in unknown
            one.fence += 1
            assert lease.fence == one.fence
            assert lease.proof == replace(one.proof, settled=False)
            self.leases.append((who, key, lease))

    # -- what becomes of it

    @precondition(lambda self: self.running)
    @rule(data=st.data())
    def dispatch(self, data: st.DataObject) -> None:
        run = data.draw(st.sampled_from(self.running))
        if run.hold is not None:
            ledger = self.ledgers[run.owner[0]]
            run.attempts.append(self.run(ledger.dispatch(run.hold, upstream="openai", upstream_model="m")))

    @precondition(lambda self: any(run.attempts and not run.committed for run in self.running))
    @rule(data=st.data(), kept=st.booleans())
    def commit(self, data: st.DataObject, kept: bool) -> None:
        run = data.draw(st.sampled_from([run for run in self.running if run.attempts and not run.committed]))
        assert run.hold is not None
        ledger = self.ledgers[run.owner[0]]
        if run.lease is None or run.key is None:
            self.run(ledger.commit(run.hold))
            run.committed = True
            return
        one = self.shown[run.key]
        may = self.has(run.lease, one) and one.state is S.SETTLED and one.owner == run.owner
        if not may:
            with pytest.raises(LeaseLost):
                self.run(ledger.commit(run.hold, ANSWER if kept else None))
            return
        self.run(ledger.commit(run.hold, ANSWER if kept else None))
        run.committed = True
        one.state, one.owner, one.answered = S.BURNT, None, kept

    @precondition(lambda self: any(run.hold is None for run in self.running))
    @rule(data=st.data(), refund=st.booleans(), known=st.none() | st.integers(0, 3))
    def fund(self, data: st.DataObject, refund: bool, known: int | None) -> None:
        run = data.draw(st.sampled_from([run for run in self.running if run.hold is None]))
        assert run.lease is not None
        assert run.key is not None
        one = self.shown[run.key]
        ledger = self.ledgers[run.owner[0]]
        target: Any = new_balance(f"for {run.key}")
        row = len(self.balances) + 1
        if not refund and known is not None and known < len(self.balances):
            if self.balances[known].unit is not one.proof.unit:
                return
            target = row = known + 1
        may = self.has(run.lease, one) and one.state is S.SETTLED and one.owner == run.owner
        do = ledger.refund if refund else ledger.fund
        if not may:
            if one.balance is None:
                with pytest.raises(LeaseLost):
                    self.run(do(run.lease, target))
            return
        state = self.run(do(run.lease, target))
        assert state.row == row
        if row > len(self.balances):
            self.balances.append(Saved(one.proof.unit))
        self.balances[row - 1].deposited += one.value
        one.state, one.owner, one.balance = (S.REFUNDED if refund else S.BURNT), None, row
        assert self.run(do(run.lease, target)).row == row

    @precondition(lambda self: self.balances)
    @rule(who=st.integers(0, 1), data=st.data(), amount=st.integers(0, 40_000))
    def draw(self, who: int, data: st.DataObject, amount: int) -> None:
        row = data.draw(st.integers(1, len(self.balances)))
        saved = self.balances[row - 1]
        digest = rows(self.path, "SELECT digest FROM balances WHERE id=?", row)[0][0]
        try:
            hold = self.run(self.ledgers[who].hold(drawing(digest, amount, unit=saved.unit)))
        except BalanceExceeded as exceeded:
            assert exceeded.state is not None
            assert exceeded.state.left == saved.left < amount
            return
        assert amount <= saved.left
        saved.held += amount
        self.running.append(Running((who, self.boots[who]), hold, None, None, row, amount))

    @precondition(lambda self: self.running)
    @rule(data=st.data(), tendered=st.integers(0, 50_000), asked=st.booleans())
    def end(self, data: st.DataObject, tendered: int, asked: bool) -> None:
        run = data.draw(st.sampled_from(self.running))
        self.running = [other for other in self.running if other is not run]
        ledger = self.ledgers[run.owner[0]]
        if run.lease is not None:
            run.lease.asked = asked
        if run.hold is None:
            assert run.lease is not None
            ledger.unlease(run.lease, reason="ended")
        elif run.attempts:
            ledger.settle(run.hold, settlement(70, *run.attempts, tendered=tendered))
        else:
            tendered = 0
            ledger.release(run.hold, reason="ended", at_ms=0)
        self.run(ledger.flush())
        if run.balance is not None:
            self.pay(run, min(tendered, run.amount))
        elif run.key is not None and run.lease is not None:
            one = self.shown[run.key]
            if not self.has(run.lease, one) or one.owner != run.owner:
                return
            if one.state is S.LEASED and asked:
                one.orphaned = True
            else:
                self.let_go(one)

    def pay(self, run: Running, paid: int) -> None:
        saved = self.balances[(run.balance or 0) - 1]
        saved.held -= run.amount
        saved.spent += paid

    @rule(who=st.integers(0, 1))
    def crash_and_reopen(self, who: int) -> None:
        self.run(self.ledgers[who].flush())
        crash(self.ledgers[who])
        self.ledgers[who] = opened(self.path)
        boot = (who, self.boots[who])
        for one in self.shown:
            if one.owner == boot:
                if one.state is S.LEASED:
                    one.state, one.owner, one.orphaned = S.UNKNOWN, None, False
                else:
                    self.let_go(one)
        for run in self.running:
            if run.owner == boot and run.balance is not None:
                self.pay(run, run.amount // 10 if run.attempts else 0)
        self.running = [run for run in self.running if run.owner != boot]
        self.leases = [(owner, key, lease) for owner, key, lease in self.leases if owner != who]
        self.boots[who] += 1

    @rule(who=st.integers(0, 1))
    def prune(self, who: int) -> None:
        self.run(self.ledgers[who].flush())
        self.run(self.ledgers[who].prune(10**6, BERLIN))

    # -- what always holds

    @invariant()
    def every_payment_is_as_the_model_says(self) -> None:
        for one in self.shown:
            payment = self.run(self.ledgers[0].payment(one.proof.rail, one.proof.key))
            if not one.known:
                assert payment is None
                continue
            assert (payment.state, payment.leased, payment.fence) == (one.state, one.owner is not None, one.fence)
            assert (payment.leases, payment.balance) == (one.leases, one.balance)
            assert payment.held == (one.value if one.state is S.SETTLED else 0)
            assert payment.captured == (one.value if one.state is S.BURNT and one.balance is None else 0)
            assert payment.credited == (one.value if one.balance is not None else 0)

    @invariant()
    def every_balance_is_as_the_model_says(self) -> None:
        self.run(self.ledgers[0].flush())
        self.run(self.ledgers[1].flush())
        found = rows(self.path, "SELECT deposited, spent, held FROM balances ORDER BY id")
        assert found == [(saved.deposited, saved.spent, saved.held) for saved in self.balances]
        assert all(saved.left >= 0 for saved in self.balances)

    @invariant()
    def the_audit_is_clean(self) -> None:
        assert self.run(self.ledgers[0].audit()) == []

    def teardown(self) -> None:
        for ledger in self.ledgers:
            self.run(ledger.close())
        self.run(self.loop.shutdown_default_executor())
        self.loop.close()
        shutil.rmtree(self.folder)


TestPaymentMachine = PaymentMachine.TestCase
TestPaymentMachine.settings = settings(
    max_examples=25, stateful_step_count=25, deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
