"""An upstream's refusal of a request in our own words: what to do about it, and none of what the provider said."""

from __future__ import annotations

import re
from typing import Any, Final

from proxy.dialects import json_text
from proxy.dialects.base import Call
from proxy.errors import Refusal

READ_BYTES_MAX: Final = 64 << 10
"""Of a refusal that are looked into; a longer one is no error envelope."""
WORDS_CHARS_MAX: Final = 2000
PATH_CHARS_MAX: Final = 200

_CONTEXT: Final = re.compile(
    r"context.?(?:length|window|size|limit)|prompt is too long|too many (?:input )?tokens|string_above_max_length"
    r"|token count.{0,60}exceed|max(?:imum)?.(?:input|sequence|model|prompt).(?:length|len|tokens)|max_new_tokens"
    r"|input.{0,60}(?:too long|longer than).{0,60}token",
    re.IGNORECASE,
)
_CONTENT: Final = re.compile(
    r"content_?(?:policy|filter|moderation)|content (?:policy|filter|management policy)|responsible ?ai"
    r"|\bmoderation_|(?:flagged|blocked|rejected) (?:by|for|as|due to)|safety (?:system|filter|polic)|usage polic",
    re.IGNORECASE,
)
_LEADING_PATH: Final = re.compile(r"\s*([A-Za-z_][\w.\[\]]{0,199}?):\s")
"""`messages.0.content: Field required`, as Anthropic says where something is wrong."""
_STEP: Final = re.compile(r"[^.\[\]]+")


def told(status: int, body: bytes, call: Call | None, request_id: str) -> Refusal:
    """The refusal for the client: the upstream's status, a code of ours by what kind of refusal it is."""
    words, path = _said(body)
    param = None if call is None or path is None else _own_path(call.document, path)
    if _CONTEXT.search(words):
        return Refusal(
            "context_length_exceeded",
            "The input is longer than this model takes, or leaves no room for the answer. Shorten it.",
            param=param,
            status=status,
        )
    if _CONTENT.search(words):
        return Refusal(
            "content_refused",
            "The model's server refuses this content. Change what is asked for, or use another model.",
            status=status,
        )
    if status == 413:
        return Refusal(
            "payload_too_large", "The request is larger than the model's server takes. Send less.", status=status
        )
    where = f"Look at '{param}'." if param else "Look at its members and values: not every model takes all of them."
    return Refusal(
        "invalid_request",
        f"The model's server refused this request. {where} Request id {request_id}.",
        param=param,
        status=status,
    )


def _said(body: bytes) -> tuple[str, str | None]:
    """What the upstream said, to be understood and never repeated: its words, and the path that it names."""
    # Google sends a list of one.
    document = json_text.read(body.strip().strip(b"[]")) if len(body) <= READ_BYTES_MAX else None
    if document is None:
        return "", None
    error = document.get("error")
    if not isinstance(error, dict):
        error = {**document, "message": error} if isinstance(error, str) else document
    message, code, kind = (_text(error.get(key)) for key in ("message", "code", "type"))
    path = error.get("param") or _located(document.get("detail"))
    if not isinstance(path, str):
        leading = _LEADING_PATH.match(message)
        path = leading[1] if leading else None
    return " ".join((code, kind, message, _text(document.get("detail"))))[:WORDS_CHARS_MAX], path


def _text(value: Any) -> str:
    return value if isinstance(value, str) else ""


def _located(detail: Any) -> str | None:
    """Where, in the validation errors of FastAPI that vLLM and Mistral send: `[{"loc": ["body", "messages", 0]}]`."""
    first = detail[0] if isinstance(detail, list) and detail else None
    steps = first.get("loc") if isinstance(first, dict) else None
    if not isinstance(steps, list):
        return None
    return ".".join(str(step) for step in (steps[1:] if steps[:1] == ["body"] else steps))


def _own_path(document: dict[str, Any], path: str) -> str | None:
    """`path` spelled our way where it leads to a member of the client's own body; None where it does not."""
    if len(path) > PATH_CHARS_MAX:
        return None
    found: Any = document
    spelled = ""
    for step in _STEP.findall(path):
        if isinstance(found, dict) and step in found:
            found = found[step]
            spelled += f".{step}" if spelled else step
        elif isinstance(found, list) and step.isascii() and step.isdigit() and int(step) < len(found):
            found = found[int(step)]
            spelled += f"[{int(step)}]"
        else:
            return None
    return spelled or None
