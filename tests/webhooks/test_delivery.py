"""What becomes of an event that is put into the outbox."""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import sqlite3
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest

from proxy import addresses
from proxy.clock import SystemClock
from proxy.errors import Refusal
from proxy.ledger.boots import FileLock, boots_folder
from proxy.state_file import StateFile
from proxy.webhooks import delivery, store
from proxy.webhooks.api import BATCH_COMPLETED, EVENTS, ORCHESTRATION_COMPLETED, DeliveryReport, DeliveryState
from proxy.webhooks.service import Webhooks
from proxy.webhooks.settings import WebhookRules
from tests.peers.certificates import server_context, write_ca_file
from tests.support.fakes import Log
from tests.support.receiver import Receiver

OWNER = "key_1"
QUICK = WebhookRules(development=True, retry_seconds=0.01, attempts_max=3, timeout_seconds=5)
PAYLOAD = {"id": "batch_1", "text": "CANARY-CONTENT"}


@contextlib.asynccontextmanager
async def running(folder: Path, rules: WebhookRules = QUICK, log: Log | None = None) -> AsyncIterator[Webhooks]:
    webhooks = Webhooks(folder, SystemClock(), log or Log())
    await webhooks.start(rules)
    try:
        yield webhooks
    finally:
        await webhooks.stop()


async def until(webhooks: Webhooks, done: Callable[[DeliveryReport], bool]) -> DeliveryReport:
    """The newest delivery, once it is as expected."""
    deadline = time.monotonic() + 20
    while True:
        _, recent = await webhooks.config(OWNER)
        if recent and done(recent[0]):
            return recent[0]
        assert time.monotonic() < deadline, recent
        await asyncio.sleep(0.01)


def is_over(report: DeliveryReport) -> bool:
    return report.state is not DeliveryState.PENDING


async def test_event_arrives_signed_with_the_secret_that_was_shown(tmp_path: Path) -> None:
    """Type, time and data in the body; the three headers of the scheme; JSON."""
    with Receiver() as receiver:
        async with running(tmp_path) as webhooks:
            _, secret = await webhooks.put(OWNER, receiver.url("/hook?x=1"), (), rotate=False)
            event_id = await webhooks.enqueue(OWNER, None, BATCH_COMPLETED, PAYLOAD)
            await until(webhooks, is_over)
        (received,) = receiver.received
    assert secret is not None
    assert received.is_signed_with(secret)
    assert (received.path, received.headers["content-type"]) == ("/hook?x=1", "application/json")
    assert received.headers["webhook-id"] == event_id
    assert abs(int(received.headers["webhook-timestamp"]) - time.time()) < 60
    assert received.event["type"] == BATCH_COMPLETED
    assert received.event["data"] == PAYLOAD
    assert received.event["timestamp"].endswith("Z")


async def test_failed_delivery_is_tried_again_under_the_same_id(tmp_path: Path) -> None:
    """Until a status of 2xx."""
    with Receiver(500, 503, 200) as receiver:
        async with running(tmp_path) as webhooks:
            await webhooks.enqueue(OWNER, receiver.url(), ORCHESTRATION_COMPLETED, PAYLOAD)
            report = await until(webhooks, is_over)
    assert (report.state, report.attempts, report.status) == (DeliveryState.DELIVERED, 3, 200)
    assert len({one.headers["webhook-id"] for one in receiver.received}) == 1
    assert len({one.body for one in receiver.received}) == 1


@pytest.mark.parametrize("status", [302, 400, 404, 500])
async def test_delivery_is_given_up_after_its_last_attempt(tmp_path: Path, status: int) -> None:
    """Its owner is told, its content is forgotten. Redirects are not followed."""
    log = Log()
    with Receiver(status, headers={"location": "/elsewhere"}) as receiver:
        async with running(tmp_path, log=log) as webhooks:
            await webhooks.enqueue(OWNER, receiver.url(), BATCH_COMPLETED, PAYLOAD)
            report = await until(webhooks, is_over)
    assert (report.state, report.attempts) == (DeliveryState.FAILED, 3)
    assert str(status) in report.error
    assert {one.path for one in receiver.received} == {"/hook"}
    assert log.names()[-1] == "webhook_given_up"
    with contextlib.closing(sqlite3.connect(tmp_path / store.FILE_NAME)) as connection:
        assert connection.execute("SELECT body FROM deliveries").fetchall() == [(b"",)]


