"""Streams through the whole proxy: every byte in order, signs of life in silence, and clients that leave."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import anthropic
import openai
import orjson
import pytest

from proxy.ledger.books import State
from tests.edge.kinds import (
    CHAT,
    CHAT_STREAM,
    EMBEDDINGS,
    HEARTBEAT,
    KINDS,
    MESSAGES_STREAM,
    SERVED_NANO,
    STREAMS,
    WHOLE,
    Kind,
    ask,
    books,
    data_of,
    ended,
    events,
    wait_until,
)
from tests.peers.behaviour import Behaviour
from tests.support.raw import Raw, request
from tests.support.world import World

SSE = "text/event-stream"
USAGE_CHUNK = b'data: {"id":"c","choices":[],"usage":{"prompt_tokens":2,"completion_tokens":10,"total_tokens":12}}\n\n'
ODD_CHAT = [
    b": a comment of the provider's\n\n",
    b'data: {"choices":[{"index":0,"delta":{"role":"assistant"}}]}\n\n',
    b'event: message\r\nid: 7\r\ndata: {"choices":[{"index":0,"delta":{"content":"\xc3\xa9\\u00e9"}}]}\r\n\r\n',
    b'data:{"choices": [ {"index":0,\ndata:"delta":{"content":"two lines"}}]}\n\n',
    b'\n\ndata: {"choices":[{"index":0,"delta":{},"finish_reason":"stop"}],"usage":null,"x":"\xf0\x9f\xa4\x96"}\n\n',
    USAGE_CHUNK,
    b"data: [DONE]\n\n",
]
ODD_MESSAGE = [
    b"event: message_start\r\n",
    b'data: {"type":"message_start","message":{"usage":{"input_tokens":2,"output_tokens":1}}}\r\n\r\n',
    b'event: ping\ndata: {"type": "ping"}\n\n',
    b"event: content_block_start\n",
    b'data: {"type":"content_block_start","index":0,"content_block":{"type":"text","text":""}}\n\n',
    b"event: content_block_delta\n",
    b'data: {"type":"content_block_delta","index":0,"delta":{"type":"text_delta","text":"\xc3\xa9"}}\n\n',
    b"event: later_invention\nretry: 100\ndata: not json\n\n",
    b'event: message_delta\ndata: {"type":"message_delta","delta":{},"usage":{"output_tokens":10}}\n\n',
    b'event: message_stop\ndata: {"type":"message_stop"}\n\n',
]
streams = pytest.mark.parametrize("kind", STREAMS, ids=lambda kind: kind.name)


@pytest.fixture
def opened() -> Any:
    """Closes the clients that a test opened."""
    with ExitStack() as stack:
        yield stack


def texts(kind: Kind, answer: bytes) -> list[str]:
    """The pieces of text in a stream, in the order of their arrival."""
    if kind.anthropic:
        deltas = [data_of(event).get("delta", {}) for event in events(answer)]
        return [delta["text"] for delta in deltas if "text" in delta]
    if kind.path == "/v1/responses":
        told = [data_of(event) for event in events(answer)]
        return [one["delta"] for one in told if one["type"] == "response.output_text.delta"]
    chunks = [data_of(event) for event in events(answer) if event != b"data: [DONE]"]
    return [choice["delta"].get("content") or "" for chunk in chunks for choice in chunk["choices"]]


@pytest.mark.parametrize("delay", [0.0, 0.02])
def test_chat_stream_passes_byte_for_byte_but_for_the_usage_nobody_asked_for(
    edge: World, key: str, delay: float
) -> None:
    """Whatever the events look like and however they are cut into pieces; asked for, the usage passes, too."""
    body = b"".join(ODD_CHAT)
    edge.provider.script(*[Behaviour(body=body, content_type=SSE, delay_seconds=delay)] * 2)
    answer = ask(edge, key, CHAT_STREAM)
    assert answer.body == body.replace(USAGE_CHUNK, b"")
    asking = ask(edge, key, CHAT_STREAM, stream_options={"include_usage": True})
    assert asking.body == body
    assert [ended(edge, one).charged for one in (answer, asking)] == [SERVED_NANO["chat stream"]] * 2
    sent = [seen.json() for seen in edge.provider.requests]
    assert [one["stream_options"] for one in sent] == [{"include_usage": True}] * 2


@pytest.mark.parametrize("delay", [0.0, 0.02])
def test_message_stream_passes_byte_for_byte(edge: World, key: str, delay: float) -> None:
    """Unknown events included."""
    body = b"".join(ODD_MESSAGE)
    edge.provider.script(Behaviour(body=body, content_type=SSE, delay_seconds=delay))
    answer = ask(edge, key, MESSAGES_STREAM)
    assert (answer.body, ended(edge, answer).charged) == (body, SERVED_NANO["messages stream"])


def test_hundred_chunks_of_ten_streams_at_once_keep_their_order(edge: World, key: str) -> None:
    """None lost, none doubled, none in another's stream."""
    edge.provider.default = Behaviour(chunks=100, delay_seconds=0.005)
    asked = STREAMS * 5
    with ThreadPoolExecutor(len(asked)) as pool:
        answers = list(pool.map(lambda kind: ask(edge, key, kind, **{kind.limit: 200}), asked))
    for kind, answer in zip(asked, answers, strict=True):
        assert "".join(texts(kind, answer.body)).split() == [f"w{number}" for number in range(100)]
        assert ended(edge, answer).attempts[0].output_tokens == 100


