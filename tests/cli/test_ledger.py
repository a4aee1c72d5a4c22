"""tollway ledger."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from proxy.cli import ledger, opening
from proxy.config.schema import Generation
from tests.cli.conftest import Tollway
from tests.ledger.making import (
    bought,
    cap,
    change,
    dispatched,
    drawing,
    funded,
    opened,
    proof,
    request,
    rows,
    settlement,
)
from tests.support.fakes import FakeClock


@pytest.fixture
def tollway(run_command: Callable[[typer.Typer], Tollway]) -> Tollway:
    return run_command(ledger.app)


@pytest.fixture
def database(configured: Generation, operator_clock: FakeClock) -> Path:
    """Two settled exchanges, a hundred days old."""
    path = opening.database_of(configured)

    async def serve() -> None:
        books = opened(path, operator_clock)
        for _ in range(2):
            at_ms = operator_clock.ms - 100 * 86_400_000
            hold, attempt = await dispatched(books, request(100, cap(1000), at_ms=at_ms))
            books.settle(hold, settlement(70, attempt))
        await books.close()

    asyncio.run(serve())
    return path


@pytest.mark.usefixtures("database")
def test_clean_books_exit_with_0(tollway: Tollway) -> None:
    """And say how much was looked at."""
    result = tollway("audit")
    assert (result.exit_code, "2 holds" in result.stdout) == (0, True)
    assert json.loads(tollway("audit", "--json").stdout) == {"clean": True, "findings": [], "units": []}


def test_what_came_of_every_unit_is_told(tollway: Tollway, database: Path, operator_clock: FakeClock) -> None:
    """Where anything was paid: a payment that bought an answer, a balance that paid a part of what was put on it."""

    async def sell() -> None:
        books = opened(database, operator_clock)
        hold, attempt = await dispatched(books, bought(proof(amount=21_000), at_ms=operator_clock.ms))
        await books.commit(hold)
        books.settle(hold, settlement(70, attempt))
        digest = await funded(books, 50_000)
        hold, attempt = await dispatched(books, drawing(digest, 30_000, at_ms=operator_clock.ms))
        books.settle(hold, settlement(70, attempt, tendered=9_000))
        await books.close()

    asyncio.run(sell())
    assert "msat: 71000 deposits = 30000 captured + 41000 refundable + 0 held" in tollway("audit").stdout
    (msat,) = json.loads(tollway("audit", "--json").stdout)["units"]
    assert (msat["unit"], msat["deposits"], msat["captured"], msat["refundable"]) == ("msat", 71_000, 30_000, 41_000)


def test_a_finding_exits_with_1(tollway: Tollway, database: Path) -> None:
    """Each with its rule, what it should be and what it is."""
    change(database, "UPDATE counters SET spent = 141")
    result = tollway("audit")
    assert (result.exit_code, "expected 140, found 141" in result.stderr) == (1, True)
    machine = tollway("audit", "--json")
    assert machine.exit_code == 1
    (finding,) = json.loads(machine.stdout)["findings"]
    assert finding["rule"] == "a counter has spent the sum of its settled holds"


def test_prune_folds_what_is_old(tollway: Tollway, database: Path) -> None:
    """The newest row stays, the audit stays clean, and a second run finds nothing."""
    assert json.loads(tollway("prune", "--before", "90d", "--json").stdout) == {"pruned": 1}
    assert rows(database, "SELECT requests, charged FROM days") == [(1, 70)]
    assert tollway("audit").exit_code == 0
    assert "Folded 0" in tollway("prune", "--before", "90d").stdout


def test_no_ledger_yet_is_an_error(tollway: Tollway) -> None:
    """Exit 2, and the command that makes one."""
    result = tollway("audit")
    assert (result.exit_code, "tollway serve" in result.stderr) == (2, True)


@pytest.mark.parametrize("command", ["audit", "prune"])
def test_help_has_an_example(command: str) -> None:
    """Every command shows how it is used."""
    assert f"Example: tollway ledger {command}" in CliRunner().invoke(ledger.app, [command, "--help"]).stdout
