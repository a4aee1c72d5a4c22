"""Exchanges of our own: through the very driver and chain that clients' go through, with no client behind them.

Each has its own hold, limits, rules, metrics and audit line, as the listener `inward`. No client can have such an
exchange: listeners are made of the kinds that config.yaml knows, and `Origin.acting` is written here alone. It is no
privilege either: an origin of ours is not on loopback, and only priced operations are reachable from it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Final, Protocol

from proxy.config.schema import Generation
from proxy.errors import Refusal
from proxy.exchange import ListenerKind, Origin, Request
from proxy.headers import Headers
from proxy.identities import Identity, IdentityKind
from proxy.keys import KeyRecord, UnknownKey
from proxy.listeners.api import Arrival, Serve
from proxy.policy.callers import identity_of

LISTENER: Final = ListenerKind.INWARD.value
DRAIN_RETRY_SECONDS: Final = 5


@dataclass(frozen=True, slots=True)
class InwardAnswer:
    """A whole answer, whatever its status."""

    status: int
    headers: Headers
    body: bytes = field(repr=False)


class InwardCut(Exception):
    """The answer broke off, or was longer than an answer may be."""


class Keys(Protocol):
    """Where keys are found by their public id."""

    def working(self, key_id: str) -> KeyRecord | None:
        """The newest key of this id that works now. Raises UnknownKey."""
        ...


class Inward:
    """Runs requests that we make ourselves, for somebody who is known by a key."""

    def __init__(
        self, serve: Callable[[], Serve], keys: Keys, generation: Callable[[], Generation], *, answer_bytes_max: int
    ) -> None:
        self._serve = serve
        self._keys = keys
        self._generation = generation
        self._answer_bytes_max = answer_bytes_max
        self._running: dict[asyncio.Task[None], _Kept] = {}
        self._opened = asyncio.Event()
        self._closed = False

    def open(self) -> None:
        """The chain stands: what was begun meanwhile goes on."""
        self._opened.set()

    async def stands(self) -> None:
        """Wait until the chain stands, and every plugin has started."""
        await self._opened.wait()

    def identity(self, key_id: str) -> Identity:
        """Who the holder of this key is at this moment, as if the key itself had come. Raises Refusal."""
        try:
            record = self._keys.working(key_id)
        except UnknownKey:
            record = None
        if record is None:
            raise Refusal("invalid_api_key", f"The key {key_id} has been revoked, or has expired.")
        team = self._generation().teams.get(record.team)
        if team is None:
            raise Refusal("invalid_api_key", f"The key {key_id} belongs to a team that no longer exists.")
        return identity_of(record, team)

    async def run(
        self,
        method: str,
        path: str,
        body: bytes,
        identity: Identity,
        headers: Iterable[tuple[str, str]] = (),
        *,
        peer: str = "",
    ) -> InwardAnswer:
        """One exchange, from its beginning to the end of its answer; a refusal is an answer.

        `peer` is the address on whose behalf it runs, for rules that name addresses. Cancelled, it ends as if a client
        had left, and this returns once it has ended. Raises Refusal `draining` where the process ends first, and
        InwardCut.
        """
        if identity.kind is not IdentityKind.KEY:
            raise ValueError("an exchange of our own runs for the holder of a key")
        await self.stands()
        if self._closed:
            raise _draining()
        origin = Origin(LISTENER, ListenerKind.INWARD, peer, loopback=False, acting=identity)
        fields = Headers([("content-type", "application/json"), *headers])
        request = Request(method=method, path=path, headers=fields, reader=_Given(body))
        kept = _Kept(self._answer_bytes_max)
        task = asyncio.get_running_loop().create_task(self._serve()(Arrival(origin, request), kept), name="inward")
        self._running[task] = kept
        task.add_done_callback(lambda done: self._running.pop(done, None))
        try:
            await asyncio.wait({task})
        except asyncio.CancelledError:
            kept.leave()
            await asyncio.wait({task})
            raise
        if kept.dismissed:
            raise _draining()
        return kept.answer()

    async def close(self) -> None:
        """Cut all that runs, and begin nothing more. Nobody has left: it ends as what a drain cuts off."""
        self._closed = True
        self._opened.set()
        for task, kept in self._running.items():
            kept.dismissed = True
            task.cancel()
        if self._running:
            await asyncio.wait(set(self._running))


class _Given:
    """A request body that is there."""

    __slots__ = ("_body",)

    def __init__(self, body: bytes) -> None:
        self._body = body

    async def read(self) -> bytes:
        body, self._body = self._body, b""
        return body


class _Kept:
    """The way back: keeps the answer. See proxy.listeners.api.Downstream."""

    __slots__ = ("_bytes_max", "_callback", "_chunks", "_cut", "_headers", "_size", "_status", "dismissed", "gone")

    def __init__(self, bytes_max: int) -> None:
        self.gone = False
        self.dismissed = False
        """The process ends: the answer, whatever came of it, is not to be used."""
        self._bytes_max = bytes_max
        self._status = 0
        self._headers = Headers()
        self._chunks: list[bytes] = []
        self._size = 0
        self._cut = False
        self._callback: Callable[[], None] | None = None

    def leave(self) -> None:
        """Nobody waits for the answer any more."""
        if not self.gone:
            self.gone = True
            if self._callback is not None:
                self._callback()

    def answer(self) -> InwardAnswer:
        """Raises InwardCut."""
        if self._cut or self.gone or self._status == 0:
            raise InwardCut("the answer broke off")
        return InwardAnswer(self._status, self._headers, b"".join(self._chunks))

    def on_gone(self, callback: Callable[[], None]) -> None:
        self._callback = callback
        if self.gone:
            callback()

    async def respond(self, status: int, headers: Headers, body: bytes, *, close: bool) -> None:
        if not self.gone:
            self._status, self._headers, self._chunks = status, headers, [body]

    async def start(self, status: int, headers: Headers) -> None:
        if not self.gone:
            self._status, self._headers = status, headers

    async def write(self, chunk: bytes) -> None:
        if self.gone:
            return
        self._size += len(chunk)
        if self._size > self._bytes_max:
            self._chunks.clear()
            self.leave()
            return
        self._chunks.append(chunk)

    async def end(self) -> None:
        pass

    def abort(self) -> None:
        self._cut = True

    async def forward(self, host: str, port: int, *, tls: bool, headers: Headers) -> None:
        self._cut = True


def _draining() -> Refusal:
    return Refusal(
        "draining",
        "This proxy is shutting down. Try again in a moment.",
        retry_after_seconds=DRAIN_RETRY_SECONDS,
    )
