"""How long a request body may be, by listener and route; and that a JSON route wants JSON."""

from __future__ import annotations

import ssl
from collections.abc import Iterator

import httpx
import pytest

from tests.edge.kinds import CHAT, EMBEDDINGS, ask
from tests.peers.provider import OPENAI_KEY
from tests.support.raw import Raw
from tests.support.world import World, world

CAP_BYTES = 4096


@pytest.fixture(scope="module")
def capped(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """A reverse listener whose chat completions are capped, and nothing else."""
    listeners = {"api": {"body_bytes_max": {"chat.completions": CAP_BYTES}}}
    with world(tmp_path_factory.mktemp("capped"), listeners=listeners) as running:
        yield running


def test_route_is_capped_to_the_byte(capped: World) -> None:
    """At the cap it passes, one byte more is 413 `payload_too_large`, and no provider is called for it."""
    key = capped.gateway.make_key()
    fitting = CAP_BYTES - len(CHAT.data(key, user="").partition(b"\r\n\r\n")[2])
    assert ask(capped, key, CHAT, user="u" * fitting).status == 200
    called = len(capped.provider.requests)
    with Raw(capped.gateway.address("api")) as raw:
        raw.send(CHAT.data(key, user="u" * (fitting + 1)))
        answer = raw.answer()
    assert (answer.status, answer.code) == (413, "payload_too_large")
    assert str(CAP_BYTES) in answer.json()["error"]["message"]
    assert len(capped.provider.requests) == called


def test_other_routes_and_captured_traffic_keep_their_own(capped: World) -> None:
    """A cap of one route at one listener is nobody else's."""
    key = capped.gateway.make_key()
    assert ask(capped, key, EMBEDDINGS, input="a " * CAP_BYTES).status == 200
    proxy = httpx.Proxy(f"http://{key}@{capped.gateway.address('capture')[0]}:{capped.gateway.address('capture')[1]}")
    with httpx.Client(proxy=proxy, verify=ssl.create_default_context(cafile=capped.proxy_ca)) as client:
        body = {**CHAT.body, "user": "u" * 2 * CAP_BYTES}
        answer = client.post(
            "https://api.openai.com/v1/chat/completions", json=body, headers={"authorization": f"Bearer {OPENAI_KEY}"}
        )
    assert answer.status_code == 200


@pytest.mark.parametrize("content_type", ["text/plain", "application/x-www-form-urlencoded", None])
def test_json_route_wants_json(capped: World, content_type: str | None) -> None:
    """415 with what to send, on priced routes; a form or text is never guessed at."""
    key = capped.gateway.make_key()
    headers = {"authorization": f"Bearer {key}"} | ({"content-type": content_type} if content_type else {})
    answer = httpx.post(f"{capped.base_url}/chat/completions", content=b'{"model": "gpt-4o"}', headers=headers)
    assert (answer.status_code, answer.json()["error"]["code"]) == (415, "unsupported_media_type")
    assert "Content-Type: application/json" in answer.json()["error"]["message"]
