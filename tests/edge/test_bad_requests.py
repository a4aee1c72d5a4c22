"""Bad requests through the whole proxy: a clear error, nothing forwarded, the connection as good as its framing."""

from __future__ import annotations

import time
from typing import Any

import orjson
import pytest

from tests.edge.conftest import HELLO
from tests.support.raw import Raw, request
from tests.support.world import World


def ask(edge: World, data: bytes) -> Any:
    """One answer on a connection of its own."""
    with Raw(edge.gateway.address("api")) as raw:
        raw.send(data)
        return raw.answer()


def whole(**changes: Any) -> bytes:
    return orjson.dumps({**HELLO, **changes})


TWO_MODELS = b'{"model": "gpt-4o", "model": "demo", "messages": [{"role": "user", "content": "x"}]}'
TWO_ROLES = b'{"model": "gpt-4o", "messages": [{"role": "user", "role": "system", "content": "x"}]}'
BAD_BODIES: list[tuple[str, bytes, str]] = [
    ("empty", b"", "invalid_json"),
    ("cut", b'{"model": "gpt-4o"', "invalid_json"),
    ("array", b"[]", "invalid_request"),
    ("trailing", whole() + b"x", "invalid_json"),
    ("nan", b'{"model": "gpt-4o", "temperature": NaN}', "invalid_json"),
    ("duplicate key", TWO_MODELS, "invalid_json"),
    ("duplicate key, escaped", whole()[:-1] + b', "mod\\u0065l": "demo"}', "invalid_json"),
    ("duplicate key, nested", TWO_ROLES, "invalid_json"),
    ("invalid utf-8", whole().replace(b"Say", b"\xff\xfe"), "invalid_json"),
    ("nested", b'{"model": "gpt-4o", "messages": ' + b"[" * 5000 + b"]" * 5000 + b"}", "invalid_json"),
    ("no messages", b'{"model": "gpt-4o"}', "invalid_request"),
    ("empty messages", whole(messages=[]), "invalid_request"),
    ("messages of text", whole(messages="hello"), "invalid_request"),
    ("model of number", whole(model=4), "invalid_request"),
    ("stream of text", whole(stream="yes"), "invalid_request"),
    ("negative limit", whole(max_tokens=-1), "invalid_request"),
    ("limit of text", whole(max_tokens="50"), "invalid_request"),
    ("fractional limit", whole(max_tokens=1.5), "invalid_request"),
    ("limit of bool", whole(max_tokens=True), "invalid_request"),
    ("two limits", whole(max_completion_tokens=60), "invalid_request"),
    ("n of zero", whole(n=0), "invalid_request"),
    ("n absurd", whole(n=10**6), "invalid_request"),
    ("missing model", b'{"messages": [{"role": "user", "content": "x"}]}', "invalid_request"),
]  # fmt: skip


@pytest.mark.parametrize(("body", "code"), [row[1:] for row in BAD_BODIES], ids=[row[0] for row in BAD_BODIES])
def test_bad_body_is_400_and_the_connection_goes_on(edge: World, key: str, body: bytes, code: str) -> None:
    """The framing is intact, so the next request on the connection works; nothing reached the provider."""
    with Raw(edge.gateway.address("api")) as raw:
        raw.send(request(body, key=key))
        refused = raw.answer()
        assert (refused.status, refused.code) == (400, code), refused.body
        assert refused.headers["x-tollway-request-id"].startswith("req_")
        assert edge.provider.requests == []
        raw.send(request(HELLO, key=key))
        assert raw.answer().status == 200


@pytest.mark.parametrize(
    ("model", "code", "status"),
    [("no-such", "model_not_available", 404), ("m" * 300, "invalid_request", 400), ("", "invalid_request", 400)],
)
def test_unknown_model(edge: World, key: str, model: str, code: str, status: int) -> None:
    """404 `model_not_available`; an absurd name is no lookup."""
    answer = ask(edge, request(whole(model=model), key=key))
    assert (answer.status, answer.code) == (status, code)


@pytest.mark.parametrize("content_type", ["text/plain", "multipart/form-data; boundary=x", "application/xml"])
def test_wrong_content_type_is_415(edge: World, key: str, content_type: str) -> None:
    """A JSON route wants JSON."""
    answer = ask(edge, request(HELLO, key=key, headers=(f"Content-Type: {content_type}",)))
    assert (answer.status, answer.code) == (415, "unsupported_media_type")


@pytest.mark.parametrize("coding", ["gzip", "br", "zstd", "deflate", "gzip, gzip"])
def test_compressed_body_is_415(edge: World, key: str, coding: str) -> None:
    """Never decoded, so never a bomb."""
    answer = ask(edge, request(HELLO, key=key, headers=(f"Content-Encoding: {coding}",)))
    assert (answer.status, answer.code) == (415, "unsupported_media_type")


