"""Calls to an OpenAI-compatible address: what came, how long it took, what it cost. Whole answers only."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final, Self
from urllib.parse import urlsplit

import httpx
import orjson

from proxy.clock import Clock
from proxy.evaluation.costs import Cost, RateTable, cost_of, read_rates
from proxy.evaluation.errors import Stopped

ANSWER_BYTES_MAX: Final = 16 << 20
TEXT_CHARS_MAX: Final = 400_000
EXTENSION_BYTES_MAX: Final = 256 << 10
ERROR_CHARS_MAX: Final = 300
CONNECT_SECONDS: Final = 10.0
BACKOFF_SECONDS: Final = 1.0
BACKOFF_SECONDS_MAX: Final = 30.0
_LOOPBACK: Final = frozenset({"127.0.0.1", "localhost", "::1"})
_AGAIN: Final = frozenset({408, 409, 425, 429, 500, 502, 503, 504, 529})
_FOR_ALL: Final = frozenset({401, 402, 403, 404})
"""Whatever else is asked will fare no better."""


@dataclass(frozen=True, slots=True)
class Reply:
    """An answer."""

    text: str
    finish_reason: str
    seconds: float
    tries: int
    input_tokens: int
    output_tokens: int
    cost: Cost
    extra: dict[str, Any] = field(default_factory=dict)


class CallFailed(Exception):
    """No answer, after every try."""

    def __init__(self, reason: str, tries: int, seconds: float) -> None:
        super().__init__(reason)
        self.reason = reason
        self.tries = tries
        self.seconds = seconds


class _Again(Exception):
    """This try failed and another may not."""

    def __init__(self, reason: str, wait_seconds: float | None = None) -> None:
        super().__init__(reason)
        self.wait_seconds = wait_seconds


class Asker:
    """One address, one key. Raises ValueError for an address that a key must not be sent to."""

    def __init__(
        self,
        base_url: str,
        key: str | None,
        clock: Clock,
        *,
        timeout_seconds: float,
        tries: int,
        allow_http: bool = False,
        backoff_seconds: float = BACKOFF_SECONDS,
    ) -> None:
        parts = urlsplit(base_url)
        if parts.scheme not in ("http", "https") or not parts.hostname or parts.username or parts.query:
            raise ValueError("write http://HOST[:PORT]/v1 or https://HOST[:PORT]/v1, without user and query")
        if parts.scheme == "http" and parts.hostname not in _LOOPBACK and not allow_http:
            raise ValueError(f"a key sent to {parts.hostname} over http can be read: use https, or say --allow-http")
        self._base_url = base_url.rstrip("/")
        self._clock = clock
        self._tries = tries
        self._backoff_seconds = backoff_seconds
        self._rates: RateTable = {}
        self._client = httpx.AsyncClient(
            timeout=httpx.Timeout(timeout_seconds, connect=CONNECT_SECONDS, pool=None),
            limits=httpx.Limits(max_connections=None, max_keepalive_connections=64),
            headers={"user-agent": "tollway-bench-answers", "accept-encoding": "identity"}
            | ({} if key is None else {"authorization": f"Bearer {key}"}),
            trust_env=False,
            follow_redirects=False,
        )

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._client.aclose()

    async def names(self) -> frozenset[str] | None:
        """Models that can be asked for; None: the address does not say. Raises Stopped."""
        try:
            status, _, body = await self._send("GET", "/models", None, ())
        except _Again as again:
            raise Stopped(f"{self._base_url} cannot be reached: {again}. Is it running?") from again
        if status in (401, 402, 403):
            raise Stopped(f"{self._base_url} answers {status}: {_message(body)} Say which key with --key.")
        data = _object(body).get("data") if status == 200 else None
        if not isinstance(data, list):
            return None
        return frozenset(str(one["id"]) for one in data if isinstance(one, dict) and "id" in one)

    async def learn_rates(self) -> None:
        """Prices by model, where the address is a Tollway; elsewhere only reported costs are known."""
        try:
            status, _, body = await self._send("GET", "/cost-preview/rates", None, ())
        except _Again:
            return
        self._rates = read_rates(body) if status == 200 else {}

    async def ask(self, body: dict[str, Any], idempotency_key: str) -> Reply:
        """Raises CallFailed after the last try, and Stopped where nothing that we could ask would be answered."""
        failure, seconds = _Again("not tried"), 0.0
        raw = orjson.dumps(body)
        for number in range(1, self._tries + 1):
            began = self._clock.monotonic()
            try:
                status, headers, answer = await self._send(
                    "POST", "/chat/completions", raw, (("idempotency-key", idempotency_key),)
                )
                seconds = self._clock.monotonic() - began
                return self._read(status, headers, answer, body["model"], seconds, number)
            except _Again as again:
                failure, seconds = again, self._clock.monotonic() - began
            if number < self._tries:
                await asyncio.sleep(self._wait(number, failure.wait_seconds))
        raise CallFailed(str(failure), self._tries, seconds)

    def _read(
        self, status: int, headers: Mapping[str, str], raw: bytes, model: str, seconds: float, tries: int
    ) -> Reply:
        if status in _AGAIN:
            raise _Again(f"{status}: {_message(raw)}", _seconds(headers.get("retry-after")))
        if status in _FOR_ALL:
            raise Stopped(f"{model}: {status}: {_message(raw)} Mend that, and run the same command again: it goes on.")
        if status == 400 and _error(raw).get("param") == "response_format":
            hint = "Write another plan, with --judge-format json_object or none."
            raise Stopped(f"{model}: {status}: {_message(raw)} {hint}")
        if status != 200:
            raise CallFailed(f"{status}: {_message(raw)}", tries, seconds)
        content = _object(raw)
        choice = _first(content.get("choices"))
        message = choice.get("message")
        text = message.get("content") if isinstance(message, dict) else None
        if not isinstance(text, str) or not text.strip():
            raise _Again("an empty answer")
        if len(text) > TEXT_CHARS_MAX:
            raise _Again(f"an answer of more than {TEXT_CHARS_MAX} characters")
        usage = content.get("usage")
        usage = usage if isinstance(usage, dict) else {}
        cost = cost_of(content, model, self._rates)
        finish, into, out = str(choice.get("finish_reason")), _count(usage, "prompt_"), _count(usage, "completion_")
        return Reply(text, finish, seconds, tries, into, out, cost, _extra(content) | _replayed(headers))

    async def _send(
        self, method: str, path: str, content: bytes | None, more: tuple[tuple[str, str], ...]
    ) -> tuple[int, Mapping[str, str], bytes]:
        headers = [("content-type", "application/json"), *more]
        try:
            async with self._client.stream(method, self._base_url + path, content=content, headers=headers) as response:
                self._client.cookies.clear()
                pieces, size = [], 0
                async for piece in response.aiter_raw():
                    size += len(piece)
                    if size > ANSWER_BYTES_MAX:
                        raise _Again(f"an answer of more than {ANSWER_BYTES_MAX} bytes")
                    pieces.append(piece)
                return response.status_code, response.headers, b"".join(pieces)
        except (httpx.ConnectError, httpx.ConnectTimeout) as error:
            if method == "POST":
                hint = "What was answered is kept: run the same command again."
                raise Stopped(f"{self._base_url} cannot be reached: {error}. {hint}") from error
            raise _Again(str(error)) from error
        except httpx.TransportError as error:
            raise _Again(f"{type(error).__name__} {error}".strip()) from error

    def _wait(self, tried: int, said_seconds: float | None) -> float:
        usual = self._backoff_seconds * 2.0 ** (tried - 1)
        return float(min(BACKOFF_SECONDS_MAX, usual if said_seconds is None else max(usual, said_seconds)))


def _object(raw: bytes) -> dict[str, Any]:
    try:
        content = orjson.loads(raw)
    except orjson.JSONDecodeError:
        return {}
    return content if isinstance(content, dict) else {}


def _first(choices: Any) -> dict[str, Any]:
    return choices[0] if isinstance(choices, list) and choices and isinstance(choices[0], dict) else {}


def _count(usage: dict[str, Any], kind: str) -> int:
    count = usage.get(kind + "tokens")
    return count if isinstance(count, int) and count >= 0 else 0


def _error(raw: bytes) -> dict[str, Any]:
    error = _object(raw).get("error")
    return error if isinstance(error, dict) else {}


def _message(raw: bytes) -> str:
    message = _error(raw).get("message") or "no reason given"
    text = "".join(sign if sign.isprintable() else " " for sign in str(message))
    return text[:ERROR_CHARS_MAX].rstrip(".") + "."


def _seconds(text: str | None) -> float | None:
    try:
        value = float(text or "")
    except ValueError:
        return None
    return value if math.isfinite(value) and value >= 0 else None


def _replayed(headers: Mapping[str, str]) -> dict[str, Any]:
    """An answer out of a gateway's memory: its cost is that of the first, its time says nothing."""
    again = headers.get("idempotent-replayed") == "true" or headers.get("x-dedup") == "hit"
    return {"replayed": True} if again else {}


def _extra(content: dict[str, Any]) -> dict[str, Any]:
    """What a consensus tells of itself, and what marks a scripted provider."""
    found = content.get("consensus")
    small = isinstance(found, dict) and len(orjson.dumps(found)) <= EXTENSION_BYTES_MAX
    extra = {"consensus": found} if small else {}
    fingerprint = content.get("system_fingerprint")
    return extra | ({"fingerprint": fingerprint[:64]} if isinstance(fingerprint, str) else {})
