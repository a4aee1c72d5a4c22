"""The scripted provider is what it claims to be: the official SDKs take it for the real thing."""

from __future__ import annotations

import asyncio
import json
import socket
import ssl

import anthropic
import httpx
import openai
import pytest

from tests.peers.behaviour import Behaviour, Fault, Usage
from tests.peers.certificates import write_ca_file
from tests.peers.provider import ANTHROPIC_KEY, OPENAI_KEY, ScriptedProvider

MESSAGES = [{"role": "user", "content": "count these four words"}]


@pytest.fixture
def provider():
    """A plain HTTP provider."""
    with ScriptedProvider() as running:
        yield running


@pytest.fixture
def chat(provider):
    """The official OpenAI SDK, told not to retry."""
    with openai.OpenAI(base_url=provider.url + "/v1", api_key=OPENAI_KEY, max_retries=0) as sdk:
        yield sdk


@pytest.fixture
def messages(provider):
    """The official Anthropic SDK, told not to retry."""
    with anthropic.Anthropic(base_url=provider.url, api_key=ANTHROPIC_KEY, max_retries=0) as sdk:
        yield sdk


def test_openai_sdk_reads_a_whole_chat_completion(provider, chat):
    """Text, finish reason, usage with details and the request id arrive typed."""
    provider.script(Behaviour(text="one two three", cached_tokens=5, reasoning_tokens=7))
    answer = chat.chat.completions.create(model="gpt-5", messages=MESSAGES)
    assert answer.choices[0].message.content == "one two three"
    assert answer.choices[0].finish_reason == "stop"
    assert (answer.usage.prompt_tokens, answer.usage.completion_tokens) == (9, 10)
    assert answer.usage.prompt_tokens_details.cached_tokens == 5
    assert answer.usage.completion_tokens_details.reasoning_tokens == 7
    assert answer._request_id.startswith("req_")


def test_openai_sdk_reads_a_stream_with_usage_only_if_asked(chat):
    """The usage chunk has no choices and comes last, and only with include_usage."""
    asked = list(
        chat.chat.completions.create(
            model="gpt-5", messages=MESSAGES, stream=True, stream_options={"include_usage": True}
        )
    )
    plain = list(chat.chat.completions.create(model="gpt-5", messages=MESSAGES, stream=True))
    assert asked[-1].choices == [] and asked[-1].usage.total_tokens == 14
    assert all(chunk.usage is None for chunk in plain)
    assert "".join(chunk.choices[0].delta.content or "" for chunk in plain) == Behaviour().text


def test_openai_sdk_assembles_a_streamed_tool_call(provider, chat):
    """Arguments streamed in parts join to the scripted JSON."""
    provider.script(Behaviour(tool=("weather", '{"city":"Amsterdam"}')))
    with chat.chat.completions.stream(model="gpt-5", messages=MESSAGES) as stream:
        final = stream.get_final_completion()
    call = final.choices[0].message.tool_calls[0]
    assert (call.function.name, json.loads(call.function.arguments)) == ("weather", {"city": "Amsterdam"})
    assert final.choices[0].finish_reason == "tool_calls"


def test_openai_sdk_reads_embeddings_and_models(chat):
    """Base64 and float embeddings are the same numbers."""
    packed = chat.embeddings.create(model="text-embedding-3-small", input=["a b", "c"])
    floats = chat.embeddings.create(model="text-embedding-3-small", input=["a b", "c"], encoding_format="float")
    assert packed.usage.prompt_tokens == 3
    assert packed.data[1].embedding == pytest.approx(floats.data[1].embedding, rel=1e-6)
    assert "gpt-5" in [model.id for model in chat.models.list()]


def test_output_limit_cuts_the_answer(chat):
    """max_completion_tokens is honoured, and said so."""
    answer = chat.chat.completions.create(model="gpt-5", messages=MESSAGES, max_completion_tokens=2)
    assert (answer.usage.completion_tokens, answer.choices[0].finish_reason) == (2, "length")


def test_anthropic_sdk_reads_a_message_with_thinking(provider, messages):
    """A signed thinking block precedes the text; cache figures are in the usage."""
    provider.script(Behaviour(text="one two", cached_tokens=11, cache_write_tokens=13))
    message = messages.messages.create(
        model="claude-opus-4-5",
        max_tokens=2000,
        messages=MESSAGES,
        thinking={"type": "enabled", "budget_tokens": 1024},
    )
    assert [block.type for block in message.content] == ["thinking", "text"]
    assert message.content[0].signature
    assert (message.usage.input_tokens, message.usage.output_tokens) == (4, 2)
    assert (message.usage.cache_read_input_tokens, message.usage.cache_creation_input_tokens) == (11, 13)


@pytest.mark.parametrize("tool", [None, ("weather", '{"city":"Amsterdam"}')])
def test_anthropic_sdk_assembles_a_stream(provider, messages, tool):
    """Streamed text, thinking and tool input join to what the whole message has."""
    provider.script(Behaviour(text="one two", tool=tool))
    with messages.messages.stream(
        model="claude-opus-4-5",
        max_tokens=2000,
        messages=MESSAGES,
        thinking={"type": "enabled", "budget_tokens": 1024},
    ) as stream:
        final = stream.get_final_message()
    assert final.content[0].type == "thinking" and final.content[0].signature
    if tool:
        assert final.content[1].input == {"city": "Amsterdam"} and final.stop_reason == "tool_use"
    else:
        assert final.content[1].text == "one two" and final.usage.output_tokens == 2


