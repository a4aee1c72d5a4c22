"""The store of idempotent answers: one claim among threads and processes, durable, and free when its process dies."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from proxy.errors import Refusal
from proxy.idempotency.api import Asked, Claim, Kept, asked
from proxy.idempotency.service import Once
from proxy.idempotency.store import FILE_NAME
from tests.support.fakes import FakeClock, Log

ASKED = asked("key:key_1", "k", "/v1/orchestrate", b"{}")
KEPT = Kept((("content-type", "application/json"),), b'{"answer":"SECRET-ANSWER"}')
OTHERS_PROCESS = """
import asyncio, sys
from pathlib import Path
from proxy.errors import Refusal
from proxy.idempotency.api import Claim, Kept, asked
from proxy.idempotency.service import Once
from tests.support.fakes import FakeClock, Log

async def main() -> None:
    once = Once(Path(sys.argv[1]), FakeClock(), Log())
    await once.start()
    print("ready", flush=True)
    sys.stdin.readline()

    async def one() -> int:
        try:
            return int(isinstance(await once.claim(asked("key:key_1", "k", "/v1/orchestrate", b"{}")), Claim))
        except Refusal:
            return 0

    print(sum(await asyncio.gather(*[one() for _ in range(10)])), flush=True)
    sys.stdin.readline()

asyncio.run(main())
"""


def service(folder: Path, clock: FakeClock | None = None) -> Once:
    return Once(folder, clock or FakeClock(), Log())


@pytest.fixture
async def once(tmp_path: Path) -> AsyncIterator[Once]:
    made = service(tmp_path)
    await made.start()
    yield made
    await made.stop()


async def claimed(once: Once, what: Asked = ASKED) -> Claim:
    found = await once.claim(what)
    assert isinstance(found, Claim)
    return found


async def outcome(once: Once, what: Asked = ASKED) -> str:
    """claim | kept | the code it is refused with."""
    try:
        found = await once.claim(what)
    except Refusal as refusal:
        return refusal.code
    return "claim" if isinstance(found, Claim) else "kept"


def process(folder: Path) -> subprocess.Popen[str]:
    begun = subprocess.Popen(
        [sys.executable, "-c", OTHERS_PROCESS, str(folder)],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert begun.stdout is not None
    assert begun.stdout.readline() == "ready\n"
    return begun


def go_on(begun: subprocess.Popen[str]) -> None:
    assert begun.stdin is not None
    begun.stdin.write("\n")
    begun.stdin.flush()


async def test_twenty_at_once_over_two_services_make_one_run(tmp_path: Path) -> None:
    """Two connections with a thread each: one insert wins."""
    both = [service(tmp_path), service(tmp_path)]
    for one in both:
        await one.start()
    found = await asyncio.gather(*[outcome(both[number % 2]) for number in range(20)])
    assert sorted(found) == ["claim"] + ["conflict"] * 19
    for one in both:
        await one.stop()


def test_twenty_at_once_over_two_processes_make_one_run(tmp_path: Path) -> None:
    """Released at once; whoever wins, nobody else does. A process that is killed frees its key."""
    both = [process(tmp_path), process(tmp_path)]
    try:
        for one in both:
            go_on(one)
        won = [int(one.stdout.readline()) for one in both if one.stdout is not None]
    finally:
        for one in both:
            one.kill()
            one.communicate()
    assert sorted(won) == [0, 1]

    async def afterwards() -> str:
        once = service(tmp_path)
        await once.start()
        found = await outcome(once)
        await once.stop()
        return found

    assert asyncio.run(afterwards()) == "claim"


async def test_key_of_a_process_that_dies_is_free_for_who_is_there(tmp_path: Path, once: Once) -> None:
    """Without a restart of the others, and before any sweep."""
    other = process(tmp_path)
    go_on(other)
    assert other.stdout is not None
    assert other.stdout.readline() == "1\n"
    assert await outcome(once) == "conflict"
    other.kill()
    other.communicate()
    assert await outcome(once) == "claim"
    await once.sweep()
    assert len(list((tmp_path / f"{FILE_NAME}.boots").iterdir())) == 1


async def test_kept_answer_survives_a_restart(tmp_path: Path, once: Once) -> None:
    """The same bytes and headers, for every process."""
    assert await once.keep(await claimed(once), KEPT)
    assert await once.claim(ASKED) == KEPT
    other = service(tmp_path)
    await other.start()
    assert await other.claim(ASKED) == KEPT
    await other.stop()


@pytest.mark.parametrize("kept", [True, False])
async def test_other_request_under_the_key_is_a_mismatch(once: Once, kept: bool) -> None:
    """Whether the first one runs or has been answered; another caller's key is another one."""
    claim = await claimed(once)
    if kept:
        await once.keep(claim, KEPT)
    assert await outcome(once, asked("key:key_1", "k", "/v1/orchestrate", b"{} ")) == "idempotency_mismatch"
    assert await outcome(once, asked("key:key_1", "k", "/v1/batch", b"{}")) == "idempotency_mismatch"
    assert await outcome(once, asked("key:key_2", "k", "/v1/orchestrate", b"{} ")) == "claim"


