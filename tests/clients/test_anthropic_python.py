"""Anthropic's Python SDK, by base_url and through HTTPS_PROXY."""

from __future__ import annotations

from contextlib import ExitStack

import anthropic
import pytest

from tests.peers.behaviour import Behaviour
from tests.peers.provider import ANTHROPIC_KEY
from tests.support.world import World

HELLO = [{"role": "user", "content": "Say hello."}]
TEXT = Behaviour().text


def by_base_url(opened: ExitStack, edge: World, key: str) -> anthropic.Anthropic:
    return opened.enter_context(anthropic.Anthropic(api_key=key, base_url=edge.gateway.url("api"), max_retries=0))


def test_whole_answer_by_base_url(edge: World, key: str, opened: ExitStack) -> None:
    """X-API-Key is ours on the way in, the operator's on the way out."""
    answer = by_base_url(opened, edge, key).messages.create(model="claude-sonnet", max_tokens=100, messages=HELLO)  # type: ignore[arg-type]
    assert answer.content[0].text == TEXT  # type: ignore[union-attr]
    seen = edge.provider.requests[-1]
    assert (seen.path, seen.header("x-api-key")) == ("/v1/messages", ANTHROPIC_KEY)
    assert (seen.json()["model"], seen.json()["max_tokens"]) == ("claude-sonnet-4-6", 100)


def test_stream_by_base_url(edge: World, key: str, opened: ExitStack) -> None:
    """The SDK's own accumulator rebuilds the message from the events."""
    with by_base_url(opened, edge, key).messages.stream(
        model="claude-sonnet", max_tokens=100, messages=HELLO
    ) as stream:  # type: ignore[arg-type]
        message = stream.get_final_message()
    assert message.content[0].text == TEXT  # type: ignore[union-attr]
    assert message.usage.output_tokens > 0


def test_errors_are_in_anthropics_envelope(edge: World, key: str, opened: ExitStack) -> None:
    """`{"type": "error", "error": {...}}`, with our code in it."""
    with pytest.raises(anthropic.NotFoundError) as unknown:
        by_base_url(opened, edge, key).messages.create(model="no-such", max_tokens=100, messages=HELLO)  # type: ignore[arg-type]
    body = unknown.value.body
    assert isinstance(body, dict)
    assert (body["type"], body["error"]["code"]) == ("error", "model_not_available")


def test_own_provider_key_through_the_proxy(edge: World, opened: ExitStack, monkeypatch: pytest.MonkeyPatch) -> None:
    """HTTPS_PROXY and our CA in the environment; the application believes to talk to api.anthropic.com."""
    monkeypatch.setenv("HTTPS_PROXY", edge.gateway.url("capture"))
    monkeypatch.setenv("SSL_CERT_FILE", str(edge.proxy_ca))
    client = opened.enter_context(anthropic.Anthropic(api_key=ANTHROPIC_KEY, max_retries=0))
    answer = client.messages.create(model="claude-sonnet-4-6", max_tokens=100, messages=HELLO)  # type: ignore[arg-type]
    assert answer.content[0].text == TEXT  # type: ignore[union-attr]
    assert edge.provider.requests[-1].header("host") == "api.anthropic.com"
