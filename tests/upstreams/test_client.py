"""The pooled client against a scripted provider on real sockets."""

from __future__ import annotations

import asyncio
import json

import pytest
from multidict import CIMultiDict

from proxy.upstreams import limits
from proxy.upstreams.api import Deadlines, FailureKind, Upstream, UpstreamFailure
from proxy.upstreams.client import PooledClient
from tests.peers.behaviour import Behaviour, Fault
from tests.peers.provider import OPENAI_KEY, ScriptedProvider

CHAT = "/v1/chat/completions"
HANGS = (Fault.HANG_BEFORE_HEAD, Fault.HANG_AFTER_HEAD, Fault.HANG_MID)


@pytest.fixture
async def provider():
    """A plain HTTP provider."""
    async with ScriptedProvider() as running:
        yield running


@pytest.fixture
async def client():
    """The client under test."""
    pooled = PooledClient()
    yield pooled
    await pooled.close()


def upstream(provider, **settings):
    """An upstream at the provider, deadlines short where a test needs them."""
    return Upstream("scripted", provider.url + "/v1", OPENAI_KEY, **settings)


def headers(**more):
    """What a caller sends."""
    return CIMultiDict({"authorization": f"Bearer {OPENAI_KEY}", "content-type": "application/json", **more})


def chat_body(*, stream=False, model="gpt-5"):
    """A chat request."""
    return json.dumps({"model": model, "stream": stream, "messages": [{"role": "user", "content": "a b"}]}).encode()


async def send(client, up, *, path=CHAT, method="POST", body=None, stream=False, fields=None, host=None):
    """One attempt with the usual request."""
    if body is None and method == "POST":
        body = chat_body(stream=stream)
    return await client.send(up, method=method, path=path, headers=fields or headers(), body=body, host=host)


async def failure_of(awaitable):
    """The UpstreamFailure it raises."""
    with pytest.raises(UpstreamFailure) as raised:
        await awaitable
    return raised.value


async def fetch(client, up, **request):
    """One exchange to its end: the parsed body."""
    return json.loads(await (await send(client, up, **request)).read(1 << 20))


def begin(coroutine):
    """Start it as a task that the test awaits or cancels."""
    return asyncio.get_running_loop().create_task(coroutine, name="request under test")


async def drain(answer):
    """Every piece of an answer."""
    return [piece async for piece in answer]


async def test_whole_answer_and_reuse(provider, client):
    """A body read to its end gives its connection back: ten requests, one connection."""
    up = upstream(provider)
    for _ in range(10):
        answer = await send(client, up)
        body = json.loads(await answer.read(1 << 20))
        await answer.aclose()
        assert answer.status == 200 and body["object"] == "chat.completion"
    assert provider.connections == 1
    assert client.in_flight("scripted") == 0


async def test_request_goes_out_as_spelled_with_nothing_added(provider, client):
    """Path, query, names and values are the caller's; only Host and framing are ours, hop-by-hop fields go."""
    kept = [("X-CamelCase", "Ä"), ("a", "1"), ("a", "2"), ("accept-encoding", "identity")]
    dropped = [("connection", "x"), ("expect", "100-continue"), ("transfer-encoding", "chunked"), ("host", "evil")]
    fields = CIMultiDict([*dropped, *kept])
    path = "/v1/files%2F..;/x%20y?q=%C3%A4&b=+&c#d"
    answer = await send(client, upstream(provider), path=path, body=b"abc", fields=fields)
    await answer.read(1 << 20)
    seen = provider.requests[0]
    assert seen.path == path
    assert seen.headers == [
        (b"host", f"127.0.0.1:{provider.port}".encode()),
        (b"X-CamelCase", "Ä".encode()),
        (b"a", b"1"),
        (b"a", b"2"),
        (b"accept-encoding", b"identity"),
        (b"content-length", b"3"),
    ]
    assert seen.body == b"abc"


