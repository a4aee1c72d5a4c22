"""The life of a hold in a real file."""

from __future__ import annotations

import asyncio
import sqlite3
import threading
from pathlib import Path

import pytest

from proxy.errors import Refusal
from proxy.ledger import store
from proxy.ledger.api import Basis, CapExceeded, CapState, Hold
from proxy.ledger.errors import AMOUNT_NANO_MAX, DuplicateHold, HoldNotOpen, LedgerClosed
from proxy.ledger.operations import Operation
from proxy.ledger.store import BootTaken, SqliteLedger
from proxy.pricing.money import Nano
from tests.ledger.making import cap, crash, dispatched, opened, request, rows, settlement, state_of
from tests.support.fakes import Log


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "state" / "tollway.db"


async def state(ledger: SqliteLedger, of: object) -> tuple[int, int]:
    (found,) = await ledger.cap_states((of,))  # type: ignore[arg-type]
    return found.spent, found.held


async def test_hold_dispatch_settle_counts_what_was_charged(path: Path) -> None:
    """A settled hold leaves its real cost in every cap and nothing held."""
    ledger = opened(path)
    caps = (cap(1000), cap(1000, "key", "key_1"), cap(500, "organisation", "acme", window="total", end_ms=0))
    hold, attempt = await dispatched(ledger, request(100, *caps))
    assert [await state(ledger, one) for one in caps] == [(0, 100)] * 3
    ledger.settle(hold, settlement(70, attempt))
    assert [await state(ledger, one) for one in caps] == [(70, 0)] * 3
    assert await ledger.audit() == []
    await ledger.close()


async def test_refused_hold_changes_nothing(path: Path) -> None:
    """All caps or none: what fits elsewhere is not held when one cap is too tight."""
    ledger = opened(path)
    wide, tight = cap(1000), cap(50, "key", "key_1")
    with pytest.raises(CapExceeded):
        await ledger.hold(request(100, wide, tight))
    assert (await state(ledger, wide), await state(ledger, tight)) == ((0, 0), (0, 0))
    assert rows(path, "SELECT count(*) FROM holds") == [(0,)]
    await ledger.close()


async def test_exceeded_caps_are_listed_tightest_first_as_they_stand(path: Path) -> None:
    """CapExceeded names every cap that does not fit, with what is spent and held at that instant."""
    ledger = opened(path)
    wide, middle, tight = cap(1000), cap(160, "user", "ann"), cap(120, "key", "key_1")
    hold, attempt = await dispatched(ledger, request(50, wide, middle, tight))
    ledger.settle(hold, settlement(30, attempt))
    await ledger.hold(request(20, wide, middle, tight))
    with pytest.raises(CapExceeded) as refused:
        await ledger.hold(request(115, wide, middle, tight))
    assert refused.value.states == (CapState(tight, Nano(30), Nano(20)), CapState(middle, Nano(30), Nano(20)))
    assert [one.left for one in refused.value.states] == [70, 110]
    await ledger.close()


async def test_a_cap_can_be_used_to_its_last_nano_dollar(path: Path) -> None:
    """Exactly the limit fits, one more does not."""
    ledger = opened(path)
    await ledger.hold(request(60, cap(100)))
    await ledger.hold(request(40, cap(100)))
    with pytest.raises(CapExceeded):
        await ledger.hold(request(1, cap(100)))
    await ledger.close()


async def test_a_free_hold_fits_an_exhausted_cap(path: Path) -> None:
    """What costs nothing is not stopped by a cap that is used up, even one that is over by overage."""
    ledger = opened(path)
    hold, attempt = await dispatched(ledger, request(100, cap(100)))
    ledger.settle(hold, settlement(150, attempt))
    free = await ledger.hold(request(0, cap(100)))
    ledger.release(free, reason="done", at_ms=1)
    assert await ledger.audit() == []
    await ledger.close()


