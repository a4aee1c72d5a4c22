"""The real SDKs in front of a proxy that conceals: answers parse, tools take two turns, own keys pass untouched."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any

import anthropic
import openai
import pytest

from tests.clients import test_anthropic_python, test_openai_python
from tests.peers.behaviour import Behaviour, Fault
from tests.peers.canaries import MARK
from tests.peers.provider import OPENAI_KEY
from tests.support.world import CHAIN, World, world

HELLO: Any = [{"role": "user", "content": "How warm is Oslo?"}]
TEXT = Behaviour().text
ARGUMENTS = '{"city": "Oslo"}'
CALLS = Behaviour(canaries=True, tool=("weather", ARGUMENTS))
SPEAKS = Behaviour(canaries=True)
SCHEMA: Any = {"type": "object", "properties": {"city": {"type": "string"}}}


@pytest.fixture(scope="module")
def edge(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """A running proxy that conceals, in front of providers whose every own word is marked."""
    chain = [*CHAIN[: CHAIN.index("cors") + 1], "conceal", *CHAIN[CHAIN.index("cors") + 1 :]]
    listeners = {"capture": {"default_team": "default"}}
    with world(tmp_path_factory.mktemp("concealed"), config={"chain": chain}, listeners=listeners) as running:
        running.provider.default = SPEAKS
        yield running


@pytest.fixture(scope="module")
def key(edge: World) -> str:
    """A key of ours without caps."""
    return edge.gateway.make_key()


@pytest.fixture
def chat(edge: World, key: str, opened: ExitStack) -> openai.OpenAI:
    """OpenAI's SDK by base_url."""
    return test_openai_python.by_base_url(opened, edge, key)


@pytest.fixture
def messages(edge: World, key: str, opened: ExitStack) -> anthropic.Anthropic:
    """Anthropic's SDK by base_url."""
    return test_anthropic_python.by_base_url(opened, edge, key)


def tools() -> Any:
    return [{"type": "function", "function": {"name": "weather", "parameters": SCHEMA}}]


def test_whole_chat_completion_parses(chat: openai.OpenAI) -> None:
    """Model, usage and text are there; the SDK reports our id of the request."""
    answer = chat.chat.completions.create(model="gpt-4o", messages=HELLO)

    assert (answer.model, answer.object, answer.choices[0].finish_reason) == ("gpt-4o", "chat.completion", "stop")
    assert answer.choices[0].message.content == TEXT
    assert answer.usage is not None and answer.usage.total_tokens > 0
    assert answer.system_fingerprint is None and answer.service_tier is None
    own = answer._request_id
    assert own is not None and answer.id == f"chatcmpl-{own.removeprefix('req_')}"
    assert MARK not in answer.model_dump_json()


def test_streamed_tool_call_goes_two_turns(edge: World, chat: openai.OpenAI) -> None:
    """The call comes back under the id that the client was given, and the upstream finds both ends alike."""
    edge.provider.script(CALLS)
    with chat.chat.completions.stream(model="gpt-4o", messages=HELLO, tools=tools()) as stream:
        asked = stream.get_final_completion().choices[0].message
    (call,) = asked.tool_calls or []
    assert (call.function.name, call.function.arguments) == ("weather", ARGUMENTS)

    turn: Any = [
        *HELLO,
        {"role": "assistant", "tool_calls": [{"id": call.id, "type": "function", "function": call.function.to_dict()}]},
        {"role": "tool", "tool_call_id": call.id, "content": "7 degrees"},
    ]
    answer = chat.chat.completions.create(model="gpt-4o", messages=turn, tools=tools())
    assert answer.choices[0].message.content == TEXT
    _, called, result = edge.provider.requests[-1].json()["messages"]
    assert called["tool_calls"][0]["id"] == result["tool_call_id"] == call.id
    assert len(call.id) == 9 and call.id.isalnum() and MARK not in call.id


def test_stream_of_chat_has_one_id_and_its_usage(chat: openai.OpenAI) -> None:
    """Chunk by chunk, the usage last."""
    stream: Any = chat.chat.completions.create(
        model="gpt-4o", messages=HELLO, stream=True, stream_options={"include_usage": True}
    )
    chunks = list(stream)
    assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices) == TEXT
    assert len({chunk.id for chunk in chunks}) == 1
    assert chunks[-1].usage is not None and chunks[-1].choices == []
    assert not any(MARK in chunk.model_dump_json() for chunk in chunks)


def test_embeddings_parse(chat: openai.OpenAI) -> None:
    """By the SDK's own base64 encoding."""
    answer = chat.embeddings.create(model="text-embedding-3-small", input=["one", "two"])
    assert [len(one.embedding) for one in answer.data] == [8, 8]
    assert (answer.model, answer.usage.prompt_tokens) == ("text-embedding-3-small", 2)
    assert MARK not in answer.model_dump_json()


