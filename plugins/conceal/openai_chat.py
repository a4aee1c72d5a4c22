"""OpenAI's chat completions: the documented members, and those for reasoning that all vendors of the format share.

Source: the answer types of OpenAI's own SDK; `reasoning` and `reasoning_content` as vLLM, Groq and DeepSeek write
them; content in parts as Mistral does.
"""

from __future__ import annotations

from typing import Any, Final

from plugins.conceal import panels
from plugins.conceal.names import Names
from plugins.conceal.shapes import (
    Shape,
    call_id,
    count,
    listed,
    member,
    number,
    objects,
    projected,
    text,
    typed,
    word,
)
from proxy import panel_calls

_ROLE: Final = word("assistant", "user", "system", "developer", "tool", other="assistant")
_FINISH: Final = word(
    "stop", "length", "tool_calls", "content_filter", "function_call",
    other="stop",
    meaning={
        "max_tokens": "length",
        "model_length": "length",
        "insufficient_system_resource": "length",
        "error": "length",
        "tool_use": "tool_calls",
        "safety": "content_filter",
        "refusal": "content_filter",
    },
)  # fmt: skip
_PROMPT_DETAILS: Final[Shape] = {
    "cached_tokens": count, "cache_write_tokens": count, "audio_tokens": count, "image_tokens": count,
    "text_tokens": count,
}  # fmt: skip
_COMPLETION_DETAILS: Final[Shape] = {
    "reasoning_tokens": count, "audio_tokens": count, "accepted_prediction_tokens": count,
    "rejected_prediction_tokens": count, "text_tokens": count,
}  # fmt: skip
USAGE: Final[Shape] = {
    "prompt_tokens": count,
    "completion_tokens": count,
    "total_tokens": count,
    "prompt_tokens_details": member(_PROMPT_DETAILS),
    "completion_tokens_details": member(_COMPLETION_DETAILS),
}
_CALLED: Final = member({"name": text, "arguments": text, "input": text})
_TOOL_CALL: Final[Shape] = {
    "index": count,
    "id": call_id,
    "type": word("function", "custom", other="function"),
    "function": _CALLED,
    "custom": _CALLED,
}
_CITATION: Final[Shape] = {"start_index": count, "end_index": count, "title": text, "url": text}
_ANNOTATION: Final[Shape] = {"type": word("url_citation", other="url_citation"), "url_citation": member(_CITATION)}
_AUDIO: Final[Shape] = {"id": call_id, "data": text, "expires_at": count, "transcript": text}
_BYTES: Final = listed(count)
_TOP_LOGPROB: Final[Shape] = {"token": text, "logprob": number, "bytes": _BYTES}
LOGPROBS: Final = objects({**_TOP_LOGPROB, "top_logprobs": objects(_TOP_LOGPROB)})


_TEXTS: Final = listed(typed({"text": {"text": text}}))


def _thought(value: Any, names: Names) -> Any:
    """Of a part that thinks: its text, or parts of text in it."""
    return _TEXTS(value, names) if isinstance(value, list) else text(value, names)


_PARTS: Final = listed(
    typed({"text": {"text": text}, "thinking": {"thinking": _thought}, "refusal": {"refusal": text}})
)


def _content(value: Any, names: Names) -> Any:
    return _PARTS(value, names) if isinstance(value, list) else text(value, names)


_MESSAGE: Final[Shape] = {
    "role": _ROLE,
    "content": _content,
    "reasoning_content": text,
    "reasoning": text,
    "refusal": text,
    "tool_calls": objects(_TOOL_CALL),
    "function_call": _CALLED,
    "annotations": objects(_ANNOTATION),
    "audio": member(_AUDIO),
}
_CHOICE: Final[Shape] = {
    "index": count,
    "message": member(_MESSAGE),
    "delta": member(_MESSAGE),
    "logprobs": member({"content": LOGPROBS, "refusal": LOGPROBS}),
    "finish_reason": _FINISH,
}
_REST: Final[Shape] = {"choices": objects(_CHOICE), "usage": member(USAGE)}
_OF_PANELS: Final[Shape] = {**_REST, panel_calls.EXTENSION: panels.EXTENSION}


def _rest(document: dict[str, Any], names: Names) -> dict[str, Any]:
    """What a panel says beside its answer is ours; from an upstream such a member is some vendor's own."""
    return projected(document, _OF_PANELS if names.panel else _REST, names)


def _head(document: dict[str, Any], kind: str, names: Names) -> dict[str, Any]:
    created = document.get("created")
    return {
        "id": names.answer_id,
        "object": kind,
        "created": created if type(created) is int and created > 0 else names.created,
        "model": names.model,
    }


def whole(document: dict[str, Any], names: Names) -> dict[str, Any] | None:
    """See Format."""
    if not isinstance(document.get("choices"), list):
        return None
    return _head(document, "chat.completion", names) | _rest(document, names)


def event(document: dict[str, Any], names: Names) -> tuple[bytes, dict[str, Any]] | None:
    """See Format. A chunk with neither choice nor usage is some vendor's own: filter results, mostly."""
    choices = document.get("choices")
    if not isinstance(choices, list) or not (choices or isinstance(document.get("usage"), dict)):
        return None
    return b"", _head(document, "chat.completion.chunk", names) | _rest(document, names)
