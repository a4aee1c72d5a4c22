"""Counting tokens with OpenAI's vocabularies, for settlement without a report and for holds near a cap.

A count is of text as text: `<|endoftext|>` in a prompt is seven ordinary tokens, never a special one. It costs
about 0.1 us a character, whatever the text; the coroutine forms run in threads, and say None where the text is
too long or too many counts wait, so that the caller takes the byte bound.
"""

from __future__ import annotations

import asyncio
import threading
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import orjson

from proxy.pricing.vocabulary import encoding_of, is_loaded

if TYPE_CHECKING:
    from collections.abc import Callable

    from tiktoken import Encoding

    from proxy.dialects.base import Call

FALLBACK_ENCODING: Final = "o200k_base"
"""Counts for a model whose own vocabulary is not known: an estimate, never a bound."""
TEXT_CHARS_MAX: Final = 4 << 20
"""Longer texts are not counted: about a second of one core, and more tokens than any context holds."""
WINDOW_CHARS: Final = 16 << 10
"""Handed to the tokenizer at once: its cost grows faster than the text on long runs without a boundary, and a
run of a million spaces makes it panic."""
CUT_TOKENS: Final = 16
"""More than a cut changes: merging is greedy, so that two parts can have a token less than their whole."""
ON_LOOP_BYTES_MAX: Final = 4 << 10
"""A call of no more bytes is measured on the event loop: half a millisecond at most."""
COUNTS_AT_ONCE_MAX: Final = 2
COUNTS_WAITING_MAX: Final = 64
_BOUNDARY_TRIES_MAX: Final = 8

MESSAGE_TOKENS: Final = 3
"""OpenAI's wrapping of one message: its start, the line after the role, its end."""
PRIMING_TOKENS: Final = 3
"""The start of the answer's own message."""
HARMONY_TOKENS: Final = 128
"""The system message that servers of OpenAI's open models write around every request: date, effort, channels."""
NAME_TOKENS: Final = 1
TOOLS_TOKENS: Final = 16
"""The namespace around all tools."""
TOOL_TOKENS: Final = 8
"""OpenAI's wrapping of one tool, whose schema it shows as a type definition, shorter than its JSON."""


_SCHEMAS: Final = ("response_format", "output_config", "text")
"""Members that may hold a schema for the output, `text` in a response's request only."""
_APART: Final = frozenset({"messages", "system", "tools", "functions", "response_format", "output_config"})
_APART_OF_RESPONSES: Final = frozenset({"input", "tools", "text"})
"""Counted each in its own way."""
_NOT_SHOWN: Final = frozenset(
    {
        "cache_control", "function_call", "include", "logit_bias", "metadata", "modalities", "model",
        "prompt_cache_key", "prompt_cache_options", "prompt_cache_retention", "reasoning", "reasoning_effort",
        "safety_identifier", "service_tier", "stop", "stop_sequences", "stream_options", "thinking", "tool_choice",
        "truncation", "user", "verbosity",
    }
)  # fmt: skip
"""Members that no model reads. Any other (`documents`, say) may be put into the prompt and is counted as if it were."""
_TEXT_PARTS: Final = frozenset({"text", "input_text", "output_text"})
_IMAGE_PARTS: Final = frozenset({"image_url", "image", "input_image"})


def count(text: str, encoding: str) -> int | None:
    """Tokens of a text; None for one longer than `TEXT_CHARS_MAX`. Raises KeyError for an unknown encoding.

    Exact, save for runs of more than `WINDOW_CHARS` characters without a place where the tokenizer itself would
    cut: each cut through one adds `CUT_TOKENS`, so that the count stays an upper one.
    """
    if len(text) > TEXT_CHARS_MAX:
        return None
    return _count(text, encoding_of(encoding))


def _count(text: str, encoding: Encoding) -> int:
    if len(text) <= WINDOW_CHARS:
        return len(encoding.encode_ordinary(text))
    tokens, start = 0, 0
    while start < len(text):
        end, exact = _window_end(text, start)
        tokens += len(encoding.encode_ordinary(text[start:end])) + (0 if exact else CUT_TOKENS)
        start = end
    return tokens


def _window_end(text: str, start: int) -> tuple[int, bool]:
    """Where to cut, and whether the tokenizer would have cut there itself.

    Both vocabularies' patterns always begin a new piece at a space after a character that is none, and look at
    nothing behind it, so the parts have exactly the tokens of the whole.
    """
    end = start + WINDOW_CHARS
    if end >= len(text):
        return len(text), True
    before = end + 1
    for _ in range(_BOUNDARY_TRIES_MAX):
        space = text.rfind(" ", start + 1, before)
        if space < 0:
            break
        cut = start + len(text[start:space].rstrip())
        if cut > start and text[cut] == " ":
            return cut, True
        if cut <= start:
            break
        before = cut
    return end, False


def count_call(call: Call, encoding: str, *, image_tokens_max: int | None = None) -> int | None:
    """Input tokens of a call, wrapping included; an upper estimate where the provider's rendering is not public.

    None where it cannot be counted: text beyond `TEXT_CHARS_MAX`, images whose tokens nobody bounds.
    """
    measured = measure_call(call, encoding, image_tokens_max=image_tokens_max)
    return None if measured is None else measured.tokens


@dataclass(frozen=True, slots=True)
class Measure:
    """How large the input of a call is."""

    tokens: int
    """As `count_call`."""
    chars: int
    """Of all text that was counted."""