@pytest.mark.parametrize(("method", "expected"), [("GET", None), ("DELETE", None), ("POST", "0"), ("PATCH", "0")])
async def test_no_body_has_the_framing_its_method_needs(provider, client, method, expected):
    """A length of 0 where a body would be expected, none otherwise."""
    answer = await client.send(upstream(provider), method=method, path="/v1/x", headers=headers(), body=None)
    await answer.read(1 << 20)
    assert provider.requests[0].header("content-length") == expected


@pytest.mark.parametrize(
    ("method", "path", "fields"),
    [
        ("POST", "/v1/x HTTP/1.1\r\nx: y", {}),
        ("POST", "/v1/x y", {}),
        ("POST", "http://elsewhere/", {}),
        ("GET /", "/v1/x", {}),
        ("POST", "/v1/x", {"a": "b\r\nc: d"}),
        ("POST", "/v1/x", {"a": "b\nc"}),
        ("POST", "/v1/x", {"a\r": "b"}),
        ("POST", "/v1/x", {"a": "b\0"}),
    ],
)
async def test_head_that_breaks_out_of_its_line_is_never_sent(provider, client, method, path, fields):
    """Control bytes are a fault of the caller: refused before a connection is made."""
    with pytest.raises(ValueError):
        await client.send(upstream(provider), method=method, path=path, headers=CIMultiDict(fields), body=b"")
    assert provider.connections == 0
    assert client.in_flight("scripted") == 0


async def test_stream_arrives_piece_by_piece(provider, client):
    """Pieces come as they are sent; the regular end gives the connection back."""
    provider.script(Behaviour(chunks=20, delay_seconds=0.002))
    up = upstream(provider)
    pieces = await drain(await send(client, up, stream=True))
    assert len(pieces) > 5
    assert b"".join(pieces).endswith(b"data: [DONE]\n\n")
    await (await send(client, up)).read(1 << 20)
    assert provider.connections == 1


async def test_abandoned_answer_closes_its_connection(provider, client):
    """aclose before the end is seen by the upstream as a cut, and frees the slot; it may be called twice."""
    provider.script(Behaviour(fault=Fault.HANG_MID))
    up = upstream(provider)
    answer = await send(client, up, stream=True)
    await anext(aiter(answer))
    assert client.in_flight("scripted") == 1
    await answer.aclose()
    await answer.aclose()
    await provider.until(lambda: provider.requests[0].cut)
    assert client.in_flight("scripted") == 0
    await (await send(client, up)).read(1 << 20)
    assert provider.connections == 2


async def test_cancelled_send_closes_its_connection(provider, client):
    """A caller cancelled while the upstream thinks leaves nothing behind."""
    provider.script(Behaviour(fault=Fault.HANG_BEFORE_HEAD))
    task = begin(send(client, upstream(provider)))
    await provider.until(lambda: len(provider.requests) == 1)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    await provider.until(lambda: provider.requests[0].cut)
    assert client.in_flight("scripted") == 0


async def test_cancelled_read_frees_its_slot(provider, client):
    """A caller cancelled within read leaves nothing behind, without aclose."""
    provider.script(Behaviour(fault=Fault.HANG_MID))
    answer = await send(client, upstream(provider), stream=True)
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.05):
            await answer.read(1 << 20)
    assert client.in_flight("scripted") == 0


async def test_next_piece_may_be_awaited_again_after_a_timeout(provider, client):
    """A caller may stop waiting (to send a heartbeat) and go on without losing a byte."""
    provider.script(Behaviour(chunks=3, delay_seconds=0.05))
    answer = await send(client, upstream(provider), stream=True)
    pieces, waited = [], 0
    while True:
        try:
            async with asyncio.timeout(0.01):
                pieces.append(await anext(answer))
        except TimeoutError:
            waited += 1
        except StopAsyncIteration:
            break
    assert waited > 0
    body = b"".join(pieces)
    assert body.count(b'"content":"w') == 3 and body.endswith(b"[DONE]\n\n")


