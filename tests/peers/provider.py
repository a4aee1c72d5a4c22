"""A scripted provider: OpenAI's and Anthropic's wire formats on a real socket, and every way to break them.

    with ScriptedProvider() as provider:                    # `async with` works as well
        provider.script(Behaviour(status=429, headers=(("retry-after", "1"),)), Behaviour())
        ...
        assert provider.requests[0].path == "/v1/chat/completions"

It runs on a thread and loop of its own, so blocking clients and other processes can use it. Behaviours scripted
without a model are used up in order, one a request; those scripted for a model answer its every request. Paths it
does not know are echoed: a JSON line with method, path and headers, then the body as it arrives.
"""

from __future__ import annotations

import asyncio
import json
import threading
import time
from collections import deque
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from typing import Any, Self

from tests.peers import anthropic_format, openai_format, responses_format
from tests.peers.answers import Answer, encode
from tests.peers.behaviour import Behaviour, Fault
from tests.peers.canaries import plant
from tests.peers.certificates import PROVIDER_HOSTS, server_context
from tests.peers.sending import send_answer
from tests.peers.wire import ClientGone, ServerWire

OPENAI_KEY = "sk-scripted-operator-key"
ANTHROPIC_KEY = "sk-ant-scripted-operator-key"
START_SECONDS_MAX = 10.0


@dataclass(slots=True)
class SeenRequest:
    """One request as it arrived."""

    method: str
    path: str
    """The request target, raw, query included."""
    headers: list[tuple[bytes, bytes]]
    """In their order and spelling."""
    connection: int
    """Number of the connection, from 1: the same number means it was reused."""
    at: float
    """time.monotonic() when its head was complete."""
    body: bytes = b""
    whole: bool = False
    """The body arrived to its end."""
    answered: bool = False
    """The answer was sent to its end, as far as the behaviour goes."""
    cut: bool = False
    """The client went before that."""
    pieces_sent: int = 0
    behaviour: Behaviour = field(default_factory=Behaviour)

    def header(self, name: str) -> str | None:
        """The first field of that name, whatever its case."""
        wanted = name.lower().encode()
        return next((value.decode() for key, value in self.headers if key.lower() == wanted), None)

    def json(self) -> Any:
        """The body, parsed."""
        return json.loads(self.body)


