"""A reverse listener with a certificate of its own: HTTP/2 and HTTP/1.1, stock clients, faults of single streams."""

from __future__ import annotations

import asyncio
import json
import ssl
import subprocess
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import httpx
import openai
import pytest

from tests.edge.conftest import HELLO
from tests.listeners.mitm.h2client import H2Client
from tests.peers.behaviour import Behaviour, Fault
from tests.support.raw import request
from tests.support.ways import Dialler, Ways, origin_ca

CHAT = "/v1/chat/completions"
TEXT = Behaviour().text
Opener = Callable[[], Awaitable[H2Client]]
UNKNOWN = (("authorization", "Bearer lld_" + "0" * 32), ("content-type", "application/json"))


@asynccontextmanager
async def web(ways: Ways, *, http2: bool) -> AsyncIterator[httpx.AsyncClient]:
    """httpx with our key, verifying our certificate."""
    headers = {"authorization": f"Bearer {ways.key}"}
    base = ways.url("secure", scheme="https")
    async with httpx.AsyncClient(base_url=base, http2=http2, verify=origin_ca(), headers=headers, timeout=20) as client:
        yield client


@pytest.fixture
def h2(dial: Dialler) -> Opener:
    """Opens scripted HTTP/2 clients."""

    async def open_one() -> H2Client:
        context = origin_ca()
        context.set_alpn_protocols(["h2"])
        plain = await dial.open("secure", tls=context)
        return H2Client(plain.reader, plain.writer)

    return open_one


def headers(ways: Ways) -> tuple[tuple[str, str], ...]:
    return (("authorization", f"Bearer {ways.key}"), ("content-type", "application/json"))


def body(**changes: Any) -> bytes:
    return json.dumps({**HELLO, **changes}).encode()


async def ask(client: H2Client, ways: Ways, **changes: Any) -> int:
    """A whole request; its stream."""
    stream = client.request(CHAT, "POST", end=False, fields=headers(ways))
    client.data(stream, body(**changes), end=True)
    return stream


@pytest.mark.parametrize(("http2", "version"), [(True, "HTTP/2"), (False, "HTTP/1.1")])
async def test_httpx_is_served(ways: Ways, http2: bool, version: str) -> None:
    """Whole, streamed, refused, listed; on one connection."""
    async with web(ways, http2=http2) as client:
        whole = await client.post(CHAT, json=HELLO)
        assert (whole.status_code, whole.http_version) == (200, version)
        assert whole.json()["choices"][0]["message"]["content"] == TEXT
        async with client.stream("POST", CHAT, json={**HELLO, "stream": True}) as answer:
            lines = [line async for line in answer.aiter_lines() if line]
        assert (answer.headers["content-type"].partition(";")[0], lines[-1]) == ("text/event-stream", "data: [DONE]")
        refused = await client.post(CHAT, json={**HELLO, "model": "no-such"})
        assert (refused.status_code, refused.json()["error"]["code"]) == (404, "model_not_available")
        assert (await client.get("/v1/models")).status_code == 200
        assert (await client.get("/health")).json()["ready"] is True


@pytest.mark.parametrize("http2", [True, False])
async def test_openai_sdk_is_served(ways: Ways, http2: bool) -> None:
    """base_url=https://..., and the SDK's own classes for errors."""
    transport = httpx.AsyncClient(http2=http2, verify=origin_ca())
    base = f"{ways.url('secure', scheme='https')}/v1"
    async with openai.AsyncOpenAI(api_key=ways.key, base_url=base, max_retries=0, http_client=transport) as client:
        answer = await client.chat.completions.create(model="gpt-4o", messages=HELLO["messages"])  # type: ignore[arg-type]
        assert answer.choices[0].message.content == TEXT
        stream = await client.chat.completions.create(model="gpt-4o", messages=HELLO["messages"], stream=True)  # type: ignore[arg-type,call-overload]
        pieces = [chunk.choices[0].delta.content or "" async for chunk in stream if chunk.choices]
        assert "".join(pieces) == TEXT
        with pytest.raises(openai.NotFoundError):
            await client.chat.completions.create(model="no-such", messages=HELLO["messages"])  # type: ignore[arg-type]


