"""One request and its answer on their way through, with all that the plugins found out about it.

Each fact has one owner that writes it; everybody else reads. The owners: the listener writes `origin`
and `request`; the gateway `operation`; the plugins `identity`, `catalogue` (`call`, `model`), `team_policy` (`policy`),
`pricing` (`quote`), `spend_caps` (`hold`), `routing` (`route`) and `metering` (`usage`) the fact behind their name;
`consensus` writes `route`, `usage` and `charge` of what a panel answers.
`team_policy` and `content_rules` may replace `call` by an amended one before it is priced: nobody after them.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field, replace
from enum import Enum
from typing import TYPE_CHECKING, Final, Protocol

from proxy.errors import Refusal
from proxy.headers import Headers

if TYPE_CHECKING:
    from ipaddress import IPv4Address, IPv6Address

    from proxy.catalogue import Model
    from proxy.config.schema import CapturedHost, Generation
    from proxy.dialects.base import Call
    from proxy.identities import Identity
    from proxy.ledger.api import Hold, Settlement
    from proxy.ledger.payment_api import Tender
    from proxy.operations import Operation
    from proxy.payments.api import Ask, Presented
    from proxy.policy.rules import Policy
    from proxy.pricing.money import Nano
    from proxy.pricing.quote import Quote
    from proxy.routes import Route
    from proxy.usage import Usage


class ListenerKind(Enum):
    """Where clients reach us."""

    REVERSE = "reverse"
    REGULAR = "regular"
    ADMIN = "admin"
    INWARD = "inward"
    """No listener at all: an exchange of our own (`proxy.inward`). Nothing in config.yaml makes one."""


@dataclass(frozen=True, slots=True)
class Origin:
    """How the client reached us. `proxy_credential` is what it gave for CONNECT or an absolute-form request."""

    listener: str
    kind: ListenerKind
    peer: str
    loopback: bool
    """The listener is bound to loopback AND the peer is on loopback."""
    tls: bool = False
    http2: bool = False
    captured_host: str | None = None
    """Regular mode: the provider host the client believes to talk to; None on reverse and admin."""
    captured_port: int | None = None
    proxy_credential: str | None = field(default=None, repr=False)
    acting: Identity | None = None
    """For whom an exchange of our own runs. Written by `proxy.inward`, believed on INWARD alone."""


class BodyReader(Protocol):
    """The listener's side of a request body."""

    async def read(self) -> bytes:
        """The next piece, b"" at the end. Sends `100 Continue` first where the client waits for it."""
        ...


class Request:
    """The client's request. The body is pulled lazily, so a refusal can precede an upload."""

    __slots__ = ("_body", "_reader", "authority", "headers", "method", "path", "query", "scheme")

    def __init__(
        self,
        *,
        method: str,
        path: str,
        query: str = "",
        headers: Headers,
        authority: str = "",
        scheme: str = "http",
        reader: BodyReader,
    ) -> None:
        self.method = method
        self.path = path
        """As spelled by the client, without the query; never decoded."""
        self.query = query
        self.headers = headers
        self.authority = authority
        self.scheme = scheme
        self._reader = reader
        self._body: bytes | None = None

    async def body(self, bytes_max: int) -> bytes:
        """The whole body, read once. Raises Refusal `payload_too_large` without reading to its end."""
        if self._body is not None:
            return self._body
        declared = self.headers.get("content-length")
        if declared is not None and declared.isdigit() and int(declared) > bytes_max:
            raise _too_large(bytes_max)
        chunks: list[bytes] = []
        size = 0
        while chunk := await self._reader.read():
            size += len(chunk)
            if size > bytes_max:
                raise _too_large(bytes_max)
            chunks.append(chunk)
        self._body = chunks[0] if len(chunks) == 1 else b"".join(chunks)
        return self._body

    async def stream(self) -> AsyncIterator[bytes]:
        """The body piece by piece, for what is forwarded without being read."""
        while chunk := await self._reader.read():
            yield chunk


def _too_large(bytes_max: int) -> Refusal:
    return Refusal(
        "payload_too_large",
        f"The request body is larger than the {bytes_max} bytes allowed here. Send a smaller one.",
        close=True,
    )


class ByteStream(Protocol):
    """An answer's body under way: an async iterator of bytes that can be given up early."""

    def __aiter__(self) -> AsyncIterator[bytes]: ...

    async def aclose(self) -> None:
        """Give up: the upstream connection is closed if the body was not read to its end."""
        ...


