"""Batches and webhooks of a whole proxy, with real processes that come and go."""

from __future__ import annotations

import contextlib
import sqlite3
import time
from collections.abc import Callable, Iterator
from typing import Any

import httpx
import pytest

from proxy.ledger.books import State
from tests.peers.behaviour import Behaviour, Fault
from tests.peers.certificates import server_context, write_ca_file
from tests.support.gateway import GatewayProcess
from tests.support.panel_world import DEADLINES, quick_panel
from tests.support.receiver import Receiver
from tests.support.world import CHAIN, World, world

WAIT_SECONDS_MAX = 30.0
PRICE = 50_000_000


def chain(**webhooks: Any) -> list[Any]:
    """The usual one, with what is told and what is asked of panels."""
    made = list(CHAIN)
    told = {"webhooks": {"development": True, "retry_seconds": 0.05, **webhooks}}
    made[made.index("byo") + 1 : made.index("byo") + 1] = [told, "batch", "idempotency"]
    made.insert(made.index("spend_caps") + 1, "consensus")
    return made


@pytest.fixture(scope="module")
def inside() -> Iterator[Receiver]:
    """A receiver of the operator's own, behind TLS."""
    with Receiver(tls=server_context("localhost")) as receiver:
        yield receiver


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory, inside: Receiver) -> Iterator[World]:
    """A running proxy with one quick panel."""
    folder = tmp_path_factory.mktemp("batches")
    listed = chain(allow_private=[f"localhost:{inside.port}"], ca_file=str(write_ca_file(folder)))
    config = {"chain": listed, "drain_seconds": 2, "drain_client_gone_seconds": 1}
    with world(folder, config=config, policies={"consensus": quick_panel(3)}, deadlines=DEADLINES) as running:
        yield running
        running.gateway.cli("ledger", "audit")


@pytest.fixture(scope="module")
def key(house: World) -> str:
    return house.gateway.make_key()


@pytest.fixture(autouse=True)
def clean(house: World) -> Iterator[None]:
    """The provider answers as usual before and after each test."""
    house.provider.reset()
    yield
    house.provider.reset()


@pytest.fixture
def client(house: World, key: str) -> Iterator[Callable[..., httpx.Response]]:
    """Requests with the key, to wherever the proxy listens now."""
    with httpx.Client(headers={"authorization": f"Bearer {key}"}, timeout=20, trust_env=False) as made:

        def ask(method: str, path: str, **options: Any) -> httpx.Response:
            return made.request(method, house.gateway.url("api") + path, **options)

        yield ask


Ask = Callable[..., httpx.Response]


def until(ask: Ask, batch: str, done: Callable[[dict[str, Any]], bool]) -> dict[str, Any]:
    deadline = time.monotonic() + WAIT_SECONDS_MAX
    while True:
        found: dict[str, Any] = ask("GET", f"/v1/batch/{batch}").json()
        if done(found):
            return found
        assert time.monotonic() < deadline, found
        time.sleep(0.05)


def ended(ask: Ask, batch: str) -> dict[str, Any]:
    return until(ask, batch, lambda found: found["ended"] is not None)


def query(house: World, statement: str, *values: Any) -> list[Any]:
    with contextlib.closing(sqlite3.connect(house.gateway.folder / "var" / "tollway.db")) as connection:
        return connection.execute(statement, values).fetchall()


def last_hold(house: World) -> int:
    """The newest hold so far."""
    return int(query(house, "SELECT coalesce(max(id), 0) FROM holds")[0][0])


def charges(house: World, after: int) -> list[int]:
    """What runs were charged whose holds are younger, in nano-dollars, once all of these have ended."""
    deadline = time.monotonic() + WAIT_SECONDS_MAX
    while query(house, "SELECT 1 FROM holds WHERE id>? AND state<?", after, State.SETTLED):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    settled = "SELECT charged FROM holds WHERE id>? AND state=? AND operation='orchestrate' ORDER BY id"
    return [row[0] for row in query(house, settled, after, State.SETTLED)]


