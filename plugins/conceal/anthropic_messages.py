"""Anthropic's messages: the documented members of a message, its blocks and its events.

Source: the answer types of Anthropic's own SDK. Signatures of thinking stay as they are: the next turn needs them,
and only their maker can read them.
"""

from __future__ import annotations

from typing import Any, Final

from plugins.conceal.names import Names
from plugins.conceal.shapes import (
    DROP,
    Shape,
    block_id,
    constant,
    count,
    generated,
    listed,
    member,
    objects,
    projected,
    text,
    tree,
    typed,
    word,
)

_STOP: Final = word(
    "end_turn", "max_tokens", "stop_sequence", "tool_use", "pause_turn", "refusal", "model_context_window_exceeded",
    other="end_turn",
)  # fmt: skip
_CATEGORY: Final = word("cyber", "bio", "frontier_llm", "reasoning_extraction", "general_harms")
_STOP_DETAILS: Final[Shape] = {"type": constant("refusal"), "category": _CATEGORY, "explanation": constant(None)}
_USAGE: Final[Shape] = {
    "input_tokens": count,
    "cache_creation_input_tokens": count,
    "cache_read_input_tokens": count,
    "cache_creation": member({"ephemeral_5m_input_tokens": count, "ephemeral_1h_input_tokens": count}),
    "output_tokens": count,
    "output_tokens_details": member({"thinking_tokens": count}),
    "server_tool_use": member({"web_search_requests": count, "web_fetch_requests": count}),
}
_CITATION: Final[Shape] = {
    "type": word(
        "char_location", "page_location", "content_block_location", "web_search_result_location",
        "search_result_location", other="char_location",
    ),
    "cited_text": text,
    **dict.fromkeys(
        ("document_index", "search_result_index", "start_char_index", "end_char_index", "start_page_number",
         "end_page_number", "start_block_index", "end_block_index"),
        count,
    ),
    **dict.fromkeys(("document_title", "title", "url", "source", "encrypted_index"), text),
}  # fmt: skip
_FOUND: Final = tree(
    "content", "text", "title", "url", "source", "data", "media_type", "page_age", "encrypted_content",
    "retrieved_at", "citations", "enabled", "stdout", "stderr", "encrypted_stdout", "return_code", "error_code",
    "file_type", "num_lines", "start_line", "total_lines", "is_file_update", "lines", "new_lines", "new_start",
    "old_lines", "old_start", "tool_name", "tool_references",
    types=frozenset({
        "text", "base64", "document", "tool_reference", "web_search_result", "web_search_tool_result_error",
        "web_fetch_result", "web_fetch_tool_result_error", "code_execution_result", "code_execution_output",
        "encrypted_code_execution_result", "code_execution_tool_result_error", "bash_code_execution_result",
        "bash_code_execution_output", "bash_code_execution_tool_result_error", "tool_search_tool_search_result",
        "tool_search_tool_result_error", "text_editor_code_execution_view_result",
        "text_editor_code_execution_create_result", "text_editor_code_execution_str_replace_result",
        "text_editor_code_execution_tool_result_error",
    }),
)  # fmt: skip
"""What the provider's own tools return, without the ids of what it keeps."""
_SERVER_TOOL: Final = block_id("srvtoolu_")
_BLOCKS: Final[dict[str, Shape]] = {
    "text": {"text": text, "citations": objects(_CITATION)},
    "thinking": {"thinking": text, "signature": text},
    "redacted_thinking": {"data": text},
    "tool_use": {"id": block_id("toolu_"), "name": text, "input": generated},
    "server_tool_use": {"id": _SERVER_TOOL, "name": text, "input": generated},
    **{
        f"{tool}_tool_result": {"tool_use_id": _SERVER_TOOL, "content": _FOUND}
        for tool in ("web_search", "web_fetch", "code_execution", "bash_code_execution", "text_editor_code_execution",
                     "tool_search")
    },
}  # fmt: skip
_DELTAS: Final[dict[str, Shape]] = {
    "text_delta": {"text": text},
    "input_json_delta": {"partial_json": text},
    "thinking_delta": {"thinking": text},
    "signature_delta": {"signature": text},
    "citations_delta": {"citation": member(_CITATION)},
}


_opened: Final = typed(_BLOCKS, lambda: {"type": "text", "text": ""})
"""A block that a stream opens. An unknown one becomes an empty text, so that the blocks' numbers stay whole."""
_STOPPED: Final[Shape] = {"stop_reason": _STOP, "stop_sequence": text, "stop_details": member(_STOP_DETAILS)}
_MESSAGE: Final[Shape] = {"content": listed(typed(_BLOCKS)), **_STOPPED, "usage": member(_USAGE)}


def whole(document: dict[str, Any], names: Names) -> dict[str, Any] | None:
    """See Format."""
    if not isinstance(document.get("content"), list):
        return None
    head = {"id": names.answer_id, "type": "message", "role": "assistant", "model": names.model}
    return head | projected(document, _MESSAGE, names)


def _message(value: Any, names: Names) -> Any:
    message = whole(value, names) if isinstance(value, dict) else None
    return DROP if message is None else message


_EVENTS: Final[dict[str, Shape]] = {
    "message_start": {"message": _message},
    "content_block_start": {"index": count, "content_block": _opened},
    "content_block_delta": {"index": count, "delta": typed(_DELTAS)},
    "content_block_stop": {"index": count},
    "message_delta": {"delta": member(_STOPPED), "usage": member(_USAGE)},
    "message_stop": {},
    "ping": {},
}
_NEEDED: Final = {"message_start": "message", "content_block_delta": "delta"}
"""Without it an event says nothing, and a client would stumble over it."""


def event(document: dict[str, Any], names: Names) -> tuple[bytes, dict[str, Any]] | None:
    """See Format."""
    kind = document.get("type")
    shape = _EVENTS.get(kind) if isinstance(kind, str) else None
    if shape is None or not isinstance(kind, str):
        return None
    ours = {"type": kind} | projected(document, shape, names)
    needed = _NEEDED.get(kind)
    return None if needed is not None and needed not in ours else (kind.encode(), ours)
