"""Streamed request bodies."""

from __future__ import annotations

import asyncio
import contextlib

import pytest

from proxy.upstreams.api import Deadlines, FailureKind, UpstreamFailure
from tests.peers.behaviour import Behaviour, Fault
from tests.upstreams.test_client import chat_body, client, failure_of, headers, provider, send, upstream  # noqa: F401


async def pieces_of(*pieces):
    """An async iterator over them."""
    for piece in pieces:
        yield piece


async def test_streamed_upload_and_download_overlap(provider, client):  # noqa: F811
    """A piece comes back before the next one is given."""
    go_on = asyncio.Event()

    async def body():
        yield b"first"
        await go_on.wait()
        yield b"second"

    answer = await send(client, upstream(provider), path="/v1/files", body=body())
    seen = b""
    while not seen.endswith(b"first"):
        seen += await anext(answer)
    go_on.set()
    rest = b"".join([piece async for piece in answer])
    assert rest == b"second"
    assert provider.requests[0].header("transfer-encoding") == "chunked"
    await (await send(client, upstream(provider))).read(1 << 20)
    assert provider.connections == 1


async def test_announced_length_is_kept(provider, client):  # noqa: F811
    """With a content-length the body goes out under it, not chunked."""
    fields = headers(**{"content-length": "8"})
    body = pieces_of(b"abc", b"", b"defgh")
    answer = await send(client, upstream(provider), path="/v1/files", body=body, fields=fields)
    await answer.read(1 << 20)
    assert provider.requests[0].header("content-length") == "8"
    assert provider.requests[0].body == b"abcdefgh"


async def test_body_shorter_than_announced_is_a_failure(provider, client):  # noqa: F811
    """The request is cut, not left waiting for the rest."""
    fields = headers(**{"content-length": "8"})
    with pytest.raises((ValueError, UpstreamFailure)):
        answer = await send(client, upstream(provider), path="/v1/files", body=pieces_of(b"abc"), fields=fields)
        await answer.read(1 << 20)
    await provider.until(lambda: bool(provider.requests) and provider.requests[0].cut)
    assert client.in_flight("scripted") == 0


async def test_byte_beyond_the_announced_length_never_leaves(provider, client):  # noqa: F811
    """It would be taken for the next request: it is not sent, and the connection is not used again."""
    fields = headers(**{"content-length": "8"})
    with contextlib.suppress(ValueError, UpstreamFailure):  # or the answer to the eight was there first
        body = pieces_of(b"abcdefgh", b"x")
        answer = await send(client, upstream(provider), path="/v1/files", body=body, fields=fields)
        await answer.read(1 << 20)
    assert (await send(client, upstream(provider))).status == 200
    assert [seen.path for seen in provider.requests][-1] == "/v1/chat/completions"
    assert len({seen.connection for seen in provider.requests}) == len(provider.requests)
    assert all(seen.body in (b"", b"abcdefgh") for seen in provider.requests[:-1])


async def test_failure_of_the_callers_body_is_the_callers(provider, client):  # noqa: F811
    """What the iterator raises comes out of send, and the upstream sees a cut."""

    async def body():
        yield b"{"
        raise KeyError("client gone")

    with pytest.raises(KeyError):
        await send(client, upstream(provider), body=body())
    await provider.until(lambda: bool(provider.requests) and provider.requests[0].cut)
    assert not provider.requests[0].whole
    assert client.in_flight("scripted") == 0


async def test_early_answer_is_read_while_the_upload_goes_on(provider, client):  # noqa: F811
    """An upstream may refuse before it has the body; the rest is not awaited and the connection not reused."""
    provider.script(Behaviour(fault=Fault.ANSWER_EARLY))
    stop = asyncio.Event()

    async def body():
        yield b"x" * 10
        await stop.wait()
        yield b"y"

    answer = await send(client, upstream(provider), body=body())
    assert answer.status == 413
    await answer.read(1 << 20)
    await provider.until(lambda: provider.requests[0].cut)
    await (await send(client, upstream(provider))).read(1 << 20)
    assert provider.connections == 2


async def test_large_upload_flows_with_backpressure(provider, client):  # noqa: F811
    """Megabytes pass whole and unchanged."""
    block = bytes(range(256)) * 256

    async def body():
        for _ in range(64):
            yield block

    answer = await send(client, upstream(provider), path="/v1/files", body=body())
    echoed = (await answer.read(64 << 20)).partition(b"\n")[2]
    assert echoed == block * 64


async def test_upload_that_moves_is_not_silence(provider, client):  # noqa: F811
    """The head's deadline starts over with each piece of the request that leaves."""

    async def body():
        for _ in range(8):
            await asyncio.sleep(0.05)
            yield b" "
        yield chat_body()

    up = upstream(provider, deadlines=Deadlines(first_byte_seconds=0.2))
    answer = await send(client, up, body=body())
    assert answer.status == 200
    await answer.read(1 << 20)


async def test_upstream_that_stops_reading_an_upload_times_out(provider, client):  # noqa: F811
    """A stuck upload ends at the head's deadline."""
    provider.script(Behaviour(fault=Fault.HANG_BEFORE_HEAD))
    up = upstream(provider, deadlines=Deadlines(first_byte_seconds=0.1))
    failure = await failure_of(send(client, up, body=pieces_of(chat_body())))
    assert failure.kind is FailureKind.FIRST_BYTE
