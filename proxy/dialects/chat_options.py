"""How an answer is to be drawn and which form it is to have, checked as OpenAI's chat completions document it.

For calls that several models answer: what one provider would refuse must not fail a whole panel.
"""

from __future__ import annotations

from typing import Any, Final

from proxy.dialects import fields

STOPS_MAX: Final = 4
STOP_CHARS_MAX: Final = 512
SAMPLING: Final = ("temperature", "top_p", "presence_penalty", "frequency_penalty", "seed", "stop")
_RANGES: Final = {"temperature": (0, 2), "top_p": (0, 1), "presence_penalty": (-2, 2), "frequency_penalty": (-2, 2)}
_FORMATS: Final = ("text", "json_object", "json_schema")


def sampling_of(document: dict[str, Any]) -> dict[str, Any]:
    """The members that say how to draw, as the caller set them. Raises Refusal `invalid_request`."""
    for key, (least, most) in _RANGES.items():
        value = document.get(key)
        if value is not None and (type(value) not in (int, float) or not least <= value <= most):
            fields.wrong(key, f"a number from {least} to {most}")
    fields.integer(document, "seed", -(1 << 63), (1 << 63) - 1)
    stop = document.get("stop")
    stops = stop if isinstance(stop, list) else [stop]
    if stop is not None and not (0 < len(stops) <= STOPS_MAX and all(map(_is_word, stops))):
        fields.wrong("stop", f"a text or a list of 1 to {STOPS_MAX} texts of at most {STOP_CHARS_MAX} characters")
    return {key: document[key] for key in SAMPLING if document.get(key) is not None}


def response_format_of(document: dict[str, Any]) -> dict[str, Any] | None:
    """The form of the answer; None for plain text. Raises Refusal `invalid_request`."""
    form = fields.mapping(document, "response_format")
    if form is None:
        return None
    kind = form.get("type")
    if kind not in _FORMATS:
        fields.wrong("response_format.type", f"one of {', '.join(_FORMATS)}")
    if kind == "json_schema":
        given = form.get("json_schema")
        if not (isinstance(given, dict) and _is_word(given.get("name")) and isinstance(given.get("schema"), dict)):
            fields.wrong("response_format.json_schema", "an object with a 'name' and a 'schema'")
    return None if kind == "text" else form


def _is_word(value: Any) -> bool:
    return isinstance(value, str) and 0 < len(value) <= STOP_CHARS_MAX