async def test_answer_expires(tmp_path: Path) -> None:
    """After its hours the key is new, and a sweep takes the answer out of the file."""
    clock = FakeClock()
    once = service(tmp_path, clock)
    once.hours = 2
    await once.start()
    await once.keep(await claimed(once), KEPT)
    clock.advance(7_199)
    assert await outcome(once) == "kept"
    clock.advance(1)
    await once.sweep()
    assert b"SECRET-ANSWER" not in b"".join(path.read_bytes() for path in tmp_path.glob("*.db*") if path.is_file())
    assert await outcome(once) == "claim"
    await once.stop()


async def test_expired_answer_is_no_answer_before_any_sweep(tmp_path: Path) -> None:
    """Even for another request."""
    clock = FakeClock()
    once = service(tmp_path, clock)
    await once.start()
    await once.keep(await claimed(once), KEPT)
    clock.advance(86_400)
    assert await outcome(once, asked("key:key_1", "k", "/v1/orchestrate", b"{} ")) == "claim"
    await once.stop()


async def test_claim_ends_once(once: Once) -> None:
    """What was kept is not freed, what was freed is not kept."""
    claim = await claimed(once)
    assert await once.keep(claim, KEPT)
    once.release(claim)
    await once.free(claim)
    await asyncio.sleep(0)
    assert await outcome(once) == "kept"
    other = asked("key:key_1", "k2", "/v1/orchestrate", b"{}")
    freed = await claimed(once, other)
    await once.free(freed)
    assert not await once.keep(freed, KEPT)
    assert await outcome(once, other) == "claim"


async def test_callers_oldest_answers_give_way(tmp_path: Path) -> None:
    """Only the caller's own, and the newest stays."""
    once = service(tmp_path)
    once.scope_bytes_max = 3 * len(KEPT.body)
    await once.start()
    wanted = [asked("key:key_1", f"k{number}", "/p", b"") for number in range(5)]
    foreign = asked("key:key_2", "k0", "/p", b"")
    for one in (foreign, *wanted):
        await once.keep(await claimed(once, one), KEPT)
    assert [await outcome(once, one) for one in (foreign, *wanted)] == ["kept", "claim", "claim", *["kept"] * 3]
    await once.stop()


async def test_answers_about_something_are_forgotten_with_it(tmp_path: Path, once: Once) -> None:
    """The caller's own alone, and out of the file."""
    about = asked("key:key_1", "k", "/p", b"", about="conv_1")
    foreign = asked("key:key_2", "k", "/p", b"", about="conv_1")
    for one in (about, foreign):
        await once.keep(await claimed(once, one), KEPT)
    assert await once.forget("key:key_1", "conv_1") == 1
    assert [await outcome(once, one) for one in (about, foreign)] == ["claim", "kept"]
    assert await once.forget("key:key_2", "conv_1") == 1
    assert b"SECRET-ANSWER" not in b"".join(path.read_bytes() for path in tmp_path.glob("*.db*") if path.is_file())


async def test_neither_key_nor_request_is_in_the_file(tmp_path: Path, once: Once) -> None:
    """Digests alone."""
    await claimed(once, asked("key:key_1", "PLAIN-KEY", "/v1/orchestrate", b"PLAIN-BODY"))
    raw = b"".join(path.read_bytes() for path in tmp_path.glob("*.db*") if path.is_file())
    assert b"PLAIN" not in raw
    assert b"SECRET-ANSWER" not in repr(KEPT).encode()
