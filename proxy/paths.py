"""Paths as clients spell them: templates with a model or an id in them, and what a spelling would normalise to.

A provider, or something in front of it, may decode, fold or clean a path before it looks at it. A spelling that
any of them could take for a path that costs money must not pass as another path, so `foldings` applies every
such normalisation at once, until nothing changes.
"""

from __future__ import annotations

import re
import unicodedata
from typing import Final
from urllib.parse import unquote_to_bytes

MODEL: Final = "{model}"
ID: Final = "{id}"
"""One segment, of an endpoint of ours: the public id of something."""
PATH_CHARS_MAX: Final = 4096
"""A longer path is refused before it is looked at."""
DECODE_ROUNDS_MAX: Final = 16
"""Layers of percent-encoding taken off; a path that has more is refused."""

_SEGMENT = r"[A-Za-z0-9._~@:+-]+"
_TEMPLATE = re.compile(r"(?:/(?:[a-z0-9._~-]+|\{model\}))+")
_MODEL = re.compile(rf"{_SEGMENT}(?:/{_SEGMENT})*")
_ID = re.compile(r"[A-Za-z0-9_-]{1,64}")
_MALFORMED = re.compile(r"%(?![0-9A-Fa-f]{2})")
_CUT = re.compile(r"[?#\x00].*", re.DOTALL)
_DROPPED = re.compile(r"[\x01-\x20\x7f-\x9f\u00ad\u200b-\u200f\u2028-\u202e\u2060-\u2064\ufeff]")
_SLASHES = re.compile(r"[/\\\ufffd\u2044\u2215\u29f8]+")
"""U+FFFD stands for bytes that are not UTF-8: an overlong slash is one."""


def is_template(text: str) -> bool:
    """Whether `text` is in canonical form: lower case, no empty or dot segment, at most one {model}."""
    if not _TEMPLATE.fullmatch(text) or text.count(MODEL) > 1:
        return False
    return not any(segment.strip(".") == "" for segment in text[1:].split("/"))


def is_endpoint(text: str) -> bool:
    """Whether `text` is a path that an endpoint of ours may have: canonical, no model in it, at most one {id}."""
    return MODEL not in text and text.count(ID) <= 1 and is_template(text.replace(ID, "id"))


def is_id(text: str) -> bool:
    """Whether `text` can stand for {id}: one segment of letters, digits, `_` and `-`, nothing encoded."""
    return _ID.fullmatch(text) is not None


def is_model(text: str) -> bool:
    """Whether `text` can be a model's name in a path: `name` or `vendor/name`, nothing encoded, no dot segment."""
    return _MODEL.fullmatch(text) is not None and all(segment.strip(".") for segment in text.split("/"))


def is_malformed(path: str) -> bool:
    """Whether a `%` encodes nothing, or what is encoded is not UTF-8: parsers differ in what they make of either."""
    if _MALFORMED.search(path) is not None:
        return True
    try:
        unquote_to_bytes(path).decode()
    except UnicodeDecodeError:
        return True
    return False


class TooDeep(ValueError):
    """A path is too long, or encoded more often than any honest one."""


def foldings(path: str) -> set[str]:
    """Everything that `path` can come down to. Raises TooDeep.

    Cleaners differ in two things, so all four ways are taken: whether what follows a decoded `?`, `#` or NUL still
    belongs to the path, and whether `..` takes the segment before it away or is merely dropped.
    """
    if len(path) > PATH_CHARS_MAX:
        raise TooDeep
    plain = _settled(path)
    ways = set()
    for spelling in (_settled(plain.replace("\0", "")), _CUT.sub("", plain)):
        segments = _SLASHES.sub("/", spelling).split("/")
        ways |= {_joined(segments, climb=True), _joined(segments, climb=False)}
    return ways


def _settled(path: str) -> str:
    """Decoded, compatibility forms and case folded, invisible characters dropped, until nothing changes."""
    for _ in range(DECODE_ROUNDS_MAX):
        plain = unicodedata.normalize("NFKC", _decoded(path)).casefold()
        plain = _DROPPED.sub("", plain)
        if plain == path:
            return path
        path = plain
    raise TooDeep


def _decoded(path: str) -> str:
    """All layers of percent-encoding taken off, as bytes: a letter may be spread over several."""
    raw = path.encode(errors="replace")
    for _ in range(DECODE_ROUNDS_MAX):
        inner = unquote_to_bytes(raw)
        if inner == raw:
            return raw.decode(errors="replace")
        raw = inner
    raise TooDeep


def _joined(segments: list[str], *, climb: bool) -> str:
    """Segments without parameters, empty ones and dots; with `climb`, `..` removes the one before it."""
    kept: list[str] = []
    for segment in segments:
        name = segment.partition(";")[0]
        if name == ".." and climb:
            del kept[-1:]
        elif name.rstrip("."):
            kept.append(name.rstrip("."))
    return "/" + "/".join(kept)


class Template:
    """A path with a model or an id in it: /openai/deployments/{model}/chat/completions, /v1/payments/{id}"""

    __slots__ = ("_before", "_behind", "names_model", "text")

    def __init__(self, text: str) -> None:
        self.text = text
        self.names_model = MODEL in text
        self._before, _, self._behind = text.partition(MODEL if self.names_model else ID)

    def value(self, path: str) -> str | None:
        """The model or id in `path`, None where the path does not fit or it is not spelled plainly."""
        between = self.between(path)
        plain = is_model if self.names_model else is_id
        return between if between is not None and plain(between) else None

    def between(self, path: str) -> str | None:
        """Whatever stands at the model's or id's place, None where the rest does not fit or nothing stands there."""
        before, behind = self._before, self._behind
        if len(path) <= len(before) + len(behind) or not path.startswith(before) or not path.endswith(behind):
            return None
        return path[len(before) : len(path) - len(behind)]
