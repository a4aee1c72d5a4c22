"""What a plugin's test needs to call it without a proxy: a clock, an exchange, a chain's rest."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from pathlib import Path
from typing import Any

import orjson

from proxy.catalogue import Candidate, Model
from proxy.config.schema import (
    Bucket,
    CapturedHost,
    ConfigFile,
    Generation,
    Limits,
    Listener,
    ScopeLimits,
    Team,
)
from proxy.exchange import Exchange, ListenerKind, Origin, Request, Response
from proxy.headers import Headers
from proxy.identities import CapSetting, Identity, IdentityKind
from proxy.operations import CHAT, EMBEDDINGS, MESSAGES, Operation
from proxy.pricing.rates import Rates, parse_rate
from proxy.upstreams.api import Upstream

RATES = Rates(input=parse_rate("2.5"), output=parse_rate("10"), cached_input=parse_rate("1.25"))
KEY = "lld_" + "0123456789abcdef" * 2


class FakeClock:
    """Time stands still until a test moves it."""

    def __init__(self, now_ms: int = 1_700_000_000_000) -> None:
        self.ms = now_ms
        self.seconds = 1000.0

    def now_ms(self) -> int:
        return self.ms

    def monotonic(self) -> float:
        return self.seconds

    def advance(self, seconds: float) -> None:
        """Both clocks move on."""
        self.ms += round(seconds * 1000)
        self.seconds += seconds


class Body:
    """A request body in the given pieces."""

    def __init__(self, *pieces: bytes) -> None:
        self._pieces = [piece for piece in pieces if piece]
        self.reads = 0

    async def read(self) -> bytes:
        self.reads += 1
        return self._pieces.pop(0) if self._pieces else b""


class Chunks:
    """An upstream's stream in the given pieces; an exception among them is raised in its place."""

    def __init__(self, *pieces: bytes | Exception) -> None:
        self._pieces = pieces
        self.closed = False

    async def __aiter__(self) -> AsyncIterator[bytes]:
        for piece in self._pieces:
            if isinstance(piece, Exception):
                raise piece
            yield piece

    async def aclose(self) -> None:
        self.closed = True


class Log:
    """Keeps what was logged."""

    def __init__(self) -> None:
        self.events: list[tuple[str, str, dict[str, Any]]] = []

    def _keep(self, level: str, event: str, fields: dict[str, Any]) -> None:
        self.events.append((level, event, fields))

    def debug(self, event: str, **fields: Any) -> None:
        self._keep("debug", event, fields)

    def info(self, event: str, **fields: Any) -> None:
        self._keep("info", event, fields)

    def warning(self, event: str, **fields: Any) -> None:
        self._keep("warning", event, fields)

    def error(self, event: str, **fields: Any) -> None:
        self._keep("error", event, fields)

    def names(self) -> list[str]:
        """Event names in order."""
        return [event for _, event, _ in self.events]


def model(
    name: str = "gpt-4o", *, upstreams: tuple[str, ...] = ("openai",), rates: Rates | None = RATES, **changes: Any
) -> Model:
    """A model served by one candidate of each upstream."""
    fields: dict[str, Any] = {
        "name": name,
        "candidates": tuple(Candidate(upstream, f"{name}-upstream") for upstream in upstreams),
        "rates": rates,
        "context_tokens": 128_000,
        "output_tokens_default": 1000,
        "output_tokens_max": 16_000,
        "operations": frozenset({"chat.completions", "messages", "embeddings"}),
        "encoding": "o200k_base",
    }
    return Model(**{**fields, **changes})


def team(name: str = "default", **changes: Any) -> Team:
    """A team without caps."""
    return Team(**{"name": name, "organisation": "acme", "tier": "standard", **changes})


def cap(usd: str, window: str = "day", **changes: Any) -> CapSetting:
    """A cap on the charged amount."""
    limit = int(Decimal(usd) * 1_000_000_000)
    return CapSetting(**{"limit_nano": limit, "window": window, "basis": "charged", **changes})


def generation(
    *,
    models: Mapping[str, Model] | None = None,
    teams: tuple[Team, ...] | None = None,
    organisations: Mapping[str, tuple[CapSetting, ...]] | None = None,
    capture: tuple[CapturedHost, ...] = (),
    default_team: str | None = None,
    unavailable_models: Mapping[str, str] | None = None,
    limits: Limits | None = None,
) -> Generation:
    """A configuration with an `api` and a `capture` listener on loopback."""
    found = {"gpt-4o": model()} if models is None else dict(models)
    scope = ScopeLimits(requests=Bucket(120, 25))
    return Generation(
        listeners=(
            Listener("api", "reverse", "127.0.0.1", 8402, loopback=True),
            Listener("capture", "regular", "127.0.0.1", 8403, loopback=True, default_team=default_team),
        ),
        chain=(),
        upstreams={
            name: Upstream(name, f"https://{name}.test/v1", "sk-operator")
            for one in found.values()
            for name in (candidate.upstream for candidate in one.candidates)
        },
        keyless_upstreams={},
        unavailable={},
        models=found,
        catalogue=found,
        unavailable_models=dict(unavailable_models or {}),
        organisations=dict(organisations or {}),
        teams={one.name: one for one in (teams or (team(),))},
        tiers=("standard",),
        limits=limits or Limits(ip=scope, key=scope, user=scope, team=scope, total_streams=250),
        capture=capture,
        file=ConfigFile(listeners=(), chain=(), upstreams={}),
        root=Path(),
    )


def origin(**changes: Any) -> Origin:
    """A client on loopback at the reverse listener."""
    fields: dict[str, Any] = {"listener": "api", "kind": ListenerKind.REVERSE, "peer": "127.0.0.1", "loopback": True}
    return Origin(**{**fields, **changes})


def identity(**changes: Any) -> Identity:
    """A holder of one of our keys."""
    fields: dict[str, Any] = {
        "kind": IdentityKind.KEY,
        "key_id": "key_000000000001",
        "user": "tester",
        "team": "default",
        "organisation": "acme",
        "tier": "standard",
    }
    return Identity(**{**fields, **changes})


CHAT_BODY = {"model": "gpt-4o", "messages": [{"role": "user", "content": "Say hello."}]}


def exchange(
    *,
    operation: Operation = CHAT,
    body: Mapping[str, Any] | bytes | None = None,
    headers: Mapping[str, str] | None = None,
    at: Origin | None = None,
    under: Generation | None = None,
    path: str = "/v1/chat/completions",
    method: str = "POST",
    captured: CapturedHost | None = None,
    started: float = 1000.0,
) -> Exchange:
    """A chat completion as it enters the chain."""
    raw = body if isinstance(body, bytes) else orjson.dumps(CHAT_BODY if body is None else dict(body))
    fields = Headers({"content-type": "application/json", **(headers or {})})
    return Exchange(
        request_id="req_test",
        origin=at or origin(),
        request=Request(method=method, path=path, headers=fields, reader=Body(raw)),
        operation=operation,
        generation=under or generation(),
        started=started,
        started_ms=1_700_000_000_000,
        captured=captured,
    )


@dataclass
class Rest:
    """The rest of the chain: gives the prepared answers in turn and remembers what it saw."""

    answers: list[Response] = field(default_factory=lambda: [Response.of(200, b"{}")])
    seen: list[Exchange] = field(default_factory=list)

    async def __call__(self, seen: Exchange) -> Response:
        self.seen.append(seen)
        return self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]


__all__ = ["CHAT", "EMBEDDINGS", "MESSAGES"]
