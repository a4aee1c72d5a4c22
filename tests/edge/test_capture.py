"""Captured provider hosts: who is calling, whose key goes upstream, and what passes untouched."""

from __future__ import annotations

import asyncio
import hashlib
import json
import re
import ssl
from typing import Any

import httpx
import pytest

from tests.edge.conftest import HELLO
from tests.listeners.mitm.proxied import origin
from tests.peers.behaviour import Behaviour
from tests.peers.provider import ANTHROPIC_KEY, OPENAI_KEY, SeenRequest
from tests.support.raw import request
from tests.support.ways import (
    AZURE_HOST,
    AZURE_KEY,
    GOOGLE_HOST,
    GOOGLE_KEY,
    OWN_ANTHROPIC_KEY,
    OWN_OPENAI_KEY,
    Dialler,
    Ways,
    credentials,
    our_ca,
)

CHAT = "/v1/chat/completions"
GOOGLE_CHAT = "/v1beta/openai/chat/completions"
UNKNOWN_KEY = "lld_" + "0" * 32


def asked(
    host: str, path: str = CHAT, *fields: str, body: bytes | dict[str, Any] = HELLO, method: str = "POST"
) -> bytes:
    """A request to a provider, as its SDK sends it."""
    return request(body, path=path, method=method, headers=fields).replace(
        b"Host: 127.0.0.1", b"Host: " + host.encode(), 1
    )


def leaks(seen: SeenRequest, key: str) -> bool:
    """Whether a key of ours stands anywhere in what a provider got."""
    return any(key.encode() in part for part in (seen.body, *(value for _, value in seen.headers)))


# -- whose certificate, which host


async def test_only_provider_hosts_are_decrypted(ways: Ways, dial: Dialler) -> None:
    """A leaf of our CA for the provider, for its name alone."""
    client = await dial.captured("api.openai.com")
    certificate = client.writer.get_extra_info("peercert")
    assert certificate["subjectAltName"] == (("DNS", "api.openai.com"),)
    issuer = dict(part[0] for part in certificate["issuer"])
    assert issuer["commonName"] == "mitmproxy"


async def test_another_name_in_the_client_hello_is_refused(ways: Ways, dial: Dialler) -> None:
    """CONNECT to one host, SNI of another: nothing is decrypted."""
    client, answer = await dial.connect("capture", "api.openai.com:443")
    assert answer.status == 200
    with pytest.raises((ssl.SSLError, ConnectionError)):
        await client.writer.start_tls(our_ca(ways), server_hostname="api.anthropic.com")
    assert ways.provider.requests == []


@pytest.mark.parametrize("host", ["api.anthropic.com", "api.openai.com:8443", "example.com", "127.0.0.1"])
async def test_another_authority_inside_is_misdirected(ways: Ways, dial: Dialler, host: str) -> None:
    """421 and the connection goes on; nothing reaches a provider."""
    client = await dial.captured("api.openai.com")
    answer = await client.ask(asked(host, CHAT, f"Authorization: Bearer {OWN_OPENAI_KEY}"))
    assert (answer.status, answer.code) == (421, "misdirected_request")
    assert ways.provider.requests == []
    answer = await client.ask(asked("api.openai.com", CHAT, f"Authorization: Bearer {OWN_OPENAI_KEY}"))
    assert answer.status == 200


async def test_captured_host_speaks_http2(ways: Ways) -> None:
    """Twenty requests at once over one CONNECT, by a stock client."""
    async with httpx.AsyncClient(
        http2=True, proxy=ways.url("capture"), verify=our_ca(ways), headers={"authorization": f"Bearer {ways.key}"}
    ) as client:
        url = "https://api.openai.com/v1/chat/completions"
        answers = await asyncio.gather(*(client.post(url, json=HELLO) for _ in range(20)))
    assert {(answer.status_code, answer.http_version) for answer in answers} == {(200, "HTTP/2")}
    assert len({answer.headers["x-tollway-request-id"] for answer in answers}) == 20


# -- whose key goes upstream