@pytest.mark.needs("curl")
@pytest.mark.parametrize(("option", "version"), [("--http2", "HTTP/2"), ("--http1.1", "HTTP/1.1")])
async def test_curl_is_served(ways: Ways, option: str, version: str) -> None:
    """The certificate is verified, the stream comes to its end."""
    ca_file = ways.world.ca_file
    run = await asyncio.to_thread(
        subprocess.run,
        ["curl", "-sS", "-i", "-N", option, "--max-time", "20", "--noproxy", "*", "--cacert", str(ca_file),
         f"https://localhost:{ways.address('secure')[1]}{CHAT}", "-H", f"Authorization: Bearer {ways.key}",
         "-H", "Content-Type: application/json", "-d", body(stream=True).decode()],
        capture_output=True, text=True, timeout=30, check=False,
    )  # fmt: skip
    assert run.stdout.startswith(f"{version} 200"), run.stdout + run.stderr
    assert run.stdout.rstrip().endswith("data: [DONE]")


async def test_certificate_is_the_configured_one(ways: Ways, dial: Dialler) -> None:
    """Not a leaf of the CA that captures providers."""
    client = await dial.open("secure", tls=origin_ca())
    names = client.writer.get_extra_info("peercert")["subjectAltName"]
    assert names == (("DNS", "localhost"), ("IP Address", "127.0.0.1"))


async def test_plain_http_on_the_tls_listener_is_not_answered(ways: Ways, dial: Dialler) -> None:
    """The connection is closed, the next client is served."""
    client = await dial.open("secure")
    client.send(request(HELLO, key=ways.key))
    assert b"HTTP/1.1" not in await client.eof()
    other = await dial.open("secure", tls=origin_ca())
    assert (await other.ask(request(HELLO, key=ways.key))).status == 200


async def test_old_tls_is_refused(dial: Dialler) -> None:
    """Nothing below TLS 1.2."""
    context = origin_ca()
    context.set_ciphers("ALL:@SECLEVEL=0")
    context.minimum_version = ssl.TLSVersion.MINIMUM_SUPPORTED
    with pytest.warns(DeprecationWarning):
        context.maximum_version = ssl.TLSVersion.TLSv1_1
    with pytest.raises((ssl.SSLError, ConnectionError)):
        await dial.open("secure", tls=context)


async def test_streams_of_one_connection_are_interleaved(ways: Ways, h2: Opener) -> None:
    """Twenty at once, each with all its events in order, none waiting for another to end."""
    ways.provider.default = Behaviour(chunks=20, delay_seconds=0.05)
    client = await h2()
    streams = [await ask(client, ways, stream=True) for _ in range(20)]
    await client.pump(lambda: set(streams) <= client.body.keys() or bool(client.ended))
    assert set(streams) <= client.body.keys() and not client.ended
    await client.pump(lambda: set(streams) <= client.ended)
    wanted = [f"w{number} " for number in range(20)]
    for stream in streams:
        assert client.headers[stream][":status"] == "200"
        events = [line[6:] for line in client.body[stream].split(b"\n") if line.startswith(b"data: ")]
        assert events.pop() == b"[DONE]"
        deltas = [json.loads(event)["choices"][0]["delta"].get("content") for event in events]
        assert [delta for delta in deltas if delta] == wanted
    assert len({client.headers[stream]["x-tollway-request-id"] for stream in streams}) == 20


