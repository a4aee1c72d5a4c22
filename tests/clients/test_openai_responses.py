"""OpenAI's Responses by its Python SDK: by base_url and through HTTPS_PROXY, charged to the token."""

from __future__ import annotations

import asyncio
import ssl
from contextlib import ExitStack
from decimal import Decimal
from typing import Any

import httpx
import openai
import pytest
from pydantic import BaseModel

from tests.peers.behaviour import Behaviour, Fault
from tests.peers.provider import OPENAI_KEY
from tests.support.world import World

TEXT = Behaviour().text
COSTLY = Behaviour(text="one two three", reasoning_tokens=64, cached_tokens=1024)
"""With "Say hello.": 2 + 1024 tokens in, 3 + 64 out."""
CHARGED = (2 * Decimal("1.25") + 1024 * Decimal("0.125") + 67 * Decimal(10)) / 1_000_000


class Weather(BaseModel):
    """What the schema test asks for."""

    city: str


@pytest.fixture(autouse=True)
def forgetful(edge: World) -> None:
    """A provider that remembers this test only."""
    edge.provider.reset()


def by_base_url(opened: ExitStack, edge: World, key: str) -> openai.OpenAI:
    return opened.enter_context(openai.OpenAI(api_key=key, base_url=edge.base_url, max_retries=0))


def by_proxy(opened: ExitStack, edge: World, api_key: str) -> openai.OpenAI:
    client = httpx.Client(proxy=edge.gateway.url("capture"), verify=ssl.create_default_context(cafile=edge.proxy_ca))
    return opened.enter_context(openai.OpenAI(api_key=api_key, max_retries=0, http_client=client))


async def line_of(edge: World, request_id: str) -> dict[str, Any]:
    """The audit line of an exchange, which follows its answer."""
    async with asyncio.timeout(10):
        while True:
            for line in edge.gateway.audit_lines():
                if line["request_id"] == request_id:
                    return line
            await asyncio.sleep(0.01)


async def test_whole_answer_is_charged_exactly(edge: World, key: str, opened: ExitStack) -> None:
    """The operator's key goes upstream with our limit; every kind of token costs its own rate."""
    edge.provider.script(COSTLY)
    raw = by_base_url(opened, edge, key).responses.with_raw_response.create(model="gpt-5", input="Say hello.")
    answer = raw.parse()
    assert (answer.output_text, answer.status) == ("one two three", "completed")
    assert answer.usage is not None
    assert (answer.usage.input_tokens, answer.usage.output_tokens) == (1026, 67)
    seen = edge.provider.requests[-1]
    assert (seen.path, seen.header("authorization")) == ("/v1/responses", f"Bearer {OPENAI_KEY}")
    assert seen.json() == {"model": "gpt-5", "input": "Say hello.", "max_output_tokens": 1000}
    line = await line_of(edge, raw.headers["x-tollway-request-id"])
    assert Decimal(line["charged_usd"]) == CHARGED
    assert (line["operation"], line["tokens_in"], line["tokens_out"], line["tokens_reasoning"]) == (
        "responses", 1026, 67, 64,
    )  # fmt: skip
    assert line["counted"] is False


async def test_stream_is_charged_exactly_and_passes_byte_for_byte(edge: World, key: str, opened: ExitStack) -> None:
    """The SDK's own accumulator takes every event; usage is a part of the format, nothing is withheld."""
    edge.provider.script(COSTLY)
    client = by_base_url(opened, edge, key)
    with client.responses.stream(model="gpt-5", input="Say hello.", max_output_tokens=200) as stream:
        events = [event.type for event in stream]
        answer = stream.get_final_response()
    assert answer.output_text == "one two three"
    assert answer.usage is not None
    assert answer.usage.output_tokens_details.reasoning_tokens == 64
    assert (events[0], events[-1]) == ("response.created", "response.completed")
    assert events.count("response.output_text.delta") == 3
    assert edge.provider.requests[-1].json()["max_output_tokens"] == 200
    line = await line_of(edge, stream._response.headers["x-tollway-request-id"])
    assert (Decimal(line["charged_usd"]), line["stream"], line["outcome"]) == (CHARGED, True, "served")


async def test_stream_without_usage_is_counted(edge: World, key: str, opened: ExitStack) -> None:
    """A server of that format that reports none."""
    edge.provider.script(Behaviour(usage=None))
    client = by_base_url(opened, edge, key)
    raw = client.responses.with_raw_response.create(model="gpt-5", input="Say hello.", stream=True)
    assert [event.type for event in raw.parse()][-1] == "response.completed"
    line = await line_of(edge, raw.headers["x-tollway-request-id"])
    assert line["counted"] is True
    assert line["tokens_out"] > 5