SWAPS = [
    ("api.openai.com", CHAT, "gpt-4o", "Authorization: Bearer {}", "authorization", f"Bearer {OPENAI_KEY}"),
    ("api.openai.com", CHAT, "gpt-4o", "X-API-Key: {}", "authorization", f"Bearer {OPENAI_KEY}"),
    ("api.anthropic.com", "/v1/messages", "claude-sonnet", "x-api-key: {}", "x-api-key", ANTHROPIC_KEY),
    ("api.anthropic.com", "/v1/messages", "claude-sonnet", "Authorization: Bearer {}", "x-api-key", ANTHROPIC_KEY),
    (AZURE_HOST, "/openai/deployments/azure-gpt/chat/completions", None, "api-key: {}", "api-key", AZURE_KEY),
    (AZURE_HOST, "/openai/v1/chat/completions", "azure-gpt", "Authorization: Bearer {}", "api-key", AZURE_KEY),
    (GOOGLE_HOST, GOOGLE_CHAT, "gemini", "x-goog-api-key: {}", "authorization", f"Bearer {GOOGLE_KEY}"),
]  # fmt: skip


@pytest.mark.parametrize(
    ("host", "path", "model", "line", "header", "sent"), SWAPS, ids=[f"{row[0]}-{row[3][:9]}" for row in SWAPS]
)
async def test_our_key_in_the_providers_header_is_swapped(
    ways: Ways, dial: Dialler, host: str, path: str, model: str | None, line: str, header: str, sent: str
) -> None:
    """The operator's key goes where the provider wants it, the client's goes nowhere, its owner is charged."""
    body = {**HELLO, "model": model} if model is not None else {k: v for k, v in HELLO.items() if k != "model"}
    client = await dial.captured(host)
    answer = await client.ask(asked(host, path, line.format(ways.key), body=body))
    assert answer.status == 200, answer.body
    (seen,) = (*ways.provider.requests, *ways.plain.requests)
    assert seen.header(header) == sent
    assert not leaks(seen, ways.key)
    audited = await ways.audited(request_id=answer.headers["x-tollway-request-id"])
    assert (audited["user"], audited["status"]) == ("ann", 200)
    assert float(audited["charged_usd"]) > 0


@pytest.mark.parametrize(
    ("host", "path", "line"),
    [
        ("api.openai.com", CHAT, f"Authorization: Bearer {OWN_OPENAI_KEY}"),
        ("api.anthropic.com", "/v1/messages", f"x-api-key: {OWN_ANTHROPIC_KEY}"),
        (AZURE_HOST, "/openai/v1/chat/completions", "api-key: their-azure-key"),
        (GOOGLE_HOST, GOOGLE_CHAT, "x-goog-api-key: their-google-key"),
    ],
)
async def test_own_provider_key_is_kept(ways: Ways, dial: Dialler, host: str, path: str, line: str) -> None:
    """The request goes up byte for byte, charged to nobody, its list cost accounted to the default team."""
    model = "claude-sonnet-4-6" if "anthropic" in host else "gpt-4o"
    body = json.dumps({**HELLO, "model": model, "unknown": {"kept": [1, 2.50]}}).encode()
    client = await dial.captured(host)
    extra = ("anthropic-version: 2023-06-01", "X-Stainless-Lang: python")
    answer = await client.ask(asked(host, path, line, *extra, body=body))
    assert answer.status == 200, answer.body
    (seen,) = (*ways.provider.requests, *ways.plain.requests)
    name, _, value = line.partition(": ")
    assert seen.header(name) == value
    assert (seen.path, seen.header("host"), seen.header("x-stainless-lang")) == (path, host, "python")
    assert seen.body == body
    audited = await ways.audited(request_id=answer.headers["x-tollway-request-id"])
    assert (audited["key_id"], audited["team"]) == ("own", "default")
    assert float(audited["charged_usd"]) == 0
    if host == "api.openai.com":
        assert float(audited["list_usd"]) > 0