async def test_each_cap_counts_its_own_basis(path: Path) -> None:
    """With the caller's own provider key nothing is charged, and a cap on list cost still counts."""
    ledger = opened(path)
    charged, listed = cap(1000), cap(1000, basis=Basis.LIST)
    hold, attempt = await dispatched(ledger, request(0, charged, listed, list=Nano(300)))
    assert (await state(ledger, charged), await state(ledger, listed)) == ((0, 0), (0, 300))
    ledger.settle(hold, settlement(0, attempt, list_=120))
    assert (await state(ledger, charged), await state(ledger, listed)) == ((0, 0), (120, 0))
    assert await ledger.audit() == []
    await ledger.close()


async def test_a_list_cap_refuses_a_model_without_list_price(path: Path) -> None:
    """What has no list price cannot be counted under a cap on list cost, so it is refused."""
    ledger = opened(path)
    with pytest.raises(Refusal) as refused:
        await ledger.hold(request(0, cap(1000, basis=Basis.LIST), list=None))
    assert refused.value.code == "unbounded_cost"
    await ledger.close()


async def test_one_counter_named_by_two_caps_counts_once(path: Path) -> None:
    """Two limits on one window are both checked, and the amount is held once."""
    ledger = opened(path)
    await ledger.hold(request(60, cap(1000), cap(100)))
    assert await state(ledger, cap(1000)) == (0, 60)
    with pytest.raises(CapExceeded):
        await ledger.hold(request(60, cap(1000), cap(100)))
    assert await ledger.audit() == []
    await ledger.close()


async def test_overage_is_counted_and_alarms(path: Path) -> None:
    """Usage above the hold counts in the cap, goes to the overage account and raises an alarm."""
    log = Log()
    ledger = opened(path, log=log)
    hold, attempt = await dispatched(ledger, request(100, cap(120)))
    ledger.settle(hold, settlement(150, attempt))
    assert await state(ledger, cap(120)) == (150, 0)
    assert ledger.alarms.overages == 1
    assert "ledger_overage" in log.names()
    payers = "SELECT name, amount FROM transfers JOIN accounts ON accounts.id = debit WHERE kind <= 2 ORDER BY kind"
    assert rows(path, payers) == [("team:red", 100), ("overage:red", 50)]
    assert await ledger.audit() == []
    with pytest.raises(CapExceeded):
        await ledger.hold(request(1, cap(120)))
    await ledger.close()


async def test_soft_limit_is_reported_by_the_hold_that_crosses_it(path: Path) -> None:
    """One hold reports the crossing; those before and after do not."""
    ledger = opened(path)
    soft = cap(1000, soft_limit=Nano(200))
    first, second, third = [await ledger.hold(request(150, soft)) for _ in range(3)]
    assert (first.soft_crossed, third.soft_crossed) == ((), ())
    assert second.soft_crossed == (CapState(soft, Nano(0), Nano(300)),)
    await ledger.close()


async def test_a_second_hold_of_an_exchange_is_refused(path: Path) -> None:
    """The exchange id is the idempotency key: nothing is held twice for it."""
    ledger = opened(path)
    wanted = request(100, cap(1000))
    await ledger.hold(wanted)
    with pytest.raises(DuplicateHold):
        await ledger.hold(wanted)
    assert await state(ledger, cap(1000)) == (0, 100)
    await ledger.close()


@pytest.mark.parametrize("second", ["settle", "release"])
async def test_a_second_end_is_an_alarm_and_changes_nothing(path: Path, second: str) -> None:
    """A hold ends once; another end is logged and counted, never applied."""
    log = Log()
    ledger = opened(path, log=log)
    hold, attempt = await dispatched(ledger, request(100, cap(1000)))
    ledger.settle(hold, settlement(70, attempt))
    if second == "settle":
        ledger.settle(hold, settlement(10, attempt))
    else:
        ledger.release(hold, reason="again", at_ms=1)
    assert await state(ledger, cap(1000)) == (70, 0)
    assert ledger.alarms.double_ends == 1
    assert "ledger_double_end" in log.names()
    await ledger.close()


