"""Prepaid purses: held with the caps, paid at the end, filled exactly once."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from proxy.errors import Refusal
from proxy.ledger.api import CapExceeded, Purse, PurseExceeded, PurseState
from proxy.ledger.errors import AMOUNT_NANO_MAX, DuplicateHold
from proxy.ledger.operations import Durability, Granting
from proxy.ledger.store import SqliteLedger
from tests.ledger.making import (
    PURSE,
    cap,
    crash,
    dispatched,
    opened,
    paying,
    put_in,
    request,
    rows,
    settlement,
)
from tests.support.fakes import Log


@pytest.fixture
async def ledger(tmp_path: Path) -> AsyncIterator[SqliteLedger]:
    """Every test ends with clean books."""
    made = opened(tmp_path / "tollway.db")
    yield made
    assert await made.audit() == []
    await made.close()


async def stands(ledger: SqliteLedger, purse: Purse = PURSE) -> tuple[int, int, int]:
    """Granted, spent, held."""
    (state,) = await ledger.purse_states((purse,))
    return state.granted, state.spent, state.held


async def transfers(ledger: SqliteLedger) -> list[tuple[str, str, int]]:
    await ledger.flush()
    return rows(
        ledger.path,
        "SELECT payer.name, payee.name, amount FROM transfers JOIN accounts AS payer ON payer.id = debit"
        " JOIN accounts AS payee ON payee.id = credit WHERE payer.book = 'charged' ORDER BY origin, kind",
    )


async def test_what_is_granted_is_held_then_paid_and_the_rest_is_free_again(ledger: SqliteLedger) -> None:
    """Granted 1000, held 100, cost 60: 940 left."""
    state = await put_in(ledger, 1000)
    assert (state.purse, state.left) == (PURSE, 1000)
    hold, attempt = await dispatched(ledger, paying(100))
    assert await stands(ledger) == (1000, 0, 100)
    ledger.settle(hold, settlement(60, attempt))
    assert await stands(ledger) == (1000, 60, 0)
    assert await transfers(ledger) == [
        ("purse:team:red:balance", "income", 60),
        ("grants", "purse:team:red:balance", 1000),
    ]


async def test_release_gives_all_of_it_back(ledger: SqliteLedger) -> None:
    """Nothing was served, nothing is paid."""
    await put_in(ledger, 100)
    hold = await ledger.hold(paying(100))
    ledger.release(hold, reason="refused", at_ms=3)
    assert await stands(ledger) == (100, 0, 0)
    assert rows(ledger.path, "SELECT paid FROM holds") == [(0,)]


async def test_a_purse_that_nothing_was_put_into_pays_for_nothing(ledger: SqliteLedger) -> None:
    """Unknown is empty, not unlimited; what costs nothing passes."""
    with pytest.raises(PurseExceeded) as refused:
        await ledger.hold(paying(1))
    assert refused.value.state == PurseState(PURSE, 0, 0, 0)  # type: ignore[arg-type]
    assert await stands(ledger) == (0, 0, 0)
    await ledger.hold(paying(0))


async def test_refused_hold_changes_no_purse_and_no_cap(ledger: SqliteLedger) -> None:
    """Caps and purse are one decision: what one of them refuses the other does not count."""
    await put_in(ledger, 100)
    with pytest.raises(PurseExceeded) as short:
        await ledger.hold(paying(101, cap(1000)))
    assert short.value.state.left == 100
    with pytest.raises(CapExceeded):
        await ledger.hold(paying(50, cap(40)))
    assert await stands(ledger) == (100, 0, 0)
    assert [(s.spent, s.held) for s in await ledger.cap_states((cap(1000), cap(40)))] == [(0, 0), (0, 0)]
    assert rows(ledger.path, "SELECT count(*) FROM holds") == [(0,)]


async def test_a_second_hold_of_an_exchange_takes_nothing(ledger: SqliteLedger) -> None:
    """The exchange's id is the key to its money."""
    await put_in(ledger, 1000)
    await ledger.hold(paying(100, exchange_id="once"))
    with pytest.raises(DuplicateHold):
        await ledger.hold(paying(100, exchange_id="once"))
    assert await stands(ledger) == (1000, 0, 100)


async def test_wallets_and_scopes_are_accounts_of_their_own(ledger: SqliteLedger) -> None:
    """Frontier Credits do not pay for what the balance pays, nor one team for another."""
    frontier = Purse("team", "red", "frontier")
    await put_in(ledger, 100, frontier)
    await put_in(ledger, 7, Purse("team", "blue"))
    with pytest.raises(PurseExceeded):
        await ledger.hold(paying(1))
    await ledger.hold(paying(100, purse=frontier))
    assert await stands(ledger, frontier) == (100, 0, 100)