def test_heartbeats_come_in_silence_and_only_between_events(edge: World, key: str) -> None:
    """The pieces end within events and there is silence after each: no comment may fall into one."""
    body = b"".join(ODD_CHAT).replace(b"\r\n", b"\n")
    edge.provider.script(Behaviour(body=body, content_type=SSE, delay_seconds=0.4))
    answer = ask(edge, key, CHAT_STREAM, stream_options={"include_usage": True})
    assert answer.body.replace(HEARTBEAT, b"") == body
    before = answer.body.split(HEARTBEAT)[:-1]
    assert all(part == b"" or part.endswith(b"\n\n") for part in before)


def test_silence_between_events_is_filled(edge: World, key: str) -> None:
    """With 0.3 s between signs of life, each pause of 0.5 s has one at least."""
    edge.provider.default = Behaviour(text="one", delay_seconds=0.5)
    with ThreadPoolExecutor(len(STREAMS)) as pool:
        answers = list(pool.map(lambda kind: ask(edge, key, kind), STREAMS))
    for kind, answer in zip(STREAMS, answers, strict=True):
        assert "".join(texts(kind, answer.body)) == "one"
        # The head waits for the content, so three pauses at least follow it.
        assert answer.body.count(HEARTBEAT) >= 3


def test_official_sdks_ignore_heartbeats(edge: World, key: str, opened: ExitStack) -> None:
    """Both read the whole answer out of a stream full of silence."""
    edge.provider.default = Behaviour(text="one", delay_seconds=0.4)
    say: Any = [{"role": "user", "content": "Say hello."}]
    chat = opened.enter_context(openai.OpenAI(api_key=key, base_url=edge.base_url, max_retries=0))
    claude = opened.enter_context(anthropic.Anthropic(api_key=key, base_url=edge.gateway.url("api"), max_retries=0))

    def of_openai() -> str:
        chunks = chat.chat.completions.create(model="gpt-4o", messages=say, max_tokens=50, stream=True)
        return "".join(chunk.choices[0].delta.content or "" for chunk in chunks)

    def of_anthropic() -> str:
        with claude.messages.stream(model="claude-sonnet", messages=say, max_tokens=50) as stream:
            return stream.get_final_text()

    with ThreadPoolExecutor(2) as pool:
        assert [future.result() for future in (pool.submit(of_openai), pool.submit(of_anthropic))] == ["one", "one"]


@pytest.mark.parametrize("rudely", [False, True], ids=["close", "reset"])
@streams
def test_client_that_leaves_a_stream_pays_for_its_usage(edge: World, key: str, kind: Kind, rudely: bool) -> None:
    """The upstream is read on to its usage: leaving just before the end is no discount."""
    edge.provider.script(Behaviour(delay_seconds=0.05))
    with Raw(edge.gateway.address("api")) as raw:
        raw.send(kind.data(key))
        answer = raw.head()
        assert raw.chunk()
        if rudely:
            raw.reset()
    hold = ended(edge, answer)
    assert (hold.charged, hold.outcome, hold.outcomes) == (SERVED_NANO[kind.name], "client_gone", ["served"])
    assert hold.attempts[0].counted == 0
    assert edge.provider.requests[0].answered and not edge.provider.requests[0].cut


def test_client_that_leaves_an_endless_stream_pays_its_hold(edge: World, key: str) -> None:
    """Past the drain's limit nobody knows the usage, whatever part of it was reported; the upstream is cut."""
    edge.provider.default = Behaviour(chunks=50, delay_seconds=0.3)
    answers = []
    for kind in STREAMS:
        with Raw(edge.gateway.address("api")) as raw:
            raw.send(kind.data(key))
            answers.append(raw.head())
            assert raw.chunk()
    for kind, answer in zip(STREAMS, answers, strict=True):
        hold = ended(edge, answer)
        assert (hold.charged, hold.list_cost, hold.outcome) == (hold.held_charged, hold.held_charged, "client_gone")
        assert hold.outcomes == ["served"] and hold.attempts[0].input_tokens is None
        assert hold.held_charged > 50 * (15_000 if kind.anthropic else 10_000)
    wait_until(lambda: all(seen.cut for seen in edge.provider.requests))


def test_held_amount_is_the_bodys_bytes_and_the_output_limit(edge: World, key: str) -> None:
    """A token is at least a byte; 256 for the request and 16 a message stand for what a provider writes around."""
    data = orjson.dumps(CHAT.body)
    hold = ended(edge, ask(edge, key, CHAT))
    assert hold.held_charged == (len(data) + 256 + 16) * 2_500 + 50 * 10_000