def audited(house: World, done: dict[str, Any]) -> list[dict[str, Any]]:
    """The lines of the exchanges behind the results of a batch."""
    ids = {item["result"]["id"].replace("orch_", "req_") for item in done["items"]}
    deadline = time.monotonic() + WAIT_SECONDS_MAX
    while True:
        found = [line for line in house.gateway.audit_lines() if line["request_id"] in ids]
        if len(found) == len(ids):
            return found
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_batch_is_answered_charged_and_told_of(house: World, client: Ask) -> None:
    """202 at once; each prompt is an exchange of its own in the audit; the webhook is signed with the shown secret."""
    with Receiver() as receiver:
        secret = client("PUT", "/v1/webhooks/config", json={"rotate_secret": True}).json()["secret"]
        before = last_hold(house)
        body = {"prompts": ["One?", {"messages": [{"role": "user", "content": "Two?"}]}], "webhook_url": receiver.url()}
        queued = client("POST", "/v1/batch", json=body)
        assert (queued.status_code, queued.headers["location"]) == (202, f"/v1/batch/{queued.json()['id']}")
        assert (queued.json()["object"], queued.json()["counts"]["total"]) == ("batch", 2)
        done = ended(client, queued.json()["id"])
        (told,) = [one for one in receiver.wait() if one.event["type"] == "batch.completed"]
    assert (done["status"], done["counts"]["completed"]) == ("completed", 2)
    for index, item in enumerate(done["items"]):
        assert (item["index"], item["status"], "error" in item) == (index, "completed", False)
        assert item["result"]["object"].startswith("orchestration")
    assert told.is_signed_with(secret)
    assert (told.event["data"]["id"], told.event["data"]["status"]) == (done["id"], "completed")
    assert charges(house, before) == [PRICE] * 2
    said = [(line["listener"], line["operation"], line["status"], line["peer"]) for line in audited(house, done)]
    assert said == [("inward", "orchestrate", 200, "127.0.0.1")] * 2


def test_single_answer_is_told_of_where_its_request_says(client: Ask, inside: Receiver) -> None:
    """Over TLS, with the very answer."""
    url = inside.url("/answers", host="localhost")
    answer = client("POST", "/v1/orchestrate", json={"prompt": "Why?", "webhook_url": url})
    assert answer.status_code == 200
    (told,) = inside.wait()
    assert (told.path, told.event["type"]) == ("/answers", "orchestration.completed")
    assert told.event["data"]["id"] == answer.json()["id"]


@pytest.mark.parametrize(
    ("body", "status", "says"),
    [
        ({"prompts": []}, 400, "1 to 20"),
        ({"prompts": ["?"] * 21}, 400, "1 to 20"),
        ({"prompts": ["?", {"prompt": "?", "tools": [{}]}]}, 400, "prompts[1]"),
        ({"prompts": ["?"], "webhook_url": "https://10.0.0.1/"}, 400, "webhook_url"),
        ({"prompts": ["?"], "webhook_url": "http://hooks.example.com/"}, 400, "webhook_url"),
        ({"prompts": ["?"], "mode": "deep"}, 404, "Modes here are fast"),
    ],
)
def test_bad_batch_is_refused_and_costs_nothing(
    house: World, client: Ask, body: Any, status: int, says: str
) -> None:  # fmt: skip
    """Nothing of it runs."""
    answer = client("POST", "/v1/batch", json=body)
    assert (answer.status_code, says in answer.json()["error"]["message"]) == (status, True)
    assert house.provider.requests == []


def test_batch_needs_a_key_of_ours(house: World, client: Ask) -> None:
    """And is its owner's: of another's nobody says more than of one that never was."""
    batch = client("POST", "/v1/batch", json={"prompts": ["?"]}).json()["id"]
    url = house.gateway.url("api")
    nobody = httpx.post(f"{url}/v1/batch", json={"prompts": ["?"]}, trust_env=False)
    assert (nobody.status_code, "needs a Tollway key" in nobody.text) == (401, True)
    other = {"authorization": f"Bearer {house.gateway.make_key(user='other')}"}
    answers = [
        httpx.request(method, f"{url}/v1/batch/{name}", headers=other, trust_env=False)
        for method in ("GET", "DELETE")
        for name in (batch, "batch_000000000000000000000000")
    ]
    assert {answer.status_code for answer in answers} == {404}
    assert len({answer.text for answer in answers}) == 1
    assert ended(client, batch)["status"] == "completed"


def test_killed_process_loses_nothing_and_answers_nothing_twice(house: World, client: Ask) -> None:
    """SIGKILL while prompts run, others wait and a webhook cannot be delivered: the next process does the rest."""
    with Receiver(500) as receiver:
        body = {"prompts": [f"Question {number}?" for number in range(6)], "webhook_url": receiver.url()}
        first = client("POST", "/v1/batch", json={"prompts": ["?"], "webhook_url": receiver.url()}).json()["id"]
        ended(client, first)
        receiver.wait()
        house.provider.script(*[Behaviour(fault=Fault.HANG_BEFORE_HEAD)] * 100)
        batch = client("POST", "/v1/batch", json=body).json()["id"]
        until(client, batch, lambda found: found["counts"]["running"] > 0 and found["counts"]["queued"] > 0)
        house.gateway.kill()
        house.provider.reset()
        receiver.answer(204)
        house.gateway.start()
        done = ended(client, batch)
        assert (done["status"], done["counts"]["completed"]) == ("completed", 6)
        deadline = time.monotonic() + WAIT_SECONDS_MAX
        while {one.event["data"]["id"] for one in receiver.received} != {first, batch}:
            assert time.monotonic() < deadline
            time.sleep(0.05)
    ids = {one.event["data"]["id"]: one.headers["webhook-id"] for one in receiver.received}
    assert ids == {first: f"evt_{first}", batch: f"evt_{batch}"}


