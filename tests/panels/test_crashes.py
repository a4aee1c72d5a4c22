"""kill -9 and SIGTERM in the middle of a run: nothing is owed for it, everything that it cost is on the books."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Iterator
from contextlib import closing, suppress
from typing import Any, Final

import httpx
import pytest

from proxy.caps import parse_cap
from proxy.clock import SystemClock
from proxy.keys import KeyStore
from proxy.ledger.books import State
from proxy.ledger.payment_states import PaymentState
from proxy.ledger.schema import DATABASE_NAME
from tests.faults.books import assert_proven
from tests.peers.behaviour import Behaviour, Fault
from tests.support.paid_panels import ORCHESTRATE, PRICES, PanelShop, selling_panels
from tests.support.panel_world import Member
from tests.support.ways_to_pay import L402, Balance, Paid, books
from tests.support.world import TEAMS

QUESTION: Final = "What is six times seven?"
HANGING: Final = Behaviour(fault=Fault.HANG_BEFORE_HEAD)
APART: Final = {
    "one": Member(like="forty-two"),
    "two": Member("It is forty-one.", "41"),
    "three": Member("It is forty.", "40"),
}
BUDGET: Final = 330_000_000
"""Of `balanced`, in nano-dollars: what a run is held for at list."""
STAGES: Final = ("member", "evaluate", "refine", "synthesise")
TOKEN: Final = b"event: token"
PREPAID: Final = {"organisation": "acme", "tier": "standard", "prepaid": "team"}


def hanging_in(role: str) -> dict[str, Member]:
    """A panel that comes as far as this, and no further."""
    members = {name: Member(one.text, one.final, like=one.like, roles={role: HANGING}) for name, one in APART.items()}
    return {**members, "spare": Member(roles={role: HANGING})}


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PanelShop]:
    teams = {**TEAMS, "teams": {**TEAMS["teams"], "prepaid": PREPAID}}
    with selling_panels(
        tmp_path_factory.mktemp("crashes"), L402(), Balance(), policies={"teams": teams}, config={"drain_seconds": 1},
        leases_max=50,
    ) as made:  # fmt: skip
        made.shop.world.gateway.cli("credit", "grant", "0.40", "--team", "prepaid")
        yield made
        assert "Traceback" not in made.shop.world.gateway.log()
        assert_proven(made.shop.world.gateway)


@pytest.fixture
def house(running: PanelShop) -> Iterator[PanelShop]:
    """Running again, its books proven after each test."""
    if not running.shop.world.gateway.running:
        running.shop.world.gateway.start()
    running.reset()
    yield running
    books(running.shop).until_ended()
    books(running.shop).prove()


class Asker(threading.Thread):
    """A client whose proxy dies. `received` is what it had by then."""

    def __init__(self, house: PanelShop, body: dict[str, Any], headers: dict[str, str]) -> None:
        super().__init__(daemon=True)
        self._house, self._body, self._headers = house, body, headers
        self.received = b""
        self.status = 0
        self.start()

    def run(self) -> None:
        with suppress(httpx.TransportError), httpx.Client(timeout=30) as client:
            url = self._house.shop.url + ORCHESTRATE
            with client.stream("POST", url, json=self._body, headers=self._headers) as answer:
                self.status = answer.status_code
                for piece in answer.iter_raw():
                    self.received += piece


def asked(**more: Any) -> dict[str, Any]:
    return {"prompt": QUESTION, "mode": "balanced", **more}


def until_hanging(house: PanelShop, role: str) -> None:
    """The run is in this stage."""
    books(house.shop).until(
        lambda: [name for _, name in house.panels.cast.asked].count(role) >= (1 if role == "synthesise" else 3),
        f"nobody was asked to {role}",
    )


def until_received(asker: Asker, mark: bytes) -> None:
    deadline = time.monotonic() + 15
    while mark not in asker.received:
        assert time.monotonic() < deadline, asker.received[-500:]
        time.sleep(0.01)


def crashed(house: PanelShop) -> Any:
    """(state, outcome, charged, list, attempts at list) of the hold made last, after a new start."""
    house.shop.world.gateway.start()
    books(house.shop).until_ended()
    (row,) = house.panels.rows(
        "SELECT state, outcome, charged, list, (SELECT sum(list_cost) FROM attempts WHERE hold_id = holds.id)"
        " FROM holds ORDER BY id DESC LIMIT 1"
    )
    return row


NOTHING_OWED: Final = (State.SETTLED, "crashed", 0, BUDGET, BUDGET)


@pytest.mark.parametrize("role", STAGES)
def test_killed_in_the_middle_of_a_run(house: PanelShop, role: str) -> None:
    """Caps by price, a purse, a balance and a payment have theirs back; a cap by real cost counts the whole budget."""
    gateway = house.shop.world.gateway
    body = asked(stream=role != "evaluate")
    capped = make_key(house, role, "default", "0.40/total", "1/day:list")
    pursed = make_key(house, f"{role} purse", "prepaid")
    paid = L402().pay(house.shop, body, ORCHESTRATE)
    balance = Balance().pay(house.shop, body, ORCHESTRATE)
    payers = {
        "cap": {"authorization": f"Bearer {capped}"},
        "purse": {"authorization": f"Bearer {pursed}"},
        "payment": paid.headers,
        "balance": balance.headers,
    }
    house.reset(hanging_in(role))
    askers = [Asker(house, body, headers) for headers in payers.values()]
    wanted = len(payers) * (1 if role == "synthesise" else 3)
    books(house.shop).until(
        lambda: [name for _, name in house.panels.cast.asked].count(role) >= wanted, f"nobody was asked to {role}"
    )
    gateway.kill()
    for asker in askers:
        asker.join(10)
        assert TOKEN not in asker.received
    assert crashed(house) == NOTHING_OWED
    rows = house.panels.rows("SELECT state, outcome, charged, list FROM holds ORDER BY id DESC LIMIT 4")
    assert rows == [NOTHING_OWED[:4]] * 4
    counters = dict(
        house.panels.rows(
            "SELECT basis, spent FROM counters WHERE scope_id = (SELECT key_id FROM holds WHERE user = ?)", role
        )
    )
    assert counters == {"charged": 0, "list": BUDGET}
    assert house.panels.rows("SELECT spent, held FROM counters WHERE held != 0") == []
    assert house.panels.rows("SELECT spent, held FROM purses") == [(0, 0)]
    seen = books(house.shop).balance(token_of(balance))
    assert (seen.spent, seen.held) == (0, 0)
    assert books(house.shop).payment(paid.key).state is PaymentState.SETTLED  # type: ignore[union-attr]
    house.reset(APART)
    for name in ("payment", "balance"):
        answer = httpx.post(house.shop.url + ORCHESTRATE, json=body, headers=payers[name], timeout=30)
        assert answer.status_code == 200 and "forty-two" in answer.text, answer.text


def make_key(house: PanelShop, user: str, team: str, *caps: str) -> str:
    """In a hundredth of the time that the command takes."""
    path = house.shop.world.gateway.folder / "var" / DATABASE_NAME
    with closing(KeyStore(path, SystemClock())) as keys:
        made = keys.create(
            user=user, team=team, organisation="acme", tier=None, caps=tuple(parse_cap(cap) for cap in caps)
        )
        return str(made[0])


def token_of(paid: Paid) -> str:
    return paid.headers["authorization"].removeprefix("Bearer ")


@pytest.mark.parametrize("begun", [False, True])
def test_killed_around_the_first_token(house: PanelShop, begun: bool) -> None:
    """Between the head and the first token the payment is free again and serves later; after it, it is spent."""
    body = asked(stream=True, mode="fast")
    paid = L402().pay(house.shop, body, ORCHESTRATE)
    balance = Balance().pay(house.shop, body, ORCHESTRATE)
    how = Behaviour(chunks=500, delay_seconds=0.05) if begun else HANGING
    house.reset({**APART, "one": Member(roles={"synthesise": how})})
    askers = [Asker(house, body, one.headers) for one in (paid, balance)]
    for asker in askers:
        until_received(asker, TOKEN if begun else b"event: synthesis.started")
    house.shop.world.gateway.kill()
    for asker in askers:
        asker.join(10)
    assert crashed(house)[:2] == (State.SETTLED, "crashed")
    rows = house.panels.rows("SELECT payment IS NULL, charged, list FROM holds ORDER BY id DESC LIMIT 2")
    price = PRICES["fast"] if begun else 0
    assert sorted(rows) == [(0, price, 48_000_000), (1, 0, 48_000_000)]
    payment = books(house.shop).payment(paid.key)
    assert payment is not None and not payment.leased
    assert payment.state is (PaymentState.BURNT if begun else PaymentState.SETTLED)
    assert books(house.shop).balance(token_of(balance)).spent == 0
    house.reset()
    again = httpx.post(house.shop.url + ORCHESTRATE, json=body, headers=paid.headers, timeout=30)
    calls = len(house.shop.world.provider.requests)
    if begun:
        assert again.status_code in (401, 402, 409) and calls == 0, again.text
    else:
        assert "event: done" in again.text and calls == 3


def test_killed_after_a_whole_answer_was_kept(house: PanelShop) -> None:
    """Who shows the payment again has it, and nobody is asked."""
    body = asked(mode="fast", metadata={"n": "kept"})
    paid = L402().pay(house.shop, body, ORCHESTRATE)
    first = httpx.post(house.shop.url + ORCHESTRATE, json=body, headers=paid.headers, timeout=30)
    assert first.status_code == 200
    house.shop.world.gateway.kill()
    house.shop.world.gateway.start()
    house.reset()
    again = httpx.post(house.shop.url + ORCHESTRATE, json=body, headers=paid.headers, timeout=30)
    assert (again.content, len(house.shop.world.provider.requests)) == (first.content, 0)


@pytest.mark.parametrize("role", ["evaluate", "refine", "synthesise"])
def test_a_drain_that_ends_before_the_run_does(house: PanelShop, role: str) -> None:
    """SIGTERM: what the calls had cost is counted, nothing is charged, payments are free again, the end is regular."""
    gateway = house.shop.world.gateway
    body = asked(stream=role != "refine")
    paid = L402().pay(house.shop, body, ORCHESTRATE)
    balance = Balance().pay(house.shop, body, ORCHESTRATE)
    house.reset(hanging_in(role))
    askers = [Asker(house, body, one.headers) for one in (paid, balance)]
    wanted = len(askers) * (1 if role == "synthesise" else 3)
    books(house.shop).until(
        lambda: [name for _, name in house.panels.cast.asked].count(role) >= wanted, f"nobody was asked to {role}"
    )
    gateway.signal(signal.SIGTERM)
    assert gateway.wait() == 0
    for asker in askers:
        asker.join(10)
        assert TOKEN not in asker.received
    rows = house.panels.rows("SELECT state, outcome, charged, list FROM holds ORDER BY id DESC LIMIT 2")
    for state, outcome, charged, listed in rows:
        assert (state, outcome, charged) == (State.SETTLED, "drained", 0) and 0 < listed < BUDGET // 10
    log = gateway.log()
    assert "ledger_closed_with" not in log and "ledger_end_lost" not in log
    assert books(house.shop).payment(paid.key).state is PaymentState.SETTLED  # type: ignore[union-attr]
    assert books(house.shop).balance(token_of(balance)).spent == 0
    gateway.start()
    house.reset(APART)
    for one in (paid, balance):
        answer = httpx.post(house.shop.url + ORCHESTRATE, json=body, headers=one.headers, timeout=30)
        assert answer.status_code == 200 and "forty-two" in answer.text, answer.text


def test_a_drain_waits_for_a_run_that_ends_in_time(house: PanelShop) -> None:
    """Its answer goes out whole."""
    body = asked(mode="fast", stream=True)
    paid = L402().pay(house.shop, body, ORCHESTRATE)
    slow = Member(roles={"member": Behaviour(head_delay_seconds=0.4)})
    house.reset(dict.fromkeys(("one", "two", "three"), slow))
    asker = Asker(house, body, paid.headers)
    until_hanging(house, "member")
    house.shop.world.gateway.signal(signal.SIGTERM)
    assert house.shop.world.gateway.wait() == 0
    asker.join(10)
    assert b"event: done" in asker.received
    assert books(house.shop).payment(paid.key).state is PaymentState.BURNT  # type: ignore[union-attr]
