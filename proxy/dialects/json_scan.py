"""A request body, read strictly: one meaning for every reader, and where its top-level members stand.

Two JSON parsers may take different members of `{"model": "a", "model": "b"}`, and one of them decides about
the price; so what they could disagree on is refused here: duplicate keys at any level (also when spelt with
escapes), numbers that do not fit 64 bits, NaN, lone surrogates, a byte order mark, invalid UTF-8.

Every pass is a C call over the bytes, so that a million numbers or spaces cost no Python step each.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from itertools import accumulate
from typing import Any, Final, NamedTuple

import orjson

from proxy.errors import Refusal

MEMBERS_MAX: Final = 1_000
"""Members of the top level, each of which is looked at; no API has a hundred."""
NESTING_MAX: Final = 128
"""Containers inside one another, the body itself included."""
CONTAINERS_MAX: Final = 250_000
"""Objects and arrays of one body: each is hundreds of bytes in memory, whatever it was on the wire."""
VALUES_MAX: Final = 2_000_000
"""Members and items of one body."""

Span = tuple[int, int, int, int]
"""Start of key, end of key, start of value, end of value: offsets in the body, quotes included."""

_OPEN: Final = b"{["
_NOT_BRACKETS: Final = bytes(set(range(256)) - set(b"{}[]"))
_STEP: Final = {ord("{"): 1, ord("["): 1, ord("}"): -1, ord("]"): -1}
_LONG_DIGITS: Final = re.compile(rb"\d{19}")
_WIDE_INTEGER: Final = re.compile(rb"(?<![\d.eE+])(?<![eE]-)-?\d{19,}+(?![.eE])")
_INTEGER_MIN: Final = -(1 << 63)
_INTEGER_MAX: Final = (1 << 64) - 1
_SMALL_BYTES: Final = 64 << 10
"""A body this small cannot hold too many values: nothing to count."""

_STRING: Final = rb'"[^"\\]*+(?:\\.[^"\\]*+)*+"'
_UNROLLED_LEVELS: Final = 6


def _balanced(levels: int) -> bytes:
    """Pattern for what stands between two brackets, containers up to `levels` deep included.

    Possessive throughout: each byte is read once for each level at most. It only ever sees valid JSON.
    """
    pattern = rb'(?:[^"{}\[\]]++|' + _STRING + rb")*+"
    for _ in range(levels):
        pattern = rb'(?:[^"{}\[\]]++|' + _STRING + rb"|[{\[]" + pattern + rb"[}\]])*+"
    return pattern


_CONTENT: Final = re.compile(_balanced(_UNROLLED_LEVELS), re.DOTALL)
_SPACE: Final = rb"[ \t\r\n]*+"
_MEMBER: Final = re.compile(
    _SPACE
    + rb"("
    + _STRING
    + rb")"
    + _SPACE
    + rb":"
    + _SPACE
    # A string or scalar with the comma or brace after it, or nothing where a container begins.
    + rb"(?:("
    + _STRING
    + rb'|[^][{},: \t\r\n"]++)'
    + _SPACE
    + rb"[,}])?+",
    re.DOTALL,
)
_ITEM: Final = re.compile(rb"\[" + _SPACE + rb"(?=[{\[])")
_SEPARATOR: Final = re.compile(_SPACE + rb"[,}]")


class Scan(NamedTuple):
    """What `scan` found."""

    document: dict[str, Any]
    spans: dict[str, Span]
    normal: bytes
    """The same document without white space, every key spelt without needless escapes."""

    def has_key(self, key: bytes) -> bool:
        """Whether an object at any level has this member. A key that merely ends so counts, too."""
        return b'"' + key + b'":' in self.normal


def scan(body: bytes) -> Scan:
    """Parse a body whose top level is an object. Raises Refusal `invalid_json` or `invalid_request`."""
    small = len(body) <= _SMALL_BYTES
    skeleton = b"" if small else _counted_skeleton(body)
    try:
        document = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise Refusal("invalid_json", f"The body is not valid JSON: {error}. Send a JSON object in UTF-8.") from error
    if not isinstance(document, dict):
        raise Refusal("invalid_request", "The body must be a JSON object.")
    if len(document) > MEMBERS_MAX:
        raise Refusal("invalid_json", f"The body has more than {MEMBERS_MAX} members. Send less.")
    if body.count(b"{") + body.count(b"[") > NESTING_MAX:
        skeleton = skeleton or _skeleton(body)
        _check_nesting(skeleton)
    normal = orjson.dumps(document)
    if body == normal:
        # Written from the parsed document, so it can hold neither a key twice nor a number that changed.
        return Scan(document, _normal_spans(document), normal)
    skeleton = skeleton or _skeleton(body)
    _check_integers(skeleton)
    if skeleton.count(b":") != _skeleton(normal).count(b":"):
        raise Refusal("invalid_json", "The body has an object with the same key twice. Send every key once.")
    return Scan(document, _spans(body, len(document)), normal)


def _skeleton(text: bytes) -> bytes:
    """What stands outside of strings. Valid JSON has backslashes inside of strings only."""
    if b"\\" in text:
        text = text.replace(b"\\\\", b"").replace(b'\\"', b"")
    return b"".join(text.split(b'"')[::2])


def _counted_skeleton(body: bytes) -> bytes:
    """The skeleton of a large body, refused before anything is built that is far larger than it."""
    unescaped = body.replace(b"\\\\", b"").replace(b'\\"', b"") if b"\\" in body else body
    if unescaped.count(b'"') > 4 * VALUES_MAX:
        raise _too_many()
    skeleton = b"".join(unescaped.split(b'"')[::2])
    if skeleton.count(b",") > VALUES_MAX or skeleton.count(b"{") + skeleton.count(b"[") > CONTAINERS_MAX:
        raise _too_many()
    return skeleton


def _too_many() -> Refusal:
    return Refusal(
        "invalid_json",
        f"The body has more than {CONTAINERS_MAX} objects and arrays, or more than {VALUES_MAX} values. Send less.",
    )


def _check_nesting(skeleton: bytes) -> None:
    brackets = skeleton.translate(None, _NOT_BRACKETS)
    if len(brackets) > 2 * NESTING_MAX and max(accumulate(map(_STEP.__getitem__, brackets))) > NESTING_MAX:
        raise Refusal("invalid_json", f"The body is nested deeper than {NESTING_MAX} levels. Flatten it.")


def _check_integers(skeleton: bytes) -> None:
    if _LONG_DIGITS.search(skeleton) is None:
        return
    for found in _WIDE_INTEGER.finditer(skeleton):
        digits = found.group()
        if len(digits) > 20 or not _INTEGER_MIN <= int(digits) <= _INTEGER_MAX:
            raise Refusal("invalid_json", "The body has an integer that does not fit 64 bits. Send it as a string.")


def _normal_spans(document: dict[str, Any]) -> dict[str, Span]:
    """The spans in a body that is already in normal form, as most clients send it: lengths alone tell them."""
    spans: dict[str, Span] = {}
    at = 1
    for key, value in document.items():
        key_end = at + len(orjson.dumps(key))
        end = key_end + 1 + len(orjson.dumps(value))
        spans[key] = (at, key_end, key_end + 1, end)
        at = end + 1
    return spans


def _spans(body: bytes, count: int) -> dict[str, Span]:
    """Where the members of the (valid) top-level object stand, in their order."""
    spans: dict[str, Span] = {}
    at = body.index(b"{") + 1
    for _ in range(count):
        member = _found(_MEMBER.match(body, at))
        key_start, key_end = member.span(1)
        start, end = member.span(2)
        if start >= 0:
            at = member.end()
        else:
            start = member.end()
            end = _container_end(body, start)
            at = _found(_SEPARATOR.match(body, end)).end()
        key = body[key_start:key_end]
        spans[orjson.loads(key) if b"\\" in key else key[1:-1].decode()] = (key_start, key_end, start, end)
    return spans


def _container_end(body: bytes, start: int) -> int:
    at, depth = start + 1, 1
    while depth:
        at = _found(_CONTENT.match(body, at)).end()
        depth += 1 if body[at] in _OPEN else -1
        at += 1
    return at


def first_item(array: bytes) -> tuple[int, int]:
    """Start and end of the first item of a (valid) array, an object or array itself."""
    start = _found(_ITEM.match(array)).end()
    return start, _container_end(array, start)


def _found(match: re.Match[bytes] | None) -> re.Match[bytes]:
    """Valid JSON always matches; anything else means that the two parsers here disagree."""
    if match is None:
        raise Refusal("invalid_json", "The body could not be read member by member.")
    return match


def splice(body: bytes, spans: Mapping[str, Span], changes: Mapping[str, bytes | None]) -> bytes:
    """The body with top-level members changed and every other byte as it was.

    `changes`: member -> its new value as JSON; None removes the member. A member that the body lacks is put in
    front of the others; removing one that it lacks changes nothing. `spans` are those of `body`, in its order.
    """
    edits = _edits(spans, changes)
    fresh = [
        orjson.dumps(key) + b":" + value for key, value in changes.items() if value is not None and key not in spans
    ]
    kept = any(changes.get(key, b"") is not None for key in spans)
    pieces: list[bytes] = []
    at = body.index(b"{") + 1
    pieces += (body[:at], b",".join(fresh), b"," if fresh and kept else b"")
    for start, end, value in edits:
        pieces += (body[at:start], value)
        at = end
    pieces.append(body[at:])
    return b"".join(pieces)


def respliced(body: bytes, spans: Mapping[str, Span], changes: Mapping[str, bytes]) -> tuple[bytes, Scan]:
    """`splice`, and what `scan` finds in its result, without reading again what was read before.

    `body` has been scanned, and the values are JSON of our own making or taken out of it.
    """
    fresh = [(key, orjson.dumps(key), value) for key, value in changes.items() if key not in spans]
    at = body.index(b"{") + 1
    moved: dict[str, Span] = {}
    for key, name, value in fresh:
        middle = at + len(name)
        moved[key] = (at, middle, middle + 1, middle + 1 + len(value))
        at = middle + len(value) + 2
    shift = at - body.index(b"{") - 1
    for key, (key_start, key_end, start, end) in spans.items():
        length = len(changes[key]) if key in changes else end - start
        moved[key] = (key_start + shift, key_end + shift, start + shift, start + shift + length)
        shift += length - (end - start)
    written = splice(body, spans, changes)
    document = orjson.loads(written)
    return written, Scan(document, moved, orjson.dumps(document))


def _edits(spans: Mapping[str, Span], changes: Mapping[str, bytes | None]) -> list[tuple[int, int, bytes]]:
    """(start, end, new bytes), in order. A removed member takes one comma with it."""
    edits: list[tuple[int, int, bytes]] = []
    members = list(spans.items())
    leading, previous_end = True, 0
    for index, (key, (key_start, _, start, end)) in enumerate(members):
        value = changes.get(key, b"")
        if value is None:
            if not leading:
                edits.append((previous_end, end, b""))
            elif index + 1 < len(members):
                edits.append((key_start, members[index + 1][1][0], b""))
            else:
                edits.append((key_start, end, b""))
        else:
            leading = False
            if value:
                edits.append((start, end, value))
        previous_end = end
    return edits
