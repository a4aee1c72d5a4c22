"""tollway teams."""

from __future__ import annotations

import asyncio
import dataclasses
import json
from collections.abc import Callable
from contextlib import closing

import pytest
import typer

from proxy.cap_windows import present
from proxy.cli import opening, teams
from proxy.config.schema import Generation
from proxy.ledger.api import Grant, Purse
from proxy.ledger.credit import grant_now
from proxy.ledger.schema import connect
from proxy.pricing.money import Nano
from tests.cli.conftest import Tollway
from tests.ledger.making import dispatched, opened, request, settlement
from tests.support.fakes import FakeClock


@pytest.fixture
def tollway(run_command: Callable[[typer.Typer], Tollway]) -> Tollway:
    return run_command(teams.app)


def test_list_names_every_team_with_its_caps(tollway: Tollway) -> None:
    """For people and for programs."""
    found = json.loads(tollway("list", "--json").stdout)
    assert [(one["team"], one["caps"]) for one in found] == [("red", ["5.00/day", "100.00/total"]), ("blue", [])]
    assert "5.00/day" in tollway("list").stdout


def test_show_tells_where_the_caps_stand(tollway: Tollway, configured: Generation, operator_clock: FakeClock) -> None:
    """Spent, held, left and when the window resets, as the proxies count it."""
    now = operator_clock.ms
    zone = opening.zone_of(configured)
    caps = tuple(present("team", "red", setting, now, zone) for setting in configured.teams["red"].caps)

    async def serve() -> None:
        ledger = opened(opening.database_of(configured), operator_clock)
        hold, attempt = await dispatched(ledger, request(2_000_000_000, *caps, at_ms=now))
        ledger.settle(hold, settlement(1_500_000_000, attempt))
        await ledger.close()

    asyncio.run(serve())
    standing = json.loads(tollway("show", "red", "--json").stdout)["standing"]
    assert [(one["scope"], one["cap"], one["spent_usd"], one["left_usd"], one["resets"]) for one in standing] == [
        ("team", "5.00/day", "1.50", "3.50", "2026-07-02T00:00:00+00:00"),
        ("team", "100.00/total", "1.50", "98.50", None),
        ("organisation", "500.00/month", "0.00", "500.00", "2026-08-01T00:00:00+00:00"),
    ]
    assert "3.50" in tollway("show", "red").stdout


def test_an_unknown_team_is_an_error_with_the_near_miss(tollway: Tollway) -> None:
    """Exit 2, and what was probably meant."""
    result = tollway("show", "rde")
    assert (result.exit_code, "Did you mean 'red'?" in result.stderr) == (2, True)


@pytest.mark.parametrize(
    ("prepaid", "shown"),
    [
        ("team", [("red", "balance", "7.00"), ("red", "frontier", "0.00")]),
        ("organisation", [("acme", "balance", "9.00"), ("acme", "frontier", "0.00")]),
        ("user", [("red/ann", "balance", "5.00")]),
        (None, []),
    ],
)
def test_show_tells_where_prepaid_balances_stand(
    tollway: Tollway, configured: Generation, prepaid: str | None, shown: list[tuple[str, str, str]]
) -> None:
    """Of the purses that pay for the team, and of no other."""
    for purse, dollars in (
        (Purse("team", "red"), 7),
        (Purse("organisation", "acme"), 9),
        (Purse("user", "red/ann"), 5),
        (Purse("user", "blue/ann"), 3),
    ):
        with closing(connect(opening.database_of(configured))) as connection:
            grant_now(connection, Grant(str(purse), purse, Nano(dollars * 10**9), "", 0))
    configured.teams["red"] = dataclasses.replace(configured.teams["red"], prepaid=prepaid)
    balances = json.loads(tollway("show", "red", "--json").stdout)["balances"]
    assert [(one["id"], one["wallet"], one["left_usd"]) for one in balances] == shown
    assert ("Pays in advance" in tollway("show", "red").stdout) == (prepaid is not None)
