"""A dial that is given up closes its own socket once, and no connection of anybody else's."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Iterator

import pytest
import uvloop

from proxy.upstreams import wire
from proxy.upstreams.api import Upstream
from proxy.upstreams.pool import Pool
from tests.peers.certificates import write_ca_file
from tests.peers.provider import ScriptedProvider


@pytest.fixture
def made(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[socket.socket]]:
    """Every socket that is dialled with."""
    sockets: list[socket.socket] = []
    real = wire._any_socket

    def noted(address):
        sockets.append(real(address))
        return sockets[-1]

    monkeypatch.setattr(wire, "_any_socket", noted)
    yield sockets


@pytest.mark.parametrize("tls", [False, True])
def test_no_socket_of_a_dial_given_up_owns_a_descriptor(made, monkeypatch, tmp_path, tls: bool) -> None:
    """Cancelled as uvloop takes it over: the number that it closes belongs to the next connection already."""
    real = wire._wire

    def cancelled(loop):
        task = asyncio.current_task()
        assert task is not None
        task.cancel()
        return real(loop)

    async def give_up() -> None:
        with socket.create_server(("127.0.0.1", 0)) as listening:
            address = listening.getsockname()[:2]
            url = "https://api.openai.com/v1" if tls else "http://api.openai.com/v1"
            pool = Pool(Upstream("u", url, None, connect_to=address, ca_file=str(write_ca_file(tmp_path))))
            dial = asyncio.create_task(pool.take(pool.endpoint(None), 5.0))
            with pytest.raises(asyncio.CancelledError):
                await dial
            assert [one.fileno() for one in made] == [-1]
            assert pool.in_flight == 0
            await pool.close()

    monkeypatch.setattr(wire, "_wire", cancelled)
    uvloop.run(give_up())


@pytest.mark.parametrize("tls", [False, True])
async def test_connection_that_comes_about_is_closed_with_its_socket(made, tmp_path, tls: bool) -> None:
    """Nothing leaks on the way that is not given up."""
    async with ScriptedProvider(tls=tls) as provider:
        settings = {"ca_file": str(write_ca_file(tmp_path)), "connect_to": provider.address} if tls else {}
        url = "https://api.openai.com/v1" if tls else f"{provider.url}/v1"
        pool = Pool(Upstream("u", url, None, **settings))
        taken = await pool.take(pool.endpoint(None), 5.0)
        await provider.until(lambda: provider.open_connections == 1)
        pool.give_back(pool.endpoint(None), taken, keep=False)
        await provider.until(lambda: provider.open_connections == 0)
        await provider.until(lambda: [one.fileno() for one in made] == [-1])
        await pool.close()
