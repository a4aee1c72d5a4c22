"""curl and httpx: the plainest clients, over every way in."""

from __future__ import annotations

import json
import subprocess

import httpx

from tests.peers.provider import OPENAI_KEY
from tests.support.world import World

JSON = {"content-type": "application/json"}
BODY = json.dumps({"model": "gpt-4o", "messages": [{"role": "user", "content": "Say hello."}]})


def curl(*arguments: str, body: str | None = None) -> subprocess.CompletedProcess[str]:
    """`body` is handed over by standard input: `-d @-`."""
    command = ["curl", "-sS", "-i", "--max-time", "20", *arguments]
    return subprocess.run(command, input=body, capture_output=True, text=True, timeout=30)


def test_readme_first_request(edge: World) -> None:
    """Without any key."""
    body = BODY.replace("gpt-4o", "demo")
    run = curl(f"{edge.base_url}/chat/completions", "-H", "Content-Type: application/json", "-d", body)
    assert run.stdout.startswith("HTTP/1.1 200"), run.stdout + run.stderr


def test_stream(edge: World, key: str) -> None:
    """-N, and the end of the stream."""
    body = BODY.replace("{", '{"stream": true, ', 1)
    run = curl(
        "-N", f"{edge.base_url}/chat/completions", "-H", f"Authorization: Bearer {key}",
        "-H", "Content-Type: application/json", "-d", body,
    )  # fmt: skip
    assert run.stdout.rstrip().endswith("data: [DONE]")


def test_regular_proxy_captures_the_provider(edge: World) -> None:
    """-x PROXY --cacert OUR-CA https://api.openai.com"""
    run = curl(
        "-x", edge.gateway.url("capture"), "--cacert", str(edge.proxy_ca),
        "https://api.openai.com/v1/chat/completions", "-H", f"Authorization: Bearer {OPENAI_KEY}",
        "-H", "Content-Type: application/json", "-d", BODY,
    )  # fmt: skip
    assert "HTTP/1.1 200" in run.stdout or "HTTP/2 200" in run.stdout, run.stdout + run.stderr


def test_expect_continue(edge: World, key: str) -> None:
    """curl waits for 100 before a large upload."""
    body = json.dumps({"model": "gpt-4o", "messages": [{"role": "user", "content": "x" * 200_000}]})
    run = curl(
        f"{edge.base_url}/chat/completions", "-H", f"Authorization: Bearer {key}", "-H", "Expect: 100-continue",
        "-H", "Content-Type: application/json", "-d", "@-", body=body,
    )  # fmt: skip
    assert "HTTP/1.1 100" in run.stdout and "HTTP/1.1 200" in run.stdout


def test_httpx_keeps_its_connection(edge: World, key: str) -> None:
    """Ten requests, one connection, no state carried over."""
    with httpx.Client(headers={"authorization": f"Bearer {key}"}) as client:
        answers = [client.post(f"{edge.base_url}/chat/completions", content=BODY, headers=JSON) for _ in range(10)]
        refused = client.post(
            f"{edge.base_url}/chat/completions", content="{", headers={"content-type": "application/json"}
        )
        after = client.get(f"{edge.base_url}/models")
    assert [answer.status_code for answer in answers] == [200] * 10
    assert len({answer.headers["x-tollway-request-id"] for answer in answers}) == 10
    assert (refused.status_code, after.status_code) == (400, 200)


def test_health(edge: World) -> None:
    """Up and ready only, on the way in and on the admin listener."""
    for url in (f"{edge.base_url}/health", f"{edge.gateway.url('api')}/health", f"{edge.gateway.url('admin')}/health"):
        assert httpx.get(url).json() == {"status": "ok", "ready": True}


def test_admin_listener(edge: World) -> None:
    """Metrics and upstream states there, and neither on the public one."""
    admin, api = edge.gateway.url("admin"), edge.gateway.url("api")
    assert "tollway_" in httpx.get(f"{admin}/metrics").text
    assert httpx.get(f"{admin}/upstreams").json()["upstreams"]["openai"]["available"] is True
    assert "BEGIN CERTIFICATE" in httpx.get(f"{admin}/ca.pem").text
    for path in ("/metrics", "/upstreams", "/ca.pem"):
        assert httpx.get(f"{api}{path}").status_code == 404
    assert httpx.post(f"{admin}/v1/chat/completions", json={}).status_code == 404
