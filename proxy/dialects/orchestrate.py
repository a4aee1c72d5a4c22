"""A question to a panel of models: `POST /v1/orchestrate`, streamed and not. The format is ours.

So it is strict: a member that it does not know is refused by name, and nothing in it is left to somebody else to read.
Each value of what goes to the models is checked as OpenAI's chat completions document it.
"""

from __future__ import annotations

import difflib
import re
from typing import Any, Final
from urllib.parse import urlsplit

import orjson

from proxy.consensus.words import AUTO, DOMAINS
from proxy.dialects import chat_messages, chat_options, fields, orchestrate_answers
from proxy.dialects.base import Call, UsageReader
from proxy.dialects.json_scan import Scan, scan, splice
from proxy.dialects.sse import event_name, make_event
from proxy.dialects.stream_reader import parsed
from proxy.errors import Refusal

MODE_CHARS_MAX: Final = 64
NEW_CONVERSATION: Final = "new"
WEBHOOK_URL_CHARS_MAX: Final = 2048
METADATA_PAIRS_MAX: Final = 16
METADATA_KEY_CHARS_MAX: Final = 64
METADATA_VALUE_CHARS_MAX: Final = 512
ROLES: Final = ("system", "developer", "user", "assistant")

_LIMITS: Final = ("max_tokens", "max_output_tokens")
_MEMBERS: Final = (
    "prompt", "messages", "mode", "domain", "stream", "conversation_id", "response_format", "webhook_url",
    *_LIMITS, "temperature", "top_p", "seed", "stop", "verified", "metadata",
)  # fmt: skip
_CHAT: Final = "Use POST /v1/chat/completions with a consensus model for that"
_ELSEWHERE: Final = {
    "model": "The member is called 'mode' here",
    "max_completion_tokens": "The member is called 'max_tokens' here",
    "input": "The member is called 'prompt' or 'messages' here",
    "system": "Put it into 'messages', with the role system",
    "stream_options": "Leave it out: a stream always reports its usage",
    "tools": _CHAT,
    "tool_choice": _CHAT,
    "parallel_tool_calls": _CHAT,
    "functions": _CHAT,
    "function_call": _CHAT,
    "n": "A panel gives one answer: ask again for another",
    "logprobs": "No model's tokens stand for a panel's: leave it out",
    "top_logprobs": "No model's tokens stand for a panel's: leave it out",
}
"""Members of other formats, and what to do in their place."""
_DECIDING: Final = fields.spellings(*_MEMBERS)
_MODE: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*", re.ASCII)
_CONVERSATION: Final = re.compile(r"[A-Za-z0-9_-]{1,64}", re.ASCII)
_URL: Final = re.compile(r"[!-~]+", re.ASCII)
_OF_TOOLS: Final = ("tool_calls", "function_call", "tool_call_id")


class Orchestrate:
    """See Dialect. A call's `model` is the bare mode, None where it names none: the catalogue knows its model."""

    name: str = "tollway.orchestrate"
    output_fields: tuple[str, ...] = _LIMITS

    def parse(self, body: bytes, found: Scan | None = None) -> Call:
        """See Dialect. Checks every member. One that is null is as if it were not there."""
        document, spans, _ = found or scan(body)
        _check_members(document)
        messages = _messages(document)
        images, unbounded = chat_messages.images_and_unbounded(messages)
        if unbounded is not None:
            raise Refusal(
                "invalid_request",
                f"A panel reads text and images, not {unbounded}. Send its text instead.",
                param="messages",
            )
        limit, field = _output_limit(document)
        stream = fields.flag(document, "stream")
        fields.flag(document, "verified")
        _check_destinations(document)
        chat_options.sampling_of(document)
        chat_options.response_format_of(document)
        _check_metadata(document)
        return Call(
            dialect=self.name,
            body=body,
            spans=spans,
            model=_mode(document),
            stream=stream,
            wants_usage=stream,
            output_tokens_max=limit,
            output_field=field,
            choices=1,
            input_parts=max(1, len(messages)),
            images=images,
            # Members' providers write to their caches without being asked, at their price.
            cache_write=True,
            unbounded=None,
            document=document,
        )

    def rewrite(
        self, call: Call, *, model: str, output_tokens: int | None, output_field: str | None, report_usage: bool
    ) -> bytes:
        """See Dialect. No upstream speaks this format: what goes out are calls of another one, made from this."""
        changes: dict[str, bytes | None] = {}
        if model != call.model:
            changes["mode"] = orjson.dumps(model)
        if output_tokens is not None and output_tokens != call.output_tokens_max:
            used = [field for field in _LIMITS if call.document.get(field) is not None]
            changes |= dict.fromkeys(used or [_LIMITS[0]], b"%d" % output_tokens)
        return splice(call.body, call.spans, changes) if changes else call.body

    def usage_reader(self, *, stream: bool) -> UsageReader:
        """See Dialect. Reads answers of ours."""
        return orchestrate_answers.EventsReader() if stream else orchestrate_answers.WholeReader()

    def is_error_event(self, event: bytes) -> bool:
        """See Dialect."""
        return b"error" in event and event_name(event) == b"error"

    def is_content_event(self, event: bytes) -> bool:
        """See Dialect: a piece of the answer, or the end of one that has none."""
        return event_name(event) in (b"token", b"done")

    def says_something(self, event: bytes) -> bool:
        """See Dialect."""
        return self.is_content_event(event)

    def withholds(self, event: bytes) -> bool:
        """See Dialect: usage is a part of this format, nothing is withheld."""
        return False

    def error_event(self, body: bytes) -> bytes:
        """See Dialect. Of a stream that somebody else breaks off, whose id and count of events are not known here."""
        error: dict[str, Any] = (parsed(body) or {}).get("error") or {}
        return make_event(orjson.dumps({"v": orchestrate_answers.VERSION, "type": "error", "error": error}), b"error")