def measure_call(call: Call, encoding: str, *, image_tokens_max: int | None = None) -> Measure | None:
    """`count_call` with the length of the text. None where it cannot be counted."""
    if call.images and image_tokens_max is None:
        return None
    if len(call.body) > 4 * TEXT_CHARS_MAX:
        return None
    pieces, tokens = _embedded(call.document) if call.dialect == "openai.embeddings" else _spoken(call)
    chars = sum(map(len, pieces))
    if chars > TEXT_CHARS_MAX:
        return None
    vocabulary = encoding_of(encoding)
    if encoding == "o200k_harmony":
        tokens += HARMONY_TOKENS
    tokens += call.images * (image_tokens_max or 0)
    return Measure(tokens + sum([_count(piece, vocabulary) for piece in pieces]), chars)


def _embedded(document: dict[str, Any]) -> tuple[list[str], int]:
    given = document["input"]
    if isinstance(given, str):
        return [given], 0
    if isinstance(given[0], str):
        return given, 0
    return [], len(given) if isinstance(given[0], int) else sum(map(len, given))


def _spoken(call: Call) -> tuple[list[str], int]:
    if call.dialect == "tollway.orchestrate":
        return _asked(call.document)
    document = call.document
    turns, apart = ("input", _APART_OF_RESPONSES) if call.dialect == "openai.responses" else ("messages", _APART)
    pieces, tokens = _conversation(document.get(turns))
    _collect(document.get("system"), pieces)
    for key in ("tools", "functions"):
        tools = document.get(key)
        if tools:
            tokens += TOOLS_TOKENS + TOOL_TOKENS * len(tools)
            pieces.append(orjson.dumps(tools).decode())
    for key, value in document.items():
        if key not in apart and key not in _NOT_SHOWN and isinstance(value, (str, list, dict)):
            _collect(value, pieces)
    schemas = [document.get(key) for key in _SCHEMAS if key in apart]
    pieces += [orjson.dumps(schema).decode() for schema in schemas if schema]
    return pieces, tokens


def _asked(document: dict[str, Any]) -> tuple[list[str], int]:
    """A question to a panel, as each member is asked it: nothing else of the request is shown to a model."""
    pieces, tokens = _conversation(document.get("messages") or document.get("prompt"))
    if schema := document.get("response_format"):
        pieces.append(orjson.dumps(schema).decode())
    return pieces, tokens


def _conversation(given: Any) -> tuple[list[str], int]:
    """The texts of all turns, and the tokens around them."""
    pieces: list[str] = []
    tokens = PRIMING_TOKENS
    for message in _turns(given):
        tokens += MESSAGE_TOKENS
        if "name" in message:
            tokens += NAME_TOKENS
        for value in message.values():
            _collect(value, pieces)
    return pieces, tokens


def _turns(given: Any) -> list[dict[str, Any]]:
    """Messages or items; the one that a plain text is. A prompt kept by the provider may stand in their place."""
    if isinstance(given, str):
        return [{"role": "user", "content": given}]
    return given or []


def _collect(value: Any, pieces: list[str]) -> None:
    """Text as text; a list of parts by its texts; anything else by its JSON; images left out."""
    if isinstance(value, list):
        for part in value:
            _collect_part(part, pieces)
    elif value is not None:
        pieces.append(value if isinstance(value, str) else orjson.dumps(value).decode())


def _collect_part(part: Any, pieces: list[str]) -> None:
    kind = part.get("type") if isinstance(part, dict) else None
    if kind in _TEXT_PARTS and isinstance(part.get("text"), str):
        pieces.append(part["text"])
    elif kind == "tool_result":
        _collect(part.get("content"), pieces)
    elif kind not in _IMAGE_PARTS:
        pieces.append(part if isinstance(part, str) else orjson.dumps(part).decode())


_pool: Final = ThreadPoolExecutor(COUNTS_AT_ONCE_MAX, thread_name_prefix="count-tokens")
_waiting: Final = threading.BoundedSemaphore(COUNTS_WAITING_MAX)


async def count_async(text: str, encoding: str) -> int | None:
    """`count` in a thread. None, too, where `COUNTS_WAITING_MAX` counts are under way or waiting already."""
    return await _in_thread(lambda: count(text, encoding))


async def count_call_async(call: Call, encoding: str, *, image_tokens_max: int | None = None) -> int | None:
    """`count_call` in a thread, as `count_async`."""
    return await _in_thread(lambda: count_call(call, encoding, image_tokens_max=image_tokens_max))


async def measure_call_async(call: Call, encoding: str, *, image_tokens_max: int | None = None) -> Measure | None:
    """`measure_call`: at once where it is short and the vocabulary is loaded, else in a thread, as `count_async`."""
    if len(call.body) <= ON_LOOP_BYTES_MAX and is_loaded(encoding):
        return measure_call(call, encoding, image_tokens_max=image_tokens_max)
    return await _in_thread(lambda: measure_call(call, encoding, image_tokens_max=image_tokens_max))


async def _in_thread[T](task: Callable[[], T | None]) -> T | None:
    if not _waiting.acquire(blocking=False):
        return None
    future: Future[T | None] = _pool.submit(task)
    future.add_done_callback(_done)
    return await asyncio.wrap_future(future)


def _done(_: Future[Any]) -> None:
    _waiting.release()
