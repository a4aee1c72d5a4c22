"""Requests that a panel cannot or must not answer: refused before a model is called, for nothing, with what to do."""

from __future__ import annotations

import json
from typing import Any

import httpx
import pytest

from tests.faults import books
from tests.support.panel_clients import ID, PRICES, charged, orchestrate
from tests.support.panel_world import (
    Cast,
    PanelWorld,
)

NAMES_OF_PROVIDERS = ("openai.com", "anthropic", "127.0.0.1", "sk-", "Traceback")
USER = {"role": "user", "content": "?"}
TOO_LONG = "word " * 5_000


@pytest.fixture(autouse=True)
def staged(cast: Cast) -> Cast:
    return cast


def spent(house: PanelWorld) -> int:
    return int(house.rows("SELECT coalesce(sum(coalesce(charged, held_charged)), 0) FROM holds")[0][0])


async def refused(house: PanelWorld, key: str, path: str, body: Any, **headers: str) -> tuple[int, dict[str, Any]]:
    """Status and error of a request that must call nobody and cost nothing."""
    await books.until_ended(house.world.gateway)
    before = spent(house)
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    async with httpx.AsyncClient(timeout=30) as client:
        answer = await client.post(
            f"{house.url}/v1/{path}",
            content=content,
            headers={"authorization": f"Bearer {key}", "content-type": "application/json", **headers},
        )
    assert answer.status_code >= 400, answer.text
    error: dict[str, Any] = answer.json()["error"]
    assert house.world.provider.requests == []
    await books.until_ended(house.world.gateway)
    assert spent(house) == before
    assert error["message"].endswith((".", "?")) and error["code"] and error["type"]
    for name in NAMES_OF_PROVIDERS:
        assert name not in answer.text
    return answer.status_code, error


QUESTIONS: dict[str, tuple[Any, int, str, str]] = {
    "neither prompt nor messages": ({}, 400, "prompt", "either 'prompt'"),
    "both": ({"prompt": "?", "messages": [USER]}, 400, "prompt", "either 'prompt'"),
    "an empty prompt": ({"prompt": " \n"}, 400, "prompt", "something in it"),
    "a prompt of another type": ({"prompt": 42}, 400, "prompt", "string"),
    "no messages": ({"messages": []}, 400, "messages", "messages"),
    "a message of another type": ({"messages": ["?"]}, 400, "messages[0]", "object"),
    "an empty message": ({"messages": [{"role": "user", "content": ""}]}, 400, "messages[0].content", "not empty"),
    "an unknown role": ({"messages": [{"role": "boss", "content": "?"}]}, 400, "messages[0].role", "one of"),
    "a tool's result": ({"messages": [USER, {"role": "tool", "content": "7"}]}, 400, "messages[1]", "chat/completions"),
    "no question at the end": (
        {"messages": [USER, {"role": "assistant", "content": "!"}]}, 400, "messages[1].role", "last message",
    ),
    "an unknown mode": ({"prompt": "?", "mode": "turbo"}, 404, "mode", "turbo"),
    "a mode that is none": ({"prompt": "?", "mode": "../fast"}, 400, "mode", "name of a mode"),
    "an unknown domain": ({"prompt": "?", "domain": "law"}, 400, "domain", "legal"),
    "an unknown member": ({"prompt": "?", "promt": "?"}, 400, "promt", "Did you mean 'prompt'?"),
    "a member of another format": ({"prompt": "?", "model": "consensus-fast"}, 400, "model", "'mode'"),
    "tools": ({"prompt": "?", "tools": []}, 400, "tools", "chat/completions"),
    "a stream that is no flag": ({"prompt": "?", "stream": "yes"}, 400, "stream", "true or false"),
    "no tokens": ({"prompt": "?", "max_tokens": 0}, 400, "max_tokens", "1"),
    "half a token": ({"prompt": "?", "max_tokens": 1.5}, 400, "max_tokens", "integer"),
    "limits that differ": (
        {"prompt": "?", "max_tokens": 5, "max_output_tokens": 6}, 400, "max_output_tokens", "max_tokens",
    ),
    "a temperature out of range": ({"prompt": "?", "temperature": 3}, 400, "temperature", "from 0 to 2"),
    "five stops": ({"prompt": "?", "stop": list("abcde")}, 400, "stop", "1 to 4"),
    "an unknown format": ({"prompt": "?", "response_format": {"type": "xml"}}, 400, "response_format.type", "one of"),
    "a schema without one": (
        {"prompt": "?", "response_format": {"type": "json_schema"}}, 400, "response_format.json_schema", "schema",
    ),
    "metadata of numbers": ({"prompt": "?", "metadata": {"ticket": 1}}, 400, "metadata", "texts"),
    "a conversation of nobody": ({"prompt": "?", "conversation_id": "conv_nobody"}, 404, "conversation_id", "new"),
    "a conversation that is none": ({"prompt": "?", "conversation_id": "a b"}, 400, "conversation_id", "'new'"),
    "a webhook of another kind": ({"prompt": "?", "webhook_url": "ftp://x/"}, 400, "webhook_url", "https"),
    "sound": (
        {"messages": [{"role": "user", "content": [{"type": "input_audio", "input_audio": {"data": ""}}]}]},
        400, "messages", "text",
    ),
    "longer than the price is good for": ({"prompt": TOO_LONG, "mode": "fast"}, 400, "messages", "3000 tokens"),
    "10 MB": ({"prompt": "x" * (10 << 20), "mode": "fast"}, 400, "messages", "Shorten"),
    "spelled longer": ({"prompt": "\u4e00" * 7_000, "mode": "fast"}, 400, "messages", "3000 tokens"),
}  # fmt: skip


