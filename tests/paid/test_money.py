"""Money under everything at once: in the end it is all there, and the payers, the peers and the books say the same."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from random import Random
from typing import Final

import httpx
import pytest

from proxy.ledger.payment_states import PaymentState
from proxy.payments.cashu.blinding import spend_key, y_of
from proxy.payments.cashu.tokens import parse_token
from tests.paid.payers import Account, Payer, Story
from tests.peers.behaviour import Behaviour, Fault
from tests.peers.mint import PROGRAM
from tests.peers.provider import OPENAI_KEY
from tests.support.gateway import GatewayProcess
from tests.support.paid import PaidWorld
from tests.support.payment_books import PaymentBooks, PaymentSeen
from tests.support.ways_to_pay import BALANCE, Cashu, Counterparts, selling, ways, worth
from tests.support.world import GPT_4O_PRICE

SEED: Final = 20_261_121
PAYERS: Final = 8
STEPS: Final = 12
DEADLINES: Final = {"connect_seconds": 1, "first_byte_seconds": 0.3, "idle_seconds": 0.3, "total_seconds": 5}
WEATHER: Final[dict[str, Behaviour]] = {
    "good": Behaviour(),
    "slow": Behaviour(head_delay_seconds=0.1),
    "broken": Behaviour(status=500),
    "refusing": Behaviour(status=400),
    "silent": Behaviour(fault=Fault.HANG_BEFORE_HEAD),
    "cutting": Behaviour(fault=Fault.RESET_MID, chunks=12, after_chunks=6),
    "trickling": Behaviour(chunks=8, delay_seconds=0.02),
}
"""What the provider does with a model of this name."""
CHANGING: Final = "changing"
"""A model with which it does all of that, one after the other."""


@dataclass
class Scene:
    """Two processes on one ledger, and everybody's account."""

    shop: PaidWorld
    shops: tuple[PaidWorld, ...]
    counterparts: Counterparts
    account: Account
    payers: list[Payer]

    @property
    def books(self) -> PaymentBooks:
        """The one ledger."""
        return PaymentBooks(self.shop.world.gateway.folder)


@pytest.fixture
def scene(tmp_path: Path, counterparts: Counterparts) -> Iterator[Scene]:
    """A payment may be tried with three times."""
    own = {**ways(counterparts), "much cashu": Cashu(counterparts, over_sats=100)}
    models = {
        name: {"candidates": ["openai"], "price": GPT_4O_PRICE, "context": 128_000} for name in (*WEATHER, CHANGING)
    }
    policies = {"models": {"models": models}}
    with (
        selling(tmp_path, *own.values(), leases_max=3, deadlines=DEADLINES, policies=policies) as shop,
        GatewayProcess(tmp_path, environment={"OPENAI_API_KEY": OPENAI_KEY}) as twin,
    ):
        for name, behaviour in WEATHER.items():
            shop.world.provider.script(behaviour, model=name)
        shops = (shop, replace(shop, world=replace(shop.world, gateway=twin)))
        account = Account()
        payers = [Payer(SEED + number, shops, own, [*models], account) for number in range(PAYERS)]
        yield Scene(shop, shops, counterparts, account, payers)


@contextmanager
def changing_weather(shop: PaidWorld) -> Iterator[None]:
    """Every moment something else."""
    over, random = threading.Event(), Random(SEED)

    def change() -> None:
        while not over.wait(0.05):
            shop.world.provider.script(random.choice(list(WEATHER.values())), model=CHANGING)

    shop.world.provider.script(Behaviour(), model=CHANGING)
    thread = threading.Thread(target=change)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


@pytest.mark.needs(PROGRAM)
@pytest.mark.timeout(180)
def test_everything_that_was_paid_is_accounted_for(scene: Scene) -> None:
    """deposits = captured + refundable + held + change + fees + absorbed + expired + returned, as all sides have it."""
    moved = dict(scene.counterparts.trusting.moved)
    with changing_weather(scene.shop), ThreadPoolExecutor(PAYERS) as pool:
        for future in [pool.submit(payer.live, STEPS) for payer in scene.payers]:
            future.result()
    scene.books.until_ended()
    for story in scene.account.stories:
        scene.payers[0].claim(story)
    scene.books.until_ended()
    scene.books.prove()
    scene.shop.world.gateway.cli("ledger", "audit")
    for story in scene.account.stories:
        check_story(scene, story)
    for many in ([story.served for story in scene.account.stories], [story.back for story in scene.account.stories]):
        assert sum(map(bool, many)) > STEPS, "nothing much has happened"
    check_dollars(scene, moved)
    check_sats(scene)
    check_balances(scene)
    log = scene.shop.world.gateway.log()
    assert "Traceback" not in log
    assert "ledger_end_lost" not in log