async def test_an_end_that_the_file_already_has_is_not_applied_again(path: Path) -> None:
    """The statement itself enforces one end, whatever the object in memory says."""
    ledger = opened(path)
    hold, attempt = await dispatched(ledger, request(100, cap(1000)))
    ledger.settle(hold, settlement(70, attempt))
    hold.ended = False
    ledger.settle(hold, settlement(30, attempt))
    await ledger.flush()
    assert await state(ledger, cap(1000)) == (70, 0)
    assert ledger.alarms.double_ends == 1
    assert await ledger.audit() == []
    await ledger.close()


async def test_release_gives_everything_back(path: Path) -> None:
    """A released hold leaves no spend, no transfer and no attempt under way."""
    ledger = opened(path)
    first = await ledger.hold(request(100, cap(1000)))
    second, _ = await dispatched(ledger, request(100, cap(1000)))
    ledger.release(first, reason="refused", at_ms=5)
    ledger.release(second, reason="connect_failed", at_ms=5)
    assert await state(ledger, cap(1000)) == (0, 0)
    assert rows(path, "SELECT count(*) FROM transfers") == [(0,)]
    assert rows(path, "SELECT outcome, ended_ms FROM attempts") == [("connect_failed", 5)]
    assert await ledger.audit() == []
    await ledger.close()


async def test_attempts_are_numbered_rows_under_one_hold(path: Path) -> None:
    """Each upstream call is its own row, durable before the call; the settlement fills in how it ended."""
    ledger = opened(path)
    hold, first = await dispatched(ledger, request(100, cap(1000)))
    second = await ledger.dispatch(hold, upstream="azure", upstream_model="gpt-4o", role="answer")
    assert (first.number, second.number) == (1, 2)
    ledger.settle(hold, settlement(70, first, second))
    await ledger.flush()
    wanted = "SELECT number, upstream, outcome, status, input_tokens, cached_tokens, list_cost FROM attempts ORDER BY 1"
    assert rows(path, wanted) == [(1, "openai", "status", 500, None, None, 0), (2, "azure", "served", 200, 100, 40, 70)]
    await ledger.close()


async def test_an_attempt_nobody_reported_ends_with_its_hold(path: Path) -> None:
    """No attempt stays under way once its hold has ended."""
    ledger = opened(path)
    hold, first = await dispatched(ledger, request(100))
    await ledger.dispatch(hold, upstream="azure", upstream_model="gpt-4o")
    ledger.settle(hold, settlement(70, first))
    assert await ledger.audit() == []
    assert rows(path, "SELECT outcome FROM attempts ORDER BY number") == [("served",), ("unreported",)]
    await ledger.close()


async def test_states_follow_one_another(path: Path) -> None:
    """held, dispatched, committed, settled; commit needs a dispatch, and nothing follows the end."""
    ledger = opened(path)
    hold = await ledger.hold(request(100))
    assert state_of(path, hold) == 0
    with pytest.raises(HoldNotOpen):
        await ledger.commit(hold)
    attempt = await ledger.dispatch(hold, upstream="openai", upstream_model="gpt-4o")
    assert state_of(path, hold) == 1
    await ledger.commit(hold)
    assert state_of(path, hold) == 2
    ledger.settle(hold, settlement(70, attempt))
    await ledger.flush()
    assert state_of(path, hold) == 3
    with pytest.raises(HoldNotOpen):
        await ledger.dispatch(hold, upstream="openai", upstream_model="gpt-4o")
    with pytest.raises(HoldNotOpen):
        await ledger.commit(hold)
    await ledger.close()


async def test_dispatch_after_the_end_in_the_file_writes_no_attempt(path: Path) -> None:
    """Even if memory were wrong, an ended hold takes no further attempt."""
    ledger = opened(path)
    hold, attempt = await dispatched(ledger, request(100))
    ledger.settle(hold, settlement(70, attempt))
    hold.ended = False
    with pytest.raises(HoldNotOpen):
        await ledger.dispatch(hold, upstream="openai", upstream_model="gpt-4o")
    assert rows(path, "SELECT count(*) FROM attempts") == [(1,)]
    await ledger.close()


