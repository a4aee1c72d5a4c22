"""A conversation as others than its addressee read it: tools as text, pictures as a note, or all of it as text."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, Final

import orjson

from proxy.consensus.api import Message

IMAGE_NOTE: Final = "[An image stood here. You cannot see it.]"
FILE_NOTE: Final = "[A file stood here. You cannot read it.]"
SYSTEM_ROLES: Final = ("system", "developer")
TOOLS_CHARS_MAX: Final = 32_000
"""Of the descriptions of tools, as members read them."""


def text_of(content: Any) -> str:
    """The text of a message's content; what is no text is noted."""
    if isinstance(content, str):
        return content
    if not isinstance(content, list):
        return ""
    return "\n".join(_part_text(part) for part in content)


def _part_text(part: Any) -> str:
    if not isinstance(part, dict):
        return ""
    for name in ("text", "refusal"):
        if isinstance(part.get(name), str):
            return str(part[name])
    return IMAGE_NOTE if part.get("type") == "image_url" else FILE_NOTE


def without_images(messages: Iterable[Message]) -> tuple[Message, ...]:
    """Content of several parts becomes text, with a note where a picture or a file stood."""
    return tuple(
        {**message, "content": text_of(message["content"])} if isinstance(message.get("content"), list) else message
        for message in messages
    )


def without_tools(messages: Iterable[Message]) -> tuple[Message, ...]:
    """Calls of tools and their results as text: providers refuse them where the tools are not declared, and members
    do not get the tools."""
    plain: list[Message] = []
    names: dict[str, str] = {}
    for message in messages:
        role = message.get("role")
        if role in ("tool", "function"):
            name = message.get("name") or names.get(str(message.get("tool_call_id")), "the function")
            plain.append({"role": "user", "content": f"[Result of {name}]\n{text_of(message.get('content'))}"})
        elif role == "assistant" and (message.get("tool_calls") or message.get("function_call")):
            plain.append({"role": "assistant", "content": _called(message, names)})
        else:
            plain.append(message)
    return _joined(plain)


def _called(message: Message, names: dict[str, str]) -> str:
    said = text_of(message.get("content"))
    lines = [said] if said else []
    calls = message.get("tool_calls")
    for call in calls if isinstance(calls, list) else [{"function": message.get("function_call")}]:
        function = call.get("function") if isinstance(call, dict) else None
        if isinstance(function, dict):
            names[str(call.get("id"))] = str(function.get("name"))
            lines.append(f"[Called {function.get('name')} with {function.get('arguments')}]")
    return "\n".join(lines)


def _joined(messages: Sequence[Message]) -> tuple[Message, ...]:
    """Neighbours of one role as one message where both are text: some providers want roles to take turns."""
    joined: list[Message] = []
    for message in messages:
        last = joined[-1] if joined else None
        if (
            last is not None
            and last.get("role") == message.get("role")
            and isinstance(last.get("content"), str)
            and isinstance(message.get("content"), str)
        ):
            joined[-1] = {**last, "content": f"{last['content']}\n\n{message['content']}"}
        else:
            joined.append(message)
    return tuple(joined)


def with_system(messages: Sequence[Message], told: str) -> tuple[Message, ...]:
    """`told` behind the caller's own system prompt, in one message with it; in front where there is none."""
    if messages and messages[0].get("role") in SYSTEM_ROLES:
        first = messages[0]
        return ({**first, "content": f"{text_of(first.get('content'))}\n\n{told}"}, *messages[1:])
    return ({"role": "system", "content": told}, *messages)


def with_user(messages: Sequence[Message], said: str) -> tuple[Message, ...]:
    """`said` at the end: behind the last message in the same one where that is the user's, else as one of its own."""
    last = messages[-1] if messages else None
    if last is None or last.get("role") != "user":
        return (*messages, {"role": "user", "content": said})
    content = last.get("content")
    if isinstance(content, list):
        return (*messages[:-1], {**last, "content": [*content, {"type": "text", "text": said}]})
    return (*messages[:-1], {**last, "content": f"{text_of(content)}\n\n{said}"})


def transcript(messages: Iterable[Message]) -> str:
    """The whole conversation as text, each message headed by who says it."""
    plain = without_images(without_tools(messages))
    return "\n\n".join(f"{message.get('role', 'user')}: {text_of(message.get('content'))}" for message in plain)


def tools_text(tools: Sequence[dict[str, Any]]) -> str:
    """What the tools are, one JSON object a line, as text for who cannot call them."""
    lines = b"\n".join(orjson.dumps(tool.get("function", tool)) for tool in tools)
    return lines[:TOOLS_CHARS_MAX].decode(errors="ignore")