async def test_operators_headers_are_not_added_to_the_clients_own_call(ways: Ways, dial: Dialler) -> None:
    """What config.yaml sends with the operator's key (an organisation, a version) is not the client's."""
    client = await dial.captured("api.anthropic.com")
    answer = await client.ask(
        asked("api.anthropic.com", "/v1/messages", f"x-api-key: {OWN_ANTHROPIC_KEY}", body={**HELLO, "model": "m"})
    )
    assert answer.status == 400 and b"anthropic-version" in answer.body
    assert ways.provider.requests[-1].header("anthropic-version") is None


# -- who is calling

IDENTITIES: list[tuple[str, tuple[str, ...], str, int]] = [
    ("api", ("Authorization: Bearer {key}",), "gpt-4o", 200),
    ("api", ("authorization: bearer {key}",), "gpt-4o", 200),
    ("api", ("X-API-Key: {key}",), "gpt-4o", 200),
    ("api", ("Authorization: Bearer {key}", "X-API-Key: {key}"), "gpt-4o", 200),
    ("api", ("Authorization: Bearer {key}", "X-API-Key: sk-placeholder"), "gpt-4o", 200),
    ("api", ("Authorization: Bearer {key}", "X-API-Key: {other}"), "gpt-4o", 400),
    ("api", (f"Authorization: Bearer {UNKNOWN_KEY}",), "gpt-4o", 401),
    ("api", ("Authorization: Bearer {revoked}",), "gpt-4o", 401),
    ("api", ("Authorization: Bearer {revoked}",), "demo", 401),
    ("api", ("Authorization: Bearer {key}0",), "gpt-4o", 401),
    ("api", ("Authorization: Bearer {upper}",), "gpt-4o", 401),
    ("api", (), "gpt-4o", 401),
    ("api", (), "fallback", 401),
    ("api", (f"Authorization: Bearer {OPENAI_KEY}",), "gpt-4o", 401),
    ("api", (f"api-key: {OPENAI_KEY}",), "gpt-4o", 401),
    ("api", ("{proxy}",), "gpt-4o", 401),
    ("api", (), "demo", 200),
    ("api", ("Authorization: Bearer sk-placeholder",), "demo", 200),
    ("house", (), "demo", 401),
    ("house", ("Authorization: Bearer sk-placeholder",), "demo", 401),
    ("house", (), "gpt-4o", 401),
    ("house", ("Authorization: Bearer {key}",), "demo", 200),
    ("house", ("Authorization: Bearer {key}",), "gpt-4o", 200),
]


@pytest.fixture(scope="session")
def revoked(all_ways: Ways) -> str:
    """A key that worked once."""
    key = all_ways.world.gateway.make_key(user="leaver")
    all_ways.world.gateway.cli("keys", "revoke", key)
    return key


@pytest.fixture(scope="session")
def other(all_ways: Ways) -> str:
    """A second key that works."""
    return all_ways.world.gateway.make_key(user="bob")


def filled(lines: tuple[str, ...], ways: Ways, other: str, revoked: str) -> tuple[str, ...]:
    """The header lines with keys put in."""
    upper = "lld_" + ways.key.removeprefix("lld_").upper()
    names = {"key": ways.key, "other": other, "revoked": revoked, "upper": upper, "proxy": credentials(ways.key)}
    return tuple(line.format_map(names) for line in lines)


@pytest.mark.parametrize(("listener", "lines", "model", "status"), IDENTITIES)
async def test_who_is_calling_by_base_url(
    ways: Ways, dial: Dialler, other: str, revoked: str, listener: str, lines: tuple[str, ...], model: str, status: int
) -> None:
    """Without a valid key nothing but demo is reached, and that on loopback only."""
    client = await dial.open(listener)
    body = {**HELLO, "model": model}
    answer = await client.ask(request(body, headers=filled(lines, ways, other, revoked)))
    assert answer.status == status, answer.body
    if status != 200:
        assert answer.code == ("invalid_request" if status == 400 else "invalid_api_key")
        assert ways.provider.requests == []


