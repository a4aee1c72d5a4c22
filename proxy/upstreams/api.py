"""The providers' side: what is sent, what comes back, and how it can fail."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass
from enum import Enum
from typing import Final, Protocol

from proxy.headers import Headers

CUSTOMER_PREFIX: Final = "byo:"
"""Begins the name of every upstream that a customer registered, and of none that is configured."""


@dataclass(frozen=True, slots=True)
class Deadlines:
    """Seconds. `idle` is the longest silence between two pieces of the body; `total` covers everything."""

    connect_seconds: float = 5.0
    first_byte_seconds: float = 120.0
    idle_seconds: float = 120.0
    total_seconds: float = 1800.0


@dataclass(frozen=True, slots=True)
class Probe:
    """A GET below the base URL that costs nothing; any status under 400 is health."""

    path: str = "/models"
    interval_seconds: float = 10.0
    timeout_seconds: float = 5.0


@dataclass(frozen=True, slots=True)
class Upstream:
    """A provider endpoint. `key` is the operator's credential; None: it can serve callers' own keys only."""

    name: str
    base_url: str
    """Scheme, host and path prefix, no trailing slash: https://api.openai.com/v1"""
    key: str | None
    credential_header: str = "authorization"
    credential_scheme: str = "Bearer"
    """Put before the key with a space; "" for headers that take the bare key."""
    headers: tuple[tuple[str, str], ...] = ()
    """Sent with every request, for example anthropic-version where the client names none."""
    output_field: str | None = None
    """Member that limits the output where the client set none; None: the dialect's preferred one.

    max_tokens: the upstream does not know max_completion_tokens, so a client's is sent under this name.
    """
    connect_to: tuple[str, int] | None = None
    """Connect here instead of to the URL's own host; name and certificate stay those of the URL."""
    ca_file: str | None = None
    deadlines: Deadlines = Deadlines()
    connections_max: int = 512
    retry_stale: bool = True
    """Send again once on a pooled connection that turned out closed before one byte of answer."""
    reports_usage: bool = True
    """Understands stream_options.include_usage."""
    operations: frozenset[str] = frozenset({"chat.completions", "embeddings"})
    """The native formats it speaks; nothing is translated from one into another."""
    partner: str | None = None
    """The revenue-share partner who runs it."""
    public_only: bool = False
    """Given by a customer: dialled only at an address that is public, looked up and pinned for each connection."""
    probe: Probe | None = None
    """How it is asked for its health while its circuit is open; None: the next request tries it."""

    @property
    def base_path(self) -> str:
        """The path prefix of `base_url`, no trailing slash: /v1"""
        _, slash, path = self.base_url.partition("://")[2].partition("/")
        return slash + path.rstrip("/")

    @property
    def credential(self) -> str | None:
        """What goes into `credential_header`; None without a key."""
        if self.key is None:
            return None
        return f"{self.credential_scheme} {self.key}" if self.credential_scheme else self.key

    def __repr__(self) -> str:
        return f"Upstream({self.name!r}, {self.base_url!r})"


class FailureKind(Enum):
    """Why there is no answer, or no more of it."""

    CONNECT = "connect_failed"
    BUSY = "busy"
    """All connections that we allow ourselves to it are in use: no word about its health."""
    FIRST_BYTE = "first_byte_timeout"
    IDLE = "idle_timeout"
    TOTAL = "total_timeout"
    BROKEN = "broken"
    """Reset, half-closed or cut short of its framing."""
    GARBAGE = "garbage"
    """Not HTTP, or a head beyond our limits."""
    TOO_LARGE = "too_large"
    """A body beyond our own limit: the upstream did its work."""


class UpstreamFailure(Exception):
    """An upstream call failed. `sent` tells whether any byte of the request may have reached it."""

    def __init__(self, kind: FailureKind, detail: str, *, sent: bool) -> None:
        super().__init__(f"{kind.value}: {detail}")
        self.kind = kind
        self.detail = detail
        self.sent = sent


class UpstreamResponse(Protocol):
    """A head and a body under way. Iterating raises UpstreamFailure; a regular end means the framing was whole."""

    status: int
    headers: Headers

    def __aiter__(self) -> AsyncIterator[bytes]: ...

    async def read(self, bytes_max: int) -> bytes:
        """The whole body. Raises UpstreamFailure TOO_LARGE past `bytes_max`."""
        ...

    async def aclose(self) -> None:
        """Give the connection back if the body was read to its end, else close it. Idempotent, never raises."""
        ...


class UpstreamClient(Protocol):
    """The pooled client, shared by all exchanges."""

    async def send(
        self,
        upstream: Upstream,
        *,
        method: str,
        path: str,
        headers: Headers,
        body: bytes | AsyncIterator[bytes] | None,
        host: str | None = None,
    ) -> UpstreamResponse:
        """One attempt, up to the answer's head. `path` (with query) is sent as spelled, after the base URL's
        scheme and authority: the caller has already put the base path before it. `host` replaces the URL's host
        (wildcard capture entries). Raises UpstreamFailure.
        """
        ...

    async def close(self) -> None: ...
