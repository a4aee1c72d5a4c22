"""Content rules through a real proxy, with the providers' own SDKs at one end and their formats at the other."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any

import anthropic
import httpx
import openai
import pytest

from proxy.policy.content_patterns import PATTERNS
from tests.peers.behaviour import Behaviour
from tests.support.world import World, world

KEY_IN_TEXT = "sk-proj-" + "Ab3dE5gH" * 5
MAIL = "bob@example.org"
CARD = "4111 1111 1111 1111"
GONE = {name: rule.replacement for name, rule in PATTERNS.items()}
ASKED = [{"role": "user", "content": "Say hello."}]
RULES: list[Any] = [
    "api_keys",
    "card_numbers",
    "mail_addresses",
    {"name": "project-names", "pattern": "(?i)project apollo", "action": "refuse"},
]
TEAMS = {
    "organisations": {"acme": {"content": RULES[:2]}},
    "teams": {"default": {"organisation": "acme", "tier": "standard", "content": RULES[2:]}},
}
TEXT = f"Use {KEY_IN_TEXT}, pay with {CARD} 12/27, then write to {MAIL}."
CLEAN = f"Use {GONE['api_keys']}, pay with {GONE['card_numbers']} 12/27, then write to {GONE['mail_addresses']}."
ARGUMENTS = json.dumps({"to": MAIL, "note": f'"{CARD}" é😀', "cents": 4111}).replace("@", "\\u0040")
CALLED = {"to": GONE["mail_addresses"], "note": f'"{GONE["card_numbers"]}" é😀', "cents": 4111}


@pytest.fixture(scope="module")
def edge(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """A running proxy whose callers have rules of their organisation and of their team."""
    with world(
        tmp_path_factory.mktemp("content"), policies={"teams": TEAMS}, config={"heartbeat_seconds": 0.1}
    ) as running:
        yield running
        running.gateway.cli("ledger", "audit")


@pytest.fixture(scope="module")
def key(edge: World) -> str:
    """A key of ours without caps."""
    return edge.gateway.make_key()


@pytest.fixture
def opened() -> Iterator[ExitStack]:
    """Closes the clients that a test opened."""
    with ExitStack() as stack:
        yield stack


@pytest.fixture
def chat(edge: World, key: str, opened: ExitStack) -> openai.OpenAI:
    """OpenAI's SDK."""
    return opened.enter_context(openai.OpenAI(api_key=key, base_url=edge.base_url, max_retries=0))


@pytest.fixture
def messages(edge: World, key: str, opened: ExitStack) -> anthropic.Anthropic:
    """Anthropic's SDK."""
    return opened.enter_context(anthropic.Anthropic(api_key=key, base_url=edge.gateway.url("api"), max_retries=0))


def line(edge: World, **wanted: Any) -> dict[str, Any]:
    """The audit's line of the exchange of which all this is true."""
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline:
        for found in edge.gateway.audit_lines():
            if all(found[name] == value for name, value in wanted.items()):
                return found
        time.sleep(0.02)
    raise TimeoutError(str(wanted))


def test_a_request_goes_out_redacted(edge: World, chat: openai.OpenAI) -> None:
    """The provider sees none of it, in text or in a tool call's arguments, and is paid for what it sees."""
    call = {"id": "c", "type": "function", "function": {"name": "send", "arguments": ARGUMENTS}}
    asked: list[Any] = [
        {"role": "user", "content": [{"type": "text", "text": TEXT}]},
        {"role": "assistant", "tool_calls": [call]},
        {"role": "tool", "tool_call_id": "c", "content": f"sent to {MAIL}"},
    ]
    raw = chat.chat.completions.with_raw_response.create(model="gpt-4o", messages=asked, max_tokens=9)
    seen = edge.provider.requests[-1].json()["messages"]
    assert seen[0]["content"] == [{"type": "text", "text": CLEAN}]
    assert json.loads(seen[1]["tool_calls"][0]["function"]["arguments"]) == CALLED
    assert seen[2]["content"] == f"sent to {GONE['mail_addresses']}"
    found = line(edge, request_id=raw.headers["x-tollway-request-id"])
    assert sorted(found["content_rules"]) == ["api_keys", "card_numbers", "mail_addresses"]


