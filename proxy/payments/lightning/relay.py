"""A Nostr relay (NIP-01): one connection that is kept, on which a wallet service answers our requests (NIP-47)."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from typing import Any, Final

import orjson

from proxy.clock import Clock
from proxy.egress import EgressFailure
from proxy.egress_websocket import WebSocket, open_websocket
from proxy.payments.lightning.api import NodeFailure
from proxy.payments.lightning.nostr import NIP04, NIP44, Event, public_key, signed_event, verified_event
from proxy.payments.settings import Lightning

INFO: Final = 13194
REQUEST: Final = 23194
RESPONSE: Final = 23195
AUTH: Final = 22242
SKEW_SECONDS: Final = 60
WORDS_MAX: Final = 200


class Relay:
    """Connects when it is first needed, and again after the connection was lost."""

    def __init__(self, url: str, secret: bytes, wallet: str, settings: Lightning, clock: Clock) -> None:
        self._keys = _Keys(url, secret, public_key(secret), wallet)
        self._settings = settings
        self._clock = clock
        self._turn = asyncio.Lock()
        self._connection: RelayConnection | None = None

    async def connection(self) -> RelayConnection:
        """An open one, on which the wallet's answers are heard. Raises NodeFailure; the caller limits the time."""
        async with self._turn:
            if self._connection is None or self._connection.lost is not None:
                self._connection = None
                self._connection = await self._connect()
            return self._connection

    async def aclose(self) -> None:
        """Hang up."""
        if self._connection is not None:
            await self._connection.aclose()

    async def _connect(self) -> RelayConnection:
        try:
            socket = await open_websocket(
                self._keys.url,
                private=self._settings.private,
                timeout_seconds=self._settings.timeout_seconds,
                ca_file=self._settings.ca_file,
            )
        except EgressFailure as error:
            raise _failure(error.detail) from error
        connection = RelayConnection(socket, self._keys, self._clock)
        try:
            await connection.open()
        except (NodeFailure, asyncio.CancelledError):
            await connection.aclose()
            raise
        return connection


@dataclass(frozen=True, slots=True)
class _Keys:
    url: str
    secret: bytes = field(repr=False)
    own: str
    wallet: str


class RelayConnection:
    """One connection, and whoever waits for an answer on it."""

    def __init__(self, socket: WebSocket, keys: _Keys, clock: Clock) -> None:
        self._socket = socket
        self._keys = keys
        self._clock = clock
        self._ready = asyncio.Event()
        self._waiting: dict[str, asyncio.Future[Event]] = {}
        self.scheme = NIP04
        """The encryption that the wallet service announces; NIP-04 where it says nothing."""
        self.lost: str | None = None
        """Why it ended, once it has."""
        self._reader = asyncio.get_running_loop().create_task(self._read(), name="nostr-relay")

    async def open(self) -> None:
        """Subscribe, and hear what the wallet service announces. Raises NodeFailure."""
        await self._subscribe()
        await self._ready.wait()
        if self.lost is not None:
            raise _failure(self.lost)

    async def ask(self, event: dict[str, Any]) -> Event:
        """Publish a request and await the response to it. Raises NodeFailure; the caller limits the time."""
        if self.lost is not None:
            raise _failure(self.lost)
        answer: asyncio.Future[Event] = asyncio.get_running_loop().create_future()
        self._waiting[event["id"]] = answer
        try:
            await self._send(["EVENT", event])
            return await answer
        finally:
            del self._waiting[event["id"]]

    async def aclose(self) -> None:
        """Hang up."""
        self.lost = self.lost or "hung up"
        self._reader.cancel()
        await asyncio.wait((self._reader,))

    async def _subscribe(self) -> None:
        since = self._clock.now_ms() // 1000 - SKEW_SECONDS
        answers = {"kinds": [RESPONSE], "authors": [self._keys.wallet], "#p": [self._keys.own], "since": since}
        await self._send(["REQ", "answers", answers])
        await self._send(["REQ", "info", {"kinds": [INFO], "authors": [self._keys.wallet], "limit": 1}])

    async def _send(self, message: list[Any]) -> None:
        try:
            await self._socket.send(orjson.dumps(message).decode())
        except EgressFailure as error:
            raise _failure(error.detail) from error

    async def _read(self) -> None:
        """Until the connection ends, for whatever reason; then nobody waits on."""
        try:
            while True:
                try:
                    message = orjson.loads(await self._socket.receive())
                except orjson.JSONDecodeError:
                    continue
                if isinstance(message, list):
                    await self._heard(message)
        except (EgressFailure, NodeFailure) as error:
            self.lost = error.detail
        finally:
            self.lost = self.lost or "the relay's connection broke"
            self._ready.set()
            for answer in self._waiting.values():
                if not answer.done():
                    answer.set_exception(_failure(self.lost))
            await self._socket.aclose()

    async def _heard(self, message: list[Any]) -> None:
        match message:
            case ["EVENT", str(), raw]:
                event = verified_event(raw)
                if event is not None and event.author == self._keys.wallet:
                    self._take(event)
            case ["EOSE", "info"]:
                self._ready.set()
            case ["OK", str(id_), False, words]:
                answer = self._waiting.get(id_)
                if answer is not None and not answer.done():
                    answer.set_exception(_failure(f"the relay refused the request: {words}"))
            case ["AUTH", str(challenge)]:
                await self._authenticate(challenge)
            case ["CLOSED", "answers" | "info", str(words)] if not words.startswith("auth-required"):
                raise _failure(f"the relay refused the subscription: {words}")
            case _:
                return

    async def _authenticate(self, challenge: str) -> None:
        """NIP-42. What was subscribed to before was refused: it is subscribed to again."""
        tags = [["relay", self._keys.url], ["challenge", challenge]]
        at = self._clock.now_ms() // 1000
        await self._send(["AUTH", signed_event(self._keys.secret, kind=AUTH, tags=tags, content="", at=at)])
        await self._subscribe()

    def _take(self, event: Event) -> None:
        if event.kind == INFO:
            self.scheme = NIP44 if NIP44 in (event.tag("encryption") or "").split() else NIP04
        elif event.kind == RESPONSE and event.tag("p") == self._keys.own:
            answer = self._waiting.get(event.tag("e") or "")
            if answer is not None and not answer.done():
                answer.set_result(event)


def _failure(words: str) -> NodeFailure:
    return NodeFailure("".join(char if char.isprintable() else " " for char in words)[:WORDS_MAX])
