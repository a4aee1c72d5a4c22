"""Real mints for the whole session, a scripted one and a desk for each test."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from tests.payments.cashu.desk import Desk
from tests.peers.mint import Mint, Wallet, mint, wallet
from tests.peers.mint.scripted import ScriptedMint


@pytest.fixture(scope="session")
def real() -> Iterator[Mint]:
    """nutshell; spending up to ten notes costs a sat."""
    with mint(fee_ppk=100) as running:
        yield running


@pytest.fixture(scope="session")
def free() -> Iterator[Mint]:
    """nutshell, without fees."""
    with mint(fee_ppk=0) as running:
        yield running


@pytest.fixture(scope="session")
def theirs(real: Mint) -> Iterator[Wallet]:
    """nutshell's own wallet at its mint with fees."""
    with wallet(real) as running:
        yield running


@pytest.fixture
async def scripted() -> AsyncIterator[ScriptedMint]:
    """A mint that lies as told."""
    async with ScriptedMint() as running:
        yield running


@pytest.fixture
async def desk(tmp_path: Path, scripted: ScriptedMint) -> AsyncIterator[Desk]:
    """Takes the scripted mint's ecash."""
    async with Desk(tmp_path, scripted.url) as open_:
        yield open_
