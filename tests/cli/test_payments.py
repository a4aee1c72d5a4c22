"""tollway payments: lists, one payment, and the operator's decision, beside the ledger that made them."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from contextlib import closing

import pytest
import typer

from proxy.cli import opening, payments
from proxy.config.schema import Generation
from proxy.ledger.audit import audit
from proxy.ledger.payment_api import Lease, LeaseLost, Receipt
from proxy.ledger.payment_states import PaymentState
from proxy.ledger.schema import connect
from proxy.ledger.store import SqliteLedger
from tests.cli.conftest import Tollway
from tests.ledger.making import bought, ecash, opened, proof, unsettled
from tests.support.fakes import FakeClock

SECRET = b"bearer-money"


@pytest.fixture
def tollway(run_command: Callable[[typer.Typer], Tollway]) -> Tollway:
    return run_command(payments.app)


@pytest.fixture
def paid(configured: Generation, operator_clock: FakeClock) -> dict[str, Lease]:
    """One payment in each interesting state, made by a ledger that has been closed again."""

    async def make(ledger: SqliteLedger) -> dict[str, Lease]:
        leases: dict[str, Lease] = {}
        for name, shown in (
            ("burnt", proof()),
            ("unknown", unsettled(detail=SECRET)),
            ("unknown_ecash", ecash(detail=SECRET)),
            ("refused", unsettled()),
        ):
            hold = await ledger.hold(bought(shown, at_ms=operator_clock.now_ms()))
            assert hold.lease is not None
            leases[name] = hold.lease
            if name == "burnt":
                await ledger.dispatch(hold, upstream="openai", upstream_model="gpt-4o")
                await ledger.commit(hold)
            elif name == "refused":
                await ledger.payment_refused(hold.lease, "bad signature")
            else:
                await ledger.payment_unknown(hold.lease, "facilitator timed out")
            ledger.release(hold, reason="over", at_ms=operator_clock.now_ms())
        await ledger.flush()
        return leases

    async def run() -> dict[str, Lease]:
        ledger = opened(opening.database_of(configured), operator_clock)
        try:
            return await make(ledger)
        finally:
            await ledger.close()

    return asyncio.run(run())


def books_hold(configured: Generation) -> bool:
    path = opening.database_of(configured)
    with closing(connect(path, create=False)) as connection:
        return audit(connection, path) == []


def test_the_newest_are_listed_for_people_and_programs(tollway: Tollway, paid: dict[str, Lease]) -> None:
    """Id, rail, state and amount; all of the states unless one is named."""
    told = json.loads(tollway("list", "--json").stdout)
    assert {one["id"]: one["state"] for one in told} == {
        paid["burnt"].id: "burnt",
        paid["unknown"].id: "unknown",
        paid["unknown_ecash"].id: "unknown",
        paid["refused"].id: "refused",
    }
    assert "$0.001" in tollway("list", "--state", "unknown").stdout
    assert [one["id"] for one in json.loads(tollway("list", "--rail", "lightning", "--json").stdout)] == [
        paid["burnt"].id
    ]
    assert len(json.loads(tollway("list", "--limit", "2", "--json").stdout)) == 2


def test_a_rail_that_there_is_not_is_no_empty_list(tollway: Tollway, paid: dict[str, Lease]) -> None:
    """A slip of the hand must not look like no payments."""
    result = tollway("list", "--rail", "l402")
    assert (result.exit_code, "'lightning'" in result.stderr) == (2, True)


def test_stuck_ones_are_an_exit_code(tollway: Tollway, paid: dict[str, Lease]) -> None:
    """For a cron job; 0 once all are decided."""
    result = tollway("stuck")
    assert (result.exit_code, paid["unknown"].id in result.stdout) == (1, True)
    tollway("refuse", paid["unknown"].id, "--yes")
    tollway("refuse", paid["unknown_ecash"].id, "--yes")
    assert (tollway("stuck").exit_code, tollway("stuck").stdout) == (0, "No payments.\n")


def test_one_is_shown_with_its_movements_and_without_bearer_money(tollway: Tollway, paid: dict[str, Lease]) -> None:
    """What came in and where it went."""
    told = json.loads(tollway("show", paid["burnt"].id, "--json").stdout)
    moved = [(one["kind"], one["from"], one["to"], one["amount"]) for one in told["movements"]]
    assert moved == [("deposited", "outside", "payments", 21_000), ("captured", "payments", "income", 21_000)]
    assert "captured     21000" in tollway("show", paid["burnt"].id).stdout
    for arguments in (("show", paid["unknown"].id), ("show", paid["unknown"].id, "--json"), ("list", "--json")):
        assert SECRET.decode() not in tollway(*arguments).output
        assert paid["unknown"].proof.key not in tollway(*arguments).output


def test_settled_by_the_operator_is_the_payers_to_use(
    tollway: Tollway, paid: dict[str, Lease], configured: Generation
) -> None:
    """Held for its payer, with reason and reference kept; the books hold."""
    arguments = ("--reason", "seen on the explorer", "--reference", "0xabc", "--yes", "--json")
    told = json.loads(tollway("settle", paid["unknown"].id, *arguments).stdout)
    assert (told["state"], told["held"], told["under_way"]) == ("settled", 1_000, False)
    assert (told["reason"], told["reference"]) == ("seen on the explorer", "0xabc")
    assert books_hold(configured)


def test_ecash_settled_by_the_operator_is_held_without_notes(
    tollway: Tollway, paid: dict[str, Lease], configured: Generation
) -> None:
    """Its value is owed to the payer, though our wallet has none of it."""
    told = json.loads(tollway("settle", paid["unknown_ecash"].id, "--yes", "--json").stdout)
    assert (told["state"], told["held"]) == ("settled", 30_000)
    assert books_hold(configured)


def test_refused_by_the_operator_is_final(tollway: Tollway, paid: dict[str, Lease], configured: Generation) -> None:
    """Nothing moved, and nothing is decided twice."""
    assert tollway("refuse", paid["unknown"].id, "--yes").stdout == f"{paid['unknown'].id} is refused.\n"
    again = tollway("settle", paid["unknown"].id, "--yes")
    assert (again.exit_code, "is refused: only what is unknown" in again.stderr) == (2, True)
    assert books_hold(configured)


@pytest.mark.parametrize("state", ["burnt", "refused", "nobody"])
def test_only_what_is_unknown_is_decided(tollway: Tollway, paid: dict[str, Lease], state: str) -> None:
    """Whatever is known stays as it is."""
    name = paid[state].id if state in paid else "pay_" + "0" * 32
    for command in ("settle", "refuse"):
        result = tollway(command, name, "--yes")
        assert (result.exit_code, "Nothing was changed" in result.stderr) == (2, True)


def test_a_decision_is_asked_about(tollway: Tollway, paid: dict[str, Lease]) -> None:
    """Without --yes and without an answer nothing happens."""
    result = tollway("settle", paid["unknown"].id)
    assert (result.exit_code, "Sure?" in result.stderr) == (1, True)
    assert json.loads(tollway("show", paid["unknown"].id, "--json").stdout)["state"] == "unknown"


async def test_what_the_reconciler_hears_afterwards_changes_nothing(
    tollway: Tollway, paid: dict[str, Lease], configured: Generation, operator_clock: FakeClock
) -> None:
    """The decision has a fence of its own."""
    ledger = opened(opening.database_of(configured), operator_clock)
    try:
        asked = {lease.id: lease for lease in await ledger.unknown_payments(count_max=10, idle_ms=0)}
        await asyncio.to_thread(tollway, "refuse", paid["unknown"].id, "--yes")
        with pytest.raises(LeaseLost):
            await ledger.payment_settled(asked[paid["unknown"].id], Receipt(1_000))
        found = await ledger.payment_by_id(paid["unknown"].id)
        assert found is not None
        assert (found.state, found.amount - found.held) == (PaymentState.REFUSED, 1_000)
    finally:
        await ledger.close()


def test_text_that_a_terminal_would_run_is_refused(tollway: Tollway, paid: dict[str, Lease]) -> None:
    """Reasons are shown to operators."""
    result = tollway("refuse", paid["unknown"].id, "--yes", "--reason", "\x1b[2J")
    assert (result.exit_code, "printable" in result.stderr) == (2, True)
