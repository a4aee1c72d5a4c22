"""HTTP/1 request heads."""

from __future__ import annotations

import pytest
from mitmproxy.net.http import http1
from mitmproxy.net.http.validate import validate_headers

from proxy.listeners.mitm.head import Unreadable, from_fields, parse

LINE = b"POST /v1/x HTTP/1.1\r\n"
HOST = b"Host: h\r\n"

FRAMING_FAULTS = [
    b"Content-Length: 5\r\nContent-Length: 5\r\n",
    b"Content-Length: 5\r\nContent-Length: 6\r\n",
    b"Content-Length: 5, 5\r\n",
    b"Content-Length: +5\r\n",
    b"Content-Length: -5\r\n",
    b"Content-Length: 0x5\r\n",
    b"Content-Length: 5_0\r\n",
    b"Content-Length: \r\n",
    b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n",
    b"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n",
    b"Transfer-Encoding: chunked, chunked\r\n",
    b"Transfer-Encoding: xchunked\r\n",
    b"Transfer-Encoding: chunked, identity\r\n",
    b"Transfer-Encoding: identity\r\n",
    b"Transfer-Encoding: gzip\r\n",
    b"Transfer-Encoding : chunked\r\n",
    b"Transfer-Encoding\r\n",
    b"X y: z\r\n",
    b": z\r\n",
    b"X\x00y: z\r\n",
]
"""Heads that mitmproxy refuses as well."""

STRICTER = [
    b"Transfer-Encoding: \x0bchunked\r\n",
    b"A: b\x00c\r\n",
    b"A: b\rc\r\n",
    b"A: b\nc\r\n",
    b"A: b\x7f\r\n",
    b"A: b\x1b[0m\r\n",
    b"A: b\r\n folded\r\n",
    b" A: b\r\n",
    b"A: \xff\xfe\r\n",
    b"A: \xc2\x85\r\n",
]
"""Heads that mitmproxy lets through and we do not."""

BAD_LINES = [
    b"\r\n",
    b"GET\r\n",
    b"GET /\r\n",
    b"GET / HTTP/2.0\r\n",
    b"GET / HTTP/1.2\r\n",
    b"GET / http/1.1\r\n",
    b"GET  / HTTP/1.1\r\n",
    b"GET /a b HTTP/1.1\r\n",
    b"GET /\xc3\xa9 HTTP/1.1\r\n",
    b"GET /\x00 HTTP/1.1\r\n",
    b"G(T / HTTP/1.1\r\n",
    b" GET / HTTP/1.1\r\n",
    b"GET / HTTP/1.1 \r\n",
    b"GET\t/\tHTTP/1.1\r\n",
]


@pytest.mark.parametrize("fields", FRAMING_FAULTS + STRICTER)
def test_untrusted_framing_refuses_and_closes(fields: bytes) -> None:
    """No body is read after a head whose framing two parsers could read differently."""
    head = parse(LINE + HOST + fields, 200)
    assert head.refusal is not None
    assert head.refusal.code == "invalid_header"
    assert head.refusal.close
    assert not head.keep_alive
    assert head.length == 0


@pytest.mark.parametrize("fields", FRAMING_FAULTS)
def test_what_mitmproxy_refuses_is_refused(fields: bytes) -> None:
    """The table above is mitmproxy's own: our parser is at least as strict."""
    with pytest.raises(ValueError):
        validate_headers(http1.read_request_head((LINE + HOST + fields).split(b"\r\n")[:-1]))


@pytest.mark.parametrize("line", BAD_LINES)
def test_bad_request_line_is_unreadable(line: bytes) -> None:
    """Without a request line there is nothing to answer to."""
    with pytest.raises(Unreadable):
        parse(line + HOST, 200)


@pytest.mark.parametrize(
    "name", [b"Host", b"Authorization", b"X-Api-Key", b"api-key", b"X-Goog-Api-Key", b"Proxy-Authorization"]
)
def test_duplicated_target_or_credential_is_refused(name: bytes) -> None:
    """Two of them are read differently by different parties; the framing is intact, so the connection stays."""
    other = b"" if name == b"Host" else HOST
    head = parse(LINE + other + name + b": a\r\n" + name.lower() + b": a\r\n", 200)
    assert head.refusal is not None
    assert head.refusal.code == "invalid_header"
    assert not head.refusal.close
    assert head.keep_alive


def test_missing_host_is_refused_on_http11_only() -> None:
    """RFC 9112, 3.2."""
    assert parse(LINE, 200).refusal is not None
    assert parse(b"GET / HTTP/1.0\r\n", 200).refusal is None


def test_too_many_headers_are_refused() -> None:
    """431, counted in lines."""
    head = parse(LINE + HOST + b"a: b\r\n" * 20, 20)
    assert head.refusal is not None
    assert head.refusal.code == "headers_too_large"
    assert parse(LINE + HOST + b"a: b\r\n" * 19, 20).refusal is None