OWN = f"Authorization: Bearer {OWN_OPENAI_KEY}"
PROXIED: list[tuple[str, tuple[str, ...], tuple[str, ...], int, str]] = [
    # listener, lines of the CONNECT, lines of the request, status, who answers for it
    ("capture", (), (), 401, "nobody"),
    ("capture", (), (OWN,), 200, "own-key"),
    ("capture", (), ("Authorization: Bearer {key}",), 200, "ann"),
    ("capture", (), ("Authorization: Bearer {revoked}",), 401, "nobody"),
    ("capture", (), ("Authorization: Bearer {key}", "X-API-Key: {other}"), 400, "nobody"),
    ("capture", ("{proxy}",), (), 200, "ann"),
    ("capture", ("{proxy}",), (OWN,), 200, "ann"),
    ("capture", ("{proxy}",), ("Authorization: Bearer {key}",), 200, "ann"),
    ("capture", ("{proxy}",), ("Authorization: Bearer {other}",), 400, "nobody"),
    ("guarded", (), (OWN,), 401, "nobody"),
    ("guarded", (), ("Authorization: Bearer {key}",), 200, "ann"),
    ("guarded", ("{proxy}",), (OWN,), 200, "ann"),
    ("office", ("{proxy}",), (), 200, "ann"),
    ("office", ("{proxy}",), (OWN,), 200, "ann"),
]


@pytest.mark.parametrize(("listener", "connect", "lines", "status", "who"), PROXIED)
async def test_who_is_calling_through_the_proxy(
    ways: Ways,
    dial: Dialler,
    other: str,
    revoked: str,
    listener: str,
    connect: tuple[str, ...],
    lines: tuple[str, ...],
    status: int,
    who: str,
) -> None:
    """Proxy credentials and the request's own; a client's provider key beside ours is kept and charged to nobody."""
    client = await dial.captured("api.openai.com", *filled(connect, ways, other, revoked), listener=listener)
    answer = await client.ask(asked("api.openai.com", CHAT, *filled(lines, ways, other, revoked)))
    assert answer.status == status, answer.body
    if status != 200:
        assert ways.provider.requests == []
        return
    (seen,) = ways.provider.requests
    own = OWN in lines
    assert seen.header("authorization") == f"Bearer {OWN_OPENAI_KEY if own else OPENAI_KEY}"
    assert seen.header("proxy-authorization") is None
    assert not leaks(seen, ways.key)
    audited = await ways.audited(request_id=answer.headers["x-tollway-request-id"])
    assert (audited["user"], float(audited["charged_usd"]) == 0) == (who, own)


async def test_demo_is_not_reached_anonymously_through_the_proxy(ways: Ways, dial: Dialler) -> None:
    """A captured host asks for a key, whatever the model."""
    client = await dial.captured("api.openai.com")
    answer = await client.ask(asked("api.openai.com", body={**HELLO, "model": "demo"}))
    assert (answer.status, answer.code) == (401, "invalid_api_key")


async def test_key_revoked_within_a_connection_works_no_more(ways: Ways, dial: Dialler) -> None:
    """A CONNECT made while it was valid helps nobody."""
    gateway = ways.world.gateway
    key = gateway.make_key(user="leaver")
    client = await dial.captured("api.openai.com", credentials(key))
    answer = await client.ask(asked("api.openai.com"))
    assert answer.status == 200
    gateway.cli("keys", "revoke", key)
    async with asyncio.timeout(3):
        while answer.status == 200:
            answer = await client.ask(asked("api.openai.com"))
    assert (answer.status, answer.code) == (401, "invalid_api_key")


