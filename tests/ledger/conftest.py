"""A ledger whose books are clean at the end, for the tests of payments."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from proxy.ledger.store import SqliteLedger
from tests.ledger.making import opened
from tests.support.fakes import FakeClock


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock(1000)


@pytest.fixture
async def ledger(tmp_path: Path, clock: FakeClock) -> AsyncIterator[SqliteLedger]:
    """Closed with clean books."""
    ledger = opened(tmp_path / "tollway.db", clock)
    yield ledger
    assert await ledger.audit() == []
    await ledger.close()
