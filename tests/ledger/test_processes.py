"""Several processes on one file, and what kill -9 leaves behind."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import pytest

from proxy.ledger.api import Purse
from tests.ledger.child import CAP, HOLDS_EACH
from tests.ledger.making import PURSE, cap, opened, put_in, request, rows

ROOT = Path(__file__).parents[2]
SECONDS_MAX = 60


def child(*arguments: object) -> subprocess.Popen[str]:
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.ledger.child", *map(str, arguments)],
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    assert process.stdout.readline().startswith("ready")
    return process


def kill(process: subprocess.Popen[str]) -> str:
    process.send_signal(signal.SIGKILL)
    printed, _ = process.communicate(timeout=SECONDS_MAX)
    assert process.returncode == -signal.SIGKILL
    return printed


async def test_kill_9_counts_what_was_dispatched_in_full_and_frees_the_rest(tmp_path: Path) -> None:
    """After a crash no hold stays open: never dispatched, released; dispatched or committed, in full."""
    path = tmp_path / "tollway.db"
    kill(child("states", path))
    ledger = opened(path)
    recovered = ledger.recovered
    assert (recovered.boots, recovered.released, recovered.dispatched, recovered.committed) == (1, *[HOLDS_EACH] * 3)
    expected = 2 * HOLDS_EACH * 100 + HOLDS_EACH * 40
    states = await ledger.cap_states((cap(CAP), cap(CAP, "key", "key_1")))
    assert [(state.spent, state.held) for state in states] == [(expected, 0)] * 2
    kind = "substr(exchange_id, 1, instr(exchange_id, '-') - 1)"
    ended = f"SELECT {kind}, state, outcome, count(*) FROM holds GROUP BY 1"
    assert rows(path, ended) == [
        ("committed", 3, "crashed", HOLDS_EACH),
        ("held", 4, "crashed", HOLDS_EACH),
        ("sent", 3, "crashed", HOLDS_EACH),
        ("settled", 3, "served", HOLDS_EACH),
    ]
    assert rows(path, "SELECT outcome, count(*) FROM attempts GROUP BY 1 ORDER BY 1") == [
        ("crashed", 2 * HOLDS_EACH),
        ("served", HOLDS_EACH),
    ]
    assert await ledger.audit() == []
    await ledger.close()


async def test_a_living_siblings_holds_are_not_touched(tmp_path: Path) -> None:
    """Another process that opens the file recovers nothing of one that still runs."""
    path = tmp_path / "tollway.db"
    sibling = child("states", path)
    ledger = opened(path)
    assert ledger.recovered.boots == 0
    assert rows(path, "SELECT count(*) FROM holds WHERE state < 3") == [(3 * HOLDS_EACH,)]
    assert await ledger.audit() == []
    kill(sibling)
    ledger._sweep()
    assert ledger.recovered.dispatched == HOLDS_EACH
    assert await ledger.audit() == []
    await ledger.close()


async def test_nothing_acknowledged_is_lost_when_killed_while_busy(tmp_path: Path) -> None:
    """Whatever instant the process dies at, each settled hold it told of is settled, and the audit is clean."""
    path = tmp_path / "tollway.db"
    process = child("busy", path)
    assert process.stdout is not None
    told = [process.stdout.readline().strip() for _ in range(400)]
    told += kill(process).split("\n")[:-1]
    ledger = opened(path)
    settled = {name for (name,) in rows(path, "SELECT exchange_id FROM holds WHERE state = 3 AND outcome = 'served'")}
    assert set(told) <= settled
    assert rows(path, "SELECT count(*) FROM holds WHERE state < 3") == [(0,)]
    assert await ledger.audit() == []
    await ledger.close()


@pytest.mark.parametrize("limit", [1000, 1003])
async def test_racing_processes_never_overrun_a_cap(tmp_path: Path, limit: int) -> None:
    """200 tasks in two processes race for the last cent: never more than the cap, and none of it left lying."""
    path = tmp_path / "tollway.db"
    racers = [child("race", path, 100, limit, name) for name in ("one", "two")]
    for racer in racers:
        assert racer.stdin is not None
        racer.stdin.write("go\n")
        racer.stdin.flush()
    results = [racer.communicate(timeout=SECONDS_MAX)[0].split() for racer in racers]
    spent = sum(int(sum_) for sum_, _ in results)
    assert [overages for _, overages in results] == ["0", "0"]
    assert spent <= limit
    ledger = opened(path)
    (state,) = await ledger.cap_states((cap(limit),))
    assert (state.spent, state.held) == (spent, 0)
    assert await ledger.audit() == []
    await ledger.close()


@pytest.mark.parametrize("granted", [1000, 1003])
async def test_racing_processes_never_overdraw_a_purse(tmp_path: Path, granted: int) -> None:
    """Two keys of one team, a process each, take until nothing is left: the sums are exact to the cent."""
    path = tmp_path / "tollway.db"
    ledger = opened(path)
    await put_in(ledger, granted)
    racers = [child("race", path, 50, 10**6, name) for name in ("one", "two")]
    for racer in racers:
        assert racer.stdin is not None
        racer.stdin.write("go\n")
        racer.stdin.flush()
    results = [racer.communicate(timeout=SECONDS_MAX)[0].split() for racer in racers]
    spent = sum(int(sum_) for sum_, _ in results)
    (state,) = await ledger.purse_states((PURSE,))
    assert (state.granted, state.spent, state.held) == (granted, spent, 0)
    assert 0 <= state.left < 7
    assert await ledger.audit() == []
    await ledger.close()


async def test_of_two_keys_one_gets_the_last_cent(tmp_path: Path) -> None:
    """Time after time, of a cap and of a purse: exactly one process holds it, the other is told what is left."""
    path = tmp_path / "tollway.db"
    ledger = opened(path)
    rounds = [f"{kind}-{number}" for number in range(10) for kind in ("purse", "cap")]
    for name in rounds[::2]:
        await put_in(ledger, 10, Purse("team", name))
    racers = [child("last_cent", path, name) for name in ("key_1", "key_2")]
    for name in rounds:
        for racer in racers:
            assert racer.stdin is not None
            racer.stdin.write(f"{name}\n")
            racer.stdin.flush()
        told = sorted(racer.stdout.readline().strip() for racer in racers if racer.stdout is not None)
        assert told == ["PurseExceeded" if name.startswith("purse") else "CapExceeded", "held"]
    assert rows(path, "SELECT count(*), sum(held), min(held) FROM purses") == [(10, 100, 10)]
    assert rows(path, "SELECT count(*), sum(held), min(held) FROM counters") == [(10, 100, 10)]
    assert await ledger.audit() == []
    for racer in racers:
        kill(racer)
    ledger._sweep()
    assert rows(path, "SELECT sum(held) FROM purses") == [(0,)]
    assert await ledger.audit() == []
    await ledger.close()


async def test_one_process_at_a_time_sweeps(tmp_path: Path) -> None:
    """The lock file names one sweeper; when it leaves another takes over and recovers."""
    path = tmp_path / "tollway.db"
    first, second = opened(path), opened(path)
    assert first._sweeper is not None
    assert second._sweeper is None
    await first.close()
    victim = child("states", path)
    kill(victim)
    second._sweep()
    assert second._sweeper is not None
    assert second.recovered.boots == 1
    await second.hold(request(1))
    await second.close()
