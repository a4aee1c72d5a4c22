"""From a call to the turns in it, and from turns to the call that a panel is asked."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import orjson

from proxy.conversations.api import Turn
from proxy.dialects import changed
from proxy.dialects.base import Call
from proxy.errors import Refusal

IMAGE_NOTE: Final = "[image]"
"""What is kept of an image."""
USER: Final = "user"
ASSISTANT: Final = "assistant"


@dataclass(frozen=True, slots=True)
class Said:
    """What a request says."""

    instructions: tuple[dict[str, Any], ...]
    """System and developer messages: they stand before the history, and are not kept."""
    new: tuple[dict[str, Any], ...]
    """User messages."""


def said(call: Call) -> Said:
    """What is new in a call. Raises Refusal `invalid_request` for answers in it: the conversation has them."""
    prompt = call.document.get("prompt")
    messages: Sequence[dict[str, Any]] = (
        call.document["messages"] if prompt is None else [{"role": USER, "content": prompt}]
    )
    if any(message["role"] == ASSISTANT for message in messages):
        raise Refusal(
            "invalid_request",
            "With a 'conversation_id' send only what is new: the conversation keeps the answers. Or leave the id out.",
            param="messages",
        )
    new = tuple([message for message in messages if message["role"] == USER])
    if not new:
        raise Refusal("invalid_request", "Send a message of the role user: there is nothing new.", param="messages")
    return Said(tuple([message for message in messages if message["role"] != USER]), new)


def with_history(call: Call, said: Said, history: Sequence[Turn], id_: str) -> Call:
    """The call as if the caller had sent the whole conversation. Raises Refusal as parsing does."""
    past = [{"role": turn.role, "content": turn.text} for turn in history]
    messages = [*said.instructions, *past, *said.new]
    changes = {"messages": orjson.dumps(messages), "conversation_id": orjson.dumps(id_)}
    if call.document.get("prompt") is not None:
        changes["prompt"] = b"null"
    return changed(call, changes)


def bounded(turns: Sequence[Turn], bytes_max: int) -> Sequence[Turn]:
    """The newest turns within so many bytes, from one of the user's on."""
    size, first = 0, len(turns)
    for place in range(len(turns) - 1, -1, -1):
        size += len(turns[place].text.encode())
        if size > bytes_max:
            break
        if turns[place].role == USER:
            first = place
    return turns[first:]


def kept(call: Call, count: int, answer: str) -> list[Turn]:
    """The last `count` messages of a call, as it was asked after all rules, and the answer."""
    asked = call.document["messages"][-count:]
    return [*[Turn(USER, _clean(_text(message.get("content")))) for message in asked], Turn(ASSISTANT, _clean(answer))]


def _text(content: Any) -> str:
    if isinstance(content, str):
        return content
    parts = content if isinstance(content, list) else []
    return "\n".join([_part(part) for part in parts])


def _part(part: Any) -> str:
    if isinstance(part, str):
        return part
    text = part.get("text") if isinstance(part, dict) else None
    return text if isinstance(text, str) else IMAGE_NOTE


def _clean(text: str) -> str:
    """Half characters cannot be stored."""
    return text if text.isascii() else text.encode("utf-8", "replace").decode()