def test_anthropic_sdk_counts_tokens_and_lists_models(messages):
    """The two unpriced endpoints speak Anthropic's format."""
    assert messages.messages.count_tokens(model="claude-opus-4-5", messages=MESSAGES).input_tokens == 4
    assert [model.type for model in messages.models.list()] == ["model"] * 3


def test_wrong_credentials_are_refused_in_both_dialects(chat, messages):
    """Each SDK raises its AuthenticationError, so the envelopes are right."""
    with pytest.raises(openai.AuthenticationError) as refused:
        chat.with_options(api_key="sk-other").chat.completions.create(model="gpt-5", messages=MESSAGES)
    assert refused.value.code == "invalid_api_key"
    with pytest.raises(anthropic.AuthenticationError):
        messages.with_options(api_key="sk-other").messages.create(
            model="claude-opus-4-5", max_tokens=10, messages=MESSAGES
        )


@pytest.mark.parametrize("status", [400, 404, 429, 500, 503])
def test_openai_sdk_raises_for_scripted_statuses(provider, chat, status):
    """The error's status, and the scripted retry-after, reach the caller."""
    provider.script(Behaviour(status=status, headers=(("retry-after", "2"),)))
    with pytest.raises(openai.APIStatusError) as failed:
        chat.chat.completions.create(model="gpt-5", messages=MESSAGES)
    assert (failed.value.status_code, failed.value.response.headers["retry-after"]) == (status, "2")


def test_overloaded_is_anthropics_529(provider, messages):
    """529 comes with overloaded_error."""
    provider.script(Behaviour(status=529))
    with pytest.raises(anthropic.APIStatusError) as failed:
        messages.messages.create(model="claude-opus-4-5", max_tokens=10, messages=MESSAGES)
    assert failed.value.status_code == 529
    assert failed.value.body["error"]["type"] == "overloaded_error"


@pytest.mark.parametrize("usage", [Usage.MISSING, None, {"prompt_tokens": -5, "completion_tokens": 10**15}])
def test_usage_can_be_scripted(provider, usage):
    """Absent, null or nonsense, exactly as told."""
    provider.script(Behaviour(usage=usage))
    body = httpx.post(
        provider.url + "/v1/chat/completions",
        headers={"authorization": f"Bearer {OPENAI_KEY}"},
        json={"model": "gpt-5", "messages": MESSAGES},
    ).json()
    if usage is Usage.MISSING:
        assert "usage" not in body
    else:
        assert body["usage"] == usage


def test_tls_provider_has_the_providers_names(tmp_path):
    """With the tests' authority trusted, api.openai.com verifies; without it nothing does."""
    with ScriptedProvider(tls=True) as provider:
        context = ssl.create_default_context(cafile=str(write_ca_file(tmp_path)))
        host, port = provider.address
        with (
            socket.create_connection((host, port)) as raw,
            context.wrap_socket(raw, server_hostname="api.openai.com") as secure,
        ):
            assert ("DNS", "api.anthropic.com") in secure.getpeercert()["subjectAltName"]
        with pytest.raises(httpx.ConnectError):
            httpx.get(provider.url + "/v1/models")


def test_requests_are_recorded_raw(provider):
    """Order and spelling of headers, target and body, and the reuse of a connection."""
    with httpx.Client() as client:
        client.post(provider.url + "/v1/files%2Fx?a=1", content=b"abc", headers={"X-CamelCase": "1"})
        client.get(provider.url + "/v1/other")
    first, second = provider.requests
    assert (first.method, first.path, first.body) == ("POST", "/v1/files%2Fx?a=1", b"abc")
    assert (b"X-CamelCase", b"1") in first.headers
    assert first.connection == second.connection


async def test_client_that_leaves_a_hanging_answer_is_recorded_as_cut(provider):
    """A hang lasts until the client goes, and that is seen."""
    provider.script(Behaviour(fault=Fault.HANG_MID))
    client = httpx.AsyncClient()
    async with client.stream(
        "POST",
        provider.url + "/v1/chat/completions",
        headers={"authorization": f"Bearer {OPENAI_KEY}"},
        json={"model": "gpt-5", "messages": MESSAGES, "stream": True},
    ) as answer:
        await anext(answer.aiter_bytes())
    await client.aclose()
    await provider.until(lambda: provider.requests[0].cut)
    assert not provider.requests[0].answered


async def test_echo_streams_both_ways(provider):
    """A piece sent comes back before the next one is sent."""
    reader, writer = await asyncio.open_connection(*provider.address)
    writer.write(b"PUT /v1/uploads/1 HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n5\r\nfirst\r\n")
    assert (await reader.readuntil(b"first\r\n")).startswith(b"HTTP/1.1 200 OK\r\n")
    writer.write(b"6\r\nsecond\r\n0\r\n\r\n")
    assert await reader.readuntil(b"0\r\n\r\n") == b"6\r\nsecond\r\n0\r\n\r\n"
    writer.close()
    assert (provider.requests[0].path, provider.requests[0].body) == ("/v1/uploads/1", b"firstsecond")


def test_model_scripts_answer_every_request_of_theirs(provider, chat):
    """Behaviours by model are not used up and leave the queue alone."""
    provider.script(Behaviour(text="always"), model="gpt-5-mini")
    provider.script(Behaviour(text="once"))
    texts = [
        chat.chat.completions.create(model=model, messages=MESSAGES).choices[0].message.content
        for model in ("gpt-5-mini", "gpt-5", "gpt-5-mini", "gpt-5")
    ]
    assert texts == ["always", "once", "always", Behaviour().text]
