"""A busy hour of every kind of traffic, then a search through all that was written: no secret stands anywhere.

Canaries are unlike anything else, so that finding one proves a leak.
"""

from __future__ import annotations

import base64
import json
import ssl
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import httpx
import orjson
import pytest

from tests.faults import books
from tests.peers.behaviour import Behaviour, Fault, Usage
from tests.peers.provider import ANTHROPIC_KEY, OPENAI_KEY
from tests.support.raw import Raw, request
from tests.support.world import World, world

PROMPT = "zanzibar-heron-prompt"
ANSWER = "quetzal-marzipan-answer"
TOOL = "obsidian-walrus-tool"
CLIENTS_OPENAI = "sk-proj-Client0wnKeyC4nary00112233445566778899aabb"
CLIENTS_ANTHROPIC = "sk-ant-api03-Client0wnC4nary99887766554433221100-AA"
UNKNOWN = "lld_" + "c0ffee0123456789" * 2
SHORT = "lld_deadbeefcafe"
COOKIE = "sessionid-5up3rs3cr3tc00kie"
PASSWORD = "p4ssw0rd-of-the-query-string"


@dataclass(slots=True)
class Traffic:
    """What was sent and what came back."""

    running: World
    key: str
    revoked: str
    errors: list[bytes] = field(default_factory=list)
    heads: list[str] = field(default_factory=list)

    @property
    def secrets(self) -> tuple[str, ...]:
        """None of them may stand anywhere, nor its base64."""
        credentials = (self.key, self.revoked, UNKNOWN, SHORT, OPENAI_KEY, ANTHROPIC_KEY)
        ours = (*credentials, CLIENTS_OPENAI, CLIENTS_ANTHROPIC, COOKIE, PASSWORD)
        encoded = [base64.b64encode(f"{secret}:".encode()).decode().rstrip("=") for secret in ours]
        return (*ours, *encoded, PROMPT, ANSWER, TOOL)

    def send(self, raw: bytes) -> int:
        """One request on a connection of its own; keeps what an error says."""
        with Raw(self.running.gateway.address("api")) as connection:
            connection.send(raw)
            answer = connection.answer()
        self.keep(answer.status, str(answer.headers), answer.body)
        return answer.status

    def keep(self, status: int, head: str, body: bytes) -> None:
        """Heads of all answers, bodies of errors: an answer's own content is the client's."""
        self.heads.append(head)
        if status >= 400 or b'"error"' in body:
            self.errors.append(body)

    def captured(self, method: str, url: str, **options: object) -> int:
        """One request through the regular listener, by TLS that it ends."""
        context = ssl.create_default_context(cafile=str(self.running.proxy_ca))
        with httpx.Client(proxy=self.running.gateway.url("capture"), verify=context, timeout=20) as client:
            answer = client.request(method, url, **options)  # type: ignore[arg-type]
        self.keep(answer.status_code, str(answer.headers), answer.content)
        return answer.status_code


def body(**members: object) -> bytes:
    message = {"role": "user", "content": f"{PROMPT} please"}
    return orjson.dumps({"model": "gpt-4o", "messages": [message], "max_tokens": 50, **members})


@pytest.fixture
def traffic(tmp_path: Path) -> Iterator[Traffic]:
    """A proxy with a team for those who bring their own provider key."""
    with world(tmp_path, listeners={"capture": {"default_team": "default"}}) as running:
        running.provider.default = Behaviour(text=f"{ANSWER} and more")
        revoked = books.make_key(running.gateway)
        running.gateway.cli("keys", "revoke", revoked)
        yield Traffic(running, books.make_key(running.gateway), revoked)


