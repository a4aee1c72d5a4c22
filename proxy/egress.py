"""The one guarded client for the control plane: nodes, mints, facilitators, JSON-RPC, the price of bitcoin.

A name is looked up once for each new connection, all its addresses are judged, and one of those very addresses is
dialled, so that no second look-up can answer otherwise (DNS rebinding); the name in SNI and in the certificate stays
the URL's. There is no code here for redirects, cookies, decompression or proxies of the environment, and one time
limit covers everything from the look-up to the last byte of the answer.
"""

from __future__ import annotations

import asyncio
import base64
import functools
import ssl
from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final
from urllib.parse import unquote, urlencode

import certifi
import httpcore
import httpx
import orjson

from proxy import addresses

ANSWER_BYTES_MAX: Final = 1 << 20
CONNECTIONS_MAX: Final = 32
ADDRESSES_TRIED_MAX: Final = 4
IDLE_SECONDS: Final = 3.0
"""A connection idle for longer is not used again: many servers close theirs after five, under the next request."""
_lookups: Final = ThreadPoolExecutor(4, thread_name_prefix="egress-lookup")
"""Apart from those of clients' and customers' names, which anybody can make slow."""
_FAILURES: Final = (
    httpcore.NetworkError,
    httpcore.TimeoutException,
    httpcore.ProtocolError,
    httpcore.UnsupportedProtocol,
    OSError,
    UnicodeError,
)


class EgressFailure(Exception):
    """No answer that can be used."""

    def __init__(self, detail: str, *, sent: bool) -> None:
        super().__init__(detail)
        self.detail = detail
        """For the operator: names the host, never a path, a header or a body."""
        self.sent = sent
        """A byte of the request may have reached the other side; False: certainly none has."""


@dataclass(frozen=True, slots=True)
class Answer:
    """A whole answer that is no redirect."""

    status: int
    headers: httpx.Headers
    body: bytes

    def json(self) -> Any:
        """The body, parsed. Raises EgressFailure where it is no JSON."""
        try:
            return orjson.loads(self.body)
        except orjson.JSONDecodeError as error:
            raise EgressFailure(f"its answer (status {self.status}) is no JSON", sent=True) from error


class Egress:
    """The way to one counterpart. Make one in a running loop, keep it, close it.

    `private` False: https only, and every address of the name must be public. True, for what the operator's own
    settings name: any address, http as well. Verification of certificates is always on: against `ca_file` alone, or
    the public authorities. Names that customers chose are looked up on `lookups` of their own. Raises ValueError for a
    `base_url` that breaks these rules, OSError for a `ca_file` that cannot be read.
    """

    def __init__(
        self,
        base_url: str,
        *,
        private: bool = False,
        timeout_seconds: float,
        headers: Mapping[str, str] | None = None,
        ca_file: Path | None = None,
        answer_bytes_max: int = ANSWER_BYTES_MAX,
        network: httpcore.AsyncNetworkBackend | None = None,
        lookups: ThreadPoolExecutor = _lookups,
    ) -> None:
        url = _base(base_url, private=private)
        self._url = url
        self.host = url.host
        self._seconds = timeout_seconds
        self._bytes_max = answer_bytes_max
        self._headers = httpx.Headers(
            {"host": url.netloc.decode(), "accept-encoding": "identity", "user-agent": "tollway", **(headers or {})}
        )
        if url.userinfo:
            plain = f"{unquote(url.username)}:{unquote(url.password)}".encode()
            self._headers.setdefault("authorization", f"Basic {base64.b64encode(plain).decode()}")
        self._pool = httpcore.AsyncConnectionPool(
            ssl_context=tls_context(ca_file) if url.scheme == "https" else None,
            max_connections=CONNECTIONS_MAX,
            keepalive_expiry=IDLE_SECONDS,
            network_backend=_Dialler(
                network or httpcore.AnyIOBackend(), private=private, seconds=timeout_seconds, lookups=lookups
            ),
        )

    async def request(
        self,
        method: str,
        path: str,
        *,
        json: object | None = None,
        content: bytes | None = None,
        headers: Mapping[str, str] | None = None,
        params: Mapping[str, str] | None = None,
    ) -> Answer:
        """Ask for `path` below the base URL. Any status but a redirect is an answer. Raises EgressFailure."""
        merged = httpx.Headers(self._headers)
        if json is not None:
            content = orjson.dumps(json)
            merged["content-type"] = "application/json"
        merged.update(headers)
        sending = _Sending()
        try:
            async with asyncio.timeout(self._seconds):
                return await self._exchange(method, self._target(path, params), merged, content, sending)
        except TimeoutError as error:
            raise self._failure(f"no whole answer within {self._seconds:g} s", sending) from error
        except addresses.NotPublic as error:
            raise self._failure("it is not a public address", sending) from error
        except _FAILURES as error:
            raise self._failure(_words(error), sending) from error

    async def aclose(self) -> None:
        """Close every connection."""
        await self._pool.aclose()

    async def _exchange(
        self, method: str, url: httpcore.URL, headers: httpx.Headers, content: bytes | None, sending: _Sending
    ) -> Answer:
        async with self._pool.stream(
            method, url, headers=headers.raw, content=content, extensions={"trace": sending.trace}
        ) as response:
            answered = httpx.Headers(response.headers)
            if 300 <= response.status < 400:
                raise self._failure(f"it answered with a redirect (status {response.status})", sending)
            if answered.get("content-encoding", "identity").lower() != "identity":
                raise self._failure("its answer is compressed, which was not asked for", sending)
            body = bytearray()
            async for chunk in response.aiter_stream():
                body += chunk
                if len(body) > self._bytes_max:
                    raise self._failure(f"its answer is larger than {self._bytes_max} bytes", sending)
            return Answer(response.status, answered, bytes(body))

    def _target(self, path: str, params: Mapping[str, str] | None) -> httpcore.URL:
        target = self._url.raw_path.partition(b"?")[0].rstrip(b"/") + path.encode("ascii")
        queries = [query for query in (self._url.query, urlencode(params or {}).encode()) if query]
        if queries:
            target += (b"&" if b"?" in target else b"?") + b"&".join(queries)
        return httpcore.URL(
            scheme=self._url.raw_scheme, host=self._url.raw_host, port=self._url.port, target=target or b"/"
        )

    def _failure(self, words: str, sending: _Sending) -> EgressFailure:
        return EgressFailure(f"{self.host}: {words}", sent=sending.begun)


