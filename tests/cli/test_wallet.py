"""tollway wallet: what payers' ecash adds up to, and taking it out once."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from typing import Any

import cbor2
import pytest
import typer

from proxy.cli import opening, wallet
from proxy.config.schema import Generation
from proxy.ledger.payment_api import EcashProof, Receipt
from tests.cli.conftest import Tollway
from tests.ledger.making import bought, ecash, opened
from tests.support.fakes import FakeClock

MINT, OTHER = "https://mint.test", "https://other.test"


@pytest.fixture
def tollway(run_command: Callable[[typer.Typer], Tollway]) -> Tollway:
    return run_command(wallet.app)


def note(amount: int, mint: str = MINT) -> EcashProof:
    return EcashProof(mint, "00ad268c4d1f5826", amount, f"secret-{mint}-{amount}", "02" + "ab" * 32)


@pytest.fixture
def earned(configured: Generation, operator_clock: FakeClock) -> Callable[..., None]:
    """Payments with these notes that have bought an answer."""

    async def earn(*earned_notes: EcashProof) -> None:
        ledger = opened(opening.database_of(configured), operator_clock)
        try:
            shown = ecash(amount=sum(one.amount for one in earned_notes) * 1000)
            hold = await ledger.hold(bought(shown, at_ms=operator_clock.now_ms()))
            assert hold.lease is not None
            await ledger.payment_settled(hold.lease, Receipt(shown.amount, ecash=earned_notes))
            await ledger.dispatch(hold, upstream="openai", upstream_model="gpt-4o")
            await ledger.commit(hold)
            ledger.release(hold, reason="over", at_ms=operator_clock.now_ms())
        finally:
            await ledger.close()

    return lambda *all_notes: asyncio.run(earn(*all_notes))


def worth(tokens: list[str]) -> int:
    import base64

    total = 0
    for token in tokens:
        body = token.removeprefix("cashuB")
        content = cbor2.loads(base64.urlsafe_b64decode(body + "=" * (-len(body) % 4)))
        total += sum(proof["a"] for group in content["t"] for proof in group["p"])
    return total


def test_sats_of_each_mint_are_told(tollway: Tollway, earned: Callable[..., None]) -> None:
    """For people and for programs."""
    earned(note(1), note(4))
    earned(note(16, OTHER))
    assert json.loads(tollway("balance", "--json").stdout) == {"sats": 21, "mints": {MINT: 5, OTHER: 16}}
    assert f"│ {MINT}" in tollway("balance").stdout


def test_an_empty_wallet_says_so(tollway: Tollway, earned: Callable[..., None]) -> None:
    """As does taking out of it."""
    earned(note(1))
    assert tollway("export", "--all", "--yes").exit_code == 0
    assert "empty" in tollway("balance").stdout
    assert (tollway("export", "--all", "--yes").exit_code, "empty" in tollway("export", "--all").stderr) == (2, True)


def test_what_is_taken_out_is_no_longer_there(tollway: Tollway, earned: Callable[..., None]) -> None:
    """Tokens alone on standard output; the rest stays."""
    earned(note(1), note(4), note(16))
    result = tollway("export", "--sats", "5", "--yes")
    assert (result.exit_code, worth(result.stdout.split())) == (0, 5)
    assert json.loads(tollway("balance", "--json").stdout)["sats"] == 16
    told = json.loads(tollway("export", "--all", "--yes", "--json").stdout)
    assert (told["mint"], worth(told["tokens"])) == (MINT, 16)


def test_more_than_there_is_cannot_be_taken_out(tollway: Tollway, earned: Callable[..., None]) -> None:
    """All of it stays."""
    earned(note(4))
    result = tollway("export", "--sats", "5", "--yes")
    assert (result.exit_code, "4 sats are held" in result.stderr) == (2, True)
    assert json.loads(tollway("balance", "--json").stdout)["sats"] == 4


def test_how_much_and_of_which_mint_must_be_said(tollway: Tollway, earned: Callable[..., None]) -> None:
    """A token is of one mint."""
    earned(note(4))
    earned(note(4, OTHER))
    assert "--sats N or --all" in tollway("export", "--yes").stderr
    assert "--sats N or --all" in tollway("export", "--yes", "--all", "--sats", "4").stderr
    assert OTHER in tollway("export", "--yes", "--all").stderr
    assert worth(tollway("export", "--yes", "--all", "--mint", OTHER).stdout.split()) == 4


def test_taking_out_is_asked_about(tollway: Tollway, earned: Callable[..., None]) -> None:
    """Without --yes and without an answer nothing happens, and no token is shown."""
    earned(note(4))
    result: Any = tollway("export", "--all")
    assert (result.exit_code, "cashuB" in result.output) == (1, False)
    assert json.loads(tollway("balance", "--json").stdout)["sats"] == 4