def serve(traffic: Traffic) -> None:
    """What goes well, by every way a key can be given."""
    key = traffic.key
    assert traffic.send(request(body(), key=key)) == 200
    assert traffic.send(request(body(stream=True), key=key)) == 200
    assert traffic.send(request(body(), headers=(f"X-API-Key: {key}", f"Cookie: {COOKIE}"))) == 200
    assert traffic.send(request(body(), key=key, path=f"/v1/chat/completions?api_key={PASSWORD}")) == 200
    tool = {"type": "function", "function": {"name": "look", "description": TOOL, "parameters": {"type": "object"}}}
    traffic.running.provider.script(Behaviour(tool=("look", json.dumps({"for": ANSWER}))))
    assert traffic.send(request(body(tools=[tool]), key=key)) == 200
    message = {"model": "claude-sonnet", "max_tokens": 20, "messages": [{"role": "user", "content": PROMPT}]}
    assert traffic.send(request(orjson.dumps(message), key=key, path="/v1/messages")) == 200
    embedding = orjson.dumps({"model": "text-embedding-3-small", "input": PROMPT})
    assert traffic.send(request(embedding, key=key, path="/v1/embeddings")) == 200


def capture(traffic: Traffic) -> None:
    """Clients behind the regular listener: with our key, with their own, with credentials for the proxy itself."""
    chat, messages = "https://api.openai.com/v1/chat/completions", "https://api.anthropic.com/v1/messages"
    json_type = {"content-type": "application/json"}
    for key in (traffic.key, UNKNOWN, CLIENTS_OPENAI, OPENAI_KEY):
        traffic.captured("POST", chat, content=body(), headers={**json_type, "authorization": f"Bearer {key}"})
    for key in (CLIENTS_ANTHROPIC, ANTHROPIC_KEY, traffic.revoked):
        headers = {**json_type, "x-api-key": key, "anthropic-version": "2023-06-01"}
        traffic.captured("POST", messages, content=body(model="claude-sonnet"), headers=headers)
    own = {"authorization": f"Bearer {CLIENTS_OPENAI}", "cookie": COOKIE}
    traffic.captured("GET", f"https://api.openai.com/v1/files?key={PASSWORD}", headers=own)
    traffic.captured("POST", "https://api.openai.com/v1/files", content=PROMPT.encode(), headers=own)
    for credential in (traffic.key, UNKNOWN):
        encoded = base64.b64encode(f"{credential}:".encode()).decode()
        with Raw(traffic.running.gateway.address("capture")) as raw:
            raw.send(
                f"CONNECT api.openai.com:443 HTTP/1.1\r\nHost: api.openai.com:443\r\n"
                f"Proxy-Authorization: Basic {encoded}\r\n\r\n".encode()
            )
            answer = raw.head() if credential == traffic.key else raw.answer()
        traffic.keep(answer.status, str(answer.headers), answer.body)


def fail(traffic: Traffic) -> None:
    """Bad credentials, bad requests, and a provider that fails in every way and says secrets while it does."""
    key = traffic.key
    for credential in (UNKNOWN, SHORT, traffic.revoked, CLIENTS_OPENAI, OPENAI_KEY):
        assert traffic.send(request(body(), key=credential)) == 401
    assert traffic.send(request(body(), headers=(f"Authorization: Basic {PASSWORD}",))) == 401
    assert traffic.send(request(body()[:-5], key=key)) == 400
    assert traffic.send(request(body() + PROMPT.encode(), key=key)) == 400
    assert traffic.send(request(body(stream=PROMPT), key=key)) == 400
    assert traffic.send(request(body(messages=PROMPT), key=key)) == 400
    assert traffic.send(request(body(messages=[{"role": PROMPT, PROMPT: PROMPT}]), key=key)) in (200, 400)
    assert traffic.send(request(body(max_tokens=PROMPT), key=key)) == 400
    assert traffic.send(request(body(), key=key, path=f"/v1/no/such/path?token={PASSWORD}")) in (403, 404)
    assert traffic.send(request(body(), key=key, headers=(f"Authorization: Bearer {UNKNOWN}",))) == 400
    assert traffic.send(request(body(), key=key, headers=(f"X-Bad: {COOKIE}\x01",))) == 400
    said = f"Incorrect API key provided: {OPENAI_KEY}. You said: {PROMPT}."
    envelope = orjson.dumps({"error": {"message": said, "type": "invalid_request_error", "code": "invalid_api_key"}})
    for status in (401, 403, 404, 429, 500, 503):
        traffic.running.provider.script(*[Behaviour(status=status, body=envelope)] * 3)
        assert traffic.send(request(body(), key=key)) >= 400
        traffic.running.provider.reset()
    for fault in (Fault.GARBAGE, Fault.WRONG_TYPE, Fault.RESET_MID, Fault.HALF_CLOSE_MID, Fault.GARBAGE_MID):
        traffic.running.provider.default = Behaviour(text=f"{ANSWER} {ANSWER} {ANSWER}", fault=fault)
        traffic.send(request(body(), key=key))
    events = b"data: " + envelope + b"\n\n"
    traffic.running.provider.default = Behaviour(body=events, content_type="text/event-stream")
    assert traffic.send(request(body(stream=True), key=key)) >= 400
    traffic.running.provider.default = Behaviour(body=ANSWER.encode(), content_type="text/event-stream")
    assert traffic.send(request(body(stream=True), key=key)) >= 400
    traffic.running.provider.default = Behaviour(body=ANSWER.encode())
    assert traffic.send(request(body(), key=key)) >= 400
    traffic.running.provider.default = Behaviour(text=ANSWER, usage=Usage.MISSING)
    assert traffic.send(request(body(), key=key)) == 200


