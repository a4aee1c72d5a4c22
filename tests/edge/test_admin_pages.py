"""The admin listener without a token, beside a browser: no web page makes it do or tell anything."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from tests.support.world import World, world

EVIL = "https://evil.example"


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """A proxy as it ships: its admin listener is on loopback and has no token."""
    with world(tmp_path_factory.mktemp("admin")) as made:
        yield made


@pytest.mark.parametrize(("method", "path"), [("POST", "/reload"), ("POST", "/credit/grants"), ("GET", "/metrics")])
@pytest.mark.parametrize("origin", [EVIL, "null"])
def test_a_page_of_another_origin_is_refused(running: World, method: str, path: str, origin: str) -> None:
    """A form posts anywhere without asking; the browser names the page it stands on."""
    answer = httpx.request(method, f"{running.gateway.url('admin')}{path}", headers={"origin": origin})
    assert (answer.status_code, answer.json()["error"]["code"]) == (403, "target_not_allowed")


@pytest.mark.parametrize(
    "host", ["evil.example", "evil.example:8404", "127.0.0.1.evil.example", "192.0.2.1", "[::2]:1"]
)
@pytest.mark.parametrize("path", ["/credit/balances", "/metrics", "/upstreams", "/health", "/ca.pem"])
def test_a_name_rebound_to_loopback_is_refused(running: World, path: str, host: str) -> None:
    """To the browser the page is of one origin with us then, and it may read what it gets."""
    answer = httpx.get(f"{running.gateway.url('admin')}{path}", headers={"host": host})
    assert (answer.status_code, answer.json()["error"]["code"]) == (403, "target_not_allowed")


@pytest.mark.parametrize("host", ["localhost", "LOCALHOST:8404", "127.0.0.1", "127.0.0.1:8404", "[::1]:8404", "[::1]"])
def test_our_own_names_are_served(running: World, host: str) -> None:
    """Scrapers, commands and tunnels call it so."""
    assert httpx.get(f"{running.gateway.url('admin')}/upstreams", headers={"host": host}).status_code == 200


def test_with_a_token_any_name_will_do(tmp_path: Path) -> None:
    """No page knows the token; off loopback the listener has whatever name it has."""
    token = "an-admin-token-of-enough-characters"
    with world(tmp_path, listeners={"admin": {"token": token}}) as made:
        url = f"{made.gateway.url('admin')}/upstreams"
        headers = {"host": "tollway.internal:8404", "authorization": f"Bearer {token}"}
        assert httpx.get(url, headers=headers).status_code == 200
        assert httpx.get(url, headers={**headers, "origin": EVIL}).status_code == 403
