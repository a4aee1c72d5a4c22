"""The texts of a JSON document: every string that somebody reads, model or person, and none of the others.

What is no text is named here; a member that nobody has heard of yet is taken for text.
"""

from __future__ import annotations

from typing import Any, Final

from proxy.errors import Refusal
from proxy.text.filters import Refused, Struck, redacted
from proxy.text.matching import Matcher

NOT_TEXT: Final = frozenset(
    {
        "model", "role", "type", "id", "object", "index", "format", "detail", "media_type", "tool_call_id",
        "tool_use_id", "call_id", "item_id", "required", "signature", "thought_signature", "encrypted_content",
        "finish_reason", "stop_reason", "service_tier", "system_fingerprint", "encoding_format", "embedding",
        "usage", "created", "bytes",
    }
)  # fmt: skip
"""Members that hold names of an interface, or bytes: nothing in them reads as text."""
_JSON_TEXTS: Final = frozenset({"arguments", "partial_json"})
"""Members whose text is JSON itself."""
_DATA_URLS: Final = frozenset({"url", "image_url", "file_data", "data", "file_url"})
_BYTES: Final = frozenset({"base64", "redacted_thinking", "reasoning.encrypted"})
_FREE_FORM: Final = frozenset({"input", "arguments", "metadata"})
"""Objects (a tool's input at Anthropic, metadata) whose members are the caller's own, whatever they are called."""
_NUMBERS: Final = frozenset({int, float})
_PLAIN_ESCAPES: Final = ((b"\\n", b"\n"), (b'\\"', b'"'), (b"\\t", b"\t"), (b"\\r", b"\r"), (b"\\/", b"/"))
TEXT_CHARS_MAX: Final = 4 << 20
"""Searched in one request or answer, more than any context holds. A text made to be slow takes seconds a million."""


class TooMuchText(Exception):
    """More text than is searched; what was not read goes nowhere."""


class Texts:
    """Redacts documents by one set of rules. Where one refuses, Refused is raised with the place of the text."""

    __slots__ = ("_chars_left", "_matcher", "_struck")

    def __init__(self, matcher: Matcher, struck: Struck, *, chars_max: int = TEXT_CHARS_MAX) -> None:
        self._matcher = matcher
        self._struck = struck
        self._chars_left = chars_max

    def untouched(self, body: bytes) -> bool:
        """True only where no rule has a match in any text of this JSON: one look at all of it, for the usual case.

        A text stands in the body as it is, between quotes, once its plain escapes are undone; so what matches in the
        text matches in the body. Any other escape, and a rule to which a text's two ends matter, want a closer look.
        """
        if self._matcher.anchored or len(body) > TEXT_CHARS_MAX or _has_logprobs(body):
            return False
        if b"\\" in body:
            for escape, plain in _PLAIN_ESCAPES:
                body = body.replace(escape, plain)
            if b"\\" in body:
                return False
        try:
            return not self._matcher.may_match(body.decode())
        except UnicodeDecodeError:
            return False

    def document(self, document: dict[str, Any]) -> dict[str, Any]:
        """Its members that change, with their new values; the document is left as it is."""
        changed: dict[str, Any] = {}
        for key, value in document.items():
            new = self._member(key, value, document, key)
            if new is not value:
                changed[key] = new
        return changed

    def value(self, value: Any, place: str, *, free: bool = False) -> Any:
        """The same object where nothing changes, else a copy. `free`: all of it is the caller's own data."""
        if type(value) is str:
            return self.text(value, place)
        if type(value) is dict:
            return self._object(value, place, free=free)
        if type(value) is list:
            return self._list(value, place, free=free)
        if free and type(value) is int:
            new = self.text(str(value), place)
            return value if new == str(value) else new
        return value

    def text(self, text: str, place: str, *, json: bool = False) -> str:
        """One text; the same object where nothing changes. Raises TooMuchText."""
        self._chars_left -= len(text)
        if self._chars_left < 0:
            raise TooMuchText
        try:
            return redacted(self._matcher, text, self._struck, json=json)
        except Refused as refused:
            refused.place = place
            raise

    def _object(self, value: dict[str, Any], place: str, *, free: bool) -> Any:
        changed: dict[str, Any] = {}
        for key, member in value.items():
            where = f"{place}.{key}"
            new = self.value(member, where, free=True) if free else self._member(key, member, value, where)
            if new is not member:
                changed[key] = new
        return {**value, **changed} if changed else value

    def _list(self, value: list[Any], place: str, *, free: bool) -> Any:
        if not free and _NUMBERS.issuperset(map(type, value)):
            return value
        changed: dict[int, Any] = {}
        for number, item in enumerate(value):
            new = self.value(item, f"{place}[{number}]", free=free)
            if new is not item:
                changed[number] = new
        return [changed.get(number, item) for number, item in enumerate(value)] if changed else value

    def _member(self, key: str, member: Any, parent: dict[str, Any], place: str) -> Any:
        kind = type(member)
        if kind is str:
            if key in NOT_TEXT or (key in _DATA_URLS and _is_data(key, member, parent)):
                return member
            return self.text(member, place, json=key in _JSON_TEXTS)
        if key == "logprobs" and member and kind in (dict, list):
            # The tokens and their probabilities spell the text out a second time.
            return [] if kind is list else None
        if kind is dict or (kind is list and key not in NOT_TEXT):
            # A schema may describe a property called 'type' or 'id': an object under such a name is no name.
            return self.value(member, place, free=key in _FREE_FORM and kind is dict)
        return member


def _has_logprobs(body: bytes) -> bool:
    """Whether tokens are spelt out beside the text; `null`, as most answers have it, says they are not."""
    named = body.count(b'"logprobs"')
    return named > 0 and named != body.count(b'"logprobs":null') + body.count(b'"logprobs": null')


def _is_data(key: str, text: str, parent: dict[str, Any]) -> bool:
    """Bytes in base64: a data URL, or the data of an image, of sound, or of something encrypted."""
    if text.startswith("data:"):
        return ";base64," in text[:200]
    return key == "data" and (parent.get("type") in _BYTES or "format" in parent)


def refused_request(refused: Refused) -> Refusal:
    """Names the rule and the place, never the text."""
    return Refusal(
        "content_refused",
        f"The content rule '{refused.rule.name}' refuses what stands in '{refused.place}'. "
        "Take it out, then try again.",
        param=refused.place,
    )


def too_much_to_read() -> Refusal:
    """A request that is not searched to its end is not sent."""
    return Refusal(
        "payload_too_large",
        f"Content rules apply to you, and no more than {TEXT_CHARS_MAX} characters of a request are searched. "
        "Send less text at once.",
    )


def refused_answer(refused: Refused) -> Refusal:
    """The same for what the model said."""
    return Refusal(
        "content_refused",
        f"The content rule '{refused.rule.name}' refuses what the model answered. What it did is charged. "
        "Ask for an answer without it.",
    )
