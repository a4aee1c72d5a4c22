"""kill -9 at every point of a paid exchange: after the next start no money is lost, and none was taken twice.

The points are counted where the process is instrumented, and named here: one that is new fails until it is looked at.
A start after a kill is also the start before the next one; only requests with the header of the kill points count.
"""

from __future__ import annotations

import asyncio
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import httpx
import pytest

from proxy.ledger.payment_states import PaymentState
from tests.peers.chain.node import anvil
from tests.peers.mint import PROGRAM
from tests.support.kill_points import HEADER, PLUGIN, RECORD
from tests.support.paid import CHAT, PAID_CHAIN, PaidWorld, body
from tests.support.ways_to_pay import (
    BALANCE,
    FEE_SATS,
    L402,
    REFUND,
    VALID_SECONDS,
    Balance,
    ByFacilitator,
    Cashu,
    Counterparts,
    Mpp,
    OnChain,
    Paid,
    Way,
    books,
    refund,
    selling,
    worth,
)

FLOOR_MSAT: Final = 21_000
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
KILLED_COUNT: Final = 65


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


@pytest.fixture(scope="module")
def crashes(tmp_path_factory: pytest.TempPathFactory, counterparts: Counterparts) -> Iterator[Crashes]:
    """The shops are audited at the end by the operator's own command."""
    with ExitStack() as stack:
        made = Crashes(stack, counterparts, tmp_path_factory.mktemp("crashes"))
        yield made
        for shop, _ in made._shops.values():
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


KINDS: Final = [
    pytest.param("l402"),
    pytest.param("mpp"),
    pytest.param("balance"),
    pytest.param("x402"),
    pytest.param("x402 by a facilitator"),
    pytest.param("cashu", marks=pytest.mark.needs(PROGRAM)),
]


@pytest.mark.parametrize("kind", KINDS)
def test_the_points_at_which_money_could_be_lost_are_known(crashes: Crashes, kind: str) -> None:
    """As counted in a whole exchange. MPP comes to those of L402, and is not killed at each of them once more."""
    shop, way = crashes.shop(kind)
    asked = body(f"{kind} is counted")
    paid = way.pay(shop, asked)
    with shop.client() as client:
        answer = asking(asked, paid)(client, {HEADER: "0"})
    assert answer.status_code == 200, answer.text
    wanted = POINTS["l402" if kind == "mpp" else kind]
    books(shop).until(lambda: len(recorded(shop)) >= len(wanted), "it ended too early")
    assert sorted(recorded(shop)) == sorted(wanted)


def test_the_points_are_counted() -> None:
    """So many there are, and so many processes are killed by this file."""
    assert sum(len(names) for names in POINTS.values()) == COUNT
    assert sum(len(points(kind)) for kind in POINTS) == KILLED_COUNT


def calls_wanted(passed: list[str]) -> int:
    """Of the provider, until the payer has its answer: once more where the first answer was not kept."""
    called = "after call of the provider" in passed
    return 2 if called and "after commit of Committing" not in passed else 1


def assert_served_once(shop: PaidWorld, ask: Asking, passed: list[str], answer: httpx.Response) -> None:
    """It has its answer; shown again, the payment gives the same one, and the provider has nothing to do."""
    assert answer.status_code == 200, answer.text
    books(shop).until_ended()
    calls = len(shop.world.provider.requests)
    assert calls == calls_wanted(passed)
    again = settled_on(shop, ask)
    assert (again.status_code, again.content, again.headers["x-dedup"]) == (200, answer.content, "hit")
    assert len(shop.world.provider.requests) == calls
    books(shop).prove()


@pytest.mark.parametrize(("kind", "at"), points("l402"))
def test_killed_under_l402(crashes: Crashes, kind: str, at: int) -> None:
    """The preimage serves once, whatever happened before."""
    shop, way = crashes.shop(kind)
    asked = body(f"killed at {at}")
    paid = way.pay(shop, asked)
    ask = asking(asked, paid)
    passed, had = kill(shop, at, kind, ask)
    shop.world.gateway.start()
    answer = settled_on(shop, ask)
    assert had is None or had.content == answer.content
    assert_served_once(shop, ask, passed, answer)
    payment = books(shop).payment(paid.key)
    assert payment is not None
    assert (payment.state, payment.captured) == (PaymentState.BURNT, paid.amount)