@pytest.mark.parametrize("rudely", [False, True], ids=["close", "reset"])
@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)
def test_client_that_leaves_before_the_answer_pays_for_its_usage(
    edge: World, key: str, kind: Kind, rudely: bool
) -> None:
    """The provider was asked and answers: somebody must pay for it."""
    newest = books(edge).newest()
    edge.provider.script(Behaviour(head_delay_seconds=0.2))
    with Raw(edge.gateway.address("api")) as raw:
        raw.send(kind.data(key))
        wait_until(lambda: bool(edge.provider.requests))
        if rudely:
            raw.reset()
    (hold,) = books(edge).since(newest)
    assert (hold.charged, hold.outcome, hold.outcomes) == (SERVED_NANO[kind.name], "client_gone", ["served"])
    assert len(edge.provider.requests) == 1


@pytest.mark.parametrize("kind", [CHAT, EMBEDDINGS], ids=lambda kind: kind.name)
def test_nothing_new_is_begun_for_a_client_that_left(edge: World, key: str, kind: Kind) -> None:
    """A failed first attempt stays the only one, and is free."""
    newest = books(edge).newest()
    edge.provider.script(Behaviour(status=500, head_delay_seconds=0.3))
    with Raw(edge.gateway.address("api")) as raw:
        raw.send(kind.data(key))
        wait_until(lambda: bool(edge.provider.requests))
    (hold,) = books(edge).since(newest)
    assert (hold.charged, hold.outcome, hold.outcomes) == (0, "client_gone", ["status"])
    assert len(edge.provider.requests) == 1


def resident_bytes(pid: int) -> int:
    """Memory of a process as the kernel counts it."""
    status = Path(f"/proc/{pid}/status").read_text()
    return next(int(line.split()[1]) << 10 for line in status.splitlines() if line.startswith("VmRSS"))


def test_reader_that_stalls_is_cut_and_holds_no_memory(edge: World, key: str) -> None:
    """Of 64 MB nobody reads, only buffers' worth is in memory; the exchange ends and its hold is charged."""
    piece = b'data: {"id":"c","choices":[{"index":0,"delta":{"content":"' + b"x" * 8_000 + b'"}}]}\n\n'
    edge.provider.script(Behaviour(body=piece * 8_000 + USAGE_CHUNK + b"data: [DONE]\n\n", content_type=SSE))
    before = most = resident_bytes(edge.gateway.pid)
    newest = books(edge).newest()
    with Raw(edge.gateway.address("api"), receive_buffer_bytes=4096) as raw:
        raw.send(CHAT_STREAM.data(key))
        raw.head()
        deadline = time.monotonic() + 12
        while not edge.provider.requests[0].cut and time.monotonic() < deadline:
            most = max(most, resident_bytes(edge.gateway.pid))
            time.sleep(0.02)
        (hold,) = books(edge).since(newest)
    assert most - before < 24 << 20
    assert (hold.charged, hold.outcome, hold.outcomes) == (hold.held_charged, "client_gone", ["served"])


def test_slow_reader_gets_everything(edge: World, key: str) -> None:
    """A client that reads slowly, yet reads, is waited for."""
    piece = b'data: {"id":"c","choices":[{"index":0,"delta":{"content":"' + b"x" * 8_000 + b'"}}]}\n\n'
    body = piece * 500 + USAGE_CHUNK + b"data: [DONE]\n\n"
    edge.provider.script(Behaviour(body=body, content_type=SSE))
    received = []
    with Raw(edge.gateway.address("api"), receive_buffer_bytes=4096) as raw:
        raw.send(CHAT_STREAM.data(key))
        answer = raw.head()
        while chunk := raw.chunk():
            received.append(chunk)
            if len(received) % 50 == 0:
                time.sleep(0.05)
    assert b"".join(received).replace(HEARTBEAT, b"") == body.replace(USAGE_CHUNK, b"")
    assert ended(edge, answer).charged == SERVED_NANO["chat stream"]


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)
def test_client_that_leaves_within_its_upload_costs_nothing(edge: World, key: str, kind: Kind) -> None:
    """Nothing was forwarded, nothing is held."""
    newest = books(edge).newest()
    data = orjson.dumps(kind.body)
    with Raw(edge.gateway.address("api")) as raw:
        raw.send(request(data[:-5], key=key, path=kind.path, length=len(data)))
    answer = ask(edge, key, kind)
    assert [hold.exchange_id for hold in books(edge).since(newest)] == [answer.headers["x-tollway-request-id"]]
    assert len(edge.provider.requests) == 1


def test_client_that_leaves_at_once_is_released_or_pays_for_what_was_called(edge: World, key: str) -> None:
    """Whatever the moment: a hold without an attempt is released for nothing, one with an attempt pays its usage."""
    newest = books(edge).newest()
    for number in range(60):
        raw = Raw(edge.gateway.address("api"))
        raw.send(WHOLE[number % len(WHOLE)].data(key))
        raw.reset()
    ended(edge, ask(edge, key, CHAT))
    called = 0
    for hold in books(edge).since(newest):
        if hold.attempts:
            called += 1
            assert hold.state == State.SETTLED and hold.outcomes == ["served"]
            assert hold.charged in SERVED_NANO.values()
        else:
            assert (hold.state, hold.charged) == (State.RELEASED, 0)
    assert called == len(edge.provider.requests)