def check_story(scene: Scene, story: Story) -> None:
    """Either an answer or the money back, and each only once; or nothing was ever taken."""
    payment = scene.books.payment(story.paid.key) if story.way.name != "cashu" else token_payment(scene, story)
    assert len({answer.content for answer in story.served}) <= 1
    assert len([answer for answer in story.served if "x-dedup" not in answer.headers]) <= 1 or buys_a_balance(story)
    last = story.refunds[-1]
    if last.status_code == 200:
        assert not story.served
        assert payment is not None
        assert payment.state is PaymentState.REFUNDED
        assert len({answer.content for answer in story.back}) == 1
        return
    code = last.json()["error"]["code"]
    if code == "not_found":
        assert not story.served
        assert payment is None or payment.amount == 0
        return
    assert code == "payment_spent", last.text
    assert not story.back
    assert payment is not None
    assert payment.state is PaymentState.BURNT
    assert story.served or story.left


def buys_a_balance(story: Story) -> bool:
    """It was used for one."""
    return any("token" in answer.text for answer in story.served)


def token_payment(scene: Scene, story: Story) -> PaymentSeen | None:
    """By the digest that ecash goes by."""
    notes = parse_token(story.paid.headers["x-cashu"], notes_max=20).notes
    return scene.books.payment(spend_key(tuple(note.secret for note in notes)))


def check_dollars(scene: Scene, before: dict[str, int]) -> None:
    """The facilitator moved what the ledger knows of, and every nonce of it once."""
    now = scene.counterparts.trusting.moved
    assert sum(now.values()) - sum(before.values()) == scene.books.sums()["usdc"].deposits > 0


def check_sats(scene: Scene) -> None:
    """Invoices that were paid and ecash that was swapped; what of it is the payers' is theirs, unspent, at the mint."""
    lightning = sum(story.paid.amount for story in scene.account.stories if story.way.name in ("l402", "mpp"))
    tokens = [story.paid.headers["x-cashu"] for story in scene.account.stories if story.way.name == "cashu"]
    swapped = sum(worth(token) for token in tokens if spent(scene, token)) * 1000
    sums = scene.books.sums()["msat"]
    assert sums.deposits == scene.account.invoiced_msat + lightning + swapped
    back = {
        story.back[0].json()["cashu"] for story in scene.account.stories if story.back and "cashu" in story.back[0].text
    }
    theirs = back | set(scene.account.change) | lost_change(scene, tokens)
    assert sum(worth(token) for token in theirs) * 1000 == sums.change + sums.returned
    assert not [token for token in theirs if spent(scene, token)]
    assert sums.held == sums.expired == 0


def lost_change(scene: Scene, tokens: list[str]) -> set[str]:
    """Of answers that went out to nobody: told to who shows the payment again."""
    found = set()
    names = {payment.name for payment in scene.books.payments() if payment.rail == "cashu" and payment.change}
    for token in tokens:
        for name in names:
            with scene.shop.client() as client:
                told = client.get(f"/v1/payments/{name}", headers={"x-cashu": token})
            if told.status_code == 200 and told.json().get("cashu"):
                found.add(told.json()["cashu"])
                names.discard(name)
                break
    return found


def spent(scene: Scene, token: str) -> bool:
    """All of its notes, or none, by the mint's word."""
    ys = [y_of(note.secret) for note in parse_token(token, notes_max=100).notes]
    answer = httpx.post(f"{scene.counterparts.mint.url}/v1/checkstate", json={"Ys": ys}, timeout=10)
    states = {state["state"] for state in answer.raise_for_status().json()["states"]}
    assert len(states) == 1
    return states == {"SPENT"}


def check_balances(scene: Scene) -> None:
    """What their holders are told is left on them is all that is refundable."""
    tokens = set(scene.account.balances)
    tokens |= {one.json()["token"] for story in scene.account.stories for one in story.back if "token" in one.json()}
    left = {"msat": 0, "usdc": 0}
    for token in tokens:
        seen = scene.books.balance(token)
        assert seen.held == 0
        assert 0 <= seen.spent <= seen.deposited == scene.account.balances.get(token, seen.deposited)
        left[seen.unit] += seen.deposited - seen.spent
        with scene.shop.client() as client:
            bearer = {"authorization": f"Bearer {token}"}
            told = client.post(BALANCE, json={"action": "status"}, headers=bearer).json()
        if seen.unit == "msat":
            assert told["sats"] == (seen.deposited - seen.spent) // 1000
    sums = scene.books.sums()
    assert {unit: sums[unit].refundable for unit in left} == left
