"""Payments and balances of several processes on one file, and what kill -9 leaves of them."""

from __future__ import annotations

from pathlib import Path

import pytest

from proxy.ledger.payment_api import LeaseLost, PaymentTaken, Taken
from proxy.ledger.payment_states import PaymentState
from tests.ledger.making import bought, funded, opened, proof, rows
from tests.ledger.test_processes import SECONDS_MAX, child, kill

ROUNDS = 10
TASKS_EACH = 25
S = PaymentState


async def test_of_two_processes_one_has_the_proof(tmp_path: Path) -> None:
    """Time after time: 25 tasks of each show the same proof at once; it buys one answer."""
    path = tmp_path / "tollway.db"
    ledger = opened(path)
    racers = [child("same_proof", path, TASKS_EACH, name) for name in ("one", "two")]
    for number in range(ROUNDS):
        for racer in racers:
            assert racer.stdin is not None
            racer.stdin.write(f"key-{number}\n")
            racer.stdin.flush()
        had = [int(racer.stdout.readline()) for racer in racers if racer.stdout is not None]
        assert sum(had) == 1
    assert rows(path, "SELECT state, count(*), sum(captured), sum(leases) FROM payments GROUP BY state") == [
        (S.BURNT, ROUNDS, ROUNDS * 21_000, ROUNDS)
    ]
    for racer in racers:
        kill(racer)
    ledger._sweep()
    assert await ledger.audit() == []
    await ledger.close()


async def test_two_processes_never_overdraw_a_balance(tmp_path: Path) -> None:
    """They take until nothing is left: the sums are exact, and none of it is left lying."""
    path = tmp_path / "tollway.db"
    ledger = opened(path)
    digest = await funded(ledger, 1_003)
    racers = [child("draw", path, 50, digest.hex(), name) for name in ("one", "two")]
    for racer in racers:
        assert racer.stdin is not None
        racer.stdin.write("go\n")
        racer.stdin.flush()
    paid = sum(int(racer.communicate(timeout=SECONDS_MAX)[0]) for racer in racers)
    state = await ledger.balance(digest)
    assert state is not None
    assert (state.deposited, state.spent, state.held) == (1_003, paid, 0)
    assert 0 <= state.left < 7
    assert await ledger.audit() == []
    await ledger.close()


async def test_no_word_is_lost_when_killed_while_busy(tmp_path: Path) -> None:
    """Whatever instant it dies at: burnt stays burnt, settled money is there, what was asked for is unknown."""
    path = tmp_path / "tollway.db"
    process = child("paying", path)
    assert process.stdout is not None
    told = [process.stdout.readline().split() for _ in range(300)]
    told += [line.split() for line in kill(process).split("\n")[:-1]]
    ledger = opened(path)
    found = dict(rows(path, "SELECT key, state FROM payments"))
    last = {line[1]: line[0] for line in told if len(line) == 2}
    for key, word in last.items():
        expected = {"leased": {S.UNKNOWN, S.SETTLED}, "settled": {S.SETTLED, S.BURNT}, "burnt": {S.BURNT}}[word]
        assert found[key] in expected
    assert rows(path, "SELECT count(*) FROM payments WHERE boot IS NOT NULL") == [(0,)]
    unknown = await ledger.unknown_payments(count_max=100, idle_ms=60_000)
    assert len(unknown) == sum(state == S.UNKNOWN for state in found.values()) == ledger.recovered.unknown
    assert await ledger.audit() == []
    await ledger.close()


async def test_a_fence_holds_between_processes(tmp_path: Path) -> None:
    """A lease of one process means nothing in another."""
    path = tmp_path / "tollway.db"
    first, second = opened(path), opened(path)
    shown = proof()
    hold = await first.hold(bought(shown))
    await first.dispatch(hold, upstream="openai", upstream_model="m")
    with pytest.raises(LeaseLost):
        await second.commit(hold)
    await first.commit(hold)
    first.release(hold, reason="done", at_ms=0)
    with pytest.raises(PaymentTaken) as taken:
        await second.hold(bought(shown))
    assert taken.value.why is Taken.SPENT
    await first.close()
    await second.close()