def test_streamed_message_with_thought_and_tool_goes_two_turns(edge: World, messages: anthropic.Anthropic) -> None:
    """The signature goes back as it came; the tool's result under the id that the client was given."""
    edge.provider.script(CALLS)
    weather: Any = {"name": "weather", "input_schema": SCHEMA}
    options: Any = {
        "model": "claude-sonnet", "max_tokens": 2000, "tools": [weather],
        "thinking": {"type": "enabled", "budget_tokens": 1024},
    }  # fmt: skip
    with messages.messages.stream(messages=HELLO, **options) as stream:
        asked = stream.get_final_message()
    thought, call = asked.content
    assert thought.type == "thinking" and thought.signature
    assert call.type == "tool_use" and call.input == {"city": "Oslo"}
    assert (asked.model, asked.stop_reason) == ("claude-sonnet", "tool_use")
    assert asked.id.startswith("msg_") and MARK not in asked.model_dump_json()

    result = {"type": "tool_result", "tool_use_id": call.id, "content": "7 degrees"}
    turn: Any = [*HELLO, {"role": "assistant", "content": asked.content}, {"role": "user", "content": [result]}]
    answer = messages.messages.create(messages=turn, **options)
    assert answer.content[-1].type == "text" and answer.content[-1].text == TEXT
    _, called, returned = edge.provider.requests[-1].json()["messages"]
    assert called["content"][0]["signature"] == thought.signature
    assert called["content"][1]["id"] == returned["content"][0]["tool_use_id"] == call.id


def test_streamed_response_with_a_tool_goes_two_turns(edge: World, chat: openai.OpenAI) -> None:
    """The call's items go back as they came; both ends under the id that the client was given."""
    edge.provider.script(CALLS)
    tool: Any = [{"type": "function", "name": "weather", "parameters": SCHEMA, "strict": False}]
    with chat.responses.stream(model="gpt-5", input=HELLO, tools=tool) as stream:
        asked = stream.get_final_response()
    (call,) = asked.output
    assert call.type == "function_call" and call.arguments == ARGUMENTS
    assert asked.model == "gpt-5" and asked.id.startswith("resp_") and MARK not in asked.model_dump_json()

    turn: Any = [*HELLO, call, {"type": "function_call_output", "call_id": call.call_id, "output": "7 degrees"}]
    answer = chat.responses.create(model="gpt-5", input=turn, tools=tool)
    assert answer.output_text == TEXT and MARK not in answer.model_dump_json()
    _, called, result = edge.provider.requests[-1].json()["input"]
    assert called["call_id"] == result["call_id"] == call.call_id
    assert answer.usage is not None and answer.usage.total_tokens > 0


def test_errors_are_the_sdks_own_classes(edge: World, chat: openai.OpenAI, messages: anthropic.Anthropic) -> None:
    """By status, with our code, and nothing of what the provider said."""
    edge.provider.script(Behaviour(status=400, canaries=True), Behaviour(status=400, canaries=True))
    with pytest.raises(openai.BadRequestError) as refused:
        chat.chat.completions.create(model="gpt-4o", messages=HELLO)
    assert (refused.value.code, refused.value.param) == ("invalid_request", None)
    assert MARK not in str(refused.value.body)
    with pytest.raises(anthropic.BadRequestError) as told:
        messages.messages.create(model="claude-sonnet", max_tokens=10, messages=HELLO)
    assert MARK not in str(told.value.body)
    assert told.value.request_id == told.value.response.headers["x-tollway-request-id"]


def test_error_within_a_stream_is_raised_by_the_sdks(
    edge: World, chat: openai.OpenAI, messages: anthropic.Anthropic
) -> None:
    """In the dialect's own form, after what came before it."""
    broken = Behaviour(canaries=True, fault=Fault.ERROR_EVENT_MID, after_chunks=4)
    edge.provider.script(broken, broken)
    with pytest.raises(openai.APIError, match="failed in the middle") as failed:
        list(chat.chat.completions.create(model="gpt-4o", messages=HELLO, stream=True))
    assert failed.value.code == "upstream_error"
    with (
        pytest.raises(anthropic.APIStatusError, match="failed in the middle"),
        messages.messages.stream(model="claude-sonnet", max_tokens=50, messages=HELLO) as stream,
    ):
        stream.until_done()


def test_own_provider_key_sees_its_own_provider(edge: World, opened: ExitStack) -> None:
    """Nothing is hidden from who knows whom it calls: ids, members and headers pass as they came."""
    client = test_openai_python.by_proxy(opened, edge, OPENAI_KEY)
    whole = client.chat.completions.with_raw_response.create(model="gpt-4o", messages=HELLO)
    assert MARK in whole.headers["x-request-id"] and MARK in whole.headers["via"]
    assert MARK in whole.text and "x_groq" in whole.text
    streamed = client.chat.completions.with_raw_response.create(model="gpt-4o", messages=HELLO, stream=True)
    assert "OPENROUTER PROCESSING" in streamed.http_response.read().decode()


def test_our_key_through_the_proxy_sees_no_provider(edge: World, key: str, opened: ExitStack) -> None:
    """The operator's account answers, so it is concealed there, too."""
    client = test_openai_python.by_proxy(opened, edge, key)
    whole = client.chat.completions.with_raw_response.create(model="gpt-4o", messages=HELLO)
    assert MARK not in str(whole.headers) + whole.text
    assert whole.headers["server"] == "tollway"