Tap = Callable[[bytes], None]
"""Sees every piece of the upstream's answer before the client does. Synchronous and cheap."""

Transform = Callable[[bytes], bytes]
"""Changes the stream piece by piece; b"" in means its end, and what is returned then is the remainder."""


@dataclass(frozen=True, slots=True)
class Upgrade:
    """Where a websocket upgrade goes, and with which request headers."""

    host: str
    port: int
    tls: bool
    headers: Headers


@dataclass(slots=True, eq=False)
class Response:
    """A head and a whole body, or a head and a stream of bytes."""

    status: int
    headers: Headers
    body: bytes = b""
    stream: ByteStream | None = None
    sse: bool = False
    """The stream is server-sent events: heartbeats and an error event may be added to it."""
    close: bool = False
    taps: list[Tap] = field(default_factory=list)
    """Run on every piece that `pull` returns, in order; metering is the first."""
    transforms: list[Transform] = field(default_factory=list)
    """Run by the driver on what goes out."""
    peeked: list[bytes] = field(default_factory=list)
    """Pieces already pulled, which the driver sends first."""
    upgrade: Upgrade | None = None
    """The engine's own upstream side takes over."""
    before_content: list[Callable[[], Awaitable[None]]] | None = None
    """The head goes out before there is an answer: whoever makes the stream awaits these, in order, just before the
    first piece of one, and sends none where one of them raises. None: there is content already."""
    _pieces: AsyncIterator[bytes] | None = None

    async def pull(self) -> bytes:
        """The next piece of the stream as the upstream sent it, b"" at its regular end. Raises UpstreamFailure."""
        if self.stream is None:
            return b""
        if self._pieces is None:
            self._pieces = aiter(self.stream)
        try:
            chunk = await anext(self._pieces)
        except StopAsyncIteration:
            return b""
        for tap in self.taps:
            tap(chunk)
        return chunk

    @classmethod
    def of(cls, status: int, body: bytes, content_type: str = "application/json") -> Response:
        """A whole answer."""
        return cls(status, Headers({"content-type": content_type}), body)

    @classmethod
    def refused(cls, refusal: Refusal, *, dialect: str | None = None, for_operator: bool = False) -> Response:
        """The answer to a refusal, with its note to the operator only where that is who asks."""
        return cls(
            refusal.status,
            Headers(refusal.wire_headers()),
            refusal.envelope(dialect=dialect, for_operator=for_operator),
            close=refusal.close,
        )


class WhenLeft(Enum):
    """What becomes of an exchange whose client leaves after an upstream was called."""

    DRAIN = "drain"
    """The answer is read on to its usage, within the drain's limits."""
    CANCEL = "cancel"
    """Everything that it called is cancelled at once."""
    STAY = "stay"
    """It goes on to its end: somebody else waits for the answer, too."""


class Finish(Enum):
    """Why an exchange ended; given to every `on_finish` callback."""

    SERVED = "served"
    REFUSED = "refused"
    UPSTREAM_FAILED = "upstream_failed"
    CLIENT_GONE = "client_gone"
    DEADLINE = "deadline"
    DRAINED = "drained"
    FAILED = "failed"
    """A fault of ours: answered 500, nothing forwarded after it."""


ANSWER_ROLE: Final = "answer"
"""Role of the one call that most exchanges make."""


