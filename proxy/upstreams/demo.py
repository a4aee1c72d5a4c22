"""The built-in demo upstream: answers in the providers' wire formats, on loopback, and says that it is a demo.

A word (a run of characters that are not white space) counts as one token, in and out. Same question, same answer.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import itertools
import re
import struct
from typing import Any, Final

import orjson
from aiohttp import web

from proxy.clock import Clock, SystemClock
from proxy.errors import error_body
from proxy.upstreams.demo_events import (
    chat_answer,
    chat_events,
    message_answer,
    message_events,
    response_answer,
    response_events,
)

BODY_BYTES_MAX: Final = 32 << 20
PIECE_SECONDS: Final = 0.02
"""Pause between two streamed words."""
ECHO_CHARACTERS_MAX: Final = 200
CHOICES_MAX: Final = 16
INPUTS_MAX: Final = 2048
DIMENSIONS: Final = 256
DIMENSIONS_MAX: Final = 4096

_WORD: Final = re.compile(r"\s?\S+")


class BadRequest(Exception):
    """What the demo cannot answer; becomes the dialect's 400."""


class DemoUpstream:
    """A server on 127.0.0.1 and a free port, for as long as the gateway runs."""

    def __init__(self, clock: Clock | None = None, *, piece_seconds: float = PIECE_SECONDS) -> None:
        self._clock = clock if clock is not None else SystemClock()
        self._piece_seconds = piece_seconds
        self._serial = itertools.count(1)
        self._runner: web.AppRunner | None = None

    async def start(self) -> str:
        """Listen. Returns the base URL for `Upstream.base_url`."""
        app = web.Application(client_max_size=BODY_BYTES_MAX)
        app.router.add_post("/v1/chat/completions", self._chat)
        app.router.add_post("/v1/embeddings", self._embeddings)
        app.router.add_post("/v1/messages", self._messages)
        app.router.add_post("/v1/responses", self._responses)
        self._runner = web.AppRunner(app, access_log=None, handler_cancellation=True, shutdown_timeout=1.0)
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", 0)
        await site.start()
        return f"http://127.0.0.1:{self._runner.addresses[0][1]}/v1"

    async def stop(self) -> None:
        """Close. Idempotent."""
        runner, self._runner = self._runner, None
        if runner is not None:
            await runner.cleanup()

    async def _chat(self, request: web.Request) -> web.StreamResponse:
        try:
            document = await _document(request)
            messages = _list(document, "messages")
            choices = _integer(document, "n", 1, CHOICES_MAX) or 1
            limit = _integer(document, "max_completion_tokens", 0) or _integer(document, "max_tokens", 0)
        except BadRequest as error:
            return _refused(error, None)
        pieces, cut = _words(_reply(messages), limit)
        prompt = _count(messages)
        usage = {
            "prompt_tokens": prompt,
            "completion_tokens": len(pieces) * choices,
            "total_tokens": prompt + len(pieces) * choices,
        }
        base = {
            "id": f"chatcmpl-demo{next(self._serial):08d}",
            "created": self._clock.now_ms() // 1000,
            "model": document["model"],
        }
        finish = "length" if cut else "stop"
        if not document.get("stream"):
            return _json(chat_answer(base, pieces, choices, finish, usage))
        options = document.get("stream_options")
        asked = isinstance(options, dict) and options.get("include_usage") is True
        return await self._stream(request, chat_events(base, pieces, choices, finish, usage if asked else None))

    async def _messages(self, request: web.Request) -> web.StreamResponse:
        try:
            document = await _document(request)
            messages = _list(document, "messages")
            limit = _integer(document, "max_tokens", 1)
            if limit is None:
                raise BadRequest("max_tokens: Field required")
        except BadRequest as error:
            return _refused(error, "anthropic.messages")
        pieces, cut = _words(_reply(messages), limit)
        counted = _count([*messages, {"content": document.get("system")}])
        base = {
            "id": f"msg_demo{next(self._serial):08d}",
            "type": "message",
            "role": "assistant",
            "model": document["model"],
        }
        stop = "max_tokens" if cut else "end_turn"
        if not document.get("stream"):
            return _json(message_answer(base, pieces, stop, counted))
        return await self._stream(request, message_events(base, pieces, stop, counted))

    async def _responses(self, request: web.Request) -> web.StreamResponse:
        try:
            document = await _document(request)
            given = document.get("input")
            items = [{"role": "user", "content": given}] if isinstance(given, str) else _list(document, "input")
            limit = _integer(document, "max_output_tokens", 1)
        except BadRequest as error:
            return _refused(error, None)
        pieces, cut = _words(_reply(items), limit)
        counted = _count([*items, {"content": document.get("instructions")}])
        base = {
            "id": f"resp_demo{next(self._serial):08d}",
            "object": "response",
            "created_at": self._clock.now_ms() // 1000,
            "status": "in_progress",
            "error": None,
            "incomplete_details": None,
            "instructions": document.get("instructions"),
            "max_output_tokens": limit,
            "model": document["model"],
            "output": [],
            "parallel_tool_calls": True,
            "tool_choice": "auto",
            "tools": [],
            "usage": None,
            "metadata": {},
        }
        if not document.get("stream"):
            return _json(response_answer(base, pieces, cut, counted))
        return await self._stream(request, response_events(base, pieces, cut, counted))

    async def _embeddings(self, request: web.Request) -> web.StreamResponse:
        try:
            document = await _document(request)
            dimensions = _integer(document, "dimensions", 1, DIMENSIONS_MAX) or DIMENSIONS
            inputs = _inputs(document.get("input"))
        except BadRequest as error:
            return _refused(error, None)
        packed = document.get("encoding_format") == "base64"
        data = [
            {"object": "embedding", "index": index, "embedding": _vector(one, dimensions, packed)}
            for index, one in enumerate(inputs)
        ]
        tokens = sum(len(one) if isinstance(one, list) else len(one.split()) for one in inputs)
        usage = {"prompt_tokens": tokens, "total_tokens": tokens}
        return _json({"object": "list", "data": data, "model": document["model"], "usage": usage})

    async def _stream(self, request: web.Request, events: list[bytes]) -> web.StreamResponse:
        answer = web.StreamResponse(headers={"content-type": "text/event-stream; charset=utf-8"})
        answer.enable_chunked_encoding()
        await answer.prepare(request)
        for event in events:
            await answer.write(event)
            await asyncio.sleep(self._piece_seconds)
        await answer.write_eof()
        return answer