async def test_our_key_as_basic_beside_a_provider_key_stays_here(ways: Ways, dial: Dialler) -> None:
    """An encoding is no disguise."""
    basic = credentials(ways.key).removeprefix("Proxy-")
    client = await dial.captured("api.anthropic.com")
    body = {**HELLO, "model": "claude-sonnet-4-6"}
    for path in ("/v1/messages", "/v1/files"):
        lines = (basic, f"x-api-key: {OWN_ANTHROPIC_KEY}", "anthropic-version: 2023-06-01")
        answer = await client.ask(asked("api.anthropic.com", path, *lines, body=body))
        assert answer.status == 200, answer.body
        seen = ways.provider.requests[-1]
        assert (seen.header("authorization"), seen.header("x-api-key")) == (None, OWN_ANTHROPIC_KEY)


async def test_our_key_astray_stays_here(ways: Ways, dial: Dialler) -> None:
    """In a header of another provider, in a cookie: it identifies nobody, and goes nowhere."""
    client = await dial.captured("api.openai.com")
    for path in (CHAT, "/v1/files"):
        lines = (OWN, f"api-key: {ways.key}", f"Cookie: theirs=1; key={ways.key}", f"X-Note: use {ways.key}")
        answer = await client.ask(asked("api.openai.com", path, *lines))
        assert answer.status == 200, answer.body
        seen = ways.provider.requests[-1]
        assert seen.header("authorization") == f"Bearer {OWN_OPENAI_KEY}"
        assert not leaks(seen, ways.key)


# -- other paths


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("POST", "/v1/files"),
        ("POST", "/v1/responses/resp_1/cancel"),
        ("POST", "/v1/images/generations"),
        ("DELETE", "/v1/files/f1"),
        ("GET", "/v1/batches?limit=2"),
        ("GET", CHAT),
    ],
)
async def test_other_paths_are_refused_with_our_key(ways: Ways, dial: Dialler, method: str, path: str) -> None:
    """They would slip past every cap: with the key in a header, or as proxy credentials."""
    for connect, lines in ((), (f"Authorization: Bearer {ways.key}",)), ((credentials(ways.key),), ()):
        client = await dial.captured("api.openai.com", *connect)
        answer = await client.ask(asked("api.openai.com", path, *lines, method=method, body=b"{}"))
        assert (answer.status, answer.code) == (403, "path_not_allowed")
    assert ways.provider.requests == []


async def test_other_paths_without_any_key_are_refused(ways: Ways, dial: Dialler) -> None:
    """Nothing anonymous leaves through a captured host."""
    client = await dial.captured("api.openai.com")
    answer = await client.ask(asked("api.openai.com", "/v1/files", body=b"{}"))
    assert (answer.status, answer.code) == (401, "invalid_api_key")
    assert ways.provider.requests == []


@pytest.mark.parametrize(
    "path",
    [
        "/v1/chat//completions",
        "/v1/chat/completions/",
        "/V1/chat/completions",
        "/v1/chat%2Fcompletions",
        "/v1/x/../chat/completions",
    ],
)
async def test_path_that_resembles_a_priced_one_is_refused(ways: Ways, dial: Dialler, path: str) -> None:
    """Even with the client's own key: a provider may normalise what we took for another path."""
    client = await dial.captured("api.openai.com")
    answer = await client.ask(asked("api.openai.com", path, OWN))
    assert (answer.status, answer.code) == (400, "invalid_path")
    assert ways.provider.requests == []