async def test_less_paid_than_charged_is_owed_by_the_team(ledger: SqliteLedger) -> None:
    """Caps count the full hold where nobody knows the usage; the purse pays what was counted."""
    await put_in(ledger, 1000)
    hold, attempt = await dispatched(ledger, paying(100, cap(1000)))
    ledger.settle(hold, settlement(100, attempt, paid=30))
    assert await stands(ledger) == (1000, 30, 0)
    (state,) = await ledger.cap_states((cap(1000),))
    assert state.spent == 100
    assert await transfers(ledger) == [
        ("team:red", "income", 70),
        ("purse:team:red:balance", "income", 30),
        ("grants", "purse:team:red:balance", 1000),
    ]


async def test_a_purse_never_pays_above_its_hold(tmp_path: Path) -> None:
    """What was reported above goes to the overage account and raises the alarm; the purse stays at zero or more."""
    log = Log()
    ledger = opened(tmp_path / "tollway.db", log=log)
    await put_in(ledger, 100)
    hold, attempt = await dispatched(ledger, paying(100))
    ledger.settle(hold, settlement(150, attempt))
    assert await stands(ledger) == (100, 100, 0)
    assert ("overage:red", "income", 50) in await transfers(ledger)
    assert rows(ledger.path, "SELECT overage FROM purses") == [(50,)]
    assert ledger.alarms.overages == 1
    assert await ledger.audit() == []
    await ledger.close()


@pytest.mark.parametrize(("given", "paid"), [(40, 40), (80, 60), (500, 60)])
async def test_paid_is_never_more_than_charged(ledger: SqliteLedger, given: int, paid: int) -> None:
    """Whatever a caller of the ledger computes."""
    await put_in(ledger, 1000)
    hold, attempt = await dispatched(ledger, paying(100))
    ledger.settle(hold, settlement(60, attempt, paid=given))
    assert await stands(ledger) == (1000, paid, 0)


async def test_an_impossible_payment_settles_in_full(tmp_path: Path) -> None:
    """A negative payment would be a deposit that nobody made."""
    ledger = opened(tmp_path / "tollway.db")
    await put_in(ledger, 1000)
    hold, attempt = await dispatched(ledger, paying(100))
    ledger.settle(hold, settlement(60, attempt, paid=-5))
    assert await stands(ledger) == (1000, 100, 0)
    assert ledger.alarms.invalid_amounts == 1
    await ledger.close()


@pytest.mark.parametrize("committed", [False, True])
async def test_a_crash_takes_the_input_from_the_purse_and_the_full_hold_from_the_caps(
    tmp_path: Path, committed: bool
) -> None:
    """Nobody knows what came of the answer: the caps fear the worst, the purse pays what surely was used."""
    path = tmp_path / "tollway.db"
    ledger = opened(path)
    await put_in(ledger, 1000)
    await ledger.hold(paying(100, cap(1000)))
    hold, _ = await dispatched(ledger, paying(100, cap(1000)))
    if committed:
        await ledger.commit(hold)
    crash(ledger)
    ledger = opened(path)
    assert await stands(ledger) == (1000, 10, 0)
    (state,) = await ledger.cap_states((cap(1000),))
    assert (state.spent, state.held) == (100, 0)
    assert ("team:red", "income", 90) in await transfers(ledger)
    assert await ledger.audit() == []
    await ledger.close()


async def test_the_same_grant_twice_is_one_grant(ledger: SqliteLedger) -> None:
    """Whoever did not hear the answer asks again."""
    for at_ms in (1, 2):
        state = await put_in(ledger, 500, id="invoice-7", note="May", at_ms=at_ms)
        assert state.left == 500
    assert rows(ledger.path, "SELECT name, amount, note, at_ms FROM grants") == [("invoice-7", 500, "May", 1)]
    together = await asyncio.gather(*[put_in(ledger, 5, id="again") for _ in range(20)])
    assert {state.granted for state in together} == {505}


@pytest.mark.parametrize("other", [{"amount": 501}, {"note": "June"}, {"purse": Purse("team", "blue")}])
async def test_the_same_id_with_other_contents_is_a_conflict(ledger: SqliteLedger, other: dict[str, object]) -> None:
    """Nothing is granted, and nothing silently dropped."""
    await put_in(ledger, 500, id="invoice-7", note="May")
    fields = {"amount": 500, "purse": PURSE, "note": "May", **other}
    with pytest.raises(Refusal) as refused:
        await put_in(ledger, id="invoice-7", **fields)  # type: ignore[arg-type]
    assert (refused.value.code, refused.value.status) == ("conflict", 409)
    assert await stands(ledger) == (500, 0, 0)