async def test_gone_switches_the_webhook_off(tmp_path: Path) -> None:
    """410 is not tried again, and nothing more is sent there until it is configured anew."""
    with Receiver(410) as receiver:
        async with running(tmp_path) as webhooks:
            await webhooks.put(OWNER, receiver.url(), (), rotate=False)
            await webhooks.enqueue(OWNER, None, BATCH_COMPLETED, PAYLOAD)
            report = await until(webhooks, is_over)
            config, _ = await webhooks.config(OWNER)
            assert config is not None
            assert (report.attempts, config.disabled != "") == (1, True)
            assert await webhooks.enqueue(OWNER, None, BATCH_COMPLETED, PAYLOAD) is None
            config, secret = await webhooks.put(OWNER, receiver.url(), (), rotate=False)
            assert (config.disabled, secret) == ("", None)


async def test_receiver_that_is_down_hears_of_it_later(tmp_path: Path) -> None:
    """Nobody listens at first."""
    with Receiver() as gone:
        port = gone.port
    async with running(tmp_path, WebhookRules(development=True, retry_seconds=0.01, attempts_max=20)) as webhooks:
        await webhooks.enqueue(OWNER, f"http://127.0.0.1:{port}/", BATCH_COMPLETED, PAYLOAD)
        report = await until(webhooks, lambda one: one.attempts >= 1 and one.error != "")
    assert (report.state, report.status) == (DeliveryState.PENDING, None)


async def test_only_wanted_events_are_sent(tmp_path: Path) -> None:
    """Without a webhook, or of a type that was not chosen, nothing is kept; a test is always sent."""
    with Receiver() as receiver:
        async with running(tmp_path) as webhooks:
            assert await webhooks.enqueue(OWNER, None, BATCH_COMPLETED, PAYLOAD) is None
            await webhooks.put(OWNER, receiver.url(), (BATCH_COMPLETED,), rotate=False)
            assert await webhooks.enqueue(OWNER, None, ORCHESTRATION_COMPLETED, PAYLOAD) is None
            assert await webhooks.test(OWNER) is not None
            await until(webhooks, is_over)
    assert [one.event["type"] for one in receiver.received] == ["webhook.test"]


async def test_event_with_an_id_happens_once(tmp_path: Path) -> None:
    """However often it is put there."""
    with Receiver() as receiver:
        async with running(tmp_path) as webhooks:
            for _ in range(3):
                await webhooks.enqueue(OWNER, receiver.url(), BATCH_COMPLETED, PAYLOAD, event_id="evt_1")
            await until(webhooks, is_over)
            await webhooks.enqueue(OWNER, receiver.url(), BATCH_COMPLETED, PAYLOAD, event_id="evt_1")
            await asyncio.sleep(0.05)
    assert len(receiver.received) == 1


async def test_secret_is_shown_once_and_rotates_with_an_overlap(tmp_path: Path) -> None:
    """One that a request's URL brought about is shown at the first PUT; while it is replaced both sign."""
    with Receiver() as receiver:
        async with running(tmp_path) as webhooks:
            await webhooks.enqueue(OWNER, receiver.url("/first"), BATCH_COMPLETED, PAYLOAD)
            _, first = await webhooks.put(OWNER, receiver.url(), (), rotate=False)
            assert (await webhooks.put(OWNER, receiver.url(), (), rotate=False))[1] is None
            _, second = await webhooks.put(OWNER, receiver.url(), (), rotate=True)
            await until(webhooks, is_over)
            await webhooks.test(OWNER)
            await until(webhooks, is_over)
    assert first is not None
    assert second is not None
    assert first != second
    by_path = {one.path: one for one in receiver.received}
    assert by_path["/first"].is_signed_with(first)
    assert by_path["/hook"].is_signed_with(first)
    assert by_path["/hook"].is_signed_with(second)
    assert (tmp_path / store.FILE_NAME).read_bytes().find(first.encode()) == -1


async def test_owners_have_secrets_of_their_own(tmp_path: Path) -> None:
    """And of each state folder."""
    async with running(tmp_path / "a") as one, running(tmp_path / "b") as other:
        secrets = [(await which.put(owner, None, (), rotate=False))[1] for which in (one, other) for owner in "xy"]
    assert len(set(secrets)) == 4


async def test_removed_webhook_hears_nothing_more_of_what_waits(tmp_path: Path) -> None:
    """What requests named themselves goes on."""
    rules = WebhookRules(development=True, retry_seconds=3600, attempts_max=3)
    with Receiver(500) as receiver:
        async with running(tmp_path, rules) as webhooks:
            await webhooks.put(OWNER, receiver.url(), (), rotate=False)
            await webhooks.enqueue(OWNER, None, BATCH_COMPLETED, PAYLOAD)
            await until(webhooks, lambda one: one.error != "")
            assert await webhooks.remove(OWNER)
            report = await until(webhooks, is_over)
            assert (report.state, report.error) == (DeliveryState.FAILED, "the webhook was removed")
            assert not await webhooks.remove(OWNER)


