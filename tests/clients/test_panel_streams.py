"""A panel's streams, as the official SDKs read them: standard chunks with comments between.

And what the SDKs make of events that have a name, which is why a chat completion of ours has none.
"""

from __future__ import annotations

import json
import os
import subprocess
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import openai
import pytest
from openai.types.chat import ChatCompletionChunk, ChatCompletionMessageParam

from plugins.consensus.chat_wire import ChatWire
from proxy.consensus.api import Event, RunFailed
from proxy.driver import HEARTBEAT
from proxy.errors import Refusal
from tests.support.runs import meta, records, result

NODE = Path(__file__).parent / "node"
MODEL = "consensus-balanced"
TEXT = "The answer is 42. Caf\u00e9 \U0001f600."
ASKED: list[ChatCompletionMessageParam] = [{"role": "user", "content": "Why?"}]
NAMED = b'event: quorum\ndata: {"v":1,"type":"quorum","quorum":2}\n\n'
"""Progress as /v1/orchestrate tells it."""
CALL = {"id": "call_1", "type": "function", "function": {"name": "weather", "arguments": '{"at":"x"}'}}


def pieces(*more: bytes, failed: bool = False) -> list[bytes]:
    """A panel's stream, with a keep-alive before each event."""
    wire = ChatWire(meta(wants_usage=True))
    told = [wire.opening(), *more, *[wire.event(Event("token", {"text": one})) for one in (TEXT[:5], TEXT[5:])]]
    if failed:
        told.append(wire.failed(RunFailed(Refusal("upstream_error", "The synthesiser broke off."))))
    else:
        told.append(wire.closing(result(TEXT), records(), meta(wants_usage=True)))
    return [piece for one in told for piece in (HEARTBEAT, one)]


@contextmanager
def playing(stream: list[bytes]) -> Iterator[str]:
    """A server that answers every request with these bytes, piece by piece; its base URL."""

    class Player(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["content-length"]))
            self.send_response(200)
            self.send_header("content-type", "text/event-stream; charset=utf-8")
            self.end_headers()
            for piece in stream:
                self.wfile.write(piece)
                self.wfile.flush()

        def log_message(self, format: str, *args: Any) -> None:
            """Nobody reads it."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Player)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/v1"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


@contextmanager
def client(stream: list[bytes]) -> Iterator[openai.OpenAI]:
    with playing(stream) as url, openai.OpenAI(api_key="k", base_url=url, max_retries=0) as found:
        yield found


def chunks(stream: list[bytes]) -> list[ChatCompletionChunk]:
    with client(stream) as asking:
        return list(asking.chat.completions.create(model=MODEL, messages=ASKED, stream=True))


def node(stream: list[bytes]) -> dict[str, Any]:
    with playing(stream) as url:
        run = subprocess.run(
            ["node", "panel.mjs"],
            cwd=NODE,
            env={**os.environ, "BASE_URL": url, "MODEL": MODEL},
            capture_output=True,
            text=True,
            timeout=50,
        )
    assert run.returncode == 0, run.stderr
    told: dict[str, Any] = json.loads(run.stdout)
    return told


def test_python_reads_the_answer_and_the_extension_beside_it() -> None:
    """Comments are no events, and every chunk is one that the SDK knows."""
    found = chunks(pieces())
    assert "".join([one.choices[0].delta.content or "" for one in found if one.choices]) == TEXT
    assert [one.choices[0].finish_reason for one in found if one.choices][-1] == "stop"
    assert found[-1].usage is not None
    assert found[-1].usage.total_tokens == 587
    finishing = (found[-2].model_extra or {})["consensus"]
    assert (finishing["confidence"], finishing["credits_charged"]) == ("medium", 3)
    for one in found:
        ChatCompletionChunk.model_validate_json(one.to_json(), strict=True)


def test_pythons_helper_accumulates_the_answer() -> None:
    """As frameworks use it. What it accumulates has no member that it does not know: the extension is in its chunk."""
    with (
        client(pieces()) as asking,
        asking.chat.completions.stream(model=MODEL, messages=ASKED) as stream,
    ):
        events = list(stream)
        final = stream.get_final_completion()
    assert final.choices[0].message.content == TEXT
    assert {"content.delta", "content.done"} <= {event.type for event in events}
    extras = [event.chunk.model_extra or {} for event in events if event.type == "chunk"]
    assert [extra["consensus"]["confidence"] for extra in extras if "consensus" in extra] == ["medium"]


def test_pythons_helper_accumulates_calls_of_tools() -> None:
    """In the synthesiser's own pieces."""
    wire = ChatWire(meta())
    first = {"index": 0, **CALL, "function": {"name": "weather", "arguments": '{"at"'}}
    rest = {"index": 0, "function": {"arguments": ':"x"}'}}
    told = [wire.event(Event("token", {"tool_calls": [one]})) for one in (first, rest)]
    stream = [wire.opening(), *told, wire.closing(result("", tool_calls=(CALL,)), records(), meta())]
    with client(stream) as asking, asking.chat.completions.stream(model=MODEL, messages=ASKED) as reading:
        final = reading.get_final_completion()
    assert final.choices[0].finish_reason == "tool_calls"
    assert final.choices[0].message.tool_calls is not None
    called = final.choices[0].message.tool_calls[0].to_dict()["function"]
    assert isinstance(called, dict)
    assert (called["name"], called["arguments"]) == ("weather", '{"at":"x"}')


