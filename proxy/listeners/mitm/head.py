"""HTTP/1 request heads: bytes in, a checked `Head` out. Strict where two parsers could disagree.

Rules from RFC 9110 and RFC 9112. What would let somebody else read another message than we do (framing,
folding, control characters) closes the connection; what is merely not acceptable leaves it usable.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Final

from proxy.errors import Refusal
from proxy.headers import Headers

_NAME: Final = r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+"
_REQUEST_LINE: Final = re.compile(rf"({_NAME}) ([\x21-\x7e]+) HTTP/1\.([01])\r\n")
_FIELDS: Final = re.compile(rf"(?:{_NAME}:[\t\x20-\x7e\xa0-\U0010ffff]*\r\n)*")
_FIELD: Final = re.compile(r"([^:\r\n]+):([^\r\n]*)\r\n")
_CONTROL: Final = re.compile(r"[\x00-\x08\x0a-\x1f\x7f-\x9f]")
_LINE: Final = re.compile(rf"{_NAME} [\x21-\x7e]+")
_LENGTH: Final = re.compile(r"[0-9]{1,18}")
_L402: Final = re.compile(r"(?:L402|LSAT) +([\x21-\x7e]+)", re.IGNORECASE)

SINGLE: Final = ("host", "authorization", "x-api-key", "api-key", "x-goog-api-key", "proxy-authorization")
"""Fields that name the target or the payer: two of them are read differently by different parties."""

_HOP_BY_HOP: Final = (
    "connection",
    "keep-alive",
    "proxy-connection",
    "proxy-authorization",
    "proxy-authenticate",
    "te",
    "trailer",
    "upgrade",
    "http2-settings",
    "expect",
)
"""`transfer-encoding` stays: it is how the gateway knows that a body of unknown length follows."""
_KEPT_ALWAYS: Final = frozenset({"host", "content-length", "transfer-encoding"})


class Unreadable(Exception):
    """There is no request line to answer to: reply 400 and close."""


@dataclass(slots=True)
class Head:
    """One request head. `length` is the body's size in bytes, None when it is chunked."""

    method: str
    target: str
    minor: int
    headers: Headers
    length: int | None = 0
    keep_alive: bool = True
    expect: bool = False
    upgrade: str = ""
    """Value of the Upgrade field, lower case; "" where there is none."""
    proxy_authorization: str | None = field(default=None, repr=False)
    refusal: Refusal | None = None


def parse(raw: bytes, count_max: int) -> Head:
    """Parse a head (its last line's CRLF included, the empty line not). Raises Unreadable."""
    try:
        text = raw.decode()
        encoded = True
    except UnicodeDecodeError:
        text = raw.decode("latin-1")
        encoded = False
    line = _REQUEST_LINE.match(text)
    if line is None:
        raise Unreadable
    method, target, minor = line.groups()
    head = Head(method, target, int(minor), Headers())
    if not encoded:
        return _refuse(head, "A header is not UTF-8.")
    start = line.end()
    if _FIELDS.fullmatch(text, start) is None:
        return _refuse(head, _fault(text[start:]))
    pairs = [(name, value.strip(" \t")) for name, value in _FIELD.findall(text, start)]
    if len(pairs) > count_max:
        return _too_many(head, count_max)
    head.headers = Headers(pairs)
    _frame(head)
    if head.refusal is None:
        head.refusal = single(head.headers)
    if head.refusal is None and minor == "1" and "host" not in head.headers:
        head.refusal = Refusal("invalid_header", "The Host header is missing.")
    strip(head)
    return head


def single(headers: Headers) -> Refusal | None:
    """A refusal if a field that may stand once stands twice."""
    for name in SINGLE:
        if name in headers and len(values := headers.getall(name)) > 1 and not _same_l402(name, values):
            return Refusal("invalid_header", f"The header {name} is given more than once.")
    return None


def _same_l402(name: str, values: list[str]) -> bool:
    """Aperture's client sends one credential twice, under the old name of its scheme and the new one."""
    if name != "authorization":
        return False
    tokens = [_L402.fullmatch(value) for value in values]
    return tokens[0] is not None and all(token is not None and token[1] == tokens[0][1] for token in tokens)


