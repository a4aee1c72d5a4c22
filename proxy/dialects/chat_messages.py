"""The messages of a chat: how many images they hold, and what in them nobody can bound."""

from __future__ import annotations

from typing import Any, Final

from proxy.dialects import fields

_TEXT_PARTS: Final = frozenset({"text", "refusal", "thinking", "reasoning"})
_DECIDING: Final = fields.spellings("role", "content", "audio", "type", "image_url")


def images_and_unbounded(messages: list[dict[str, Any]]) -> tuple[int, str | None]:
    """How many images the messages hold, and the first thing in them that cannot be bounded, in words."""
    images, unbounded = 0, None
    for index, message in enumerate(messages):
        fields.check_spelling(message, _DECIDING, f"messages[{index}].")
        content = message.get("content")
        if message.get("audio"):
            unbounded = unbounded or "audio kept by the provider"
        if content is None or isinstance(content, str):
            continue
        param = f"messages[{index}].content"
        if not isinstance(content, list):
            fields.wrong(param, "a string or a list of content parts")
        for number, part in enumerate(content):
            if isinstance(part, str):
                continue
            part_images, reason = _part(part, f"{param}[{number}]")
            images += part_images
            unbounded = unbounded or reason
    return images, unbounded


def _part(part: Any, param: str) -> tuple[int, str | None]:
    kind = fields.kind_of(part, param, _DECIDING)
    if kind in _TEXT_PARTS:
        return 0, None
    if kind == "image_url":
        image = part.get("image_url")
        if not isinstance(image, dict) or not isinstance(image.get("url"), str):
            fields.wrong(f"{param}.image_url", "an object with a 'url'")
        return 1, None
    names = {"input_audio": "audio input", "file": "a file"}
    return 0, f"{names.get(kind, 'content')} ('{kind}' in {param})"