async def test_name_that_leads_inside_by_now_is_not_called(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Public when it was checked, private when it is dialled: nothing is connected to."""
    answers = [["93.184.216.34"], ["127.0.0.1"]]

    async def resolve(*_: Any, **__: Any) -> list[Any]:
        return [ipaddress.ip_address(text) for text in (answers.pop(0) if len(answers) > 1 else answers[0])]

    monkeypatch.setattr(addresses, "resolve", resolve)
    rules = WebhookRules(retry_seconds=0.01, attempts_max=1)
    with Receiver(tls=server_context("localhost")) as receiver:
        async with running(tmp_path, rules) as webhooks:
            url = receiver.url(host="rebinding.example.com")
            await webhooks.check(url)
            await webhooks.enqueue(OWNER, url, BATCH_COMPLETED, PAYLOAD)
            report = await until(webhooks, is_over)
    assert report.error == "rebinding.example.com: it is not a public address"
    assert receiver.received == []


async def test_private_receiver_that_the_operator_lists_is_told_over_tls(tmp_path: Path) -> None:
    """Its certificate is checked, against the operator's authority."""
    with Receiver(tls=server_context("localhost")) as receiver:
        listed = frozenset({f"localhost:{receiver.port}"})
        for ca_file, state in ((write_ca_file(tmp_path), DeliveryState.DELIVERED), (None, DeliveryState.FAILED)):
            rules = WebhookRules(attempts_max=1, allow_private=listed, ca_file=ca_file)
            async with running(tmp_path, rules) as webhooks:
                await webhooks.enqueue(OWNER, receiver.url(host="localhost"), BATCH_COMPLETED, PAYLOAD)
                assert (await until(webhooks, is_over)).state is state
    assert len(receiver.received) == 1


async def test_private_url_is_refused_when_it_is_named(tmp_path: Path) -> None:
    """400, which names the member and repeats nothing."""
    async with running(tmp_path, WebhookRules()) as webhooks:
        for url in ("http://hooks.example.com/", "https://127.0.0.1/", "https://localhost/", "https://10.1.2.3/x"):
            with pytest.raises(Refusal, match="webhook_url") as refused:
                await webhooks.check(url)
            assert (refused.value.status, refused.value.param, url in str(refused.value)) == (400, "webhook_url", False)


async def test_neither_url_nor_content_nor_secret_is_logged(tmp_path: Path) -> None:
    """The log names the owner, the event and the host."""
    log = Log()
    with Receiver(500) as receiver:
        async with running(tmp_path, log=log) as webhooks:
            _, secret = await webhooks.put(OWNER, receiver.url("/CANARY-PATH?token=CANARY"), (), rotate=False)
            await webhooks.enqueue(OWNER, None, BATCH_COMPLETED, PAYLOAD)
            await until(webhooks, is_over)
    assert "CANARY" not in repr(log.events)
    assert str(secret) not in repr(log.events)


async def test_outbox_of_one_owner_is_bounded(tmp_path: Path) -> None:
    """What comes past it is kept as failed, without content."""
    rules = WebhookRules(development=True, retry_seconds=3600, pending_max=2)
    with Receiver(500) as receiver:
        async with running(tmp_path, rules) as webhooks:
            for _ in range(3):
                await webhooks.enqueue(OWNER, receiver.url(), BATCH_COMPLETED, PAYLOAD)
            _, recent = await webhooks.config(OWNER)
            assert recent[0].state is DeliveryState.FAILED
            assert await webhooks.enqueue("key_2", receiver.url(), BATCH_COMPLETED, PAYLOAD) is not None


async def test_what_a_dead_process_was_sending_is_sent_again(tmp_path: Path) -> None:
    """Its lock tells that it lives no more."""
    with Receiver() as receiver:
        async with running(tmp_path) as webhooks:
            await webhooks.enqueue(OWNER, receiver.url(), BATCH_COMPLETED, PAYLOAD)
            await until(webhooks, is_over)
        boots = boots_folder(tmp_path / store.FILE_NAME)
        (boots / "dead").touch()
        with contextlib.closing(sqlite3.connect(tmp_path / store.FILE_NAME)) as connection:
            connection.execute("UPDATE deliveries SET state='pending', boot='dead', body=x'7b7d'")
            connection.commit()
        async with running(tmp_path) as webhooks:
            report = await until(webhooks, is_over)
    assert (report.attempts, len(receiver.received)) == (2, 2)
    assert list(boots.iterdir()) == []


async def test_what_a_living_process_is_sending_is_left_to_it(tmp_path: Path) -> None:
    """Whoever holds the lock lives."""
    with Receiver() as receiver:
        async with running(tmp_path) as webhooks:
            await webhooks.enqueue(OWNER, receiver.url(), BATCH_COMPLETED, PAYLOAD)
            await until(webhooks, is_over)
        lock = FileLock.acquire(boots_folder(tmp_path / store.FILE_NAME) / "alive")
        assert lock is not None
        with contextlib.closing(sqlite3.connect(tmp_path / store.FILE_NAME)) as connection:
            connection.execute("UPDATE deliveries SET state='pending', boot='alive'")
            connection.commit()
        async with running(tmp_path) as webhooks:
            await webhooks.enqueue(OWNER, receiver.url(), BATCH_COMPLETED, PAYLOAD)
            await until(webhooks, is_over)
        lock.release()
    assert len(receiver.received) == 2


async def test_two_processes_send_each_delivery_once(tmp_path: Path) -> None:
    """They share the outbox."""
    with Receiver() as receiver:
        async with running(tmp_path) as one, running(tmp_path) as other:
            for which in (one, other) * 10:
                await which.enqueue(OWNER, receiver.url(), BATCH_COMPLETED, PAYLOAD)
            await asyncio.to_thread(receiver.wait, 20)
            await until(one, is_over)
            await asyncio.sleep(0.05)
    ids = [received.headers["webhook-id"] for received in receiver.received]
    assert (len(ids), len(set(ids))) == (20, 20)


async def test_slow_receiver_delays_its_own_owner_alone(tmp_path: Path) -> None:
    """It never has every slot."""
    inside: list[asyncio.StreamWriter] = []

    async def silent(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        inside.append(writer)

    server = await asyncio.start_server(silent, "127.0.0.1", 0)
    slow = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/"
    rules = WebhookRules(development=True, at_once_max=4, timeout_seconds=30)
    with Receiver() as receiver:
        async with running(tmp_path, rules) as webhooks:
            for _ in range(6):
                await webhooks.enqueue("key_slow", slow, BATCH_COMPLETED, PAYLOAD)
            await webhooks.enqueue(OWNER, receiver.url(), BATCH_COMPLETED, PAYLOAD)
            await until(webhooks, is_over)
            assert len(inside) <= 2
    for writer in inside:
        writer.close()
    server.close()


async def test_fault_of_ours_is_an_attempt_and_no_more(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The delivery does not stay claimed for ever, and it is in the log."""

    def fault(*_: Any) -> Any:
        raise RuntimeError("CANARY")

    log = Log()
    monkeypatch.setattr(delivery, "parse", fault)
    async with running(tmp_path, log=log) as webhooks:
        await webhooks.enqueue(OWNER, "https://hooks.example.com/", BATCH_COMPLETED, PAYLOAD)
        report = await until(webhooks, is_over)
    assert (report.state, report.attempts, report.error) == (DeliveryState.FAILED, 3, "this proxy failed on it")
    assert log.names().count("webhook_failed") == 3


async def test_where_it_is_off_nothing_is_kept_and_a_url_is_refused(tmp_path: Path) -> None:
    """The plugin is not in the chain."""
    webhooks = Webhooks(tmp_path, SystemClock(), Log())
    assert await webhooks.enqueue(OWNER, None, EVENTS[0], PAYLOAD) is None
    with pytest.raises(Refusal, match="sends no webhooks"):
        await webhooks.check("https://hooks.example.com/")
    with pytest.raises(Refusal, match="sends no webhooks"):
        await webhooks.config(OWNER)
    assert list(tmp_path.iterdir()) == []


async def test_owners_whose_receivers_are_slow_keep_nobody_waiting(tmp_path: Path) -> None:
    """A slot that gets free is for the owner with least under way, however old the others' backlogs are."""
    file = StateFile.open(tmp_path / store.FILE_NAME, tables=store.TABLES, version=store.VERSION)

    def put(connection: sqlite3.Connection, owner: str, count: int, at_ms: int) -> None:
        for number in range(count):
            store.enqueue(
                connection, event_id=f"{owner}-{number}", owner=owner, url="https://hooks.example.com/",
                event_type=BATCH_COMPLETED, body=b"{}", now_ms=at_ms, pending_max=100,
            )  # fmt: skip

    def work(connection: sqlite3.Connection) -> list[str]:
        for slow in range(4):
            put(connection, f"slow{slow}", 10, 1)
        taken = store.claim(connection, file.boot, 100, count_max=8, owner_max=2)
        put(connection, "quick", 1, 50)
        store.ended(connection, taken[0].row, DeliveryState.FAILED, status=None, error="", now_ms=100)
        return [one.owner for one in store.claim(connection, file.boot, 100, count_max=1, owner_max=2)]

    try:
        assert await file.write(work) == ["quick"]
    finally:
        await file.close()
