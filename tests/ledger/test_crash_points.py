"""Every instant at which a paying process can die, as the file is then: before and after each commit of the writer.

What kill -9 leaves is the file and its log as they stand, so a copy of both is a process that died there.
"""

from __future__ import annotations

import shutil
from collections.abc import Awaitable, Callable
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from proxy.ledger.audit_payments import unit_sums
from proxy.ledger.payment_api import Proof, Receipt
from proxy.ledger.payment_states import PaymentState
from proxy.ledger.schema import connect
from proxy.ledger.store import SqliteLedger
from tests.ledger.making import (
    bought,
    dispatched,
    drawing,
    ecash,
    leased,
    new_balance,
    notes,
    opened,
    proof,
    settlement,
    unsettled,
)

S = PaymentState


@dataclass
class Points:
    """Copies of the file, each with what the process had been told by then."""

    ledger: SqliteLedger
    folder: Path
    told: list[str] = field(default_factory=list)
    copies: list[tuple[Path, tuple[str, ...]]] = field(default_factory=list)

    def watch(self) -> None:
        """Copy the file around every commit from now on."""
        books = self.ledger._books
        commit = books.commit

        def watched() -> None:
            self._copy()
            commit()
            self._copy()

        books.commit = watched  # type: ignore[method-assign]

    def _copy(self) -> None:
        copy = self.folder / str(len(self.copies)) / "tollway.db"
        copy.parent.mkdir(parents=True)
        for suffix in ("", "-wal"):
            shutil.copy(f"{self.ledger.path}{suffix}", f"{copy}{suffix}")
        self.copies.append((copy, tuple(self.told)))

    def tell(self, word: str) -> None:
        self.told.append(word)


async def answered(points: Points, shown: Proof) -> None:
    """A proof that must be asked for buys an answer."""
    ledger = points.ledger
    hold = await ledger.hold(bought(shown))
    points.tell("leased")
    await ledger.note_payment(leased(hold), b"about to ask")
    await ledger.payment_settled(leased(hold), Receipt(shown.amount))
    points.tell("settled")
    attempt = await ledger.dispatch(hold, upstream="openai", upstream_model="m")
    await ledger.commit(hold)
    points.tell("burnt")
    ledger.settle(hold, settlement(60, attempt))


async def given_back(points: Points, shown: Proof) -> None:
    """Ecash for which no answer came."""
    ledger = points.ledger
    hold, attempt = await dispatched(ledger, bought(shown))
    points.tell("leased")
    await ledger.payment_settled(leased(hold), Receipt(shown.amount, 1_000, ecash=notes(29)))
    points.tell("settled")
    await ledger.payment_returned(leased(hold), "upstream failed")
    points.tell("returned")
    ledger.settle(hold, settlement(0, attempt))


async def left(points: Points, shown: Proof) -> None:
    """The client leaves while its money is asked for; nobody can say what came of it, then somebody can."""
    ledger = points.ledger
    hold = await ledger.hold(bought(shown))
    points.tell("leased")
    ledger.release(hold, reason="client_gone", at_ms=0)
    await ledger.payment_unknown(leased(hold), "no answer")
    (lease,) = await ledger.unknown_payments(count_max=1, idle_ms=0)
    await ledger.payment_settled(lease, Receipt(shown.amount))
    points.tell("settled")


async def funded_and_drawn(points: Points, shown: Proof) -> None:
    """A balance is bought, pays for an answer, and the rest of it ends."""
    ledger = points.ledger
    lease = await ledger.lease(shown, "top-up")
    points.tell("settled")
    balance = new_balance("drawn")
    await ledger.fund(lease, balance)
    points.tell("burnt")
    hold, attempt = await dispatched(ledger, drawing(balance.digest, 10_000))
    ledger.settle(hold, settlement(60, attempt, tendered=4_000))
    await ledger.flush()
    await ledger.expire_payments(1 << 50)


Life = Callable[[Points, Proof], Awaitable[None]]
LIVES: list[tuple[Life, Proof, int]] = [
    (answered, unsettled(), 6),
    (given_back, ecash(), 5),
    (left, unsettled(), 5),
    (funded_and_drawn, proof(amount=50_000), 9),
]
"""With how many commits each takes."""


def allowed(told: tuple[str, ...]) -> set[PaymentState | None]:
    """Where a payment may stand, given what was told last: there or, where a commit was under way, one step on."""
    following: dict[str, set[PaymentState | None]] = {
        "": {None, S.UNKNOWN, S.SETTLED},
        "leased": {S.UNKNOWN, S.SETTLED, S.REFUNDED},
        "settled": {S.SETTLED, S.BURNT, S.REFUNDED},
        "burnt": {S.BURNT},
        "returned": {S.REFUNDED},
    }
    return following[told[-1] if told else ""]


@pytest.mark.parametrize(("live", "shown", "commits"), LIVES, ids=[live.__name__ for live, _, _ in LIVES])
async def test_no_instant_loses_or_doubles_money(tmp_path: Path, live: Life, shown: Proof, commits: int) -> None:
    """After each: the books hold, nothing told is undone, and every payment comes to an end, its payer's or ours."""
    ledger = opened(tmp_path / "tollway.db")
    points = Points(ledger, tmp_path / "copies")
    points.watch()
    await live(points, shown)
    await ledger.flush()
    assert len(points.copies) == 2 * commits
    await ledger.close()
    for copy, told in points.copies:
        after = opened(copy)
        assert await after.audit() == []
        payment = await after.payment(shown.rail, shown.key)
        assert (None if payment is None else payment.state) in allowed(told)
        await came_to_an_end(after, shown)
        await after.close()


async def came_to_an_end(after: SqliteLedger, shown: Proof) -> None:
    """The reconciler finds the money; what is settled then is refunded; nothing is held by anybody."""
    for lease in await after.unknown_payments(count_max=9, idle_ms=0):
        await after.payment_settled(lease, Receipt(shown.amount, ecash=notes(30) if shown.rail == "cashu" else ()))
    payment = await after.payment(shown.rail, shown.key)
    if payment is not None and payment.state is S.SETTLED:
        await after.refund(await after.lease(shown, "refund"), new_balance())
        payment = await after.payment(shown.rail, shown.key)
    assert await after.audit() == []
    with closing(connect(after.path, create=False)) as connection:
        sums = unit_sums(connection)
    if payment is None:
        assert sums == []
        return
    assert payment.state in (S.BURNT, S.REFUNDED)
    (unit,) = sums
    assert (unit.deposits, unit.held, unit.accounted) == (shown.amount, 0, shown.amount)