async def _document(request: web.Request) -> dict[str, Any]:
    try:
        document = orjson.loads(await request.read())
    except orjson.JSONDecodeError as error:
        raise BadRequest(f"The body is not JSON: {error}") from error
    if not isinstance(document, dict) or not isinstance(document.get("model"), str):
        raise BadRequest("The body must be an object that names a model.")
    return document


def _list(document: dict[str, Any], member: str) -> list[dict[str, Any]]:
    value = document.get(member)
    if not isinstance(value, list) or not value or not all(isinstance(one, dict) for one in value):
        raise BadRequest(f"{member}: a list of at least one object is required")
    return value


def _integer(document: dict[str, Any], member: str, least: int, most: int | None = None) -> int | None:
    value = document.get(member)
    if value is None:
        return None
    if not isinstance(value, int) or isinstance(value, bool) or value < least or (most is not None and value > most):
        raise BadRequest(f"{member}: an integer of at least {least}" + ("" if most is None else f", at most {most}"))
    return value


def _inputs(value: Any) -> list[str | list[int]]:
    many = value if isinstance(value, list) and not (value and isinstance(value[0], int)) else [value]
    if not many or len(many) > INPUTS_MAX or not all(isinstance(one, (str, list)) for one in many):
        raise BadRequest(f"input: a text, a list of tokens, or up to {INPUTS_MAX} of either")
    return many


def _text(content: Any) -> str:
    if isinstance(content, str):
        return content
    if isinstance(content, list):
        return " ".join(str(part.get("text", "")) for part in content if isinstance(part, dict))
    return ""


def _count(messages: list[dict[str, Any]]) -> int:
    return sum(len(_text(message.get("content")).split()) for message in messages)


def _words(text: str, limit: int | None) -> tuple[list[str], bool]:
    pieces = _WORD.findall(text)
    if limit is not None and len(pieces) > limit:
        return pieces[:limit], True
    return pieces, False


def _reply(messages: list[dict[str, Any]]) -> str:
    asked = next((_text(one.get("content")) for one in reversed(messages) if one.get("role") == "user"), "")
    paragraph = asked.strip().partition("\n\n")[0]
    question = " ".join(paragraph.split())
    if len(question) > ECHO_CHARACTERS_MAX:
        question = question[:ECHO_CHARACTERS_MAX].rstrip() + "..."
    return (
        "This is Tollway's built-in demo, not a language model: it runs inside the proxy and only shows that "
        f'requests, streams and accounts work. You said: "{question}" To reach a real provider, set its key in the '
        "environment (OPENAI_API_KEY, ANTHROPIC_API_KEY, ...), start Tollway again, make a key of your own with "
        '"tollway keys create" and name one of the models that GET /v1/models then lists.'
    )


def _vector(value: str | list[int], dimensions: int, packed: bool) -> list[float] | str:
    """A unit vector drawn from the input's hash: equal inputs are equal, nothing else is meant by it."""
    seed = value.encode() if isinstance(value, str) else orjson.dumps(value)
    raw = hashlib.shake_256(seed).digest(dimensions)
    centred = [byte - 127.5 for byte in raw]
    length = sum(one * one for one in centred) ** 0.5
    vector = [one / length for one in centred]
    if packed:
        return base64.b64encode(struct.pack(f"<{dimensions}f", *vector)).decode()
    return vector


def _json(document: dict[str, Any]) -> web.Response:
    return web.Response(body=orjson.dumps(document), content_type="application/json")


def _refused(error: BadRequest, dialect: str | None) -> web.Response:
    body = error_body(str(error), "invalid_request_error", "invalid_request", dialect=dialect)
    return web.Response(status=400, body=body, content_type="application/json")