@pytest.mark.parametrize(
    "credential",
    [
        "Bearer lld_" + "0" * 32,
        "Bearer lld_short",
        "Bearer lld_" + "G" * 32,
        "bearer lld_" + "1" * 32,
        "Basic bGxkXzA6",
        "Bearer lld_" + "0" * 3000,
    ],
)
def test_unknown_key_is_401_before_the_body_is_read(edge: World, credential: str) -> None:
    """The client is in the middle of its upload and can read the answer."""
    with Raw(edge.gateway.address("api")) as raw:
        raw.send(request(b'{"model": ', headers=(f"Authorization: {credential}",), length=5_000_000))
        answer = raw.answer()
        assert (answer.status, answer.code) == (401, "invalid_api_key")


def test_body_over_the_cap_is_413_unread_and_readable_while_sending(edge: World, key: str) -> None:
    """Declared too large: refused before a byte of it; the client that goes on sending still reads the answer."""
    with Raw(edge.gateway.address("api")) as raw:
        raw.send(request(b"x" * 1000, key=key, length=33 << 20))
        for _ in range(20):
            try:
                raw.send(b"x" * 65536)
            except OSError:
                break
        answer = raw.answer()
        assert (answer.status, answer.code) == (413, "payload_too_large")
        assert raw.closed_by_peer()


def test_chunked_body_over_the_cap_is_413(edge: World, key: str) -> None:
    """Undeclared size: refused as soon as it is over."""
    with Raw(edge.gateway.address("api")) as raw:
        raw.send(request(key=key, headers=("Transfer-Encoding: chunked",)))
        piece = b"100000\r\n" + b" " * (1 << 20) + b"\r\n"
        try:
            for _ in range(40):
                raw.send(piece)
        except OSError:
            pytest.fail("the client could not go on sending until it read the answer")
        answer = raw.answer()
        assert (answer.status, answer.code) == (413, "payload_too_large")


@pytest.mark.parametrize(
    "path",
    [
        "/v1//chat/completions", "/v1/chat/completions/", "/V1/chat/completions", "/v1/chat%2Fcompletions",
        "/v1/chat/%63ompletions", "/v1/./chat/completions", "/v1/x/../chat/completions", "/v1/chat\\completions",
        "/v1/chat/completions;x=1", "/v1/chat/completions%00", "/v1/chat/%2563ompletions", "//v1/chat/completions",
        "/v1/chat/completions/gpt-4o%2Fx", "/v1/chat/completions/../completions/gpt-4o",
    ],
)  # fmt: skip
def test_other_spellings_of_a_priced_path_are_refused(edge: World, key: str, path: str) -> None:
    """A spelling that only normalises to a known path is never forwarded."""
    answer = ask(edge, request(HELLO, key=key, path=path))
    assert answer.status in (400, 404) and answer.code in ("invalid_path", "not_found")
    assert edge.provider.requests == []


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/v1/chat/completions", 405),
        ("DELETE", "/v1/models", 405),
        ("GET", "/v1/responses", 405),
        ("GET", "/v1/responses/resp_1", 404),
        ("POST", "/", 404),
        ("GET", "/v1/files", 404),
        ("PUT", "/v1/chat/completions", 405),
    ],
)
def test_wrong_method_or_unknown_path(edge: World, key: str, method: str, path: str, status: int) -> None:
    """404 and 405 in the envelope."""
    answer = ask(edge, request(HELLO, key=key, method=method, path=path))
    assert answer.status == status
    if status == 405:
        assert "POST" in answer.headers["allow"] or "GET" in answer.headers["allow"]


HEAD = b"POST /v1/chat/completions HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\n"
BAD_HEADS: list[tuple[str, bytes]] = [
    ("two content-lengths", HEAD + b"Content-Length: 2\r\nContent-Length: 3\r\n\r\n{}"),
    ("list content-length", HEAD + b"Content-Length: 2, 3\r\n\r\n{}"),
    ("negative content-length", HEAD + b"Content-Length: -2\r\n\r\n"),
    ("content-length and chunked", HEAD + b"Content-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"),
    ("two transfer-encodings", HEAD + b"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"),
    ("unknown transfer-encoding", HEAD + b"Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n"),
    ("bad chunk", HEAD + b"Transfer-Encoding: chunked\r\n\r\nzz\r\n{}\r\n0\r\n\r\n"),
    ("two hosts", HEAD + b"Host: b\r\nContent-Length: 2\r\n\r\n{}"),
    ("no host", b"POST /v1/chat/completions HTTP/1.1\r\nContent-Length: 2\r\n\r\n{}"),
    ("two credentials", HEAD + b"Authorization: Bearer a\r\nAuthorization: Bearer b\r\nContent-Length: 2\r\n\r\n{}"),
    ("nul in a value", HEAD + b"X-A: a\x00b\r\nContent-Length: 2\r\n\r\n{}"),
    ("bare cr in a value", HEAD + b"X-A: a\rb\r\nContent-Length: 2\r\n\r\n{}"),
    ("space before colon", HEAD + b"X-A : a\r\nContent-Length: 2\r\n\r\n{}"),
    ("folded line", HEAD + b"X-A: a\r\n b\r\nContent-Length: 2\r\n\r\n{}"),
    ("bytes outside utf-8", HEAD + b"X-A: \xff\xfe\r\nContent-Length: 2\r\n\r\n{}"),
    ("no http", b"\x16\x03\x01\x00\x05hello\r\n\r\n"),
    ("upgrade", HEAD + b"Connection: upgrade\r\nUpgrade: websocket\r\nContent-Length: 0\r\n\r\n"),
    ("connect", b"CONNECT api.openai.com:443 HTTP/1.1\r\nHost: api.openai.com:443\r\n\r\n"),
    ("absolute form", b"POST http://api.openai.com/v1/models HTTP/1.1\r\nHost: api.openai.com\r\n\r\n"),
    ("endless header", HEAD + b"X-A: " + b"a" * 200_000),
    ("many headers", HEAD + b"".join(b"X-%d: a\r\n" % n for n in range(2000)) + b"\r\n"),
]  # fmt: skip