class ScriptedProvider:
    """`tls=True` serves `hosts` with certificates of `tests.peers.certificates.authority()`.

    `keys` are the credentials accepted (bearer for OpenAI, x-api-key or bearer for Anthropic); None: any.
    """

    def __init__(
        self,
        *,
        tls: bool = False,
        hosts: tuple[str, ...] = PROVIDER_HOSTS,
        keys: frozenset[str] | None = frozenset({OPENAI_KEY, ANTHROPIC_KEY}),
    ) -> None:
        self.keys = keys
        self.requests: list[SeenRequest] = []
        self.default = Behaviour()
        self.answering: Callable[[SeenRequest], Behaviour] | None = None
        """Decides for each request by what it says, where nothing is scripted for it."""
        self.host = "127.0.0.1"
        self.port = 0
        self.connections = 0
        """How many connections were accepted so far."""
        self._context = server_context(*hosts) if tls else None
        self._queue: deque[Behaviour] = deque()
        self._by_model: dict[str, Behaviour] = {}
        self._wires: set[ServerWire] = set()
        self._server: asyncio.Server | None = None
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._run, name="scripted-provider", daemon=True)
        self._started = threading.Event()

    # -- what a test does with it

    @property
    def url(self) -> str:
        """http(s)://127.0.0.1:port, without a path."""
        return f"{'https' if self._context else 'http'}://{self.host}:{self.port}"

    @property
    def address(self) -> tuple[str, int]:
        """For `connect_to`."""
        return self.host, self.port

    @property
    def open_connections(self) -> int:
        """How many connections are open now."""
        return len(self._wires)

    def script(self, *behaviours: Behaviour, model: str | None = None) -> None:
        """Queue behaviours for the next requests, or set the one for every request that names `model`."""
        if model is None:
            self._queue.extend(behaviours)
        else:
            (self._by_model[model],) = behaviours

    def reset(self) -> None:
        """Forget every script and every request seen."""
        self._queue.clear()
        self._by_model.clear()
        self.requests.clear()
        self.default = Behaviour()
        self.answering = None

    async def until(self, condition: Callable[[], bool], seconds_max: float = 10.0) -> None:
        """Return as soon as `condition` holds. Raises TimeoutError."""
        deadline = time.monotonic() + seconds_max
        while not condition():
            if time.monotonic() > deadline:
                raise TimeoutError(f"not within {seconds_max} s; {len(self.requests)} requests were seen")
            await asyncio.sleep(0.002)

    def drop_connections(self) -> None:
        """Close every open connection, as a restart of the provider would; the port keeps listening."""
        asyncio.run_coroutine_threadsafe(self._drop(), self._loop).result(START_SECONDS_MAX)

    def refuse_connections(self) -> None:
        """Stop listening, so that connects are refused, and drop what is open."""
        asyncio.run_coroutine_threadsafe(self._refuse(), self._loop).result(START_SECONDS_MAX)

    def accept_connections(self) -> None:
        """Listen again, on the same port."""
        asyncio.run_coroutine_threadsafe(self._listen(), self._loop).result(START_SECONDS_MAX)

    def start(self) -> None:
        """Returns once the port is bound."""
        self._thread.start()
        if not self._started.wait(START_SECONDS_MAX):
            raise TimeoutError("the scripted provider did not start")

    def stop(self) -> None:
        """Close everything. Idempotent."""
        if self._loop.is_closed():
            return
        asyncio.run_coroutine_threadsafe(self._refuse(), self._loop).result(START_SECONDS_MAX)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(START_SECONDS_MAX)
        self._loop.close()

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    async def __aenter__(self) -> Self:
        self.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        self.stop()

    # -- its own thread

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        self._loop.run_until_complete(self._listen())
        self._started.set()
        self._loop.run_forever()

    async def _listen(self) -> None:
        self._server = await self._loop.create_server(self._wire, self.host, self.port, ssl=self._context)
        self.port = self._server.sockets[0].getsockname()[1]

    async def _refuse(self) -> None:
        if self._server is not None:
            self._server.close()
        await self._drop()

    async def _drop(self) -> None:
        tasks = [wire.task for wire in self._wires if wire.task is not None]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _wire(self) -> ServerWire:
        self.connections += 1
        return ServerWire(self._serve, self.connections)

    async def _serve(self, wire: ServerWire) -> None:
        self._wires.add(wire)
        try:
            while await self._one(wire):
                continue
        finally:
            self._wires.discard(wire)

    async def _one(self, wire: ServerWire) -> bool:
        """One request and its answer; whether the connection goes on."""
        seen = _parse_head(await wire.until(b"\r\n\r\n"), wire.number)
        self.requests.append(seen)
        try:
            kind = _kind(seen)
            if kind == "echo":
                await _echo(wire, seen)
                seen.answered = True
                return True
            early = self._queue[0].fault is Fault.ANSWER_EARLY if self._queue else False
            if not early:
                await _read_body(wire, seen)
            behaviour = seen.behaviour = self._behaviour(seen)
            await wire.pause(behaviour.head_delay_seconds)
            goes_on = await send_answer(wire, seen, behaviour, self._answer(kind, seen, behaviour))
            if early:
                await _read_body(wire, seen)
            seen.answered = True
            return goes_on
        except ClientGone:
            seen.cut = True
            raise

    def _behaviour(self, seen: SeenRequest) -> Behaviour:
        if self._by_model and seen.body.startswith(b"{"):
            try:
                model = json.loads(seen.body).get("model")
            except ValueError:
                model = None
            if model in self._by_model:
                return self._by_model[model]
        if self._queue:
            return self._queue.popleft()
        return self.default if self.answering is None else self.answering(seen)

    def _answer(self, kind: str, seen: SeenRequest, behaviour: Behaviour) -> Answer:
        anthropic = kind in ("messages", "count_tokens") or (
            kind == "models" and seen.header("anthropic-version") is not None
        )
        answer = self._content(kind, anthropic, seen, behaviour)
        answer.headers += (anthropic_format if anthropic else openai_format).headers()
        answer.headers += behaviour.headers
        if behaviour.content_type is not None:
            answer.content_type = behaviour.content_type
        if behaviour.canaries:
            plant(answer)
        return answer

    def _content(self, kind: str, anthropic: bool, seen: SeenRequest, behaviour: Behaviour) -> Answer:
        format_ = anthropic_format if anthropic else openai_format
        if behaviour.body is not None:
            return Answer(behaviour.status, [behaviour.body])
        if not self._authorised(seen, anthropic):
            return format_.error(401, "invalid x-api-key" if anthropic else "Incorrect API key provided.")
        if anthropic and seen.header("anthropic-version") is None:
            return format_.error(400, "anthropic-version: header is required")
        if behaviour.status >= 400:
            return format_.error(behaviour.status, f"Scripted failure {behaviour.status}.")
        if kind == "models":
            return format_.models()
        if seen.behaviour.fault is Fault.ANSWER_EARLY:
            return format_.error(413, "Answered before the body was read.")
        try:
            request = json.loads(seen.body)
        except ValueError:
            return format_.error(400, "We could not parse the JSON body of your request.")
        if not isinstance(request, dict):
            return format_.error(400, "The body must be an object.")
        if kind == "count_tokens":
            return anthropic_format.count_tokens(request)
        if kind == "messages":
            return anthropic_format.messages(request, behaviour)
        if kind == "responses":
            return responses_format.responses(request, behaviour)
        return (openai_format.embeddings if kind == "embeddings" else openai_format.chat)(request, behaviour)

    def _authorised(self, seen: SeenRequest, anthropic: bool) -> bool:
        if self.keys is None:
            return True
        bearer = (seen.header("authorization") or "").removeprefix("Bearer ")
        return bearer in self.keys or (anthropic and seen.header("x-api-key") in self.keys)