@pytest.mark.parametrize("turns", range(6))
async def test_a_cancelled_hold_is_given_back(path: Path, turns: int) -> None:
    """Whenever the waiting task is cancelled, either it got the hold or nobody has it and it is released."""
    ledger = opened(path)
    waiting = asyncio.ensure_future(ledger.hold(request(100, cap(1000))))
    for _ in range(turns):
        await asyncio.sleep(0)
    waiting.cancel()
    (outcome,) = await asyncio.gather(waiting, return_exceptions=True)
    if isinstance(outcome, Hold):
        ledger.release(outcome, reason="got it", at_ms=1)
    else:
        assert isinstance(outcome, asyncio.CancelledError)
    await ledger.flush()
    await ledger.flush()
    assert await state(ledger, cap(1000)) == (0, 0)
    await ledger.close()
    assert rows(path, "SELECT count(*) FROM boots") == [(0,)]


async def test_a_hold_cancelled_after_it_was_granted_is_given_back(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The answer is there but the task never sees it: the hold is released all the same."""
    ledger = opened(path)
    waiting = asyncio.ensure_future(ledger.hold(request(100, cap(1000))))
    answer = ledger._answer

    def answer_and_cancel(batch: list[Operation]) -> None:
        answer(batch)
        waiting.cancel()

    monkeypatch.setattr(ledger, "_answer", answer_and_cancel)
    (outcome,) = await asyncio.gather(waiting, return_exceptions=True)
    assert isinstance(outcome, asyncio.CancelledError)
    monkeypatch.undo()
    assert await state(ledger, cap(1000)) == (0, 0)
    await ledger.close()


async def test_a_full_queue_refuses_holds_but_no_ends(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Past the limit of waiting operations no hold is taken; what is open can still end."""
    ledger = opened(path)
    hold, attempt = await dispatched(ledger, request(100, cap(1000)))
    monkeypatch.setattr(store, "OPERATIONS_WAITING_MAX", 0)
    with pytest.raises(Refusal) as refused:
        await ledger.hold(request(100, cap(1000)))
    assert (refused.value.code, refused.value.retry_after_seconds) == ("overloaded", 1)
    ledger.settle(hold, settlement(70, attempt))
    await ledger.flush()
    assert state_of(path, hold) == 3
    await ledger.close()


async def test_impossible_amounts_never_reach_the_books(path: Path) -> None:
    """A hold past the largest amount is refused; a settlement past it takes the whole hold and alarms."""
    ledger = opened(path)
    with pytest.raises(Refusal):
        await ledger.hold(request(AMOUNT_NANO_MAX + 1))
    with pytest.raises(ValueError, match="zero or more"):
        await ledger.hold(request(-1))
    for wrong in (-5, AMOUNT_NANO_MAX * 100):
        hold, attempt = await dispatched(ledger, request(100, cap(1000)))
        ledger.settle(hold, settlement(wrong, attempt))
    assert await state(ledger, cap(1000)) == (200, 0)
    assert ledger.alarms.invalid_amounts == 2
    assert await ledger.audit() == []
    await ledger.close()


async def test_settling_after_close_is_an_alarm_and_recovered_in_full(path: Path) -> None:
    """An end that comes too late is logged and counted; the next start settles its hold in full."""
    log = Log()
    ledger = opened(path, log=log)
    hold, attempt = await dispatched(ledger, request(100, cap(1000)))
    await ledger.close()
    ledger.settle(hold, settlement(70, attempt))
    assert ledger.alarms.lost_ends == 1
    assert {"ledger_end_lost", "ledger_closed_with_open_holds"} <= set(log.names())
    again = opened(path)
    assert (again.recovered.dispatched, again.recovered.released) == (1, 0)
    assert await state(again, cap(1000)) == (100, 0)
    assert await again.audit() == []
    await again.close()


async def test_a_closed_ledger_takes_nothing(path: Path) -> None:
    """After close every await is refused, and closing again does nothing."""
    ledger = opened(path)
    await ledger.close()
    await ledger.close()
    with pytest.raises(LedgerClosed):
        await ledger.hold(request(100))


async def test_everything_enqueued_before_close_is_durable(path: Path) -> None:
    """Close writes the ends that are still in the queue."""
    ledger = opened(path)
    held = [await dispatched(ledger, request(100, cap(10_000))) for _ in range(20)]
    for hold, attempt in held:
        ledger.settle(hold, settlement(70, attempt))
    await ledger.close()
    assert rows(path, "SELECT state, count(*) FROM holds GROUP BY 1") == [(3, 20)]
    assert rows(path, "SELECT count(*) FROM boots") == [(0,)]
    assert list((path.parent / "tollway.db.boots").iterdir()) == []


async def test_boot_ids_of_the_living_are_taken(path: Path) -> None:
    """Two processes cannot share one boot id; a dead one's can be used again."""
    ledger = opened(path, boot_id="one")
    with pytest.raises(BootTaken):
        opened(path, boot_id="one")
    crash(ledger)
    again = opened(path, boot_id="one")
    await again.close()


async def test_an_unwritable_file_refuses_holds_and_keeps_ends(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """While another writer blocks the file holds get 503; ends wait and are written when it is free."""
    monkeypatch.setattr("proxy.ledger.schema.BUSY_MILLISECONDS_MAX", 20)
    monkeypatch.setattr("proxy.ledger.writer.RETRY_SECONDS", 0.02)
    ledger = opened(path)
    hold, attempt = await dispatched(ledger, request(100, cap(1000)))
    blocker = sqlite3.connect(path, isolation_level=None)
    blocker.execute("BEGIN IMMEDIATE")
    with pytest.raises(Refusal) as refused:
        await ledger.hold(request(100, cap(1000)))
    assert refused.value.code == "overloaded"
    failed = threading.Event()
    rollback = ledger._books.rollback
    monkeypatch.setattr(ledger._books, "rollback", lambda: (rollback(), failed.set()))
    ledger.settle(hold, settlement(70, attempt))
    assert await asyncio.to_thread(failed.wait, 10)
    with pytest.raises(Refusal):
        await ledger.hold(request(100, cap(1000)))
    blocker.execute("ROLLBACK")
    blocker.close()
    await ledger.flush()
    assert await state(ledger, cap(1000)) == (70, 0)
    assert await ledger.audit() == []
    await ledger.close()


async def test_one_poisonous_operation_does_not_take_its_batch_with_it(path: Path) -> None:
    """What can never be written fails alone; the others of its batch are written."""
    ledger = opened(path)
    poison = ledger.hold(request(100, cap(1000), user="\ud800"))
    good = ledger.hold(request(100, cap(1000)))
    bad, hold = await asyncio.gather(poison, good, return_exceptions=True)
    assert isinstance(bad, UnicodeEncodeError)
    assert not isinstance(hold, BaseException)
    assert await state(ledger, cap(1000)) == (0, 100)
    assert await ledger.audit() == []
    await ledger.close()


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
async def test_a_dead_writer_fails_everybody_who_waits(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A fault of ours in the writer refuses what waits and what comes after; nobody hangs."""
    ledger = opened(path)

    def broken(*_: object) -> None:
        raise KeyError("a fault of ours")

    monkeypatch.setattr(ledger._books, "begin", broken)
    with pytest.raises(Refusal):
        await ledger.hold(request(100))
    with pytest.raises(LedgerClosed):
        await ledger.hold(request(100))
    crash(ledger)


async def test_two_ledgers_on_one_file_share_the_caps(path: Path) -> None:
    """What one process holds the other sees at once, in both directions."""
    one, two = opened(path), opened(path)
    await one.hold(request(60, cap(100)))
    with pytest.raises(CapExceeded) as refused:
        await two.hold(request(50, cap(100)))
    assert refused.value.states[0].held == 60
    hold = await two.hold(request(40, cap(100)))
    with pytest.raises(CapExceeded):
        await one.hold(request(1, cap(100)))
    two.release(hold, reason="done", at_ms=1)
    await two.flush()
    await one.hold(request(40, cap(100)))
    assert await one.audit() == []
    await one.close()
    await two.close()


async def test_the_file_is_for_its_owner_only(path: Path) -> None:
    """Nobody else on the machine can read the books."""
    ledger = opened(path)
    assert path.stat().st_mode & 0o077 == 0
    await ledger.close()