def _check_members(document: dict[str, Any]) -> None:
    fields.check_spelling(document, _DECIDING)
    for key in document:
        if key in _MEMBERS:
            continue
        hint = _ELSEWHERE.get(key)
        if hint is None:
            near = difflib.get_close_matches(key[:MODE_CHARS_MAX], _MEMBERS, n=1)
            hint = f"Did you mean '{near[0]}'?" if near else f"Known are {', '.join(_MEMBERS)}"
        shown = key[:MODE_CHARS_MAX]
        raise Refusal(
            "invalid_request",
            f"There is no member '{shown}' in this request. {hint}{'' if hint.endswith('?') else '.'}",
            param=shown,
        )


def _messages(document: dict[str, Any]) -> list[dict[str, Any]]:
    """The messages; none where there is a prompt."""
    prompt = document.get("prompt")
    if (prompt is None) == (document.get("messages") is None):
        raise Refusal("invalid_request", "Send either 'prompt', a string, or 'messages'.", param="prompt")
    if prompt is not None:
        if not isinstance(prompt, str) or not prompt.strip():
            fields.wrong("prompt", "a string with something in it")
        return []
    messages = fields.messages_of(document)
    for index, message in enumerate(messages):
        param = f"messages[{index}]"
        if any(message.get(member) for member in _OF_TOOLS) or message["role"] in ("tool", "function"):
            raise Refusal("invalid_request", f"No tools are called here ('{param}'). {_CHAT}.", param=param)
        if message["role"] not in ROLES:
            fields.wrong(f"{param}.role", f"one of {', '.join(ROLES)}")
        if not message.get("content"):
            fields.wrong(f"{param}.content", "a text or a list of parts, and not empty")
    if messages[-1]["role"] == "assistant":
        fields.wrong(f"messages[{len(messages) - 1}].role", "user: the last message is the question")
    return messages


def _mode(document: dict[str, Any]) -> str | None:
    mode = document.get("mode")
    if mode is None:
        return None
    if not isinstance(mode, str) or len(mode) > MODE_CHARS_MAX or not _MODE.fullmatch(mode):
        fields.wrong("mode", "the name of a mode, such as fast, balanced, deep or auto")
    return mode


def _output_limit(document: dict[str, Any]) -> tuple[int | None, str | None]:
    limits = {field: fields.integer(document, field, 1, fields.TOKENS_MAX) for field in _LIMITS}
    given = {field: limit for field, limit in limits.items() if limit is not None}
    if len(set(given.values())) > 1:
        fields.wrong(_LIMITS[1], f"left out, or the same as '{_LIMITS[0]}'")
    return next(((limit, field) for field, limit in given.items()), (None, None))


def _check_destinations(document: dict[str, Any]) -> None:
    """Where it belongs and where its answer goes. The conversation's owner and the address are judged elsewhere."""
    domain = document.get("domain")
    if domain is not None and domain not in (AUTO, *DOMAINS):
        fields.wrong("domain", f"one of {', '.join((AUTO, *DOMAINS))}")
    conversation = document.get("conversation_id")
    if conversation is not None and not (isinstance(conversation, str) and _CONVERSATION.fullmatch(conversation)):
        fields.wrong("conversation_id", f"'{NEW_CONVERSATION}', or the id that an answer gave")
    url = document.get("webhook_url")
    if url is not None:
        _check_url(url)


def _check_url(url: Any) -> None:
    expected = f"an address (https) of at most {WEBHOOK_URL_CHARS_MAX} characters, without a user or a fragment"
    if not isinstance(url, str) or len(url) > WEBHOOK_URL_CHARS_MAX or not _URL.fullmatch(url):
        fields.wrong("webhook_url", expected)
    try:
        parts = urlsplit(url)
        fits = parts.scheme in ("https", "http") and bool(parts.hostname) and (parts.port is None or parts.port > 0)
    except ValueError:
        fits = False
    else:
        fits = fits and parts.username is None and parts.password is None and "#" not in url
    if not fits:
        fields.wrong("webhook_url", expected)


def _check_metadata(document: dict[str, Any]) -> None:
    pairs = fields.mapping(document, "metadata") or {}
    fits = len(pairs) <= METADATA_PAIRS_MAX and all(
        len(key) <= METADATA_KEY_CHARS_MAX and isinstance(value, str) and len(value) <= METADATA_VALUE_CHARS_MAX
        for key, value in pairs.items()
    )
    if not fits:
        fields.wrong(
            "metadata",
            f"at most {METADATA_PAIRS_MAX} texts of at most {METADATA_VALUE_CHARS_MAX} characters, "
            f"under names of at most {METADATA_KEY_CHARS_MAX}",
        )