@pytest.mark.needs(str(anvil()[0]))
@pytest.mark.parametrize(("kind", "at"), points("x402") + points("x402 by a facilitator"))
def test_killed_under_x402(crashes: Crashes, kind: str, at: int) -> None:
    """What was settled serves once. What was not even sent is waited for until it never can be, and was not taken."""
    shop, way = crashes.shop(kind)
    chain = crashes.counterparts.chain
    asked = body(f"killed at {at}")
    paid = way.pay(shop, asked)
    before = chain.balance(chain.pay_to)
    ask = asking(asked, paid)
    passed, had = kill(shop, at, kind, ask)
    sent = chain.balance(chain.pay_to) - before
    assert sent in (0, paid.amount)
    doubtful = not sent and "after commit of HoldingProof" in passed
    if doubtful:
        chain.mine(1, seconds=VALID_SECONDS + 1)
    shop.world.gateway.start()
    answer = settled_on(shop, ask)
    if doubtful:
        assert (answer.status_code, answer.json()["error"]["code"]) == (402, "x402_settlement_failed")
        payment = books(shop).payment(paid.key)
        assert payment is not None
        assert (payment.state, payment.amount) == (PaymentState.REFUSED, 0)
        assert chain.balance(chain.pay_to) == before
        paid = way.pay(shop, asked)
        ask = asking(asked, paid)
        answer = settled_on(shop, ask)
    assert had is None or had.content == answer.content
    assert_served_once(shop, ask, passed, answer)
    assert chain.balance(chain.pay_to) == before + paid.amount
    payment = books(shop).payment(paid.key)
    assert payment is not None
    assert (payment.state, payment.captured) == (PaymentState.BURNT, paid.amount)


@pytest.mark.needs(PROGRAM)
@pytest.mark.parametrize(("kind", "at"), points("cashu"))
def test_killed_under_cashu(crashes: Crashes, kind: str, at: int) -> None:
    """Swapped and not served, the value less the mint's fee is there as a token; else the token itself serves."""
    shop, way = crashes.shop(kind)
    asked = body(f"killed at {at}")
    paid = way.pay(shop, asked)
    ask = asking(asked, paid)
    passed, had = kill(shop, at, kind, ask)
    shop.world.gateway.start()
    answer = settled_on(shop, ask)
    swapped = "after POST /v1/swap" in passed and "after commit of Committing" not in passed
    if swapped:
        assert answer.status_code >= 400
        token = refund(shop, paid).json()["cashu"]
        assert worth(token) == worth(paid.headers["x-cashu"]) - FEE_SATS
        assert refund(shop, paid).json()["cashu"] == token
        paid = Cashu.of(token)
        ask = asking(asked, paid)
        answer = settled_on(shop, ask)
    assert had is None or had.content == answer.content
    assert_served_once(shop, ask, passed, answer)
    change = worth(answer.headers["x-cashu-change"]) * 1000
    payment = books(shop).newest()
    assert (payment.state, payment.change) == (PaymentState.BURNT, change)
    assert payment.captured == paid.amount - change - FEE_SATS * 1000 == FLOOR_MSAT


@pytest.mark.parametrize(("kind", "at"), points("balance"))
def test_killed_under_a_balance(crashes: Crashes, kind: str, at: int) -> None:
    """Before the provider was called it costs nothing; after that the input; what was settled is settled once."""
    shop, way = crashes.shop(kind)
    asked = body(f"killed at {at}")
    paid = way.pay(shop, asked)
    token = paid.headers["authorization"].removeprefix("Bearer ")
    passed, _ = kill(shop, at, kind, asking(asked, paid))
    shop.world.gateway.start()
    ledger = books(shop)
    ledger.prove()
    spent = ledger.balance(token)
    assert spent.held == 0
    if "after commit of Settling" in passed:
        assert spent.spent == FLOOR_MSAT
    elif "after commit of Dispatching" in passed:
        ((input_msat,),) = ledger.rows("SELECT tender_input FROM holds ORDER BY id DESC LIMIT 1")
        assert 0 < spent.spent == input_msat < FLOOR_MSAT
    else:
        assert spent.spent == 0
    assert settled_on(shop, asking(asked, paid)).status_code == 200
    ledger.until_ended()
    assert ledger.balance(token).spent == spent.spent + FLOOR_MSAT
    assert len(shop.world.provider.requests) == 1 + ("after call of the provider" in passed)
    ledger.prove()


