"""A Nostr relay (NIP-01): one connection that is kept, on which a wallet service answers our requests (NIP-47)."""

from __future__ import annotations

import asyncio
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
        self._url = url
        self._secret = secret
        self._wallet = wallet
        self._settings = settings
        self._clock = clock
        self._own = public_key(secret)
        self._turn = asyncio.Lock()
        self._socket: WebSocket | None = None
        self._reader: asyncio.Task[None] | None = None
        self._ready = asyncio.Event()
        self._waiting: dict[str, asyncio.Future[Event]] = {}
        self._lost = ""
        self._scheme = NIP04

    async def scheme(self) -> str:
        """The encryption that the wallet service announces, once connected: NIP44, or NIP04 where it says nothing.

        Raises NodeFailure.
        """
        async with self._turn:
            if self._socket is None:
                await self._connect()
        return self._scheme

    async def ask(self, event: dict[str, Any]) -> Event:
        """Publish a request and await the response to it. Raises NodeFailure; the caller limits the time."""
        socket = self._socket
        if socket is None:
            raise self._failure(self._lost or "the relay's connection was lost")
        answer: asyncio.Future[Event] = asyncio.get_running_loop().create_future()
        self._waiting[event["id"]] = answer
        try:
            await self._send(socket, ["EVENT", event])
            return await answer
        finally:
            self._waiting.pop(event["id"], None)

    async def aclose(self) -> None:
        """Hang up."""
        if self._reader is not None:
            self._reader.cancel()
            await asyncio.wait((self._reader,))
            self._reader = None

    async def _connect(self) -> None:
        try:
            socket = await open_websocket(
                self._url,
                private=self._settings.private,
                timeout_seconds=self._settings.timeout_seconds,
                ca_file=self._settings.ca_file,
            )
        except EgressFailure as error:
            raise self._failure(error.detail) from error
        self._scheme, self._lost = NIP04, ""
        self._ready.clear()
        self._socket = socket
        self._reader = asyncio.get_running_loop().create_task(self._read(socket), name="nostr-relay")
        try:
            await self._subscribe(socket)
            await self._ready.wait()
        except (NodeFailure, asyncio.CancelledError):
            self._reader.cancel()
            raise
        if self._socket is None:
            raise self._failure(self._lost)

    async def _subscribe(self, socket: WebSocket) -> None:
        since = self._clock.now_ms() // 1000 - SKEW_SECONDS
        answers = {"kinds": [RESPONSE], "authors": [self._wallet], "#p": [self._own], "since": since}
        await self._send(socket, ["REQ", "answers", answers])
        await self._send(socket, ["REQ", "info", {"kinds": [INFO], "authors": [self._wallet], "limit": 1}])

    async def _send(self, socket: WebSocket, message: list[Any]) -> None:
        try:
            await socket.send(orjson.dumps(message).decode())
        except EgressFailure as error:
            raise self._failure(error.detail) from error

    async def _read(self, socket: WebSocket) -> None:
        """Until the connection ends, for whatever reason; then nobody waits on."""
        lost = "it was closed"
        try:
            while True:
                try:
                    message = orjson.loads(await socket.receive())
                except orjson.JSONDecodeError:
                    continue
                if isinstance(message, list) and len(message) >= 2:
                    await self._heard(socket, message)
        except (EgressFailure, NodeFailure) as error:
            lost = error.detail
        finally:
            self._lost = lost
            self._socket = None
            self._ready.set()
            for answer in self._waiting.values():
                if not answer.done():
                    answer.set_exception(self._failure(lost))
            await socket.aclose()

    async def _heard(self, socket: WebSocket, message: list[Any]) -> None:
        match message:
            case ["EVENT", str(), raw]:
                event = verified_event(raw)
                if event is not None and event.author == self._wallet:
                    self._take(event)
            case ["EOSE", "info"]:
                self._ready.set()
            case ["OK", str(id_), False, words]:
                answer = self._waiting.get(id_)
                if answer is not None and not answer.done():
                    answer.set_exception(self._failure(f"the relay refused the request: {words}"))
            case ["AUTH", str(challenge)]:  # NIP-42; what was subscribed to before was refused.
                tags = [["relay", self._url], ["challenge", challenge]]
                at = self._clock.now_ms() // 1000
                await self._send(socket, ["AUTH", signed_event(self._secret, kind=AUTH, tags=tags, content="", at=at)])
                await self._subscribe(socket)
            case ["CLOSED", "answers" | "info", str(words)] if not words.startswith("auth-required"):
                raise self._failure(f"the relay refused the subscription: {words}")
            case _:
                return

    def _take(self, event: Event) -> None:
        if event.kind == INFO:
            self._scheme = NIP44 if NIP44 in (event.tag("encryption") or "").split() else NIP04
        elif event.kind == RESPONSE and event.tag("p") == self._own:
            answer = self._waiting.get(event.tag("e") or "")
            if answer is not None and not answer.done():
                answer.set_result(event)

    def _failure(self, words: str) -> NodeFailure:
        return NodeFailure("".join(char if char.isprintable() else " " for char in words)[:WORDS_MAX])
