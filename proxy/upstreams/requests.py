"""The bytes of a request: its head exactly as the caller spelled it, and our framing."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from typing import Final

from proxy.headers import Headers

_OF_THE_HOP: Final = frozenset(
    {
        "connection",
        "content-length",
        "expect",
        "host",
        "keep-alive",
        "proxy-connection",
        "te",
        "trailer",
        "transfer-encoding",
        "upgrade",
    }
)
"""Fields that speak of one connection only (RFC 9110, 7.6.1), and framing, which is written here."""

_METHODS: Final = frozenset({"GET", "POST", "HEAD", "PUT", "DELETE", "PATCH", "OPTIONS"})
_TOKEN: Final = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_WITHOUT_BODY: Final = frozenset({"GET", "HEAD", "OPTIONS", "DELETE", "TRACE"})


def request_head(
    method: str, path: str, authority: str, headers: Headers, body: bytes | AsyncIterator[bytes] | None
) -> bytes:
    """The request's head. Nothing is added to the caller's fields but Host and the framing of `body`.

    Raises ValueError where a method, path or field would break out of its line: the caller let it through.
    """
    if method not in _METHODS and _TOKEN.fullmatch(method) is None:
        raise ValueError("not a method")
    if " " in path or not path.startswith("/"):
        raise ValueError("not a path in origin form")
    lines = [f"{method} {path} HTTP/1.1\r\n", f"host: {authority}\r\n"]
    lines += [f"{name}: {value}\r\n" for name, value in headers.items() if name.lower() not in _OF_THE_HOP]
    if isinstance(body, bytes):
        lines.append(f"content-length: {len(body)}\r\n")
    elif body is None:
        if method not in _WITHOUT_BODY:
            lines.append("content-length: 0\r\n")
    elif (length := declared_length(headers)) is None:
        lines.append("transfer-encoding: chunked\r\n")
    else:
        lines.append(f"content-length: {length}\r\n")
    lines.append("\r\n")
    text = "".join(lines)
    if text.count("\n") != len(lines) or text.count("\r") != len(lines) or "\0" in text:
        raise ValueError("a control byte in the request's head")
    return text.encode("utf-8", "surrogateescape")


def declared_length(headers: Headers) -> int | None:
    """The Content-Length a streamed body was announced with, None where it is chunked."""
    value = headers.get("content-length")
    return int(value) if value is not None and value.isascii() and value.isdigit() else None