def test_drain_puts_what_runs_back_into_the_queue(house: World, client: Ask) -> None:
    """SIGTERM ends the process in time; the next one answers. What the drain cut is not charged."""
    before = last_hold(house)
    house.provider.script(*[Behaviour(fault=Fault.HANG_BEFORE_HEAD)] * 100)
    batch = client("POST", "/v1/batch", json={"prompts": ["?", "?"]}).json()["id"]
    until(client, batch, lambda found: found["counts"]["running"] > 0)
    assert house.gateway.stop() == 0
    house.provider.reset()
    house.gateway.start()
    assert ended(client, batch)["counts"]["completed"] == 2
    assert [one for one in charges(house, before) if one] == [PRICE] * 2


def test_two_processes_share_the_work(house: World, client: Ask) -> None:
    """On one state folder: each prompt runs once, whoever took the batch."""
    before = last_hold(house)
    with GatewayProcess(house.gateway.folder, environment=house.gateway._environment) as second:
        house.provider.script(*[Behaviour(head_delay_seconds=0.02)] * 200)
        made = [client("POST", "/v1/batch", json={"prompts": ["?"] * 8}).json()["id"] for _ in range(2)]
        for batch in made:
            assert ended(client, batch)["counts"]["completed"] == 8
        assert second.running
    assert charges(house, before) == [PRICE] * 16


def test_cancelled_batch_stops_its_calls(house: World, client: Ask) -> None:
    """DELETE: what runs is cut, as where a client leaves; what has not begun costs nothing."""
    before = last_hold(house)
    house.provider.script(*[Behaviour(fault=Fault.HANG_BEFORE_HEAD)] * 100)
    batch = client("POST", "/v1/batch", json={"prompts": ["?"] * 6}).json()["id"]
    until(client, batch, lambda found: found["counts"]["running"] > 0)
    client("DELETE", f"/v1/batch/{batch}")
    done = ended(client, batch)
    assert (done["status"], done["counts"]["canceled"]) == ("canceled", 6)
    assert all(one < PRICE for one in charges(house, before))


def test_idempotency_key_makes_one_batch(client: Ask) -> None:
    """The same body again: the same batch; another one: 422."""
    headers = {"idempotency-key": "nightly-1"}
    made = [client("POST", "/v1/batch", json={"prompts": ["?"]}, headers=headers) for _ in range(2)]
    assert [one.status_code for one in made] == [202, 202]
    assert made[0].json()["id"] == made[1].json()["id"]
    assert ended(client, made[0].json()["id"])["counts"]["total"] == 1
    other = client("POST", "/v1/batch", json={"prompts": ["!"]}, headers=headers)
    assert (other.status_code, other.json()["error"]["code"]) == (422, "idempotency_mismatch")


def test_webhook_endpoints(client: Ask) -> None:
    """Configure, test, look, remove."""
    with Receiver() as receiver:
        made = client("PUT", "/v1/webhooks/config", json={"url": receiver.url(), "rotate_secret": True}).json()
        assert made["status"] == "enabled"
        sent = client("POST", "/v1/webhooks/test")
        assert sent.status_code == 202
        received = receiver.wait()[0]
        assert received.is_signed_with(made["secret"])
        deadline = time.monotonic() + WAIT_SECONDS_MAX
        while (found := client("GET", "/v1/webhooks/config").json())["recent"][0]["status"] == "pending":
            assert time.monotonic() < deadline
            time.sleep(0.02)
        assert found["recent"][0]["id"] == sent.json()["id"] == received.headers["webhook-id"]
        assert "secret" not in found
        assert client("DELETE", "/v1/webhooks/config").status_code == 200
        assert client("DELETE", "/v1/webhooks/config").status_code == 404
        assert client("POST", "/v1/webhooks/test").status_code == 404


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({"url": "http://hooks.example.com/"}, "url"),
        ({"url": "https://169.254.169.254/"}, "url"),
        ({"url": 3}, "url"),
        ({"url": None, "events": []}, "events"),
        ({"events": ["payment.made"]}, "events"),
        ({"secret": "whsec_mine"}, "secret"),
    ],
)
def test_bad_webhook_is_refused_by_member(client: Ask, body: Any, param: str) -> None:
    """400, and nothing changes."""
    answer = client("PUT", "/v1/webhooks/config", json=body)
    assert (answer.status_code, answer.json()["error"]["param"]) == (400, param)


def test_webhooks_need_a_key(house: World) -> None:
    """Before the body is looked into."""
    answer = httpx.put(f"{house.gateway.url('api')}/v1/webhooks/config", json={"url": 3}, trust_env=False)
    assert answer.status_code == 401
