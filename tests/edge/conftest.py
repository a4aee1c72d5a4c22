"""One proxy for the tests of bad input; short deadlines, small bodies."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import closing

import pytest

from proxy.ledger.books import State
from tests.support.raw import Raw, request
from tests.support.ways import Dialler, Ways, dialling, every_way
from tests.support.world import World, world

HELLO = {"model": "gpt-4o", "messages": [{"role": "user", "content": "Say hello."}], "max_tokens": 50}


@pytest.fixture(scope="session")
def edge(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """A running proxy whose own limits are short, so that slow clients are noticed within a test."""
    limits = {
        "head_seconds": 1,
        "body_idle_seconds": 1,
        "keepalive_seconds": 5,
        "stall_seconds": 2,
        "head_bytes_max": 16384,
    }
    config = {"limits": limits, "drain_client_gone_seconds": 2, "heartbeat_seconds": 0.3}
    listeners = {"capture": {"default_team": "default", "allow_targets": ["127.0.0.1"]}}
    with world(tmp_path_factory.mktemp("edge"), config=config, listeners=listeners) as running:
        yield running
        running.gateway.cli("ledger", "audit")


@pytest.fixture(scope="session")
def key(edge: World) -> str:
    """A key of ours without caps."""
    return edge.gateway.make_key()


@pytest.fixture(scope="session")
def all_ways(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ways]:
    """A running proxy with listeners of every kind."""
    with every_way(tmp_path_factory.mktemp("ways")) as running:
        yield running


@pytest.fixture
def ways(all_ways: Ways) -> Iterator[Ways]:
    """The same, with providers that remember this test only."""
    all_ways.reset()
    yield all_ways
    all_ways.reset()


@pytest.fixture
async def dial(ways: Ways) -> AsyncIterator[Dialler]:
    """Connections that are closed when the test is over."""
    async with dialling(ways) as dialler:
        yield dialler


@pytest.fixture(autouse=True)
def clean(edge: World, key: str) -> Iterator[None]:
    """After each test: the proxy still serves, and no hold is left open."""
    yield
    edge.provider.reset()
    with Raw(edge.gateway.address("api")) as raw:
        raw.send(request(HELLO, key=key))
        assert raw.answer().status == 200
    edge.provider.reset()
    assert open_holds(edge) == 0


def open_holds(edge: World) -> int:
    """Holds that have not ended, once those about to end had their time."""
    deadline = time.monotonic() + 10
    while True:
        with closing(sqlite3.connect(edge.gateway.folder / "var" / "tollway.db")) as connection:
            (count,) = connection.execute("SELECT count(*) FROM holds WHERE state < ?", (State.SETTLED,)).fetchone()
        if count == 0 or time.monotonic() > deadline:
            return int(count)
        time.sleep(0.02)
