"""What closing the ledger owes to those who were still waiting for it."""

from __future__ import annotations

import asyncio
from pathlib import Path

from proxy.ledger.books import State
from tests.ledger.making import opened, request, rows


async def test_a_hold_given_up_just_before_the_close_is_released(tmp_path: Path) -> None:
    """Its owner was cancelled while the writer made it: nobody but the ledger can end it, also while it closes."""
    path = tmp_path / "tollway.db"
    ledger = opened(path)
    waiting = [asyncio.create_task(ledger.hold(request(number))) for number in range(50)]
    await asyncio.sleep(0)
    for task in waiting:
        task.cancel()
    await ledger.close()
    assert ledger.alarms.lost_ends == 0
    assert rows(path, "SELECT state, outcome, count(*) FROM holds GROUP BY 1, 2") == [(State.RELEASED, "abandoned", 50)]
    assert rows(path, "SELECT count(*) FROM boots") == [(0,)]
    await asyncio.gather(*waiting, return_exceptions=True)


async def test_holds_given_up_while_the_ledger_closes_are_released(tmp_path: Path) -> None:
    """The same where the owners are cancelled a turn of the loop later."""
    path = tmp_path / "tollway.db"
    ledger = opened(path)
    waiting = [asyncio.create_task(ledger.hold(request(number))) for number in range(50)]
    await asyncio.sleep(0)
    closing = asyncio.create_task(ledger.close())
    await asyncio.sleep(0)
    for task in waiting:
        task.cancel()
    await closing
    assert ledger.alarms.lost_ends == 0
    assert rows(path, "SELECT count(*) FROM holds WHERE state < 3") == [(0,)]
    await asyncio.gather(*waiting, return_exceptions=True)