@pytest.mark.parametrize("what", QUESTIONS)
async def test_a_question_that_is_none_is_refused(house: PanelWorld, key: str, what: str) -> None:
    """With the member that is wrong, and what to write in its place."""
    body, status, param, said = QUESTIONS[what]
    found, error = await refused(house, key, "orchestrate", body)
    assert (found, error["param"]) == (status, param), error
    assert said in error["message"]


DOCUMENTS: dict[str, bytes] = {
    "no JSON": b"{",
    "nothing": b"",
    "a list": b"[]",
    "a key twice": b'{"prompt": "?", "prompt": "!"}',
    "another spelling of a key": b'{"prompt": "?", "MODE": "fast"}',
    "not a number": b'{"prompt": "?", "max_tokens": NaN}',
    "nested": b'{"prompt": "?", "metadata": ' + b"[" * 100_000 + b"]" * 100_000 + b"}",
    "no UTF-8": b'{"prompt": "\xff"}',
}


@pytest.mark.parametrize("what", DOCUMENTS)
@pytest.mark.parametrize("path", ["orchestrate", "batch"])
async def test_a_body_that_is_no_request_is_refused(house: PanelWorld, key: str, what: str, path: str) -> None:
    """At once, whatever it is."""
    status, _ = await refused(house, key, path, DOCUMENTS[what])
    assert status == 400


async def test_half_a_character_is_asked_or_refused(house: PanelWorld, key: str) -> None:
    """It is no fault of ours at least."""
    async with httpx.AsyncClient(timeout=30) as client:
        answer = await client.post(
            f"{house.url}/v1/orchestrate",
            content=b'{"prompt": "What is \\ud800?", "mode": "fast"}',
            headers={"authorization": f"Bearer {key}", "content-type": "application/json"},
        )
    assert answer.status_code in (200, 400), answer.text


