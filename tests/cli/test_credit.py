"""tollway credit."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path

import pytest
import typer

from proxy.cli import credit, keys, opening
from proxy.config.schema import Generation
from proxy.credit import BadCredit, parse_usd
from proxy.ledger.api import Purse
from tests.cli.conftest import Tollway
from tests.ledger.making import dispatched, opened, paying, rows, settlement
from tests.support.fakes import FakeClock

DOLLAR = 1_000_000_000
RED = Purse("team", "red")


@pytest.fixture
def tollway(run_command: Callable[[typer.Typer], Tollway]) -> Tollway:
    return run_command(credit.app)


@pytest.fixture
def make_key(run_command: Callable[[typer.Typer], Tollway]) -> Callable[..., str]:
    """Makes a key; its id."""
    return lambda *arguments: json.loads(run_command(keys.app)("create", "--json", *arguments).stdout)["id"]


def path_of(generation: Generation) -> Path:
    return opening.database_of(generation)


def test_a_grant_is_confirmed_with_what_is_left(tollway: Tollway, configured: Generation) -> None:
    """Amount, whose purse, id, and the balance after it."""
    result = tollway("grant", "25.00", "--team", "red", "--note", "invoice 7", "--id", "invoice-7")
    assert result.exit_code == 0
    assert result.stdout == (
        "25.00 USD granted to team red, id invoice-7.\n25.00 USD are left, 0.00 held by calls under way.\n"
    )
    assert "no team concerned has 'prepaid: team'" in result.stderr
    assert rows(path_of(configured), "SELECT name, amount, note FROM grants") == [
        ("invoice-7", 25 * DOLLAR, "invoice 7")
    ]


def test_the_same_id_again_changes_nothing_and_says_so(tollway: Tollway) -> None:
    """Whoever lost the confirmation repeats the command."""
    arguments = ("grant", "25", "--team", "red", "--id", "invoice-7", "--json")
    told = [json.loads(tollway(*arguments).stdout) for _ in range(2)]
    assert [one["repeated"] for one in told] == [False, True]
    assert [one["balance"]["left_usd"] for one in told] == ["25.00", "25.00"]
    assert "under the same id: nothing was changed" in tollway(*arguments[:-1]).stdout


def test_the_same_id_with_other_contents_is_refused(tollway: Tollway) -> None:
    """Exit 2, nothing granted."""
    tollway("grant", "25", "--team", "red", "--id", "invoice-7")
    result = tollway("grant", "26", "--team", "red", "--id", "invoice-7")
    assert (result.exit_code, "other contents" in result.stderr) == (2, True)
    assert json.loads(tollway("show", "--team", "red", "--json").stdout)["granted_usd"] == "25.00"


def test_every_owner_has_a_purse_of_its_own(tollway: Tollway, make_key: Callable[..., str]) -> None:
    """Team, user, key, organisation, and Frontier Credits beside each balance."""
    key = make_key("--team", "red", "--user", "ann")
    for amount, owner in (
        ("1", ("--team", "red")),
        ("2", ("--team", "red", "--user", "ann")),
        ("3", ("--key", key)),
        ("4", ("--organisation", "acme")),
        ("5", ("--team", "red", "--wallet", "frontier")),
    ):
        assert tollway("grant", amount, *owner).exit_code == 0
    listed = json.loads(tollway("list", "--json").stdout)
    assert [(one["scope"], one["id"], one["wallet"], one["left_usd"]) for one in listed] == [
        ("key", key, "balance", "3.00"),
        ("organisation", "acme", "balance", "4.00"),
        ("team", "red", "balance", "1.00"),
        ("team", "red", "frontier", "5.00"),
        ("user", "red/ann", "balance", "2.00"),
    ]
    assert "red/ann" in tollway("list").stdout


def test_list_tells_what_is_spent_and_held(tollway: Tollway, configured: Generation, operator_clock: FakeClock) -> None:
    """As the proxies count it."""
    tollway("grant", "10", "--team", "red")

    async def serve() -> None:
        ledger = opened(path_of(configured), operator_clock)
        hold, attempt = await dispatched(ledger, paying(2 * DOLLAR))
        ledger.settle(hold, settlement(DOLLAR // 2, attempt))
        await ledger.hold(paying(DOLLAR))
        await ledger.flush()
        (one,) = json.loads(tollway("list", "--json").stdout)
        assert (one["granted_usd"], one["spent_usd"], one["held_usd"], one["left_usd"]) == (
            "10.00",
            "0.50",
            "1.00",
            "8.50",
        )
        assert tollway("grant", "1.50", "--team", "red").exit_code == 0
        (state,) = await ledger.purse_states((RED,))
        assert state.left == 10 * DOLLAR
        assert await ledger.audit() == []
        await ledger.close()

    asyncio.run(serve())


def test_show_lists_the_grants_newest_first(tollway: Tollway) -> None:
    """With the notes, and what was taken out."""
    tollway("grant", "10", "--team", "red", "--note", "May", "--id", "a")
    tollway("take-out", "4", "--team", "red", "--note", "refund", "--id", "b")
    shown = json.loads(tollway("show", "--team", "red", "--json").stdout)
    assert [(one["id"], one["usd"], one["note"]) for one in shown["grants"]] == [
        ("b", "-4.00", "refund"),
        ("a", "10.00", "May"),
    ]
    assert shown["left_usd"] == "6.00"
    assert "refund" in tollway("show", "--team", "red").stdout


def test_no_more_is_taken_out_than_is_left(tollway: Tollway) -> None:
    """Exit 2, and how much there is."""
    tollway("grant", "10", "--team", "red")
    result = tollway("take-out", "10.01", "--team", "red")
    assert (result.exit_code, "team red has 10.00 USD left" in result.stderr) == (2, True)


@pytest.mark.parametrize(
    ("owner", "told"),
    [
        (("--team", "rde"), "--team: There is no team 'rde'. Did you mean 'red'?"),
        (("--organisation", "acne"), "--organisation: There is no organisation 'acne'. Did you mean 'acme'?"),
        (("--team", "red", "--user", "an"), "--user: There is no user 'an'. Did you mean 'ann'?"),
        (("--key", "key_000000000000"), "--key: "),
        ((), "Say whose purse it is"),
        (("--user", "ann"), "Say whose purse it is"),
        (("--team", "red", "--organisation", "acme"), "Say whose purse it is"),
    ],
)
def test_an_unknown_owner_is_an_error_with_the_near_miss(
    tollway: Tollway, make_key: Callable[..., str], owner: tuple[str, ...], told: str
) -> None:
    """Exit 2, and no purse is made for a typo."""
    make_key("--team", "red", "--user", "ann")
    result = tollway("grant", "1", *owner)
    assert (result.exit_code, told in result.stderr) == (2, True), result.stderr
    assert json.loads(tollway("list", "--json").stdout) == []


@pytest.mark.parametrize("amount", ["0", "-5", "nan", "1e400", "ten", "0.0000000001", "1000000001", ""])
def test_an_impossible_amount_is_refused(amount: str) -> None:
    """Above 0, nine decimals at most, no float's nonsense."""
    with pytest.raises(BadCredit):
        parse_usd(amount)


def test_amounts_are_exact() -> None:
    """Decimal text becomes nano-dollars, with a dollar sign or without."""
    assert parse_usd("$0.10") == parse_usd(str(Decimal("0.1"))) == 100_000_000
    assert parse_usd("0.000000001") == 1