async def test_refusal_within_an_upload_ends_that_stream_only(ways: Ways, h2: Opener) -> None:
    """401 before the body is there; what still comes is not read, and the sibling gets its answer."""
    ways.provider.default = Behaviour(chunks=10, delay_seconds=0.05)
    client = await h2()
    sibling = await ask(client, ways, stream=True)
    upload = client.request(CHAT, "POST", end=False, fields=(*UNKNOWN, ("content-length", "1000000")))
    client.data(upload, b'{"model": "gpt-4o", ')
    refused = await client.finished(upload)
    assert (client.headers[upload][":status"], refused["error"]["code"]) == ("401", "invalid_api_key")
    await client.finished(sibling)
    assert sibling not in client.resets and client.body[sibling].endswith(b"data: [DONE]\n\n")
    again = await ask(client, ways)
    assert (await client.finished(again))["object"] == "chat.completion"
    assert client.goaway is None
    assert len(ways.provider.requests) == 2


async def test_cut_upstream_stream_ends_its_own_stream_only(ways: Ways, h2: Opener) -> None:
    """An error event and a regular end, as the dialect says; siblings go on."""
    ways.provider.script(Behaviour(chunks=10, fault=Fault.RESET_MID, after_chunks=3))
    client = await h2()
    cut = await ask(client, ways, stream=True)
    await client.finished(cut)
    ended = client.body[cut]
    assert b'"error"' in ended or cut in client.resets
    assert not ended.endswith(b"data: [DONE]\n\n")
    again = await ask(client, ways)
    assert (await client.finished(again))["object"] == "chat.completion"


async def test_reset_stream_is_settled_and_its_siblings_live(ways: Ways, h2: Opener) -> None:
    """RST_STREAM is a client that leaves: read on for the usage, charged, audited."""
    ways.provider.default = Behaviour(chunks=10, delay_seconds=0.05)
    client = await h2()
    sibling = await ask(client, ways, stream=True)
    left = await ask(client, ways, stream=True)
    await client.pump(lambda: bool(client.body[left]) and bool(client.body[sibling]))
    request_id = client.headers[left]["x-tollway-request-id"]
    client.h2.reset_stream(left)
    client.flush()
    await client.finished(sibling)
    assert client.body[sibling].endswith(b"data: [DONE]\n\n")
    audited = await ways.audited(request_id=request_id)
    assert audited["outcome"] == "client_gone"
    assert float(audited["charged_usd"]) > 0


async def test_reset_flood_closes_the_connection_and_the_proxy_lives(ways: Ways, h2: Opener) -> None:
    """Rapid Reset: GOAWAY with ENHANCE_YOUR_CALM; other clients are served, nothing is left open."""
    client = await h2()
    await client.finished(await ask(client, ways))
    ways.provider.requests.clear()
    for _ in range(1000):
        stream = client.request(CHAT, "POST", end=False, fields=headers(ways))
        client.h2.reset_stream(stream)
    client.flush()
    await client.pump(lambda: client.closed)
    assert client.closed and client.goaway == 11
    assert ways.provider.requests == []
    other = await h2()
    assert (await other.finished(await ask(other, ways)))["object"] == "chat.completion"


async def test_malformed_heads_are_refused_by_stream(ways: Ways, h2: Opener) -> None:
    """The same refusals as on HTTP/1.1; the connection goes on."""
    client = await h2()
    cases = [
        ("/v1/chat%2Fcompletions", (), "400"),
        ("/v1/nothing", (), "404"),
        (CHAT, (("authorization", f"Bearer {ways.key}"), ("x-api-key", "lld_" + "0" * 32)), "400"),
        (CHAT, (("authorization", "Bearer x"), ("authorization", "Bearer y")), "400"),
        (CHAT, (("authorization", f"Bearer {ways.key}"), ("content-type", "text/plain")), "415"),
    ]
    for path, fields, status in cases:
        stream = client.request(path, "POST", end=True, fields=fields)
        await client.finished(stream)
        assert client.headers[stream][":status"] == status, (path, client.body[stream])
        assert client.headers[stream]["x-tollway-request-id"].startswith("req_")
    assert (await client.finished(await ask(client, ways)))["object"] == "chat.completion"
    assert client.goaway is None