async def test_pythons_asynchronous_client_reads_the_same() -> None:
    """It has a reader of its own."""
    with playing(pieces()) as url:
        async with openai.AsyncOpenAI(api_key="k", base_url=url, max_retries=0) as asking:
            stream = await asking.chat.completions.create(model=MODEL, messages=ASKED, stream=True)
            text = "".join([one.choices[0].delta.content or "" async for one in stream if one.choices])
    assert text == TEXT


def test_python_raises_at_a_run_that_failed_after_its_head() -> None:
    """With what came before it already read."""
    with client(pieces(failed=True)) as asking:
        stream = asking.chat.completions.create(model=MODEL, messages=ASKED, stream=True)
        read: list[ChatCompletionChunk] = []
        with pytest.raises(openai.APIError, match="broke off") as raised:
            read.extend(stream)
    assert raised.value.code == "upstream_error"


def test_node_reads_the_answer_and_the_extension_beside_it() -> None:
    """And its helper accumulates it."""
    told = node(pieces())
    assert (told["streamed"], told["finish"], told["error"], told["strange"]) == (TEXT, "stop", None, 0)
    assert told["extension"]["confidence"] == "medium"
    assert told["usage"]["total_tokens"] == 587
    assert told["helper"] == {"content": TEXT, "finish": "stop"}


def test_node_raises_at_a_run_that_failed_after_its_head() -> None:
    """With the error's code."""
    told = node(pieces(failed=True))
    assert told["error"] == {"name": "APIError", "code": "upstream_error"}
    assert told["helper"] == {"error": "APIError"}


def python_on_named() -> int:
    """Events with a name that the SDK hands on as if they were chunks."""
    return len([one for one in chunks(pieces(NAMED)) if one.choices is None])


def node_on_named() -> int:
    return int(node(pieces(NAMED))["strange"])


@pytest.mark.parametrize("read", [python_on_named, node_on_named])
def test_an_event_with_a_name_would_be_taken_for_a_chunk(read: Callable[[], int]) -> None:
    """Both SDKs hand it on without `choices`, at which an application that looks for them stumbles: none are sent."""
    assert read() == 1


def test_an_event_with_a_name_fails_nodes_helper() -> None:
    """The whole run of a framework that uses it, for a piece of progress."""
    assert node(pieces(NAMED))["helper"] == {"error": "OpenAIError"}