@pytest.mark.parametrize("framing", ["length", "chunked"])
async def test_upload_and_download_are_streamed_with_the_own_key(ways: Ways, dial: Dialler, framing: str) -> None:
    """6 MB: the provider has the first bytes, and the client their echo, before the last are sent."""
    piece, count = bytes(range(256)) * 4096, 6
    line = f"Content-Length: {len(piece) * count}" if framing == "length" else "Transfer-Encoding: chunked"
    client = await dial.captured("api.openai.com")
    head = f"POST /v1/files?purpose=x HTTP/1.1\r\nHost: api.openai.com\r\n{OWN}\r\n{line}\r\n\r\n"
    client.send(head.encode())

    def send(data: bytes) -> None:
        client.send(data if framing == "length" else b"%x\r\n%b\r\n" % (len(data), data))

    send(piece)
    answer = await client.head()
    assert answer.status == 200
    answer_head, echoed = await client.chunk(), b""
    first, _, rest = answer_head.partition(b"\n")
    echoed += rest
    while len(echoed) < len(piece):
        echoed += await client.chunk()
    assert echoed == piece
    (seen,) = ways.provider.requests
    assert not seen.whole and len(seen.body) == len(piece)
    reader = asyncio.get_running_loop().create_task(_digest(client))
    for _ in range(count - 1):
        send(piece)
        await client.writer.drain()
    if framing == "chunked":
        client.send(b"0\r\n\r\n")
    assert await asyncio.wait_for(reader, 10) == hashlib.sha256(piece * (count - 1)).hexdigest()
    assert seen.body == piece * count
    assert json.loads(first)["path"] == "/v1/files?purpose=x"
    if framing == "length":
        assert seen.header("content-length") == str(len(piece) * count)
        assert seen.header("transfer-encoding") is None
    else:
        assert (seen.header("content-length"), seen.header("transfer-encoding")) == (None, "chunked")


async def _digest(client: Any) -> str:
    digest = hashlib.sha256()
    while chunk := await client.chunk():
        digest.update(chunk)
    return digest.hexdigest()


async def test_streamed_download_arrives_piece_by_piece(ways: Ways, dial: Dialler) -> None:
    """A stream of a captured host with the own key is not collected here."""
    ways.provider.script(Behaviour(chunks=3, delay_seconds=0.3))
    client = await dial.captured("api.openai.com")
    client.send(asked("api.openai.com", CHAT, OWN, body={**HELLO, "stream": True}))
    assert (await client.head()).status == 200
    first = await client.chunk()
    (seen,) = ways.provider.requests
    assert b'"role":"assistant"' in first and not seen.answered
    rest = [first]
    while chunk := await client.chunk():
        rest.append(chunk)
    assert b"".join(rest).endswith(b"data: [DONE]\n\n")


async def test_length_of_an_answer_is_kept(ways: Ways, dial: Dialler) -> None:
    """GET, and HEAD, whose answer has a length and no body."""
    client = await dial.captured("api.openai.com")
    answer = await client.ask(asked("api.openai.com", "/v1/models", OWN, method="GET", body=b""))
    assert answer.headers["content-length"] == str(len(answer.body))
    answer = await client.ask(asked("api.openai.com", "/v1/files", OWN, method="HEAD", body=b""), head_only=True)
    assert answer.status == 200 and int(answer.headers["content-length"]) > 0
    answer = await client.ask(asked("api.openai.com", "/v1/models", OWN, method="GET", body=b""))
    assert answer.status == 200


async def test_models_are_the_providers_with_its_key_and_ours_with_ours(ways: Ways, dial: Dialler) -> None:
    """GET /v1/models, both ways."""

    async def models(line: str) -> set[str]:
        client = await dial.captured("api.openai.com")
        answer = await client.ask(asked("api.openai.com", "/v1/models", line, method="GET", body=b""))
        return {model["id"] for model in answer.json["data"]}

    theirs = await models(OWN)
    assert "gpt-5-mini" in theirs and "claude-sonnet" not in theirs
    assert ways.provider.requests[-1].header("authorization") == f"Bearer {OWN_OPENAI_KEY}"
    count = len(ways.provider.requests)
    ours = await models(f"Authorization: Bearer {ways.key}")
    assert "claude-sonnet" in ours and "gpt-5-mini" not in ours
    assert len(ways.provider.requests) == count


# -- servers on this machine, over plain HTTP


