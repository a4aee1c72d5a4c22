"""OpenAI's responses: the documented members of a response, its items and its events.

Source: the answer types of OpenAI's own SDK. What a response repeats of the request is taken from the request.
"""

from __future__ import annotations

import re
from typing import Any, Final

from plugins.conceal.names import BLOCK_ID_CHARS, Names
from plugins.conceal.openai_chat import LOGPROBS
from plugins.conceal.shapes import (
    DROP,
    Shape,
    call_id,
    count,
    echoed,
    flag,
    listed,
    member,
    number,
    objects,
    projected,
    text,
    tree,
    typed,
    word,
)

_ID_KINDS: Final = frozenset({"msg", "fc", "ctc", "rs", "ws", "fs", "ci", "ig", "file", "cntr"})
"""What the id of an item begins with says what the item is, and goes back with the next turn."""
_SEALED: Final = re.compile(r"rs_[0-9a-f]{16,128}")
"""The id of reasoning, where it is digits and nothing else."""
_STATUS: Final = word("in_progress", "completed", "incomplete", "failed", "cancelled", "queued", other="completed")
_FAILED: Final = {"code": "server_error", "message": "The model's server failed on this request."}


def _item_id(value: Any, names: Names) -> Any:
    if not isinstance(value, str):
        return None if value is None else DROP
    if _SEALED.fullmatch(value) and _sealed(names.asked):
        return value
    kind = value.partition("_")[0]
    return f"{kind if kind in _ID_KINDS else 'item'}_{names.hidden(value, BLOCK_ID_CHARS)}"


def _sealed(asked: dict[str, Any]) -> bool:
    """Whether reasoning comes encrypted, to go back with the next turn: its maker then compares the id with the one
    inside, and refuses another."""
    include = asked.get("include")
    return asked.get("store") is False or (isinstance(include, list) and "reasoning.encrypted_content" in include)


def _error(value: Any, _: Names) -> Any:
    return None if value is None else _FAILED


_USAGE: Final[Shape] = {
    "input_tokens": count,
    "input_tokens_details": member({"cached_tokens": count, "cache_write_tokens": count}),
    "output_tokens": count,
    "output_tokens_details": member({"reasoning_tokens": count}),
    "total_tokens": count,
}
_ANNOTATION: Final[Shape] = {
    "type": word("url_citation", "file_citation", "container_file_citation", "file_path", other="url_citation"),
    **dict.fromkeys(("index", "start_index", "end_index"), count),
    **dict.fromkeys(("title", "url", "filename"), text),
    **dict.fromkeys(("file_id", "container_id"), _item_id),
}
_part: Final = typed(
    {
        "output_text": {"text": text, "annotations": objects(_ANNOTATION), "logprobs": LOGPROBS},
        "refusal": {"refusal": text},
        "reasoning_text": {"text": text},
        "summary_text": {"text": text},
    },
    lambda: {"type": "output_text", "text": "", "annotations": []},
)
_PARTS: Final = listed(_part)
_SEARCHED: Final = tree("query", "queries", "url", "pattern", types=frozenset({"search", "open_page", "find_in_page"}))
_ROLE: Final = word("assistant", other="assistant")
_PROVIDERS_TOOL: Final[Shape] = {"id": _item_id, "status": _STATUS}
_ITEMS: Final[dict[str, Shape]] = {
    "message": {
        "id": _item_id, "status": _STATUS, "role": _ROLE, "phase": word("commentary", "final_answer"),
        "content": _PARTS,
    },
    "function_call": {"id": _item_id, "status": _STATUS, "call_id": call_id, "name": text, "arguments": text},
    "custom_tool_call": {"id": _item_id, "status": _STATUS, "call_id": call_id, "name": text, "input": text},
    "reasoning": {
        "id": _item_id, "status": _STATUS, "summary": _PARTS, "content": _PARTS, "encrypted_content": text,
    },
    "web_search_call": {**_PROVIDERS_TOOL, "action": _SEARCHED},
    "image_generation_call": {**_PROVIDERS_TOOL, "result": text},
    "file_search_call": _PROVIDERS_TOOL,
    "code_interpreter_call": {**_PROVIDERS_TOOL, "code": text},
}  # fmt: skip
_known: Final = typed(_ITEMS)