@pytest.mark.parametrize("streamed", [False, True])
def test_tools_go_up_and_the_call_comes_back(edge: World, key: str, opened: ExitStack, streamed: bool) -> None:
    """And its result goes up in the next turn."""
    tools: Any = [{"type": "function", "name": "weather", "parameters": {"type": "object"}, "strict": False}]
    edge.provider.script(Behaviour(tool=("weather", '{"city": "Oslo"}')))
    client = by_base_url(opened, edge, key)
    if streamed:
        with client.responses.stream(model="gpt-5", input="Weather?", tools=tools) as stream:
            answer: Any = stream.get_final_response()
    else:
        answer = client.responses.create(model="gpt-5", input="Weather?", tools=tools)
    (call,) = answer.output
    assert (call.type, call.name, call.arguments) == ("function_call", "weather", '{"city": "Oslo"}')
    assert edge.provider.requests[-1].json()["tools"] == tools
    turns: Any = [
        {"role": "user", "content": "Weather?"},
        {"type": "function_call", "call_id": call.call_id, "name": call.name, "arguments": call.arguments},
        {"type": "function_call_output", "call_id": call.call_id, "output": "18 degrees"},
    ]
    assert client.responses.create(model="gpt-5", input=turns, tools=tools).output_text == TEXT


def test_a_schema_passes(edge: World, key: str, opened: ExitStack) -> None:
    """`responses.parse` with a pydantic model."""
    edge.provider.script(Behaviour(text='{"city":"Oslo"}'))
    answer = by_base_url(opened, edge, key).responses.parse(model="gpt-5", input="Where?", text_format=Weather)
    assert answer.output_parsed == Weather(city="Oslo")
    assert edge.provider.requests[-1].json()["text"]["format"]["type"] == "json_schema"


def test_what_cannot_be_bounded_is_refused_under_a_cap_only(edge: World, key: str, opened: ExitStack) -> None:
    """A conversation that the provider keeps: with a cap it has no bound, without one it passes."""
    capped = by_base_url(opened, edge, edge.gateway.make_key(caps=("5/day",)))
    with pytest.raises(openai.BadRequestError) as refused:
        capped.responses.create(model="gpt-5", input="And then?", previous_response_id="resp_1")
    assert refused.value.code == "unbounded_cost"
    assert "previous_response_id" in refused.value.message
    assert edge.provider.requests == []
    free = by_base_url(opened, edge, key).responses.create(model="gpt-5", input="x", previous_response_id="resp_1")
    assert free.status == "completed"


def test_an_error_in_the_place_of_a_stream_becomes_another_attempt(edge: World, key: str, opened: ExitStack) -> None:
    """`response.failed` before anything was generated: nothing of it reached the client."""
    edge.provider.script(Behaviour(fault=Fault.ERROR_EVENT_FIRST), Behaviour())
    with by_base_url(opened, edge, key).responses.stream(model="gpt-5", input="Say hello.") as stream:
        assert stream.get_final_response().output_text == TEXT
    assert len(edge.provider.requests) == 2


def test_a_stream_that_breaks_ends_with_an_error_the_sdk_raises(edge: World, key: str, opened: ExitStack) -> None:
    """In the format's own event."""
    edge.provider.script(Behaviour(fault=Fault.RESET_MID, after_chunks=6))
    client = by_base_url(opened, edge, key)
    with pytest.raises(openai.APIError) as broken:
        list(client.responses.create(model="gpt-5", input="Say hello.", stream=True))
    assert "broke off" in broken.value.message


def test_a_model_that_does_not_speak_it_is_404(edge: World, key: str, opened: ExitStack) -> None:
    """Nothing is translated between formats."""
    with pytest.raises(openai.NotFoundError) as refused:
        by_base_url(opened, edge, key).responses.create(model="gpt-4o", input="x")
    assert refused.value.code == "model_not_available"
    assert "does not serve responses" in refused.value.message


def test_stored_responses_are_not_served_here(edge: World, key: str, opened: ExitStack) -> None:
    """Only the path that makes one."""
    client = by_base_url(opened, edge, key)
    with pytest.raises(openai.NotFoundError):
        client.responses.retrieve("resp_1")
    with pytest.raises(openai.NotFoundError):
        client.responses.cancel("resp_1")
    assert edge.provider.requests == []


async def test_own_provider_key_through_the_proxy(edge: World, opened: ExitStack) -> None:
    """Captured: metered, charged nothing, the request as the client wrote it; what is kept there stays reachable."""
    edge.provider.script(COSTLY)
    client = by_proxy(opened, edge, OPENAI_KEY)
    raw = client.responses.with_raw_response.create(model="gpt-5", input="Say hello.")
    assert raw.parse().output_text == "one two three"
    seen = edge.provider.requests[-1]
    assert (seen.header("host"), seen.json()) == ("api.openai.com", {"model": "gpt-5", "input": "Say hello."})
    line = await line_of(edge, raw.headers["x-tollway-request-id"])
    assert (Decimal(line["charged_usd"]), Decimal(line["list_usd"])) == (0, CHARGED)
    assert client.get("/responses/resp_1", cast_to=httpx.Response).status_code == 200


def test_our_key_through_the_proxy_is_swapped(edge: World, key: str, opened: ExitStack) -> None:
    """Streamed, on captured traffic."""
    with by_proxy(opened, edge, key).responses.stream(model="gpt-5", input="Say hello.") as stream:
        assert stream.get_final_response().output_text == TEXT
    assert edge.provider.requests[-1].header("authorization") == f"Bearer {OPENAI_KEY}"
