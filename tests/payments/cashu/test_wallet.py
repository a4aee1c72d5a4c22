"""Our own ecash: balances, and taking it out."""

from __future__ import annotations

import random
from itertools import combinations
from pathlib import Path

import pytest

from proxy.ledger.payment_api import EcashProof
from proxy.payments.cashu.tokens import parse_token
from proxy.payments.cashu.wallet import NotEnough, balances, choose, export_tokens
from tests.payments.cashu.desk import Desk
from tests.peers.mint import PROGRAM, Mint, Wallet
from tests.peers.mint.scripted import ScriptedMint


def notes(*amounts: int) -> list[EcashProof]:
    return [EcashProof("https://mint.test", "00", amount, f"s{index}", "02") for index, amount in enumerate(amounts)]


async def test_balances_are_by_mint(scripted: ScriptedMint, desk: Desk) -> None:
    """Of payments that were served; what went back is not ours."""
    assert await balances(desk.ledger) == {}
    await desk.buy(scripted.notes(64))
    await desk.buy(scripted.notes(64), served=False)
    assert await balances(desk.ledger) == {scripted.url: 30}


async def test_exported_notes_are_no_longer_ours(scripted: ScriptedMint, desk: Desk) -> None:
    """A part, then the rest; then there is nothing."""
    await desk.buy(scripted.notes(64))
    (token,) = await export_tokens(desk.ledger, scripted.url, 10)
    assert parse_token(token, notes_max=10).amount == 10
    assert await balances(desk.ledger) == {scripted.url: 20}
    with pytest.raises(NotEnough) as short:
        await export_tokens(desk.ledger, scripted.url, 21)
    assert short.value.held == 20
    tokens = await export_tokens(desk.ledger, scripted.url, None, notes_max=1)
    assert sorted(parse_token(token, notes_max=1).amount for token in tokens) == [4, 16]
    assert await balances(desk.ledger) == {}
    with pytest.raises(NotEnough):
        await export_tokens(desk.ledger, scripted.url, None)


@pytest.mark.needs(PROGRAM)
async def test_exported_token_is_redeemed_by_nutshells_wallet(tmp_path: Path, real: Mint, theirs: Wallet) -> None:
    """What we earn is money elsewhere."""
    async with Desk(tmp_path, real.url) as desk:
        await desk.buy(await real.notes(64))
        (token,) = await export_tokens(desk.ledger, real.url, None)
        assert theirs.receive(token) == 29


def test_choice_is_exact_or_the_least_above() -> None:
    """Against all subsets, for many small wallets."""
    rng = random.Random(7)
    for _ in range(300):
        held = notes(*[1 << rng.randrange(6) for _ in range(rng.randrange(1, 8))])
        total = sum(note.amount for note in held)
        sats = rng.randrange(1, total + 1)
        sums = {sum(n.amount for n in some) for size in range(1, len(held) + 1) for some in combinations(held, size)}
        chosen = choose(held, sats)
        assert len({note.secret for note in chosen}) == len(chosen)
        assert sum(note.amount for note in chosen) == min(amount for amount in sums if amount >= sats)
    assert choose(notes(8), 9) == ()
