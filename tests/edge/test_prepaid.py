"""Prepaid teams through a real proxy: a purse runs out, is filled while the proxy runs, and survives kill -9."""

from __future__ import annotations

import json
import sqlite3
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, suppress
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.peers.behaviour import Behaviour, Fault
from tests.support.books import Books
from tests.support.world import World, world

HELLO = {"model": "gpt-4o", "messages": [{"role": "user", "content": "Say hello."}], "max_tokens": 50}
TEAM: dict[str, Any] = {"organisation": "acme", "tier": "standard", "prepaid": "team"}
SECONDS_MAX = 15.0


TEAMS: dict[str, Any] = {"organisations": {"acme": {}}, "teams": {"default": TEAM}}


@pytest.fixture
def prepaid(tmp_path: Path) -> Iterator[World]:
    """A proxy whose team pays in advance, and whose admin listener needs no token."""
    with world(tmp_path, config={"drain_client_gone_seconds": 1}, policies={"teams": TEAMS}) as running:
        yield running


@pytest.fixture(scope="module")
def untouched(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """Such a proxy for what grants nothing."""
    with world(tmp_path_factory.mktemp("untouched"), policies={"teams": TEAMS}) as running:
        yield running


def ask(running: World, key: str, **changes: Any) -> httpx.Response:
    return httpx.post(
        f"{running.base_url}/chat/completions",
        json={**HELLO, **changes},
        headers={"authorization": f"Bearer {key}"},
        timeout=SECONDS_MAX,
    )


def balance(running: World) -> dict[str, str]:
    shown = running.gateway.cli("credit", "show", "--team", "default", "--json").stdout
    return {name: value for name, value in json.loads(shown).items() if isinstance(value, str)}


def grant(running: World, usd: str, **fields: Any) -> httpx.Response:
    body = {"usd": usd, "team": "default", "id": "g1", **fields}
    headers = body.pop("headers", {})
    return httpx.post(f"{running.gateway.url('admin')}/credit/grants", json=body, headers=headers)


def ledger_file(running: World) -> Path:
    return running.gateway.folder / "var" / "tollway.db"


def audited(running: World) -> bool:
    return bool(json.loads(running.gateway.cli("ledger", "audit", "--json", check=False).stdout)["clean"])


def test_a_team_that_runs_out_is_told_and_served_again_once_topped_up(prepaid: World) -> None:
    """402 with the amounts; `tollway credit grant` beside the running proxy; the very next call is served."""
    key = prepaid.gateway.make_key()
    refused = ask(prepaid, key)
    assert refused.status_code == 402
    error = refused.json()["error"]
    assert (error["code"], error["type"]) == ("quota_exhausted", "insufficient_quota")
    told = error["balance"]
    assert (told["scope"], told["id"], told["wallet"], told["left_usd"]) == ("team", "default", "balance", "0.00")
    assert float(told["needed_usd"]) > 0
    assert "Top up" in error["message"] and told["needed_usd"] in error["message"]
    assert prepaid.provider.requests == []
    prepaid.gateway.cli("credit", "grant", "0.001", "--team", "default")
    served = ask(prepaid, key)
    assert served.status_code == 200
    (hold,) = Books(ledger_file(prepaid)).since(0)
    now = balance(prepaid)
    assert now["spent_usd"] == f"{hold.charged / 1e9:.9f}".rstrip("0") != "0.00"
    assert now["held_usd"] == "0.00"
    while ask(prepaid, key).status_code == 200:
        pass
    assert float(balance(prepaid)["left_usd"]) < float(told["needed_usd"])
    assert audited(prepaid)


def test_the_admin_api_grants_once_under_an_id(prepaid: World) -> None:
    """Repeated: the same answer. With other contents: 409. The balances tell the same."""
    first = grant(prepaid, "25.00", note="invoice 7")
    assert first.status_code == 200
    assert (first.json()["id"], first.json()["balance"]["left_usd"]) == ("g1", "25.00")
    assert grant(prepaid, "25.00", note="invoice 7").json() == first.json()
    conflict = grant(prepaid, "26.00", note="invoice 7")
    assert (conflict.status_code, conflict.json()["error"]["code"]) == (409, "conflict")
    taken = grant(prepaid, "-5", id=None, headers={"idempotency-key": "g2"})
    assert taken.json()["balance"]["left_usd"] == "20.00"
    too_much = grant(prepaid, "-20.01", id="g3")
    assert (too_much.status_code, "20.00 USD are left" in too_much.text) == (409, True)
    listed = httpx.get(f"{prepaid.gateway.url('admin')}/credit/balances").json()["balances"]
    assert [(one["id"], one["granted_usd"], one["left_usd"]) for one in listed] == [("default", "20.00", "20.00")]
    assert balance(prepaid)["left_usd"] == "20.00"
    assert audited(prepaid)


@pytest.mark.parametrize(
    ("fields", "status", "told"),
    [
        ({"team": "defualt"}, 400, "Did you mean 'default'?"),
        ({"id": None}, 400, "Idempotency-Key"),
        ({"usd": 25.0}, 400, "usd"),
        ({"usd": "NaN"}, 400, "usd"),
        ({"usd": "--5"}, 400, "usd"),
        ({"wallet": "gold"}, 400, "There is no wallet 'gold'"),
        ({"cents": 5}, 400, "cents"),
        ({"headers": {"origin": "https://evil.example"}}, 403, "web pages"),
        ({"headers": {"content-type": "text/plain"}}, 4, "application/json"),
        ({"headers": {"idempotency-key": "other"}}, 400, "differ"),
    ],
    ids=str,
)
def test_what_is_no_grant_grants_nothing(untouched: World, fields: dict[str, Any], status: int, told: str) -> None:
    """Refused with what to send instead; a web page that the operator has open cannot make money."""
    answer = grant(untouched, **{"usd": "25.00", **fields})
    assert answer.status_code == status or answer.status_code // 100 == status
    assert told in answer.text
    assert httpx.get(f"{untouched.gateway.url('admin')}/credit/balances").json() == {"balances": []}


def test_the_admin_api_of_a_listener_with_a_token_needs_it(tmp_path: Path) -> None:
    """Money is not put in by whoever reaches the port."""
    token = "an-admin-token-of-enough-characters"
    with world(tmp_path, listeners={"admin": {"token": token}}) as running:
        assert grant(running, "25.00").status_code == 401
        assert grant(running, "25.00", headers={"authorization": f"Bearer {token}"}).status_code == 200
        assert httpx.get(f"{running.gateway.url('admin')}/credit/balances").status_code == 401


def test_credit_is_no_business_of_the_public_listener(untouched: World) -> None:
    """There it is no endpoint at all."""
    assert httpx.post(f"{untouched.gateway.url('api')}/credit/grants", json={"usd": "5"}).status_code == 404


def test_two_keys_of_a_team_race_over_the_last_cent(prepaid: World) -> None:
    """Enough for one call: of many at once by two keys exactly one is served, and the purse is never below zero."""
    keys = [prepaid.gateway.make_key(user=user) for user in ("ann", "bob")]
    needed = ask(prepaid, keys[0]).json()["error"]["balance"]["needed_usd"]
    prepaid.gateway.cli("credit", "grant", needed, "--team", "default")
    prepaid.provider.script(Behaviour(head_delay_seconds=0.5))
    with ThreadPoolExecutor(8) as pool:
        statuses = list(pool.map(lambda number: ask(prepaid, keys[number % 2]).status_code, range(8)))
    assert sorted(statuses) == [200] + [402] * 7
    assert audited(prepaid)


def test_leaving_early_pays_what_came_and_counts_in_full(prepaid: World) -> None:
    """The drain gives up on a silent upstream: the caps take the full hold, the purse what was counted."""
    key = prepaid.gateway.make_key(caps=("5/total",))
    prepaid.gateway.cli("credit", "grant", "5", "--team", "default")
    prepaid.provider.script(Behaviour(chunks=30, fault=Fault.HANG_MID, after_chunks=20))
    body = {**HELLO, "stream": True, "max_tokens": 1000}
    headers = {"authorization": f"Bearer {key}"}
    with httpx.stream("POST", f"{prepaid.base_url}/chat/completions", json=body, headers=headers) as answer:
        next(answer.iter_raw())
    Books(ledger_file(prepaid)).since(0)
    with closing(sqlite3.connect(ledger_file(prepaid))) as connection:
        row = connection.execute("SELECT charged, held_charged, paid, input_charged, outcome FROM holds").fetchone()
        (spent,) = connection.execute("SELECT spent FROM counters").fetchone()
    charged, held, paid, of_input, outcome = row
    assert (charged, spent, outcome) == (held, held, "client_gone")
    assert 18 * 10_000 < paid < 200 * 10_000 and paid < held
    assert of_input < held
    assert audited(prepaid)


def dispatched(running: World) -> None:
    """Wait until an upstream was called."""
    deadline = time.monotonic() + SECONDS_MAX
    while time.monotonic() < deadline:
        with closing(sqlite3.connect(ledger_file(running))) as connection:
            if connection.execute("SELECT count(*) FROM holds WHERE state = 1").fetchone()[0]:
                return
        time.sleep(0.02)
    raise TimeoutError("nothing was dispatched")


def test_kill_9_takes_the_input_of_a_dispatched_call_and_no_more(prepaid: World) -> None:
    """The full hold counts against caps; the purse pays for what surely was used, and what was granted is there."""
    key = prepaid.gateway.make_key()
    assert grant(prepaid, "5").status_code == 200
    prepaid.provider.script(Behaviour(fault=Fault.HANG_BEFORE_HEAD))

    def hang() -> None:
        with suppress(httpx.HTTPError):
            ask(prepaid, key)

    client = threading.Thread(target=hang)
    client.start()
    dispatched(prepaid)
    prepaid.gateway.kill()
    client.join(SECONDS_MAX)
    prepaid.provider.reset()
    prepaid.gateway.start()
    with closing(sqlite3.connect(ledger_file(prepaid))) as connection:
        row = connection.execute("SELECT charged, held_charged, paid, input_charged, outcome FROM holds").fetchone()
    charged, held, paid, of_input, outcome = row
    assert outcome == "crashed"
    assert charged == held > paid == of_input > 0
    assert balance(prepaid)["granted_usd"] == "5.00"
    assert balance(prepaid)["spent_usd"] == f"{paid / 1e9:.9f}".rstrip("0")
    assert audited(prepaid)
    assert ask(prepaid, key).status_code == 200