def _frame(head: Head) -> None:
    """Where the body ends, and whether the connection outlives the exchange."""
    headers = head.headers
    if head.minor == 0:
        head.keep_alive = False
    if "transfer-encoding" in headers:
        codings = headers.getall("transfer-encoding")
        if "content-length" in headers:
            _refuse(head, "Content-Length and Transfer-Encoding exclude each other.")
        elif head.minor == 0:
            _refuse(head, "HTTP/1.0 has no Transfer-Encoding.")
        elif len(codings) != 1 or codings[0].lower() != "chunked":
            _refuse(head, "The only Transfer-Encoding understood here is 'chunked', once.")
        else:
            head.length = None
    elif "content-length" in headers:
        lengths = headers.getall("content-length")
        if len(lengths) != 1 or _LENGTH.fullmatch(lengths[0]) is None:
            _refuse(head, "Content-Length must stand once and be a number.")
        else:
            head.length = int(lengths[0])


def strip(head: Head) -> None:
    """Take what concerns this connection only out of the headers and into the head."""
    headers = head.headers
    if "connection" in headers:
        named = ",".join(headers.popall("connection")).lower()
        if "close" in named:
            head.keep_alive = False
        for name in {part.strip() for part in named.split(",")} - _KEPT_ALWAYS:
            if name == "upgrade" or name not in headers:
                continue
            if name in SINGLE:
                head.refusal = head.refusal or Refusal("invalid_header", f"Connection may not name {name}.")
            else:
                headers.popall(name)
    if "upgrade" in headers:
        head.upgrade = headers["upgrade"].lower()
    if "expect" in headers:
        head.expect = headers["expect"].lower() == "100-continue" and head.minor == 1
    if "proxy-authorization" in headers:
        head.proxy_authorization = headers["proxy-authorization"]
    for name in _HOP_BY_HOP:
        if name in headers:
            headers.popall(name)


def _refuse(head: Head, message: str) -> Head:
    """The framing cannot be trusted: no body is read, and the connection ends with the answer."""
    head.refusal = Refusal("invalid_header", message, close=True)
    head.length = 0
    head.keep_alive = False
    return head


def _too_many(head: Head, count_max: int) -> Head:
    head.refusal = Refusal("headers_too_large", f"More than {count_max} header lines.", close=True)
    head.keep_alive = False
    return head


def _fault(fields: str) -> str:
    if re.search(r"(?:^|\r\n)[ \t]", fields):
        return "A header line is folded; folding is obsolete (RFC 9112, 5.2)."
    return "A header line is malformed or has a control character in it."


def from_fields(fields: list[tuple[bytes, bytes]], count_max: int) -> Head:
    """The same from HTTP/2 fields, which h2 has validated against RFC 9113. `host` is the authority."""
    head = Head("", "", 1, Headers())
    try:
        pairs = [(bytes(name).decode(), bytes(value).decode()) for name, value in fields]
    except UnicodeDecodeError:
        pairs = [(bytes(name).decode("latin-1"), bytes(value).decode("latin-1")) for name, value in fields]
        head.refusal = Refusal("invalid_header", "A header is not UTF-8.")
    pseudo = {name: value for name, value in pairs if name.startswith(":")}
    regular = [pair for pair in pairs if not pair[0].startswith(":")]
    head.method, head.target = pseudo.get(":method", ""), pseudo.get(":path", "")
    authority = pseudo.get(":authority")
    if authority is not None and not any(name == "host" for name, _ in regular):
        regular.insert(0, ("host", authority))
    if len(regular) > count_max:
        head.refusal = Refusal("headers_too_large", f"More than {count_max} header lines.")
        return head
    head.headers = Headers(regular)
    if head.refusal is None and _CONTROL.search("".join([value for _, value in pairs])):
        head.refusal = Refusal("invalid_header", "A header has a control character in it.")
    head.refusal = head.refusal or single(head.headers)
    if head.refusal is None and "host" not in head.headers:
        head.refusal = Refusal("invalid_header", "The authority is missing.")
    if head.refusal is None and head.method != "CONNECT" and not _LINE.fullmatch(f"{head.method} {head.target}"):
        head.refusal = Refusal("invalid_path", "The method or the path has characters in it that do not belong there.")
    strip(head)
    return head