async def test_money_is_taken_out_down_to_what_is_held(ledger: SqliteLedger) -> None:
    """A negative grant takes what is left, never what a hold counts on."""
    await put_in(ledger, 1000)
    await ledger.hold(paying(300))
    with pytest.raises(PurseExceeded) as refused:
        await put_in(ledger, -701)
    assert refused.value.state.left == 700
    state = await put_in(ledger, -700)
    assert (state.granted, state.left) == (300, 0)
    with pytest.raises(PurseExceeded):
        await put_in(ledger, -1, Purse("team", "nobody"))


@pytest.mark.parametrize(
    "wrong",
    [
        {"amount": 0},
        {"amount": AMOUNT_NANO_MAX + 1},
        {"id": ""},
        {"id": "x" * 129},
        {"id": "a\nb"},
        {"note": "x" * 501},
        {"purse": Purse("galaxy", "red")},
        {"purse": Purse("team", "red", "gold")},
    ],
    ids=str,
)
async def test_an_impossible_grant_is_refused(ledger: SqliteLedger, wrong: dict[str, object]) -> None:
    """Before anything is written."""
    with pytest.raises(Refusal) as refused:
        await put_in(ledger, **{"amount": 5, **wrong})  # type: ignore[arg-type]
    assert refused.value.code == "invalid_request"
    assert rows(ledger.path, "SELECT count(*) FROM grants") == [(0,)]


async def test_a_purse_never_holds_more_than_can_be_counted(ledger: SqliteLedger) -> None:
    """Integers of 64 bits do not run over."""
    await put_in(ledger, AMOUNT_NANO_MAX)
    with pytest.raises(Refusal) as refused:
        await put_in(ledger, 1)
    assert refused.value.code == "invalid_request"
    assert await stands(ledger) == (AMOUNT_NANO_MAX, 0, 0)


async def test_a_grant_waits_for_the_disk(ledger: SqliteLedger) -> None:
    """Money that was put in survives the loss of power: its commit is a synchronous=FULL one."""
    assert Granting.durability is Durability.FULL
    seen: list[str] = []
    ledger._connection.set_trace_callback(seen.append)
    await put_in(ledger, 5)
    await ledger.hold(request(1))
    ledger._connection.set_trace_callback(None)
    full, normal = (seen.index(f"PRAGMA synchronous={kind}") for kind in ("FULL", "NORMAL"))
    granted = next(i for i, statement in enumerate(seen) if statement.startswith("INSERT INTO grants"))
    held = next(i for i, statement in enumerate(seen) if statement.startswith("INSERT INTO holds"))
    assert full < granted < seen.index("COMMIT") < normal < held


async def test_what_is_held_for_the_input_is_a_part_of_the_hold(ledger: SqliteLedger) -> None:
    """A fault of ours is refused before it is written."""
    with pytest.raises(ValueError, match="input"):
        await ledger.hold(paying(10, input_charged=11))


async def test_two_tasks_race_over_the_last_cent(ledger: SqliteLedger) -> None:
    """Exactly as many holds as fit are made; every other is refused."""
    await put_in(ledger, 1000)
    tried = await asyncio.gather(*[ledger.hold(paying(7)) for _ in range(200)], return_exceptions=True)
    assert sum(isinstance(one, PurseExceeded) for one in tried) == 200 - 142
    assert await stands(ledger) == (1000, 0, 994)


async def test_purses_are_forgotten_past_a_limit_and_found_again(ledger: SqliteLedger) -> None:
    """What is remembered is bounded; what is true is in the file."""
    ledger._books.purses._kept._rows_max = 3
    for number in range(8):
        await put_in(ledger, 10 + number, Purse("user", f"red/{number}"))
    assert len(ledger._books.purses._kept._rows) <= 4
    for number in range(8):
        assert await stands(ledger, Purse("user", f"red/{number}")) == (10 + number, 0, 0)


async def test_price_source_and_input_are_kept_with_the_hold(ledger: SqliteLedger) -> None:
    """Which prices an amount came from can be told later."""
    hold, _ = await dispatched(ledger, request(100, price_source="genai-prices 2026-10-01", input_charged=30))
    assert rows(ledger.path, "SELECT price_source, input_charged FROM holds") == [("genai-prices 2026-10-01", 30)]
    ledger.release(hold, reason="refused", at_ms=1)
    await ledger.flush()
    assert rows(ledger.path, "SELECT purse, paid FROM holds") == [(None, None)]
