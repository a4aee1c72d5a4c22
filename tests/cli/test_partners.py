"""tollway partners."""

from __future__ import annotations

import asyncio
import csv
import dataclasses
import io
import json
from collections.abc import Callable
from decimal import Decimal

import pytest
import typer

from proxy.cli import opening, partners
from proxy.config.schema import ConfigFile, Generation, PartnerEntry, UpstreamEntry
from tests.cli.conftest import Tollway
from tests.ledger.making import ms, opened, serve
from tests.support.fakes import FakeClock

DOLLAR = 1_000_000_000
NAMED = UpstreamEntry(base_url="https://gpu.test/v1", partner="coop")


@pytest.fixture
def tollway(run_command: Callable[[typer.Typer], Tollway]) -> Tollway:
    return run_command(partners.app)


@pytest.fixture
def served(configured: Generation, operator_clock: FakeClock, monkeypatch: pytest.MonkeyPatch) -> Generation:
    """A partner with a share, one without, and three exchanges around the end of a month in Berlin."""
    file = ConfigFile(
        listeners=(),
        chain=(),
        upstreams={"gpu": NAMED},
        partners={"coop": PartnerEntry(share_percent=Decimal("33.3"))},
        time_zone="Europe/Berlin",
    )
    made = dataclasses.replace(configured, file=file)
    monkeypatch.setattr(opening, "load_generation", lambda path: made)

    async def days() -> None:
        ledger = opened(opening.database_of(made), operator_clock)
        await serve(ledger, 70, "2026-11-01T00:00", partner="coop", upstream="gpu")
        await serve(ledger, 30, "2026-11-30T23:59", partner="coop", upstream="gpu")
        await serve(ledger, 99, "2026-10-31T23:59", partner="coop", upstream="gpu")
        await serve(ledger, 50, "2026-11-15T12:00", partner="unpaid", upstream="other")
        await ledger.close()

    asyncio.run(days())
    return made


@pytest.mark.usefixtures("served")
def test_a_statement_is_of_one_month_with_the_share_rounded_down(tollway: Tollway) -> None:
    """33.3 % of 100 nano-dollars are 33: a fraction is never paid out."""
    told = json.loads(tollway("statement", "--partner", "coop", "--month", "2026-11", "--json").stdout)
    assert told == {
        "partner": "coop",
        "month": "2026-11",
        "time_zone": "Europe/Berlin",
        "upstreams": [{"upstream": "gpu", **amounts(2, "0.0000001")}],
        "total": amounts(2, "0.0000001"),
        "share_percent": "33.3",
        "share_usd": "0.000000033",
    }
    assert "33.3 %, 0.000000033 USD" in tollway("statement", "--partner", "coop", "--month", "2026-11").stdout


def amounts(requests: int, usd: str) -> dict[str, object]:
    tokens = {"input_tokens": 100 * requests, "output_tokens": 20 * requests}
    return {"requests": requests, **tokens, "list_usd": usd, "charged_usd": usd, "revenue_usd": usd}


@pytest.mark.usefixtures("served")
def test_csv_has_a_row_for_each_upstream_and_the_total(tollway: Tollway) -> None:
    """The share stands in the total alone: summing the column pays once."""
    rows = list(
        csv.DictReader(io.StringIO(tollway("statement", "--partner", "coop", "--month=2026-11", "--csv").stdout))
    )
    assert [(row["upstream"], row["requests"], row["share_usd"]) for row in rows] == [
        ("gpu", "2", ""),
        ("total", "2", "0.000000033"),
    ]


@pytest.mark.usefixtures("served")
def test_a_partner_without_a_share_is_told_of(tollway: Tollway) -> None:
    """Usage is recorded whatever was agreed; money is not made up."""
    told = json.loads(tollway("statement", "--partner", "unpaid", "--month", "2026-11", "--json").stdout)
    assert (told["total"]["requests"], told["share_percent"], told["share_usd"]) == (1, None, None)
    assert "No share is set" in tollway("statement", "--partner", "unpaid", "--month", "2026-11").stdout


@pytest.mark.usefixtures("served")
def test_without_a_month_it_is_this_one(tollway: Tollway, operator_clock: FakeClock) -> None:
    """By the clock of the configured time zone."""
    operator_clock.ms = ms("2026-12-01T00:00") - 1
    told = json.loads(tollway("statement", "--partner", "coop", "--json").stdout)
    assert (told["month"], told["total"]["requests"]) == ("2026-11", 2)


@pytest.mark.usefixtures("served")
@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (("--partner", "cop"), "Did you mean 'coop'?"),
        (("--partner", "coop", "--month", "2026-13"), "write a month as in 2026-11"),
        (("--partner", "coop", "--month", "november"), "write a month as in 2026-11"),
        (("--partner", "coop", "--json", "--csv"), "Choose one"),
    ],
)
def test_what_cannot_be_stated_is_an_error_that_helps(tollway: Tollway, arguments: tuple[str, ...], told: str) -> None:
    """Exit 2."""
    result = tollway("statement", *arguments)
    assert (result.exit_code, told in result.stderr) == (2, True)


@pytest.mark.usefixtures("served")
def test_list_names_partners_with_share_and_upstreams(tollway: Tollway) -> None:
    """Those of the configuration."""
    found = json.loads(tollway("list", "--json").stdout)
    assert found == [{"partner": "coop", "share_percent": "33.3", "upstreams": ["gpu"]}]
    assert "33.3 %" in tollway("list").stdout