def written(traffic: Traffic) -> dict[str, bytes]:
    """Everything that the proxy wrote or showed, by where it stands."""
    gateway = traffic.running.gateway
    found = {
        str(path.relative_to(gateway.folder)): path.read_bytes()
        for path in gateway.folder.rglob("*")
        if path.is_file() and path.suffix != ".yaml"
    }
    assert {"serve.log", "var/audit.jsonl", "var/tollway.db"} <= found.keys()
    for path in ("/metrics", "/upstreams", "/health"):
        found[path] = httpx.get(f"{gateway.url('admin')}{path}").content
    for number, error in enumerate(traffic.errors):
        found[f"error {number}"] = error
    found["heads of answers"] = "\n".join(traffic.heads).encode()
    for command in ("keys list --all", "spend", "models", "ledger audit", "teams list"):
        printed = gateway.cli(*command.split())
        found[command] = (printed.stdout + printed.stderr).encode()
    return found


async def test_no_secret_stands_in_anything_that_is_written(traffic: Traffic) -> None:
    """Log, audit log, state, metrics, errors, answers' heads, commands: no key, no credential, no prompt, no answer."""
    serve(traffic)
    capture(traffic)
    fail(traffic)
    await books.until_ended(traffic.running.gateway)
    found = written(traffic)
    leaks = [
        (place, secret, content[max(0, at - 120) : at + 160])
        for place, content in found.items()
        for secret in traffic.secrets
        if (at := content.find(secret.encode())) >= 0
    ]
    assert leaks == []
    assert len(traffic.errors) >= 30
    assert b"tollway_requests" in found["/metrics"]


async def test_a_log_of_content_that_was_asked_for_still_holds_no_credential(tmp_path: Path) -> None:
    """The policy may ask for prompts and answers in the audit log; keys are not among them."""
    chain = [
        "cors",
        {"audit": {"content": True}},
        "ip_limit",
        "identity",
        "catalogue",
        "team_policy",
        "key_limit",
        "pricing",
    ]
    with world(tmp_path, config={"chain": [*chain, "spend_caps", "routing", "metering"]}) as running:
        running.provider.default = Behaviour(text=ANSWER)
        traffic = Traffic(running, books.make_key(running.gateway), "lld_" + "0" * 32)
        assert traffic.send(request(body(), key=traffic.key, headers=(f"Cookie: {COOKIE}",))) == 200
        await books.until_ended(running.gateway)
        await books.until(lambda: len(running.gateway.audit_lines()) == 1, "no audit line")
        lines = (tmp_path / "var" / "audit.jsonl").read_text()
        assert PROMPT in lines and ANSWER in lines
        assert not any(secret in lines for secret in (traffic.key, OPENAI_KEY, COOKIE))
        assert PROMPT not in running.gateway.log()