def _item(value: Any, names: Names) -> Any:
    """An item of the output. An unknown one becomes an empty message, so that the items' numbers stay whole."""
    item = _known(value, names)
    if item is not DROP:
        return item
    empty = {"type": "message", "status": "completed", "role": "assistant", "content": []}
    return {"id": f"msg_{names.hidden('unknown', BLOCK_ID_CHARS)}", **empty}


_RESPONSE: Final[Shape] = {
    "completed_at": number,
    "status": _STATUS,
    "background": flag,
    "error": _error,
    "incomplete_details": member({"reason": word("max_output_tokens", "content_filter", other="max_output_tokens")}),
    "instructions": echoed("instructions"),
    "max_output_tokens": count,
    "max_tool_calls": count,
    "output": listed(_item),
    "parallel_tool_calls": flag,
    "previous_response_id": echoed("previous_response_id"),
    "prompt_cache_key": echoed("prompt_cache_key"),
    "reasoning": echoed("reasoning"),
    "safety_identifier": echoed("safety_identifier"),
    "store": flag,
    "temperature": number,
    "text": echoed("text", {"format": {"type": "text"}}),
    "tool_choice": echoed("tool_choice", "auto"),
    "tools": echoed("tools", []),
    "top_logprobs": count,
    "top_p": number,
    "truncation": word("auto", "disabled", other="disabled"),
    "usage": member(_USAGE),
    "user": echoed("user"),
    "metadata": echoed("metadata", {}),
}


def whole(document: dict[str, Any], names: Names) -> dict[str, Any] | None:
    """See Format."""
    if not isinstance(document.get("output"), list):
        return None
    created = document.get("created_at")
    head = {
        "id": names.answer_id,
        "object": "response",
        "created_at": created if type(created) in (int, float) else names.created,
        "model": names.model,
    }
    return head | projected(document, _RESPONSE, names)


def _response(value: Any, names: Names) -> Any:
    response = whole(value, names) if isinstance(value, dict) else None
    return DROP if response is None else response


_PLACE: Final[Shape] = {
    "item_id": _item_id, "output_index": count, "content_index": count, "summary_index": count,
    "annotation_index": count,
}  # fmt: skip
_SAID: Final[Shape] = {
    **_PLACE, "delta": text, "text": text, "refusal": text, "name": text, "arguments": text, "input": text,
    "code": text, "part": _part, "logprobs": LOGPROBS, "annotation": member(_ANNOTATION), "status": _STATUS,
}  # fmt: skip
_NUMBER: Final[Shape] = {"sequence_number": count}
_WHOLE: Final[Shape] = {"response": _response}
_ITEM: Final[Shape] = {"output_index": count, "item": _item}
_EVENTS: Final[dict[str, Shape]] = {
    **{f"response.{state}": _WHOLE for state in ("created", "queued", "in_progress", "completed", "incomplete",
                                                 "cancelled")},
    **{f"response.output_item.{step}": _ITEM for step in ("added", "done")},
    "response.output_text.annotation.added": _SAID,
    **{
        f"response.{what}.{step}": _SAID
        for what in ("output_text", "refusal", "reasoning_text", "reasoning_summary_text", "function_call_arguments",
                     "custom_tool_call_input", "code_interpreter_call_code")
        for step in ("delta", "done")
    },
    **{
        f"response.{what}.{step}": _SAID
        for what in ("content_part", "reasoning_summary_part")
        for step in ("added", "done")
    },
    **{
        f"response.{tool}.{step}": _PLACE
        for tool in ("web_search_call", "file_search_call", "code_interpreter_call", "image_generation_call")
        for step in ("in_progress", "searching", "interpreting", "generating", "completed")
    },
}  # fmt: skip


def event(document: dict[str, Any], names: Names) -> tuple[bytes, dict[str, Any]] | None:
    """See Format."""
    kind = document.get("type")
    shape = _EVENTS.get(kind) if isinstance(kind, str) else None
    if shape is None or not isinstance(kind, str):
        return None
    ours = {"type": kind} | projected(document, _NUMBER, names) | projected(document, shape, names)
    return None if shape is _WHOLE and "response" not in ours else (kind.encode(), ours)
