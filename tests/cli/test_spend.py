"""tollway spend."""

from __future__ import annotations

import asyncio
import csv
import io
import json
from collections.abc import Callable

import pytest
import typer
from typer.testing import CliRunner

from proxy.cli import opening, spend
from proxy.config.schema import Generation
from tests.cli.conftest import Tollway
from tests.ledger.making import dispatched, opened, paying, put_in, request, settlement
from tests.support.fakes import FakeClock

DAY_MS = 86_400_000


@pytest.fixture
def tollway(run_command: Callable[[typer.Typer], Tollway]) -> Tollway:
    return run_command(spend.app)


@pytest.fixture
def spent(configured: Generation, operator_clock: FakeClock) -> None:
    """0.25 USD by ann today, 1.5 USD by bob ten days ago."""

    async def serve() -> None:
        ledger = opened(opening.database_of(configured), operator_clock)
        for user, cost, days in (("ann", 250_000_000, 0), ("bob", 1_500_000_000, 10)):
            at_ms = operator_clock.ms - days * DAY_MS
            hold, attempt = await dispatched(ledger, request(cost, user=user, at_ms=at_ms))
            ledger.settle(hold, settlement(cost, attempt))
        await ledger.close()

    asyncio.run(serve())


@pytest.mark.usefixtures("spent")
def test_spend_as_json_is_exact(tollway: Tollway) -> None:
    """Amounts are decimal text in USD, never floats."""
    (row,) = json.loads(tollway("--json").stdout)
    assert row == {
        "team": "red",
        "requests": 2,
        "input_tokens": 200,
        "output_tokens": 40,
        "cached_tokens": 80,
        "reasoning_tokens": 10,
        "charged_usd": "1.75",
        "list_usd": "1.75",
        "charged_overage_usd": "0.00",
        "list_overage_usd": "0.00",
        "prepaid_usd": "0.00",
    }


def test_spend_tells_what_purses_have_paid(tollway: Tollway, configured: Generation, operator_clock: FakeClock) -> None:
    """Of what was charged; a table has the column only where somebody pays in advance."""

    async def serve() -> None:
        ledger = opened(opening.database_of(configured), operator_clock)
        await put_in(ledger, 10**9)
        hold, attempt = await dispatched(ledger, paying(500_000_000, at_ms=operator_clock.ms))
        ledger.settle(hold, settlement(500_000_000, attempt, paid=200_000_000))
        await ledger.close()

    asyncio.run(serve())
    (row,) = json.loads(tollway("--json").stdout)
    assert (row["charged_usd"], row["prepaid_usd"]) == ("0.50", "0.20")
    assert "prepaid" in tollway().stdout


@pytest.mark.usefixtures("spent")
def test_spend_as_csv_has_a_header_and_a_row_a_group(tollway: Tollway) -> None:
    """Readable by every spreadsheet."""
    rows = list(csv.DictReader(io.StringIO(tollway("--by", "user", "--csv").stdout)))
    assert [(row["user"], row["charged_usd"]) for row in rows] == [("red/bob", "1.50"), ("red/ann", "0.25")]


@pytest.mark.usefixtures("spent")
def test_spend_for_people_is_a_table_with_its_total(tollway: Tollway) -> None:
    """Days in order, and the sum of all columns; one that is 0 throughout is left out."""
    shown = tollway("--by", "day").stdout
    assert "overage" not in shown
    assert "total" in shown
    assert "1.75" in shown


@pytest.mark.usefixtures("spent")
@pytest.mark.parametrize(
    ("options", "users"),
    [
        (("--since", "7d"), ["red/ann"]),
        (("--since", "2w"), ["red/bob", "red/ann"]),
        (("--since", "12h"), ["red/ann"]),
        (("--since", "2026-06-21"), ["red/bob", "red/ann"]),
        (("--since", "2026-06-22"), ["red/ann"]),
        (("--since", "2026-06-01", "--until", "2026-07-01"), ["red/bob"]),
    ],
)
def test_since_and_until_bound_the_report(tollway: Tollway, options: tuple[str, ...], users: list[str]) -> None:
    """A day begins at its midnight; 7d is today and the six days before it."""
    found = json.loads(tollway("--by", "user", "--json", *options).stdout)
    assert [row["user"] for row in found] == users


@pytest.mark.usefixtures("spent")
def test_nothing_spent_is_said_in_words(tollway: Tollway) -> None:
    """With how to see further back."""
    result = tollway("--since", "2026-06-30", "--until", "2026-06-30")
    assert (result.exit_code, "--since" in result.stdout) == (0, True)


@pytest.mark.parametrize(
    ("options", "says"),
    [(("--since", "soon"), "2026-11-01"), (("--json", "--csv"), "one of"), ((), "There is no ledger")],
)
def test_what_cannot_be_shown_is_an_error(tollway: Tollway, options: tuple[str, ...], says: str) -> None:
    """Exit 2, and what to do."""
    result = tollway(*options)
    assert result.exit_code == 2
    assert says in result.stderr


def test_help_has_an_example() -> None:
    """The command shows how it is used."""
    assert "Example: tollway spend" in CliRunner().invoke(spend.app, ["--help"]).stdout
