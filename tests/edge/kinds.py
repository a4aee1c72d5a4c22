"""The shapes of a priced request, and one way to send any of them and look at its answer."""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

import orjson

from tests.edge.conftest import HELLO
from tests.peers.provider import ANTHROPIC_KEY, OPENAI_KEY
from tests.support.books import Books, HoldRow
from tests.support.raw import Answer, Raw, request
from tests.support.world import World

HEARTBEAT: Final = b": heartbeat\n\n"


@dataclass(frozen=True, slots=True)
class Kind:
    """A request that is served where nothing goes wrong."""

    name: str
    path: str
    body: dict[str, Any]
    upstream: str
    stream: bool = False
    anthropic: bool = False
    typed: bool = False
    """Its events have names, and their data say of which type they are."""
    limit: str = "max_tokens"
    """The member that limits the output."""

    def data(self, key: str, **changes: Any) -> bytes:
        """The request on the wire, members of its body changed."""
        return request({**self.body, **changes}, key=key, path=self.path)


MESSAGE: Final = {**HELLO, "model": "claude-sonnet"}
CHAT = Kind("chat", "/v1/chat/completions", HELLO, "openai")
CHAT_STREAM = Kind("chat stream", "/v1/chat/completions", {**HELLO, "stream": True}, "openai", stream=True)
MESSAGES = Kind("messages", "/v1/messages", MESSAGE, "anthropic", anthropic=True)
MESSAGES_STREAM = Kind(
    "messages stream", "/v1/messages", {**MESSAGE, "stream": True}, "anthropic", stream=True, anthropic=True, typed=True
)
EMBEDDINGS = Kind("embeddings", "/v1/embeddings", {"model": "text-embedding-3-small", "input": "a b c"}, "openai")
ASKED: Final = {"model": "gpt-5", "input": "Say hello.", "max_output_tokens": 50}
RESPONSES = Kind("responses", "/v1/responses", ASKED, "openai")
RESPONSES_STREAM = Kind(
    "responses stream", "/v1/responses", {**ASKED, "stream": True}, "openai", stream=True, typed=True,
    limit="max_output_tokens",
)  # fmt: skip
WHOLE: Final = [CHAT, MESSAGES, EMBEDDINGS, RESPONSES]
STREAMS: Final = [CHAT_STREAM, MESSAGES_STREAM, RESPONSES_STREAM]
KINDS: Final = WHOLE + STREAMS

SERVED_NANO: Final = {
    "chat": 2 * 2_500 + 10 * 10_000,
    "chat stream": 2 * 2_500 + 10 * 10_000,
    "messages": 2 * 3_000 + 10 * 15_000,
    "messages stream": 2 * 3_000 + 10 * 15_000,
    "embeddings": 3 * 20,
    "responses": 2 * 1_250 + 10 * 10_000,
    "responses stream": 2 * 1_250 + 10 * 10_000,
}
"""What the provider's regular answer costs: two words in, ten out, at the world's prices."""

ANSWER_HEADERS: Final = {
    "content-type",
    "content-length",
    "transfer-encoding",
    "retry-after",
    "x-tollway-request-id",
    "x-request-id",
    "request-id",
    "openai-processing-ms",
    "vary",
    "access-control-allow-origin",
    "access-control-expose-headers",
}
"""All that an answer on the operator's account may carry."""
_OPERATORS: Final = re.compile(
    rb"org-|proj_|__cf_bm|_cfuvid|ratelimit|0000-4000|cloudflare|canary|"
    + re.escape(OPENAI_KEY.encode())
    + rb"|"
    + re.escape(ANTHROPIC_KEY.encode())
)


def check_nothing_leaks(answer: Answer) -> None:
    """No header beyond the known ones, and no word of the operator's account anywhere."""
    assert answer.headers.keys() <= ANSWER_HEADERS, answer.headers.keys() - ANSWER_HEADERS
    everything = orjson.dumps(answer.headers) + answer.body
    assert _OPERATORS.search(everything) is None, everything


def books(edge: World) -> Books:
    """The running proxy's ledger."""
    return Books(edge.gateway.folder / "var" / "tollway.db")


def ended(edge: World, answer: Answer) -> HoldRow:
    """The hold of an answered exchange, once it has ended."""
    return books(edge).of(answer.headers["x-tollway-request-id"])


def ask(edge: World, key: str, kind: Kind, **changes: Any) -> Answer:
    """One whole answer on a connection of its own; nothing of the operator's account is in it."""
    with Raw(edge.gateway.address("api")) as raw:
        raw.send(kind.data(key, **changes))
        answer = raw.answer()
    check_nothing_leaks(answer)
    return answer


def check_envelope(kind: Kind, answer: Answer, status: int, code: str) -> None:
    """An error of ours in the dialect's own shape, with `Retry-After` where its status calls for one."""
    assert (answer.status, answer.code) == (status, code), answer.body
    body = answer.json()
    assert body.get("type") == ("error" if kind.anthropic else None)
    assert {"message", "type", "code", "param"} <= body["error"].keys()
    assert answer.headers["content-type"] == "application/json"
    assert ("retry-after" in answer.headers) == (status in (429, 503))


def events(body: bytes) -> list[bytes]:
    """The events of a stream that ends with a whole one, heartbeats left out."""
    assert body.endswith(b"\n\n"), body[-200:]
    return [event for event in body.replace(HEARTBEAT, b"").split(b"\n\n") if event]


def data_of(event: bytes) -> Any:
    """The JSON of an event's data."""
    return orjson.loads(event.partition(b"data: ")[2])


def wait_until(condition: Callable[[], bool]) -> None:
    """Return as soon as it holds."""
    deadline = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.005)