@pytest.mark.parametrize(
    ("fault", "kind"),
    [
        (Fault.CLOSE_BEFORE_HEAD, FailureKind.BROKEN),
        (Fault.RESET_BEFORE_HEAD, FailureKind.BROKEN),
        (Fault.GARBAGE, FailureKind.GARBAGE),
        (Fault.HUGE_HEAD, FailureKind.GARBAGE),
        (Fault.MANY_HEADERS, FailureKind.GARBAGE),
    ],
)
async def test_no_answer_is_named(provider, client, fault, kind):
    """What comes in the place of a head is told apart; on a fresh connection nothing is sent twice."""
    provider.script(Behaviour(fault=fault))
    failure = await failure_of(send(client, upstream(provider)))
    assert (failure.kind, failure.sent) == (kind, True)
    assert len(provider.requests) == 1
    assert client.in_flight("scripted") == 0


@pytest.mark.parametrize("stream", [True, False])
@pytest.mark.parametrize("fault", [Fault.HALF_CLOSE_MID, Fault.RESET_MID])
async def test_answer_cut_short_of_its_framing_is_broken(provider, client, fault, stream):
    """Chunked without its end, short of content-length, reset: never a regular end; what came before is given."""
    provider.script(Behaviour(fault=fault))
    answer = await send(client, upstream(provider), stream=stream)
    pieces = []

    async def collect():
        while True:
            pieces.append(await anext(answer))

    failure = await failure_of(collect())
    assert (failure.kind, failure.sent) == (FailureKind.BROKEN, True)
    assert b"".join(pieces)
    assert client.in_flight("scripted") == 0


async def test_reset_of_a_body_without_framing_is_broken(provider, client):
    """A body that ends with the connection ends regularly on a close only."""
    provider.script(Behaviour(fault=Fault.NO_FRAMING))
    up = upstream(provider)
    whole = await (await send(client, up)).read(1 << 20)
    assert json.loads(whole)["object"] == "chat.completion"
    await (await send(client, up)).read(1 << 20)
    assert provider.connections == 2


async def test_garbage_within_the_body_fails_at_once(provider, client):
    """Broken chunk framing is a failure, not a hang until the idle deadline."""
    provider.script(Behaviour(fault=Fault.GARBAGE_MID, delay_seconds=0.01))
    answer = await send(client, upstream(provider), stream=True)
    async with asyncio.timeout(5):
        failure = await failure_of(drain(answer))
    assert failure.kind in (FailureKind.BROKEN, FailureKind.GARBAGE)


@pytest.mark.parametrize(
    ("fault", "deadlines", "kind"),
    [
        (Fault.HANG_BEFORE_HEAD, Deadlines(first_byte_seconds=0.1), FailureKind.FIRST_BYTE),
        (Fault.HANG_AFTER_HEAD, Deadlines(idle_seconds=0.1), FailureKind.IDLE),
        (Fault.HANG_MID, Deadlines(idle_seconds=0.1), FailureKind.IDLE),
        (Fault.HANG_BEFORE_HEAD, Deadlines(total_seconds=0.1), FailureKind.TOTAL),
        (Fault.HANG_MID, Deadlines(total_seconds=0.1), FailureKind.TOTAL),
    ],
)
async def test_silence_ends_at_its_own_deadline(provider, client, fault, deadlines, kind):
    """Head, silence and total are watched apart; the upstream sees the cut and the slot is free."""
    provider.script(Behaviour(fault=fault))

    async def call():
        await drain(await send(client, upstream(provider, deadlines=deadlines), stream=True))

    failure = await failure_of(call())
    assert (failure.kind, failure.sent) == (kind, True)
    await provider.until(lambda: provider.requests[0].cut)
    assert client.in_flight("scripted") == 0


async def test_steady_stream_outlives_idle_and_first_byte_deadlines(provider, client):
    """Deadlines are for silence: a stream longer than both is not cut while it flows."""
    provider.script(Behaviour(chunks=20, delay_seconds=0.02))
    up = upstream(provider, deadlines=Deadlines(first_byte_seconds=0.25, idle_seconds=0.25))
    body = b"".join(await drain(await send(client, up, stream=True)))
    assert body.endswith(b"data: [DONE]\n\n")