def _parse_head(head: bytes, connection: int) -> SeenRequest:
    lines = head[:-4].split(b"\r\n")
    method, target, version = lines[0].split(b" ")
    if version != b"HTTP/1.1":
        raise ClientGone
    fields = []
    for line in lines[1:]:
        name, _, value = line.partition(b":")
        fields.append((name, value.strip()))
    return SeenRequest(method.decode(), target.decode("latin-1"), fields, connection, time.monotonic())


def _kind(seen: SeenRequest) -> str:
    path = seen.path.partition("?")[0]
    if seen.method == "GET" and path.endswith("/models"):
        return "models"
    if seen.method != "POST":
        return "echo"
    for suffix, kind in (
        ("/chat/completions", "chat"),
        ("/embeddings", "embeddings"),
        ("/messages", "messages"),
        ("/messages/count_tokens", "count_tokens"),
        ("/responses", "responses"),
    ):
        if path.endswith(suffix):
            return kind
    return "echo"


async def _pieces(wire: ServerWire, seen: SeenRequest) -> AsyncIterator[bytes]:
    """The request's body as it arrives."""
    if (seen.header("transfer-encoding") or "").lower() == "chunked":
        while size := int((await wire.until(b"\r\n"))[:-2].partition(b";")[0], 16):
            yield await wire.exactly(size)
            await wire.exactly(2)
        while await wire.until(b"\r\n") != b"\r\n":
            continue
    else:
        left = int(seen.header("content-length") or 0)
        while left:
            piece = await wire.some(left)
            left -= len(piece)
            yield piece


async def _read_body(wire: ServerWire, seen: SeenRequest) -> None:
    seen.body = b"".join([piece async for piece in _pieces(wire, seen)])
    seen.whole = True


async def _echo(wire: ServerWire, seen: SeenRequest) -> None:
    """Answer at once and send every piece back as it comes, chunked."""
    fields = [[name.decode(), value.decode("latin-1")] for name, value in seen.headers]
    first = encode({"method": seen.method, "path": seen.path, "headers": fields}) + b"\n"
    head = b"HTTP/1.1 200 OK\r\ncontent-type: application/x-echo\r\n"
    if seen.method == "HEAD":
        await wire.write(head + b"content-length: %d\r\n\r\n" % len(first))
        return
    await wire.write(head + b"transfer-encoding: chunked\r\n\r\n%x\r\n%b\r\n" % (len(first), first))
    async for piece in _pieces(wire, seen):
        seen.body += piece
        seen.pieces_sent += 1
        await wire.write(b"%x\r\n%b\r\n" % (len(piece), piece))
    seen.whole = True
    await wire.write(b"0\r\n\r\n")