@pytest.mark.parametrize("data", [row[1] for row in BAD_HEADS], ids=[row[0] for row in BAD_HEADS])
def test_bad_head_is_refused_and_a_new_connection_works(edge: World, data: bytes) -> None:
    """4xx or a closed connection, nothing forwarded, nothing about the machinery told."""
    with Raw(edge.gateway.address("api")) as raw:
        try:
            raw.send(data)
            answer = raw.answer()
        except ConnectionError:
            answer = None
    if answer is not None:
        assert 400 <= answer.status < 500, answer.status
        assert answer.code
        assert b"mitmproxy" not in answer.body and "server" not in answer.headers
    assert edge.provider.requests == []


def test_trailers_are_dropped_and_the_connection_goes_on(edge: World, key: str) -> None:
    """A chunked body with trailers is whole."""
    body = orjson.dumps(HELLO)
    data = request(key=key, headers=("Transfer-Encoding: chunked",))
    chunked = f"{len(body):x}\r\n".encode() + body + b"\r\n0\r\nX-Trailer: a\r\n\r\n"
    with Raw(edge.gateway.address("api")) as raw:
        raw.send(data + chunked)
        assert raw.answer().status == 200
        raw.send(request(HELLO, key=key))
        assert raw.answer().status == 200


def test_slow_head_and_slow_body_are_given_up(edge: World, key: str) -> None:
    """One byte now and then keeps no connection."""
    with Raw(edge.gateway.address("api")) as raw:
        raw.send(b"POST /v1/chat/comp")
        assert raw.closed_by_peer() or raw.answer().status == 408
    with Raw(edge.gateway.address("api")) as raw:
        raw.send(request(b'{"model"', key=key, length=500))
        answer = raw.answer()
        assert (answer.status, answer.code) == (408, "request_timeout")


def test_pipelined_requests_are_answered_in_order(edge: World, key: str) -> None:
    """Two requests in one write."""
    with Raw(edge.gateway.address("api")) as raw:
        raw.send(request(HELLO, key=key) + request(b"{", key=key))
        assert [raw.answer().status, raw.answer().status] == [200, 400]


@pytest.mark.parametrize(
    "content", [" " * 1_000_000, "<|endoftext|>" * 100, "a" * 500_000, "\u0000\u200b🤖" * 1000, "<|im_start|>system"]
)
def test_odd_prompts_are_served(edge: World, key: str, content: str) -> None:
    """A million spaces, special-token text, control characters: ordinary text, whole."""
    answer = ask(edge, request(whole(messages=[{"role": "user", "content": content}]), key=key))
    assert answer.status == 200
    assert edge.provider.requests[0].json()["messages"][0]["content"] == content


def test_cors_preflight_needs_no_key(edge: World) -> None:
    """Before authentication; the answer to a refused request carries the headers too."""
    preflight = ask(
        edge,
        request(
            method="OPTIONS",
            headers=(
                "Origin: https://app.test",
                "Access-Control-Request-Method: POST",
                "Access-Control-Request-Headers: authorization,content-type",
            ),
        ),
    )
    assert preflight.status in (200, 204)
    assert "authorization" in preflight.headers["access-control-allow-headers"].lower()
    refused = ask(edge, request(HELLO, key="lld_" + "0" * 32, headers=("Origin: https://app.test",)))
    assert refused.status == 401
    assert refused.headers["access-control-allow-origin"] in ("*", "https://app.test")


def test_refusals_before_the_chain_are_dressed_and_audited(edge: World) -> None:
    """Request id, CORS and an audit line come from one place for them, too."""
    answer = ask(edge, request(path="/v1//models", method="GET", headers=("Origin: https://app.test",)))
    request_id = answer.headers["x-tollway-request-id"]
    assert "access-control-allow-origin" in answer.headers
    deadline = time.monotonic() + 5
    while not any(line["request_id"] == request_id for line in edge.gateway.audit_lines()):
        assert time.monotonic() < deadline, "no audit line"
        time.sleep(0.05)
