"""What tests run in processes of their own: `python -m tests.ledger.child MODE DATABASE ...`."""

# ruff: noqa: T201 (what it prints is what the tests read)

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

from proxy.ledger.api import CapExceeded, Hold, Purse, PurseExceeded
from proxy.ledger.payment_api import BalanceExceeded, PaymentTaken, Receipt
from proxy.pricing.money import Nano
from tests.ledger.making import PURSE, bought, cap, drawing, opened, proof, request, settlement, unsettled

HOLDS_EACH = 25
"""Of each of the four states that `states` leaves behind."""
CAP = 1_000_000


async def states(path: Path) -> None:
    """Leave holds in every state, say so, and wait to be killed."""
    ledger = opened(path)
    caps = (cap(CAP), cap(CAP, "key", "key_1"))
    held, sent, committed, settled = [
        [await ledger.hold(request(100, *caps, exchange_id=f"{kind}-{number}")) for number in range(HOLDS_EACH)]
        for kind in ("held", "sent", "committed", "settled")
    ]
    attempts = {}
    for hold in sent + committed + settled:
        attempts[hold.id] = await ledger.dispatch(hold, upstream="openai", upstream_model="gpt-4o")
    for hold in committed:
        await ledger.commit(hold)
    for hold in settled:
        ledger.settle(hold, settlement(40, attempts[hold.id]))
    await ledger.flush()
    print("ready", len(held), flush=True)
    await asyncio.Event().wait()


async def busy(path: Path) -> None:
    """Serve without end, writing one line for each hold that was settled durably, until killed."""
    ledger = opened(path)
    print("ready", flush=True)

    async def serve(worker: int) -> None:
        number = 0
        while True:
            number += 1
            hold = await ledger.hold(request(10, cap(10**12), exchange_id=f"{worker}-{number}"))
            attempt = await ledger.dispatch(hold, upstream="openai", upstream_model="gpt-4o")
            ledger.settle(hold, settlement(number % 10, attempt))
            await ledger.flush()
            print(hold.request.exchange_id, flush=True)

    await asyncio.gather(*[serve(worker) for worker in range(8)])


async def race(path: Path, tasks: int, limit: int, name: str) -> None:
    """Let `tasks` tasks take 7 each, each process with a key of its own, until the team's cap is full or its purse
    empty; prints how much was granted and settled for good.
    """
    ledger = opened(path)
    (state,) = await ledger.purse_states((PURSE,))
    purse = PURSE if state.granted else None
    print("ready", flush=True)
    await asyncio.to_thread(sys.stdin.readline)
    granted: list[int] = []

    async def take(worker: int) -> None:
        number = 0
        while True:
            number += 1
            try:
                hold: Hold = await ledger.hold(
                    request(7, cap(limit), exchange_id=f"{name}-{worker}-{number}", key_id=name, purse=purse)
                )
            except (CapExceeded, PurseExceeded):
                return
            attempt = await ledger.dispatch(hold, upstream="openai", upstream_model="gpt-4o")
            cost = Nano(7 if number % 3 else 5)
            ledger.settle(hold, settlement(cost, attempt))
            granted.append(cost)

    await asyncio.gather(*[take(worker) for worker in range(tasks)])
    await ledger.close()
    print(sum(granted), ledger.alarms.overages, flush=True)


async def last_cent(path: Path, name: str) -> None:
    """Take the last cent once for each line read, with a key of its own; prints whether it was to be had."""
    ledger = opened(path)
    print("ready", flush=True)
    while line := (await asyncio.to_thread(sys.stdin.readline)).strip():
        purse = Purse("team", line) if line.startswith("purse") else None
        caps = () if purse is not None else (cap(10, scope_id=line),)
        try:
            await ledger.hold(request(10, *caps, exchange_id=f"{name}-{line}", key_id=name, purse=purse))
        except (CapExceeded, PurseExceeded) as refused:
            print(type(refused).__name__, flush=True)
        else:
            print("held", flush=True)
    await asyncio.Event().wait()


async def same_proof(path: Path, tasks: int, name: str) -> None:
    """For each line read show the proof of that key from `tasks` tasks at once, burn it where one of them has it;
    prints how many had it.
    """
    ledger = opened(path)
    print("ready", flush=True)
    while key := (await asyncio.to_thread(sys.stdin.readline)).strip():

        async def pay(key: str, task: int) -> bool:
            try:
                hold = await ledger.hold(bought(proof(key), exchange_id=f"{name}-{task}-{key}"))
            except PaymentTaken:
                return False
            attempt = await ledger.dispatch(hold, upstream="openai", upstream_model="gpt-4o")
            await ledger.commit(hold)
            ledger.settle(hold, settlement(60, attempt))
            return True

        paid = await asyncio.gather(*[pay(key, task) for task in range(tasks)])
        print(sum(paid), flush=True)
    await asyncio.Event().wait()


async def draw(path: Path, tasks: int, digest: bytes, name: str) -> None:
    """Draw 7 each from one balance until it is empty; prints what was paid."""
    ledger = opened(path)
    print("ready", flush=True)
    await asyncio.to_thread(sys.stdin.readline)
    paid: list[int] = []

    async def take(worker: int) -> None:
        number = 0
        while True:
            number += 1
            try:
                hold = await ledger.hold(drawing(digest, 7, exchange_id=f"{name}-{worker}-{number}"))
            except BalanceExceeded:
                return
            attempt = await ledger.dispatch(hold, upstream="openai", upstream_model="gpt-4o")
            cost = 7 if number % 3 else 5
            ledger.settle(hold, settlement(60, attempt, tendered=cost))
            paid.append(cost)

    await asyncio.gather(*[take(worker) for worker in range(tasks)])
    await ledger.close()
    print(sum(paid), flush=True)


async def paying_without_end(path: Path) -> None:
    """Lease, settle outside, burn and free without end, writing one line for each word that was said, until killed."""
    ledger = opened(path)
    print("ready", flush=True)

    async def pay(worker: int) -> None:
        number = 0
        while True:
            number += 1
            key = f"{worker}-{number}"
            hold = await ledger.hold(bought(unsettled(key), exchange_id=key))
            print("leased", key, flush=True)
            if hold.lease is None:
                return
            await ledger.payment_settled(hold.lease, Receipt(1000))
            print("settled", key, flush=True)
            attempt = await ledger.dispatch(hold, upstream="openai", upstream_model="gpt-4o")
            if number % 3:
                await ledger.commit(hold)
                print("burnt", key, flush=True)
            ledger.settle(hold, settlement(60, attempt))

    await asyncio.gather(*[pay(worker) for worker in range(8)])


def main() -> None:
    mode, path = sys.argv[1], Path(sys.argv[2])
    if mode == "states":
        asyncio.run(states(path))
    elif mode == "busy":
        asyncio.run(busy(path))
    elif mode == "same_proof":
        asyncio.run(same_proof(path, int(sys.argv[3]), sys.argv[4]))
    elif mode == "draw":
        asyncio.run(draw(path, int(sys.argv[3]), bytes.fromhex(sys.argv[4]), sys.argv[5]))
    elif mode == "paying":
        asyncio.run(paying_without_end(path))
    elif mode == "last_cent":
        asyncio.run(last_cent(path, sys.argv[3]))
    else:
        asyncio.run(race(path, int(sys.argv[3]), int(sys.argv[4]), sys.argv[5]))


if __name__ == "__main__":
    main()