@dataclass(slots=True, eq=False)
class Exchange:
    """One exchange. See the module's docstring for who writes what."""

    request_id: str
    origin: Origin
    request: Request
    operation: Operation
    generation: Generation
    """The configuration this exchange lives under, whatever is reloaded meanwhile."""
    started: float
    """Monotonic seconds."""
    started_ms: int
    captured: CapturedHost | None = None
    """The entry of policies/capture.yaml that the client's target matches."""
    path_model: str | None = None
    """A model named in the URL path; the body's wins."""

    client_address: IPv4Address | IPv6Address | None = None
    """The peer's, or the one that a trusted proxy names. Written by `ip_limit`; None: nobody knows."""
    identity: Identity | None = None
    our_credentials: tuple[str, ...] = field(default=(), repr=False)
    """Keys of ours that the request carries, valid or not: never sent upstream. Written by `identity`."""
    call: Call | None = None
    model: Model | None = None
    policy: Policy | None = None
    """What the operator lets this caller do."""
    content_checked: bool = False
    """`content_rules` has read the request and will read the answer: without it nothing with such rules is served."""
    content_struck: list[str] = field(default_factory=list)
    """Names of the content rules that matched, each once."""
    quote: Quote | None = None
    hold: Hold | None = None
    settlement: Settlement | None = None
    """How the hold ended, written with it: what was charged and what it cost at list."""
    route: Route | None = None
    usage: Usage | None = None
    presented: Presented | None = field(default=None, repr=False)
    """The payment that came with the request, not yet looked into. Written by `identity`."""
    payment_proof: str | None = field(default=None, repr=False)
    """Digest of the proof of payment that pays for it, written by `identity`; None: none does. A balance is none."""
    ask: Ask | None = None
    """What a payer asks to have priced and served. Written by `challenge`."""
    collected: bool = False
    """The money of its proof of payment is ours, and who says so burns the proof as the answer goes out: nobody is
    served for a proof without it. Written by `payment`."""
    paid: bool = False
    """Its proof of payment is burnt: the answer goes out. Written by `payment`."""
    tender: Tender | None = field(default=None, repr=False)
    """What a payer pays with, in order as far as can be seen without asking anybody. Written by `challenge`."""
    charge: Nano | None = None
    """What is charged where that is not by usage: for a panel's answer. Written by `consensus`; None: by usage."""
    charge_msat: int | None = None
    """The same in thousandths of a satoshi where its price is fixed in sats, else None. Written by `consensus`."""
    role: str = ANSWER_ROLE
    """What its upstream calls are for, as the ledger keeps it: `member/0/gpt-5.4` for those of a panel."""
    when_left: WhenLeft = WhenLeft.DRAIN
    """What becomes of it when its client leaves after an upstream was called. Written by `consensus`."""
    repeated: bool = False
    """Answered with the answer of an identical exchange: nobody was called, nothing was charged. Written by `dedup`."""

    refusal: Refusal | None = None
    """What it was refused with, for log and audit."""
    status: int = 0
    """The status sent to the client; 0 while none was sent."""
    first_byte: float | None = None
    """Monotonic seconds at which the first body byte of the answer went out."""
    dispatched: bool = False
    """An upstream was called: a client that leaves no longer cancels, the answer is drained to its usage."""
    client_gone: bool = False
    """The client has left; nothing new is begun for it."""
    cut: bool = False
    """The answer was given up before its end, for a client that had left: its usage is not known."""
    bytes_out: int = 0
    streams: list[ByteStream] = field(default_factory=list)
    """Every upstream's answer that was begun for it: closed when it ends, wherever in the chain it was left."""
    before_finish: list[Callable[[], Awaitable[None]]] = field(default_factory=list)
    """Awaited by the driver, in order, once the answer was sent, drained to its end or given up (`cut`); not after
    any other cancellation."""
    _finishers: list[Callable[[Finish], None]] = field(default_factory=list)
    _finished: Finish | None = None

    def give_up(self) -> None:
        """Leave the answer before its end; the tries know it too, which two attempts made at once share."""
        self.cut = True
        for tried in () if self.route is None else self.route.tries:
            tried.cut = True

    def on_finish(self, callback: Callable[[Finish], None]) -> None:
        """Call back exactly once when the exchange has ended, last registered first. Must not raise or block."""
        self._finishers.append(callback)

    def finish(self, reason: Finish) -> list[BaseException]:
        """Run the callbacks. The driver calls it; a second call does nothing. Returns what callbacks raised."""
        if self._finished is not None:
            return []
        self._finished = reason
        raised: list[BaseException] = []
        while self._finishers:
            callback = self._finishers.pop()
            try:
                callback(reason)
            except BaseException as error:
                raised.append(error)
        return raised

    @property
    def finished(self) -> Finish | None:
        """Why it ended, None while it runs."""
        return self._finished

    def branch(self, route: Route) -> Exchange:
        """The same exchange for one of two attempts made at once.

        It shares every fact known so far, and what it finds out itself (usage, refusal, streams, callbacks) is its
        own until it is adopted. One that is not must be ended by its own `finish`, and its streams closed.
        """
        return replace(
            self, route=route, usage=None, refusal=None, streams=[], before_finish=[], _finishers=[], _finished=None
        )

    def adopt(self, branch: Exchange) -> None:
        """Go on with what `branch` found out, now and when it ends: its callbacks run with this exchange's own."""
        self.usage, self.refusal = branch.usage, branch.refusal
        self.streams.extend(branch.streams)
        self.before_finish.extend(branch.before_finish)

        def take_usage(_: Finish) -> None:
            self.usage = branch.usage

        self._finishers.append(take_usage)
        self._finishers.extend(branch._finishers)