class _Sending:
    """Whether the first byte of a request may have left."""

    __slots__ = ("begun",)

    def __init__(self) -> None:
        self.begun = False

    async def trace(self, event: str, _: Mapping[str, Any]) -> None:
        """Told by the pool just before it writes, once it is connected and TLS stands."""
        if event == "http11.send_request_headers.started":
            self.begun = True


class _Dialler(httpcore.AsyncNetworkBackend):
    """Looks a name up, judges all its addresses, and dials those very addresses, one after the other."""

    def __init__(
        self, network: httpcore.AsyncNetworkBackend, *, private: bool, seconds: float, lookups: ThreadPoolExecutor
    ) -> None:
        self._network = network
        self._lookups = lookups
        self._private = private
        self._seconds = seconds

    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,  # noqa: ASYNC109 -- httpcore's own signature
        local_address: str | None = None,
        socket_options: Iterable[httpcore.SOCKET_OPTION] | None = None,
    ) -> httpcore.AsyncNetworkStream:
        """Raises NotPublic, OSError, UnicodeError, TimeoutError and httpcore's own."""
        look_up = addresses.resolve if self._private else addresses.resolve_public
        found = (await look_up(host, port, threads=self._lookups))[:ADDRESSES_TRIED_MAX]
        seconds = self._seconds / max(1, len(found))
        failure: Exception = OSError("the name has no address")
        for address in found:
            try:
                return await self._network.connect_tcp(str(address), port, seconds, local_address, socket_options)
            except (httpcore.ConnectError, httpcore.ConnectTimeout) as error:
                failure = error
        raise failure


def tls_context(ca_file: Path | None) -> ssl.SSLContext:
    """Verification on: against `ca_file` alone, or the public authorities. Raises OSError for a file that is none."""
    if ca_file is None:
        return _public_context()
    context = ssl.create_default_context(cafile=str(ca_file))
    # Nodes make their own certificates, some without the key identifiers that this asks for since Python 3.13.
    context.verify_flags &= ~ssl.VERIFY_X509_STRICT
    return context


@functools.cache
def _public_context() -> ssl.SSLContext:
    """One for all: reading the authorities takes milliseconds and a megabyte."""
    return ssl.create_default_context(cafile=certifi.where())


def _base(text: str, *, private: bool) -> httpx.URL:
    """Raises ValueError, which repeats nothing of the URL: it may hold a key."""
    try:
        url = httpx.URL(text)
    except httpx.InvalidURL as error:
        raise ValueError("this is not a URL") from error
    if url.scheme != "https" and not (private and url.scheme == "http"):
        raise ValueError("a URL must begin with https://")
    if not url.host or url.fragment:
        raise ValueError("a URL must name a host, and no fragment")
    return url


def _words(error: Exception) -> str:
    """What went wrong, in words without anything of the request."""
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, ssl.SSLCertVerificationError):
            return f"its certificate is not trusted ({cause.verify_message})"
        if isinstance(cause, OSError) and cause.strerror and cause.errno:
            return f"{type(error).__name__} ({cause.strerror})"
        cause = cause.__cause__ or cause.__context__
    return type(error).__name__