def test_hop_by_hop_headers_are_taken_out() -> None:
    """What concerns this connection only is not the gateway's; Connection names more of it."""
    head = parse(
        LINE + HOST + b"Connection: keep-alive, X-Hop\r\nKeep-Alive: 5\r\nX-Hop: 1\r\nTE: trailers\r\n"
        b"Proxy-Connection: x\r\nTrailer: a\r\nProxy-Authorization: Basic eA==\r\nUpgrade: WebSocket\r\nA: b\r\n",
        200,
    )
    assert list(head.headers.items()) == [("Host", "h"), ("A", "b")]
    assert head.upgrade == "websocket"
    assert head.proxy_authorization == "Basic eA=="
    assert head.keep_alive


@pytest.mark.parametrize("name", ["authorization", "x-api-key", "api-key"])
def test_connection_cannot_take_a_credential_away(name: str) -> None:
    """Naming a credential in Connection would hide it from whoever reads later."""
    head = parse(LINE + HOST + f"Connection: {name}\r\n{name}: k\r\n".encode(), 200)
    assert head.refusal is not None
    assert head.headers[name] == "k"


def test_connection_cannot_take_host_or_length_away() -> None:
    """They stay whatever Connection names."""
    head = parse(LINE + HOST + b"Connection: host, content-length\r\nContent-Length: 3\r\n", 200)
    assert head.headers["content-length"] == "3"
    assert head.headers["host"] == "h"


def test_values_are_stripped_and_decoded_as_utf8() -> None:
    """Optional white space is no part of a value."""
    head = parse(LINE + HOST + b"A:\t b c \t\r\nB:\r\nC: \xc3\xa9\r\n", 200)
    assert head.headers["a"] == "b c"
    assert head.headers["b"] == ""
    assert head.headers["c"] == "é"


def test_http10_connections_end_with_their_answer() -> None:
    """No keep-alive on HTTP/1.0, asked for or not."""
    assert not parse(b"GET / HTTP/1.0\r\nConnection: keep-alive\r\n", 200).keep_alive


def test_http10_has_no_transfer_encoding() -> None:
    """RFC 9112, 6.1."""
    head = parse(b"POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n", 200)
    assert head.refusal is not None and head.refusal.close


def test_a_long_run_of_spaces_is_parsed_in_linear_time() -> None:
    """64 KiB of white space inside a value: a backtracking pattern would take minutes."""
    head = parse(LINE + HOST + b"A: x" + b" " * 65000 + b"y\r\n", 200)
    assert head.refusal is None
    assert len(head.headers["a"]) == 65002


H2 = [(b":method", b"GET"), (b":path", b"/x"), (b":scheme", b"https"), (b":authority", b"h")]


@pytest.mark.parametrize(
    ("fields", "code"),
    [
        ([*H2, (b"a", b"b\x00")], "invalid_header"),
        ([*H2, (b"a", b"\xff")], "invalid_header"),
        ([*H2, (b"authorization", b"a"), (b"authorization", b"b")], "invalid_header"),
        ([*H2[:3]], "invalid_header"),
        ([H2[0], (b":path", b"/a b"), *H2[2:]], "invalid_path"),
        ([*H2, *[(b"a", b"b")] * 30], "headers_too_large"),
    ],
)
def test_http2_heads_obey_the_same_rules(fields: list[tuple[bytes, bytes]], code: str) -> None:
    """What HTTP/1 refuses, HTTP/2 refuses."""
    head = from_fields(fields, 20)
    assert head.refusal is not None
    assert head.refusal.code == code


def test_http2_authority_becomes_host() -> None:
    """The gateway finds the target in one place."""
    head = from_fields(H2, 20)
    assert head.refusal is None
    assert head.headers["host"] == "h"
    assert (head.method, head.target) == ("GET", "/x")


@pytest.mark.parametrize(
    ("values", "accepted"),
    [
        ((b"LSAT m:p", b"L402 m:p"), True),
        ((b"l402  m:p", b"LSAT m:p"), True),
        ((b"L402 m:p", b"L402 m:p"), True),
        ((b"LSAT m:p", b"L402 m:q"), False),
        ((b"Bearer m:p", b"L402 m:p"), False),
        ((b"L402 m:p", b"m:p"), False),
        ((b"L402 m:p", b"L402 m:p, L402 m:q"), False),
        ((b"Bearer m", b"Bearer m"), False),
    ],
)
def test_authorization_stands_twice_only_with_one_l402_token(values: tuple[bytes, bytes], accepted: bool) -> None:
    """Over HTTP/1 and HTTP/2 alike."""
    head = parse(LINE + HOST + b"".join(b"Authorization: %b\r\n" % value for value in values), 100)
    fields = [(b":method", b"GET"), (b":path", b"/"), (b":authority", b"h")]
    head2 = from_fields([*fields, *((b"authorization", value) for value in values)], 100)
    for parsed in (head, head2):
        assert (parsed.refusal is None) is accepted
