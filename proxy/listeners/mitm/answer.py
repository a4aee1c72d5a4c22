"""Response heads as HTTP/1 bytes or HTTP/2 fields; refusals sent where no exchange was begun."""

from __future__ import annotations

from http import HTTPStatus
from typing import Final

from proxy.errors import Refusal
from proxy.headers import Headers

_FRAMING: Final = ("connection", "transfer-encoding", "keep-alive", "proxy-connection", "upgrade")
_STATUS_LINES: Final = {status.value: f"HTTP/1.1 {status.value} {status.phrase}\r\n" for status in HTTPStatus}
CONTINUE: Final = b"HTTP/1.1 100 Continue\r\n\r\n"
LAST_CHUNK: Final = b"0\r\n\r\n"


class BadAnswer(ValueError):
    """A status or header that would break the framing of the answer; nothing of it was sent."""


def bodiless(status: int) -> bool:
    """Statuses whose answers end with their head."""
    return status in (204, 304) or status < 200


def head_bytes(status: int, headers: Headers, framing: str) -> bytes:
    """Status line and headers, then `framing` (ready lines). Raises BadAnswer."""
    line = _STATUS_LINES.get(status) or _unnamed(status)
    for name in _FRAMING:
        if name in headers:
            headers = _without(headers)
            break
    try:
        return f"{line}{head_lines(headers)}{framing}\r\n".encode()
    except UnicodeEncodeError as error:
        raise BadAnswer("a response header is not UTF-8") from error


def head_lines(headers: Headers) -> str:
    """One line for each header. Raises BadAnswer."""
    lines = "".join([f"{name}: {value}\r\n" for name, value in headers.items()])
    count = len(headers)
    if lines.count("\r") != count or lines.count("\n") != count or "\0" in lines:
        raise BadAnswer("a header has a control character in it")
    return lines


def fields(status: int, headers: Headers) -> list[tuple[bytes, bytes]]:
    """The same for HTTP/2. Raises BadAnswer."""
    _STATUS_LINES.get(status) or _unnamed(status)
    found: list[tuple[bytes, bytes]] = [(b":status", b"%d" % status)]
    for name, value in headers.items():
        lower = name.lower()
        if lower in _FRAMING:
            continue
        if "\r" in value or "\n" in value or "\0" in value or ":" in name or "\n" in name:
            raise BadAnswer("a response header has a control character in it")
        try:
            found.append((lower.encode(), value.encode()))
        except UnicodeEncodeError as error:
            raise BadAnswer("a response header is not UTF-8") from error
    return found


def refusal_bytes(refusal: Refusal) -> bytes:
    """A whole HTTP/1 answer that closes the connection, for faults that are met before there is an exchange."""
    body = refusal.envelope()
    framing = f"content-length: {len(body)}\r\nconnection: close\r\n"
    return head_bytes(refusal.status, Headers(refusal.wire_headers()), framing) + body


def _unnamed(status: int) -> str:
    if not 100 <= status <= 999:
        raise BadAnswer(f"{status} is no HTTP status")
    return f"HTTP/1.1 {status} \r\n"


def _without(headers: Headers) -> Headers:
    return Headers([(name, value) for name, value in headers.items() if name.lower() not in _FRAMING])