def test_a_refused_request_reaches_no_provider(edge: World, chat: openai.OpenAI, messages: anthropic.Anthropic) -> None:
    """403 in the caller's own format, naming the rule and the place; nothing is charged."""
    asked: list[Any] = [{"role": "user", "content": "What is Project Apollo?"}]
    with pytest.raises(openai.PermissionDeniedError) as refused:
        chat.chat.completions.create(model="gpt-4o", messages=asked)
    assert (refused.value.code, refused.value.param) == ("content_refused", "messages[0].content")
    assert "'project-names'" in refused.value.message
    assert "Apollo" not in refused.value.message
    with pytest.raises(anthropic.PermissionDeniedError) as also:
        messages.messages.create(model="claude-sonnet", max_tokens=9, messages=asked)
    body: Any = also.value.body
    assert (body["type"], body["error"]["code"]) == ("error", "content_refused")
    assert edge.provider.requests == []
    found = line(edge, request_id=refused.value.response.headers["x-tollway-request-id"])
    assert (found["error"], found["content_rules"], found["charged_usd"]) == (
        "content_refused",
        ["project-names"],
        None,
    )


def test_a_whole_answer_comes_redacted(edge: World, chat: openai.OpenAI, messages: anthropic.Anthropic) -> None:
    """Text and arguments, in both formats."""
    edge.provider.default = Behaviour(text=TEXT)
    answer = chat.chat.completions.create(model="gpt-4o", messages=ASKED, max_tokens=100)  # type: ignore[arg-type]
    assert answer.choices[0].message.content == CLEAN
    edge.provider.default = Behaviour(tool=("send", ARGUMENTS))
    answer = chat.chat.completions.create(model="gpt-4o", messages=ASKED, max_tokens=100)  # type: ignore[arg-type]
    (call,) = answer.choices[0].message.tool_calls or ()
    assert json.loads(call.function.arguments) == CALLED  # type: ignore[union-attr]
    told = messages.messages.create(model="claude-sonnet", max_tokens=100, messages=ASKED)  # type: ignore[arg-type]
    assert told.content[0].input == CALLED  # type: ignore[union-attr]


def test_a_refused_answer_is_charged(edge: World, chat: openai.OpenAI) -> None:
    """The provider did the work: 403 to the caller, the usage in the books."""
    edge.provider.default = Behaviour(text="It is Project Apollo.")
    with pytest.raises(openai.PermissionDeniedError) as refused:
        chat.chat.completions.create(model="gpt-4o", messages=ASKED, max_tokens=100)  # type: ignore[arg-type]
    assert refused.value.code == "content_refused"
    found = line(edge, request_id=refused.value.response.headers["x-tollway-request-id"])
    assert found["content_rules"] == ["project-names"]
    assert found["tokens_out"] > 0
    assert float(found["charged_usd"]) > 0


def test_openai_s_stream_comes_redacted(edge: World, chat: openai.OpenAI) -> None:
    """The SDK's accumulator rebuilds the redacted text; heartbeats stand between whole events; the usage is there."""
    edge.provider.default = Behaviour(text=TEXT, delay_seconds=0.12)
    with chat.chat.completions.create(
        model="gpt-4o", messages=ASKED, max_tokens=100, stream=True, stream_options={"include_usage": True}
    ) as stream:  # type: ignore[call-overload]
        chunks = list(stream)
    assert "".join(c.choices[0].delta.content or "" for c in chunks if c.choices) == CLEAN
    assert [c.choices[0].finish_reason for c in chunks if c.choices][-1] == "stop"
    assert chunks[-1].usage.completion_tokens > 0


def test_openai_s_tool_call_comes_redacted_though_cut_within_its_escapes(edge: World, chat: openai.OpenAI) -> None:
    """The provider cuts the arguments every eight characters, through \\u0040 and through surrogate pairs."""
    edge.provider.default = Behaviour(tool=("send", ARGUMENTS))
    with chat.chat.completions.stream(model="gpt-4o", messages=ASKED, max_tokens=100) as stream:  # type: ignore[arg-type]
        final = stream.get_final_completion()
    (call,) = final.choices[0].message.tool_calls or ()
    assert (call.function.name, json.loads(call.function.arguments)) == ("send", CALLED)
    assert final.choices[0].finish_reason == "tool_calls"


def test_anthropic_s_stream_comes_redacted(edge: World, messages: anthropic.Anthropic) -> None:
    """Thinking with its signature, text, and a tool's input."""
    thinking: Any = {"type": "enabled", "budget_tokens": 1024}
    for behaviour in (Behaviour(text=TEXT), Behaviour(tool=("send", ARGUMENTS))):
        edge.provider.default = behaviour
        with messages.messages.stream(
            model="claude-sonnet", max_tokens=2000, messages=ASKED, thinking=thinking
        ) as stream:  # type: ignore[arg-type]
            final = stream.get_final_message()
        thought, block = final.content
        assert (thought.thinking, bool(thought.signature)) == ("Let me count the words.", True)  # type: ignore[union-attr]
        assert getattr(block, "text", None) == CLEAN or getattr(block, "input", None) == CALLED
        assert final.usage.output_tokens > 0


