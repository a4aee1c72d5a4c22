"""CPU and memory of process trees."""

from __future__ import annotations

import subprocess
import sys

from bench.cpu import cpu_seconds, resident_bytes, tree

BURN = "import time\nwhile time.process_time() < 0.2: pass\n"
CHILD_THAT_ENDS = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {BURN!r}]); print('done', flush=True)"
BURN_AND_STAY = f"{BURN}print(1, flush=True); input()"
CHILD_THAT_STAYS = (
    f"import subprocess, sys; child = subprocess.Popen([sys.executable, '-c', {BURN_AND_STAY!r}],"
    " stdout=subprocess.PIPE, stdin=subprocess.PIPE); child.stdout.readline(); print('done', flush=True)"
)


def used_by(program: str) -> tuple[float, int, int]:
    """CPU seconds, resident bytes and processes of a program that said that it is done and waits."""
    process = subprocess.Popen(
        [sys.executable, "-c", f"{program}\nimport sys; sys.stdin.readline()"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == b"done\n"
        return cpu_seconds(process.pid), resident_bytes(process.pid), len(tree(process.pid))
    finally:
        process.kill()
        process.communicate()


def test_a_child_that_ended_is_counted() -> None:
    """What a worker that is gone used was used all the same."""
    seconds, _, processes = used_by(CHILD_THAT_ENDS)
    assert seconds >= 0.2
    assert processes == 1


def test_a_living_child_is_counted() -> None:
    """CPU and memory of the whole tree."""
    alone_bytes = used_by("print('done', flush=True)")[1]
    seconds, resident, processes = used_by(CHILD_THAT_STAYS)
    assert seconds >= 0.2
    assert resident > 1.5 * alone_bytes
    assert processes == 2