CHATS: dict[str, tuple[dict[str, Any], str, str]] = {
    "two choices": ({"n": 2}, "n", "leave it out"),
    "log probabilities": ({"logprobs": True}, "logprobs", "leave it out"),
    "a bias": ({"logit_bias": {"50256": -100}}, "logit_bias", "leave it out"),
    "functions": ({"functions": [{"name": "f"}]}, "functions", "'tools'"),
    "storing": ({"store": True}, "store", "leave it out"),
    "what nobody documents": ({"frobnicate": 1}, "frobnicate", "single model"),
    "an extension of another type": ({"consensus": "legal"}, "consensus", "object"),
    "an unknown member of the extension": ({"consensus": {"mode": "deep"}}, "consensus.mode", "domain and verified"),
    "an unknown domain": ({"consensus": {"domain": "law"}}, "consensus.domain", "legal"),
    "a tool of a provider": ({"tools": [{"type": "web_search"}]}, "", "single model"),
    "sound": ({"modalities": ["audio"], "audio": {"voice": "x", "format": "wav"}}, "", "single model"),
    "a message of a function": ({"messages": [{"role": "function", "name": "f", "content": "7"}]}, "", "tool"),
    "an unknown format": ({"response_format": {"type": "xml"}}, "response_format.type", "one of"),
    "longer than the price is good for": ({"messages": [{"role": "user", "content": TOO_LONG}]}, "messages", "Shorten"),
}


@pytest.mark.parametrize("what", CHATS)
async def test_a_chat_that_no_panel_can_have_is_refused(house: PanelWorld, key: str, what: str) -> None:
    """With 400: a client that retries on its own must not."""
    changes, param, said = CHATS[what]
    body = {"model": "consensus-fast", "messages": [USER], **changes}
    status, error = await refused(house, key, "chat/completions", body)
    assert status == 400, error
    assert not param or error["param"] == param or (error["param"] or "").startswith(param), error
    assert said.lower() in error["message"].lower(), error


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("responses", {"model": "consensus-fast", "input": "?"}),
        ("messages", {"model": "consensus-fast", "messages": [USER], "max_tokens": 5}),
        ("embeddings", {"model": "consensus-fast", "input": "?"}),
    ],
)
async def test_other_formats_have_no_panels(house: PanelWorld, key: str, path: str, body: Any) -> None:
    """And say by which they can be asked."""
    async with httpx.AsyncClient() as client:
        answer = await client.post(f"{house.url}/v1/{path}", json=body, headers={"authorization": f"Bearer {key}"})
    assert 400 <= answer.status_code < 500, answer.text
    assert "Ask for it by POST /v1/chat/completions" in answer.json()["error"]["message"], answer.text
    assert house.world.provider.requests == []


@pytest.mark.parametrize("count", [0, 21])
async def test_a_batch_of_none_or_too_many_is_refused(house: PanelWorld, key: str, count: int) -> None:
    """Whole."""
    status, error = await refused(house, key, "batch", {"mode": "fast", "prompts": ["?"] * count})
    assert status == 400 and "20" in error["message"] and error["param"] == "prompts"


async def test_one_bad_prompt_refuses_the_whole_batch(house: PanelWorld, key: str) -> None:
    """With its place."""
    status, error = await refused(house, key, "batch", {"mode": "fast", "prompts": ["?", {"prompt": "?", "mode": 7}]})
    assert status == 400 and error["param"] == "prompts[1].mode"


async def test_a_wrong_or_missing_key_calls_nobody(house: PanelWorld) -> None:
    """401."""
    status, error = await refused(house, "lld_wrong", "orchestrate", {"prompt": "?"})
    assert (status, error["code"]) == (401, "invalid_api_key")


async def test_another_method_is_refused(house: PanelWorld, key: str) -> None:
    """With those that there are."""
    async with httpx.AsyncClient(headers={"authorization": f"Bearer {key}"}) as client:
        answer = await client.get(f"{house.url}/v1/orchestrate")
    assert answer.status_code == 405 and "POST" in answer.headers["allow"]


async def test_the_longest_question_that_is_good_for_the_price_is_answered(house: PanelWorld, key: str) -> None:
    """Of English, near the limit of tokens; the budget carries a quorum at least."""
    prompt = "The quick brown fox jumps over the lazy dog again. " * 265 + "What is six times seven?"
    answer = await orchestrate(house, key, prompt=prompt)
    assert answer.status_code == 200, answer.text
    held_list = house.hold(answer.headers[ID])[3]
    assert await charged(house, answer) == PRICES["fast"]
    assert house.hold(answer.headers[ID])[1] <= held_list


def test_the_books_are_clean(house: PanelWorld) -> None:
    """After all of it; and nothing of ours has failed."""
    books.assert_clean(house.world.gateway)
    assert "Traceback" not in house.world.gateway.log()