def test_a_refusal_ends_openai_s_stream_and_is_charged(edge: World, chat: openai.OpenAI) -> None:
    """What came before stays, then the SDK raises; the upstream is read to its usage all the same."""
    edge.provider.default = Behaviour(text="The name of it is Project Apollo, and there is much more to say.")
    said: list[str] = []
    stream = chat.chat.completions.create(model="gpt-4o", messages=ASKED, max_tokens=100, stream=True)  # type: ignore[arg-type]
    with pytest.raises(openai.APIError) as refused:
        said.extend(chunk.choices[0].delta.content or "" for chunk in stream)
    assert "".join(said) == "The name of it is "
    assert (refused.value.code, "Apollo" in refused.value.message) == ("content_refused", False)
    found = line(edge, stream=True, error="content_refused", operation="chat.completions")
    assert (found["status"], found["content_rules"]) == (200, ["project-names"])
    assert (found["counted"], found["tokens_out"] > 10, float(found["charged_usd"]) > 0) == (False, True, True)


def test_a_refusal_ends_anthropic_s_stream(edge: World, messages: anthropic.Anthropic) -> None:
    """An event of type error, which the SDK raises."""
    edge.provider.default = Behaviour(text="The name of it is Project Apollo, and there is much more to say.")
    said: list[str] = []
    with (
        pytest.raises(anthropic.APIStatusError) as refused,
        messages.messages.stream(model="claude-sonnet", max_tokens=100, messages=ASKED) as stream,  # type: ignore[arg-type]
    ):
        said += stream.text_stream
    body: Any = refused.value.body
    assert body["error"]["code"] == "content_refused"
    assert "".join(said) in ("", "The name of it is ")


def test_matches_are_counted_by_rule_and_action(edge: World, chat: openai.OpenAI) -> None:
    """In the metrics, without a word of the text in them or in the log."""
    edge.provider.default = Behaviour(text=TEXT)
    chat.chat.completions.create(model="gpt-4o", messages=ASKED, max_tokens=100)  # type: ignore[arg-type]
    scraped = httpx.get(f"{edge.gateway.url('admin')}/metrics", trust_env=False).text
    for name in GONE:
        assert f'tollway_content_matches_total{{action="redact",rule="{name}"}}' in scraped
    kept = scraped + edge.gateway.log() + json.dumps(edge.gateway.audit_lines())
    assert not any(secret in kept for secret in (KEY_IN_TEXT, MAIL, CARD, "Apollo"))


def test_responses_go_out_and_come_back_redacted(edge: World, chat: openai.OpenAI) -> None:
    """Instructions and input; text and arguments, whole and streamed, deltas and what is repeated at the end."""
    edge.provider.default = Behaviour(text=TEXT)
    asked: Any = [{"role": "user", "content": [{"type": "input_text", "text": TEXT}]}]
    whole = chat.responses.create(model="gpt-5", input=asked, instructions=f"Ask {MAIL}.", max_output_tokens=100)
    assert whole.output_text == CLEAN
    seen = edge.provider.requests[-1].json()
    assert (seen["input"][0]["content"][0]["text"], MAIL in seen["instructions"]) == (CLEAN, False)
    deltas: list[str] = []
    with chat.responses.stream(model="gpt-5", input="Say hello.", max_output_tokens=100) as stream:
        deltas = [event.delta for event in stream if event.type == "response.output_text.delta"]
        final = stream.get_final_response()
    assert "".join(deltas) == final.output_text == CLEAN
    edge.provider.default = Behaviour(tool=("send", ARGUMENTS))
    with chat.responses.stream(model="gpt-5", input="Say hello.", max_output_tokens=100) as stream:
        deltas = [event.delta for event in stream if event.type == "response.function_call_arguments.delta"]
        (call,) = stream.get_final_response().output
    assert json.loads("".join(deltas)) == json.loads(call.arguments) == CALLED  # type: ignore[union-attr]


def test_a_refusal_ends_a_response_s_stream(edge: World, chat: openai.OpenAI) -> None:
    """With an event of type error, which the SDK raises or gives, and nothing after it."""
    edge.provider.default = Behaviour(text="The name of it is Project Apollo, and there is much more to say.")
    events: list[Any] = []
    with pytest.raises(openai.APIError) as refused:
        events.extend(chat.responses.create(model="gpt-5", input="Say hello.", max_output_tokens=100, stream=True))
    assert refused.value.code == "content_refused"
    said = [event.delta for event in events if event.type == "response.output_text.delta"]
    assert "".join(said) == "The name of it is "