async def test_slow_reader_is_not_taken_for_a_silent_upstream(provider, client):
    """Time the caller spends between two pieces does not count as the upstream's silence."""
    provider.script(Behaviour(chunks=4, delay_seconds=0.01))
    up = upstream(provider, deadlines=Deadlines(idle_seconds=0.1))
    answer = await send(client, up, stream=True)
    pieces = [await anext(answer)]
    await asyncio.sleep(0.3)
    pieces += await drain(answer)
    assert b"".join(pieces).endswith(b"data: [DONE]\n\n")


async def test_refused_connection_was_not_sent(provider, client):
    """A closed port is CONNECT and may be tried elsewhere."""
    provider.refuse_connections()
    failure = await failure_of(send(client, upstream(provider)))
    assert (failure.kind, failure.sent) == (FailureKind.CONNECT, False)
    assert client.in_flight("scripted") == 0


async def test_unresolvable_name_is_a_connect_failure(client):
    """So is a name that does not exist."""
    up = Upstream("nowhere", "http://nowhere.invalid/v1", None)
    failure = await failure_of(send(client, up))
    assert (failure.kind, failure.sent) == (FailureKind.CONNECT, False)


async def test_stale_connection_is_retried_once_on_a_fresh_one(provider, client):
    """A pooled connection closed under the request: sent again, answered, nothing lost."""
    up = upstream(provider)
    await (await send(client, up)).read(1 << 20)
    provider.script(Behaviour(fault=Fault.CLOSE_BEFORE_HEAD))
    answer = await send(client, up)
    assert answer.status == 200
    await answer.read(1 << 20)
    assert [seen.connection for seen in provider.requests] == [1, 1, 2]


async def test_second_stale_failure_is_not_retried(provider, client):
    """Once means once, however many idle connections there are."""
    up = upstream(provider)
    answers = await asyncio.gather(*(send(client, up, stream=True) for _ in range(3)))
    for answer in answers:
        await drain(answer)
    provider.script(*(Behaviour(fault=Fault.CLOSE_BEFORE_HEAD) for _ in range(5)))
    failure = await failure_of(send(client, up))
    assert (failure.kind, failure.sent) == (FailureKind.BROKEN, True)
    assert len(provider.requests) == 5


async def test_stale_connection_is_not_retried_where_the_policy_forbids(provider, client):
    """retry_stale=False: the failure is the caller's to judge."""
    up = upstream(provider, retry_stale=False)
    await (await send(client, up)).read(1 << 20)
    provider.script(Behaviour(fault=Fault.CLOSE_BEFORE_HEAD))
    failure = await failure_of(send(client, up))
    assert (failure.kind, failure.sent) == (FailureKind.BROKEN, True)
    assert len(provider.requests) == 2


async def test_nothing_is_retried_once_a_byte_was_answered(provider, client):
    """A reused connection that breaks within the head has answered."""
    up = upstream(provider)
    await (await send(client, up)).read(1 << 20)
    provider.script(Behaviour(fault=Fault.GARBAGE))
    failure = await failure_of(send(client, up))
    assert failure.kind is FailureKind.GARBAGE
    assert len(provider.requests) == 2


async def test_streamed_body_is_never_sent_twice(provider, client):
    """What was pulled from an iterator cannot be pulled again: a stale connection is a failure then."""
    up = upstream(provider)
    await (await send(client, up)).read(1 << 20)

    async def body():
        yield chat_body()

    provider.script(Behaviour(fault=Fault.CLOSE_BEFORE_HEAD))
    failure = await failure_of(send(client, up, body=body()))
    assert failure.kind is FailureKind.BROKEN
    assert len(provider.requests) == 2


async def test_restart_of_the_upstream_costs_no_request(provider, client):
    """Idle connections closed by the other side are not used again."""
    up = upstream(provider)
    answers = await asyncio.gather(*(send(client, up, stream=True) for _ in range(3)))
    for answer in answers:
        await drain(answer)
    provider.drop_connections()
    for _ in range(3):
        assert (await send(client, up)).status == 200