@pytest.mark.parametrize("name", ["127.0.0.1", "localhost"])
async def test_plain_http_server_is_captured(ways: Ways, name: str) -> None:
    """An Ollama-like entry by HTTP_PROXY: metered with our key, other paths with none of ours."""
    async with httpx.AsyncClient(proxy=ways.url("capture"), trust_env=False) as client:
        base = f"http://{name}:{ways.plain.port}"
        ours = {"authorization": f"Bearer {ways.key}"}
        answer = await client.post(f"{base}/v1/chat/completions", json={**HELLO, "model": "llama"}, headers=ours)
        assert answer.status_code == 200, answer.text
        (seen,) = ways.plain.requests
        assert seen.header("authorization") is None and not leaks(seen, ways.key)
        audited = await ways.audited(request_id=answer.headers["x-tollway-request-id"])
        assert (audited["user"], audited["model"], audited["operation"]) == ("ann", "llama", "chat.completions")
        assert float(audited["charged_usd"]) > 0
        refused = await client.post(f"{base}/api/pull", json={}, headers=ours)
        assert (refused.status_code, refused.json()["error"]["code"]) == (403, "path_not_allowed")
        anonymous = await client.post(f"{base}/v1/chat/completions", json=HELLO)
        assert anonymous.status_code == 401


async def test_plain_http_server_by_connect_is_captured(ways: Ways, dial: Dialler) -> None:
    """Some clients CONNECT for http too; what is in the tunnel is read all the same."""
    target = f"127.0.0.1:{ways.plain.port}"
    client, answer = await dial.connect("capture", target)
    assert answer.status == 200
    answer = await client.ask(
        asked(target, CHAT, f"Authorization: Bearer {ways.key}", body={**HELLO, "model": "llama"})
    )
    assert answer.status == 200
    assert not leaks(ways.plain.requests[-1], ways.key)


# -- websockets

UPGRADE = (
    "Connection: Upgrade",
    "Upgrade: websocket",
    "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
    "Sec-WebSocket-Version: 13",
)


def upgrade(host: str, *fields: str) -> bytes:
    """A GET that asks for a websocket."""
    lines = ("GET /v1/realtime?model=m HTTP/1.1", f"Host: {host}", *UPGRADE, *fields, "", "")
    return "\r\n".join(lines).encode()


async def test_websocket_with_our_key_is_refused(ways: Ways, dial: Dialler) -> None:
    """What goes through it could not be metered."""
    for connect, lines in ((), (f"Authorization: Bearer {ways.key}",)), ((credentials(ways.key),), ()):
        client = await dial.captured("api.openai.com", *connect)
        answer = await client.ask(upgrade("api.openai.com", *lines))
        assert (answer.status, answer.code) == (403, "path_not_allowed")


async def test_websocket_without_a_key_is_refused(ways: Ways, dial: Dialler) -> None:
    """Nor is it open to everybody."""
    client = await dial.captured("api.openai.com")
    assert (await client.ask(upgrade("api.openai.com"))).status == 401


async def test_websocket_with_the_own_key_tunnels(ways: Ways, dial: Dialler) -> None:
    """The head goes up with the client's key and without our credentials; after 101 bytes go both ways, unread."""
    heads: list[bytes] = []

    async def realtime(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        heads.append(await reader.readuntil(b"\r\n\r\n"))
        writer.write(
            b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            b"Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n"
        )
        while data := await reader.read(1 << 16):
            writer.write(data[::-1])
        writer.close()

    ways.plain.refuse_connections()
    try:
        async with origin(realtime, port=ways.plain.port) as port:
            client, _ = await dial.connect("capture", f"127.0.0.1:{port}", credentials(ways.key))
            answer = await client.ask(upgrade(f"127.0.0.1:{port}", OWN), head_only=True)
            assert answer.status == 101
            assert answer.headers["sec-websocket-accept"] == "s3pPLMBiTxaQ9kYGzzhZRbK+xOo="
            client.send(b"\x81\x03abc")
            assert await client.reader.readexactly(5) == b"cba\x03\x81"
            client.writer.write_eof()
            assert await client.eof() == b""
    finally:
        ways.plain.accept_connections()
    (head,) = heads
    assert re.search(rb"(?im)^authorization: Bearer " + OWN_OPENAI_KEY.encode() + rb"\r$", head)
    assert b"proxy-authorization" not in head.lower() and ways.key.encode() not in head
    audited = await ways.audited(operation="websocket", status=101)
    assert (audited["user"], audited["charged_usd"]) == ("ann", None)