# -- errands


def bought(answer: httpx.Response) -> str:
    """The token of a balance."""
    assert answer.status_code == 200, answer.text
    return str(answer.json()["token"])


@dataclass
class Errand:
    """A payment that becomes a balance."""

    shop: PaidWorld
    ask: Asking
    msat: int
    """That the balance is to have."""
    paid: Paid | None = None


def refunding(crashes: Crashes, label: str) -> Errand:
    """A paid invoice that bought nothing."""
    shop, way = crashes.shop("l402")
    paid = way.pay(shop, body(label))
    return Errand(shop, asking({}, paid, REFUND), paid.amount)


def polling(crashes: Crashes, label: str) -> Errand:
    """A paid invoice for a balance."""
    shop, _ = crashes.shop("balance")
    with shop.client() as client:
        offer = client.post(BALANCE, json={"sats": 500}).json()
    shop.wallet.pay(offer["invoice"])
    poll = {"payment_hash": offer["payment_hash"], "poll_secret": offer["poll_secret"]}
    return Errand(shop, lambda client, more: client.post(BALANCE, json=poll, headers=more), 500_000)


def buying(crashes: Crashes, label: str) -> Errand:
    """Ecash that comes with the request for a balance."""
    shop, way = crashes.shop("cashu")
    way.pay(shop, body(label))  # Until the mint is on offer.
    paid = Cashu.of(asyncio.run(crashes.counterparts.mint.notes(170)))
    return Errand(shop, asking({"sats": 150}, paid, BALANCE), 150_000, paid)


ERRANDS: Final = {"refund": refunding, "bought by an invoice": polling, "bought by ecash": buying}
ERRANDS_POINTS: Final = [
    pytest.param(kind, at, marks=pytest.mark.needs(PROGRAM) if kind == "bought by ecash" else ())
    for kind in ERRANDS
    for kind, at in points(kind)
]


@pytest.mark.needs(PROGRAM)
@pytest.mark.parametrize("kind", ERRANDS)
def test_the_points_on_the_way_to_a_balance_are_known(crashes: Crashes, kind: str) -> None:
    """As counted where nothing is killed."""
    errand = ERRANDS[kind](crashes, f"{kind} is counted")
    with errand.shop.client() as client:
        bought(errand.ask(client, {HEADER: "0"}))
    assert sorted(recorded(errand.shop)) == sorted(POINTS[kind])


@pytest.mark.parametrize(("kind", "at"), ERRANDS_POINTS)
def test_killed_on_the_way_to_a_balance(crashes: Crashes, kind: str, at: int) -> None:
    """Who asks again has it, with all that was paid for it, and only once; or the ecash back, which buys it then."""
    errand = ERRANDS[kind](crashes, f"{kind} at {at}")
    shop, ask = errand.shop, errand.ask
    kill(shop, at, kind, ask)
    shop.world.gateway.start()
    answer = settled_on(shop, ask)
    if answer.status_code != 200 and errand.paid is not None:
        back = refund(shop, errand.paid).json()["cashu"]
        assert worth(back) == worth(errand.paid.headers["x-cashu"]) - FEE_SATS
        ask = asking({"sats": 150}, Cashu.of(back), BALANCE)
        answer = settled_on(shop, ask)
    token = bought(answer)
    assert bought(settled_on(shop, ask)) == token
    ledger = books(shop)
    ledger.until_ended()
    assert ledger.balance(token).deposited == errand.msat
    ledger.prove()
    with shop.client() as client:
        served = client.post(CHAT, json=body("by it"), headers={"authorization": f"Bearer {token}"})
    assert served.status_code == 200, served.text
