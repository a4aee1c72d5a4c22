"""Proxies that are killed over and over, and the points of an exchange at which that is done."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any, Final

import httpx

from tests.support.kill_points import HEADER, PLUGIN, RECORD
from tests.support.paid import CHAT, PAID_CHAIN, PaidWorld
from tests.support.ways_to_pay import (
    L402,
    Balance,
    ByFacilitator,
    Cashu,
    Counterparts,
    Mpp,
    OnChain,
    Paid,
    Way,
    selling,
)

RECONCILED_SECONDS_MAX: Final = 25.0
"""More than a round of the reconciler and the time for which it leaves one alone."""


def around(*names: str) -> tuple[str, ...]:
    """Before and after each."""
    return tuple(f"{side} {name}" for name in names for side in ("before", "after"))


CALL: Final = ("call of the provider", "the provider's whole answer")
SERVING: Final = around("commit of Dispatching", *CALL, "commit of Committing", "commit of SettlingProof")
LEASING: Final = around("commit of HoldingProof")
SETTLED: Final = around("commit of payment_settled")
READING_CHAIN: Final = around(
    "POST / eth_call 0xe94a0102",  # authorizationState
    "POST / eth_call 0x70a08231",  # balanceOf
    "POST / eth_getCode",
    "POST / eth_estimateGas 0xe3ee160e",  # transferWithAuthorization
    "POST / eth_getBlockByNumber",
    "POST / eth_maxPriorityFeePerGas",
    "POST / eth_getTransactionCount",
)
RECEIPT: Final = around("POST / eth_getTransactionReceipt")
ASKING_FACILITATOR: Final = around("POST /verify", "POST /settle")
WHOSE_SIGNATURE: Final = around("POST / eth_getTransactionByHash")
SWAPPING: Final = around("commit of note_payment", "POST /v1/swap")
POINTS: Final[dict[str, tuple[str, ...]]] = {
    "l402": LEASING + SERVING,
    "x402": (*LEASING, *READING_CHAIN, *around("POST / eth_sendRawTransaction"), *RECEIPT, *SETTLED, *SERVING),
    "x402 by a facilitator": (*LEASING, *ASKING_FACILITATOR, *RECEIPT, *WHOSE_SIGNATURE, *SETTLED, *SERVING),
    "cashu": LEASING + SWAPPING + SETTLED + SERVING,
    "balance": around("commit of Holding", "commit of Dispatching", *CALL, "commit of Settling"),
    "refund": around("commit of Leasing", "commit of refund"),
    "bought by an invoice": around("commit of invoice_settled", "commit of Leasing", "commit of fund"),
    "bought by ecash": (*around("commit of Leasing"), *SWAPPING, *SETTLED, *around("commit of fund")),
}
COUNT: Final = 114
"""All points."""
KILLED_COUNT: Final = 65
"""Those at which a process is killed, see `points`."""


def points(kind: str) -> list[tuple[str, int]]:
    """The numbers, as the plugin counts them, at which it is killed.

    From the point after one step to the point before the next nothing is written and nobody is asked: these two are
    one place, and a process dies there once.
    """
    names = POINTS[kind]
    return [(kind, at) for at, name in enumerate(names, 1) if at == 1 or not _same_place(names[at - 2], name)]


def _same_place(name: str, following: str) -> bool:
    return name.startswith("after ") and following.startswith("before ")


class Crashes:
    """One shop for each way to pay, killed over and over on its one folder."""

    def __init__(self, stack: ExitStack, counterparts: Counterparts, root: Path) -> None:
        self.counterparts = counterparts
        self._stack = stack
        self._root = root
        self._shops: dict[str, tuple[PaidWorld, Way]] = {}

    def shop(self, kind: str) -> tuple[PaidWorld, Way]:
        """Running, and its provider without a past."""
        known = self._shops.get(kind)
        if known is None:
            way = self._way(kind)
            entered = selling(self._root / kind.replace(" ", "-"), way, chain=[*PAID_CHAIN, PLUGIN], leases_max=100)
            known = self._shops[kind] = (self._stack.enter_context(entered), way)
        shop = known[0]
        if not shop.world.gateway.running:  # A test that failed left it dead.
            shop.world.gateway.start()
        shop.world.provider.reset()
        return known

    def _way(self, kind: str) -> Way:
        if kind == "l402":
            return L402()
        if kind == "mpp":
            return Mpp()
        if kind == "cashu":
            return Cashu(self.counterparts)
        if kind == "balance":
            return Balance()
        return (OnChain if kind == "x402" else ByFacilitator)(self.counterparts)

    def prove(self) -> None:
        """By the operator's own command."""
        for shop, _ in self._shops.values():
            shop.world.gateway.cli("ledger", "audit")


Asking = Callable[[httpx.Client, dict[str, str]], httpx.Response]
"""A request, with more headers."""


def recorded(shop: PaidWorld) -> list[str]:
    """The points that the counted exchange came to."""
    return (shop.world.gateway.folder / RECORD).read_text().splitlines()


def kill(shop: PaidWorld, at: int, kind: str, ask: Asking) -> tuple[list[str], httpx.Response | None]:
    """Ask, be killed at a point, and say which were passed, and what the client still had of its answer."""
    answer = None
    with shop.client() as client, suppress(httpx.TransportError):
        answer = ask(client, {HEADER: str(at)})
        assert answer.status_code < 500, answer.text
    status = shop.world.gateway.wait()
    assert status == -signal.SIGKILL
    passed = recorded(shop)
    assert len(passed) == at
    assert set(passed) <= set(POINTS[kind])
    return passed, answer


def settled_on(shop: PaidWorld, ask: Asking) -> httpx.Response:
    """The answer to who asks until it is known what became of the payment: never told to pay again meanwhile."""
    deadline = time.monotonic() + RECONCILED_SECONDS_MAX
    with shop.client() as client:
        while (answer := ask(client, {})).status_code in (409, 503):
            assert time.monotonic() < deadline, answer.text
            time.sleep(0.1)
    return answer


def asking(asked: dict[str, Any], paid: Paid, path: str = CHAT) -> Asking:
    """The paid request."""
    return lambda client, more: client.post(path, json=asked, headers={**paid.headers, **more})