async def test_bytes_behind_an_answer_reach_nobody(provider, client):
    """A second answer nobody asked for is not handed to the next request: its connection is closed."""
    provider.script(Behaviour(fault=Fault.TRAILING_DATA))
    up = upstream(provider)
    await (await send(client, up)).read(1 << 20)
    await provider.until(lambda: provider.requests[0].answered or provider.requests[0].cut)
    answer = await send(client, up)
    assert json.loads(await answer.read(1 << 20))["object"] == "chat.completion"


async def test_unannounced_close_after_an_answer_is_harmless(provider, client):
    """Servers that close after each answer cost a connection each, nothing else."""
    provider.default = Behaviour(fault=Fault.CLOSE_AFTER)
    up = upstream(provider)
    for _ in range(5):
        answer = await send(client, up)
        assert json.loads(await answer.read(1 << 20))["object"] == "chat.completion"


async def test_informational_heads_are_skipped(provider, client):
    """102 and 103 are not the answer."""
    provider.script(Behaviour(fault=Fault.INFORMATIONAL))
    answer = await send(client, upstream(provider))
    assert answer.status == 200
    assert json.loads(await answer.read(1 << 20))["object"] == "chat.completion"


async def test_redirect_is_returned_as_it_is(provider, client):
    """Nothing is followed."""
    provider.script(Behaviour(fault=Fault.REDIRECT))
    answer = await send(client, upstream(provider))
    await answer.read(1 << 20)
    assert (answer.status, answer.headers["location"]) == (307, "https://elsewhere.invalid/v1/chat/completions")
    assert len(provider.requests) == 1


async def test_cookies_of_one_answer_are_not_sent_with_the_next_request(provider, client):
    """set-cookie is passed on and forgotten."""
    up = upstream(provider)
    answer = await send(client, up)
    assert "set-cookie" in answer.headers
    await answer.read(1 << 20)
    await (await send(client, up)).read(1 << 20)
    assert provider.requests[1].header("cookie") is None


async def test_compressed_answer_is_passed_as_it_is(provider, client):
    """Bodies are never decoded here."""
    provider.script(Behaviour(fault=Fault.GZIP))
    answer = await send(client, upstream(provider))
    assert answer.headers["content-encoding"] == "gzip"
    assert (await answer.read(1 << 20)).startswith(b"\x1f\x8b")


async def test_read_stops_at_its_limit(provider, client):
    """Past bytes_max it is TOO_LARGE and the connection is closed, not read on."""
    provider.script(Behaviour(fault=Fault.HUGE_LINE))
    answer = await send(client, upstream(provider), stream=True)
    failure = await failure_of(answer.read(100_000))
    assert failure.kind is FailureKind.TOO_LARGE
    await provider.until(lambda: provider.requests[0].cut)
    assert client.in_flight("scripted") == 0


async def test_huge_line_passes_whole(provider, client):
    """10 MB in one line is the reader's business."""
    provider.script(Behaviour(fault=Fault.HUGE_LINE))
    answer = await send(client, upstream(provider), stream=True)
    assert len(await answer.read(64 << 20)) > 10 << 20


async def test_unread_answer_holds_the_upstream_back(provider, client):
    """Backpressure: a reader that stops reading is not given 10 MB of memory."""
    provider.script(Behaviour(fault=Fault.HUGE_LINE, chunks=1))
    answer = await send(client, upstream(provider), stream=True)
    first = await anext(answer)
    await asyncio.sleep(0.1)
    second = await anext(answer)
    assert len(first) + len(second) <= 8 * limits.READ_BUFFER_BYTES
    await answer.aclose()


async def test_head_request_has_no_body(provider, client):
    """A length without a body does not confuse the connection."""
    up = upstream(provider)
    for _ in range(2):
        answer = await client.send(up, method="HEAD", path="/v1/x", headers=headers(), body=None)
        assert answer.headers["content-length"] != "0"
        assert await answer.read(10) == b""
    assert provider.connections == 1
