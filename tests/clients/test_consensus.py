"""Stock clients in front of a whole proxy with panels: the answer, the stream, the errors, and what is beside them."""

from __future__ import annotations

import asyncio
import json
import os
import ssl
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import anthropic
import httpx
import openai
import pytest
from pydantic import BaseModel

from tests.faults import books
from tests.peers.behaviour import Behaviour
from tests.peers.provider import OPENAI_KEY
from tests.support.pages import command, shown
from tests.support.panel_world import Cast, Member, PanelWorld, panel_world, role_of

NODE = Path(__file__).parent / "node"
RIGHT = "It is forty-two."
WRITTEN = "After all: forty-two."
ASKED: Any = [{"role": "user", "content": "What is six times seven?"}]
TOOLS: Any = [{"type": "function", "function": {"name": "weather", "parameters": {"type": "object"}}}]
FAST = "consensus-fast"
SLOW = Behaviour(head_delay_seconds=2.3)
"""Two heartbeats of these tests."""


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PanelWorld]:
    listeners = {"capture": {"default_team": "default"}}
    with panel_world(tmp_path_factory.mktemp("panel-clients"), listeners=listeners) as running:
        yield running


@pytest.fixture(scope="module")
def key(house: PanelWorld) -> str:
    return house.world.gateway.make_key()


@pytest.fixture(autouse=True)
def cast(house: PanelWorld) -> Cast:
    return house.stage()


@pytest.fixture
def client(house: PanelWorld, key: str) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(api_key=key, base_url=house.world.base_url, max_retries=0) as found:
        yield found


def disagreeing(**roles: Behaviour) -> dict[str, Member]:
    return {
        name: Member(f"It is {number}.", str(number), roles=dict(roles))
        for name, number in (("one", 42), ("two", 41), ("three", 40))
    }


def extension_of(answer: Any) -> dict[str, Any]:
    found: dict[str, Any] = (answer.model_extra or {})["consensus"]
    return found


# -- OpenAI's SDK for Python


def test_python_whole(client: openai.OpenAI) -> None:
    """A standard completion with the sum of usage; what the panel thinks of it beside."""
    answer = client.chat.completions.create(model=FAST, messages=ASKED)
    assert (answer.model, answer.object) == (FAST, "chat.completion")
    assert (answer.choices[0].message.content, answer.choices[0].finish_reason) == (RIGHT, "stop")
    assert answer.usage is not None and answer.usage.total_tokens > 0
    extension = extension_of(answer)
    assert (extension["source"], extension["credits_charged"]) == ("typed_agreement", 1)
    assert len(extension["calls"]) == 3


@pytest.mark.parametrize("wants_usage", [False, True])
def test_python_streamed(client: openai.OpenAI, cast: Cast, wants_usage: bool) -> None:
    """The usage comes last, once, and only where it was asked for."""
    cast.members = disagreeing()
    more: Any = {"stream_options": {"include_usage": True}} if wants_usage else {}
    chunks = list(client.chat.completions.create(model=FAST, messages=ASKED, stream=True, **more))
    assert "".join([one.choices[0].delta.content or "" for one in chunks if one.choices]) == WRITTEN
    usages = [one.usage for one in chunks if one.usage is not None]
    assert len(usages) == wants_usage
    assert not wants_usage or chunks[-1].usage is not None
    extensions = [(one.model_extra or {})["consensus"] for one in chunks if "consensus" in (one.model_extra or {})]
    assert [one["source"] for one in extensions] == ["synthesis"]


async def test_python_asynchronous(house: PanelWorld, key: str) -> None:
    """Whole and streamed."""
    async with openai.AsyncOpenAI(api_key=key, base_url=house.world.base_url, max_retries=0) as asking:
        whole = await asking.chat.completions.create(model=FAST, messages=ASKED)
        stream = await asking.chat.completions.create(model=FAST, messages=ASKED, stream=True)
        streamed = "".join([one.choices[0].delta.content or "" async for one in stream if one.choices])
    assert whole.choices[0].message.content == streamed == RIGHT


def test_pythons_helper_takes_two_turns_with_a_tool(house: PanelWorld, client: openai.OpenAI, cast: Cast) -> None:
    """The call out, its result back in."""
    cast.members = {"one": Member(roles={"synthesise": Behaviour(tool=("weather", '{"city": "Oslo"}'))})}
    with client.chat.completions.stream(model=FAST, messages=ASKED, tools=TOOLS) as stream:
        message = stream.get_final_completion().choices[0].message
    (call,) = message.tool_calls or []
    assert (call.function.name, json.loads(call.function.arguments)) == ("weather", {"city": "Oslo"})
    cast.members = {}
    turn: Any = [
        *ASKED,
        {"role": "assistant", "tool_calls": [{"id": call.id, "type": "function", "function": call.function.to_dict()}]},
        {"role": "tool", "tool_call_id": call.id, "content": "7 degrees"},
    ]
    answer = client.chat.completions.create(model=FAST, messages=turn, tools=TOOLS)
    assert answer.choices[0].message.content == WRITTEN
    (written,) = [seen.json() for seen in house.world.provider.requests if role_of(seen) == "synthesise"][-1:]
    assert written["messages"][-2]["tool_call_id"] == call.id


class Weather(BaseModel):
    city: str
    degrees: int


def test_pythons_parser_gets_its_object(client: openai.OpenAI, cast: Cast) -> None:
    """`parse`, with the schema of a class: whole and streamed."""
    cast.members = dict.fromkeys(("one", "two", "three"), Member('{"city": "Oslo", "degrees": 7}', trailer=""))
    whole = client.chat.completions.parse(model=FAST, messages=ASKED, response_format=Weather)
    with client.chat.completions.stream(model=FAST, messages=ASKED, response_format=Weather) as stream:
        streamed = stream.get_final_completion()
    assert whole.choices[0].message.parsed == streamed.choices[0].message.parsed == Weather(city="Oslo", degrees=7)


def test_python_reads_over_heartbeats(client: openai.OpenAI, cast: Cast) -> None:
    """Members that are silent for longer than two of them."""
    cast.members = dict.fromkeys(("one", "two", "three"), Member(roles={"member": SLOW}))
    chunks = list(client.chat.completions.create(model=FAST, messages=ASKED, stream=True))
    assert "".join([one.choices[0].delta.content or "" for one in chunks if one.choices]) == RIGHT
    assert all(one.id == chunks[0].id for one in chunks)


def test_python_retries_a_run_that_failed(house: PanelWorld, key: str, cast: Cast) -> None:
    """503 with Retry-After: the SDK comes again by itself, and is answered."""
    busy = Member(roles={"member": Behaviour(status=429, headers=(("retry-after", "1"),))})
    cast.members = dict.fromkeys(("one", "two", "three", "spare"), busy)

    def recover(_: httpx.Response) -> None:
        cast.members = {}

    patient = httpx.Client(event_hooks={"response": [recover]})
    with openai.OpenAI(api_key=key, base_url=house.world.base_url, max_retries=2, http_client=patient) as asking:
        answer = asking.chat.completions.with_raw_response.create(model=FAST, messages=ASKED)
    assert answer.parse().choices[0].message.content == RIGHT
    assert answer.retries_taken == 1


def test_pythons_errors_are_of_their_kind(client: openai.OpenAI, cast: Cast) -> None:
    """So that an application catches what it knows."""
    with pytest.raises(openai.BadRequestError, match="leave it out"):
        client.chat.completions.create(model=FAST, messages=ASKED, n=2)
    with pytest.raises(openai.NotFoundError):
        client.chat.completions.create(model="consensus-huge", messages=ASKED)
    cast.members = dict.fromkeys(("one", "two", "three", "spare"), Member(roles={"member": Behaviour(status=500)}))
    with pytest.raises(openai.InternalServerError, match="try again later") as lost:
        client.chat.completions.create(model=FAST, messages=ASKED)
    assert (lost.value.status_code, lost.value.code) == (503, "upstream_unavailable")
    with pytest.raises(openai.APIError, match="try again later"):
        list(client.chat.completions.create(model=FAST, messages=ASKED, stream=True))


@pytest.mark.parametrize("stream", [False, True])
def test_python_is_told_that_responses_have_no_panels(client: openai.OpenAI, stream: bool) -> None:
    """And what to call."""
    with pytest.raises(openai.NotFoundError, match="POST /v1/chat/completions") as refused:
        client.responses.create(model=FAST, input="?", stream=stream)
    assert refused.value.code == "model_not_available"


def test_python_lists_panels(client: openai.OpenAI) -> None:
    """As models of ours."""
    listed = {model.id: model for model in client.models.list()}
    assert {"consensus-fast", "consensus-balanced", "consensus-deep", "consensus-auto"} <= listed.keys()
    assert client.models.retrieve("consensus-balanced").owned_by == listed["consensus-fast"].owned_by == "tollway"


def test_python_asks_for_what_only_a_panel_knows(client: openai.OpenAI) -> None:
    """By `extra_body`."""
    more = {"consensus": {"domain": "legal", "verified": True}}
    answer = client.chat.completions.create(model=FAST, messages=ASKED, extra_body=more)
    assert extension_of(answer)["domain"] == "legal"


def test_what_frameworks_send_as_a_matter_of_course_does_no_harm(client: openai.OpenAI) -> None:
    """Members that say nothing else than their defaults, or nothing that a panel needs to know."""
    answer = client.chat.completions.create(
        model=FAST, messages=ASKED, n=1, logprobs=False, store=False, user="ann", metadata={"a": "b"}, seed=1,
        reasoning_effort="low", service_tier="auto", presence_penalty=0, frequency_penalty=0, temperature=0.7,
        top_p=1, logit_bias={}, stop=None, verbosity="low", modalities=["text"], prompt_cache_key="x",
    )  # fmt: skip
    assert answer.choices[0].message.content == RIGHT


@pytest.mark.parametrize("stream", [False, True])
def test_python_is_told_again_what_its_key_was_told(house: PanelWorld, client: openai.OpenAI, stream: bool) -> None:
    """With an Idempotency-Key in `extra_headers`: the same answer, and nobody is asked."""

    def ask() -> tuple[str, str]:
        headers = {"Idempotency-Key": f"sdk-{stream}"}
        if not stream:
            whole = client.chat.completions.create(model=FAST, messages=ASKED, extra_headers=headers)
            return whole.id, whole.choices[0].message.content or ""
        chunks = list(client.chat.completions.create(model=FAST, messages=ASKED, stream=True, extra_headers=headers))
        return chunks[0].id, "".join([one.choices[0].delta.content or "" for one in chunks if one.choices])

    first = ask()
    assert first[1] == RIGHT and ask() == first
    assert len(house.world.provider.requests) == 3


def test_python_that_leaves_a_stream_ends_the_run(house: PanelWorld, client: openai.OpenAI, cast: Cast) -> None:
    """`stream.close()` in the midst of the answer: its synthesiser is cut, and the price is charged."""
    cast.members = disagreeing(synthesise=Behaviour(chunks=1000, delay_seconds=0.02))
    stream = client.chat.completions.create(model=FAST, messages=ASKED, stream=True)
    for chunk in stream:
        if chunk.choices and chunk.choices[0].delta.content:
            break
    stream.close()
    asyncio.run(house.world.provider.until(lambda: any(seen.cut for seen in house.world.provider.requests), 2))
    asyncio.run(books.until_ended(house.world.gateway))
    (newest,) = house.rows("SELECT charged, held_charged, outcome FROM holds ORDER BY id DESC LIMIT 1")
    assert newest == (50_000_000, 50_000_000, "client_gone")


def test_anthropics_sdk_is_told_that_messages_have_no_panels(house: PanelWorld, key: str) -> None:
    """In its own envelope."""
    with (
        anthropic.Anthropic(api_key=key, base_url=house.url, max_retries=0) as asking,
        pytest.raises(anthropic.NotFoundError, match="POST /v1/chat/completions"),
    ):
        asking.messages.create(model=FAST, max_tokens=5, messages=ASKED)


# -- HTTPS_PROXY: the application believes to talk to api.openai.com


def by_proxy(opened: ExitStack, house: PanelWorld, api_key: str, proxy_key: str | None = None) -> openai.OpenAI:
    proxy = house.world.gateway.url("capture")
    proxy = proxy if proxy_key is None else proxy.replace("://", f"://{proxy_key}:@")
    http = httpx.Client(proxy=proxy, verify=ssl.create_default_context(cafile=house.world.proxy_ca))
    return opened.enter_context(openai.OpenAI(api_key=api_key, max_retries=0, http_client=http))


def test_a_captured_client_with_our_key_asks_a_panel(house: PanelWorld, key: str, opened: ExitStack) -> None:
    """Our key in the place of the provider's: any model of ours, panels among them."""
    asking = by_proxy(opened, house, key)
    answer = asking.chat.completions.create(model=FAST, messages=ASKED)
    assert answer.choices[0].message.content == RIGHT
    assert extension_of(answer)["mode"] == "fast"
    assert {role_of(seen) for seen in house.world.provider.requests} == {"member"}


def test_a_captured_client_finds_no_orchestrate_at_its_provider(house: PanelWorld, key: str, opened: ExitStack) -> None:
    """The path is ours, and not one of the host's that was captured; our key does not go there."""
    with pytest.raises(openai.PermissionDeniedError) as refused:
        by_proxy(opened, house, key).post("/orchestrate", cast_to=httpx.Response, body={"prompt": "?"})
    assert refused.value.code == "path_not_allowed"
    assert house.world.provider.requests == []


def test_a_captured_clients_own_key_pays_for_no_panel(house: PanelWorld, key: str, opened: ExitStack) -> None:
    """With its provider's key it asks its provider for a model of that name, once; ours in the proxy credentials
    says who it is, and nothing is charged."""
    asking = by_proxy(opened, house, OPENAI_KEY, key)
    asking.chat.completions.create(model=FAST, messages=ASKED)
    (seen,) = house.world.provider.requests
    assert (seen.json()["model"], seen.json()["messages"]) == (FAST, ASKED)
    assert seen.header("x-tollway-panel-depth") is None


# -- Node, curl, httpx


def test_node(house: PanelWorld, key: str, cast: Cast) -> None:
    """One run of the SDK through everything an application does, over heartbeats."""
    cast.members = disagreeing()
    cast.members["two"].roles["member"] = Behaviour(head_delay_seconds=0.2)
    run = subprocess.run(
        ["node", "consensus.mjs"],
        cwd=NODE,
        env={**os.environ, "API_KEY": key, "BASE_URL": house.world.base_url},
        capture_output=True,
        text=True,
        timeout=50,
    )
    assert run.returncode == 0, run.stderr
    told = json.loads(run.stdout)
    assert told["whole"]["text"] == WRITTEN and told["whole"]["usage"]["total_tokens"] > 0
    assert told["whole"]["extension"]["mode"] == "fast"
    for name, usages in (("plain", 0), ("counted", 1)):
        read = told[name]
        assert (read["text"], read["usages"], read["strange"], read["finish"]) == (WRITTEN, usages, 0, "stop")
        assert read["extension"]["credits_charged"] == 1
    assert told["helper"]["message"]["content"] == WRITTEN
    assert {"consensus-fast", "consensus-auto"} <= set(told["models"])
    assert told["twice"] == {"kind": "BadRequestError", "status": 400, "code": "invalid_request"}
    assert told["responses"] == {"kind": "NotFoundError", "status": 404, "code": "model_not_available"}


def node_streams(house: PanelWorld, key: str) -> dict[str, Any]:
    """What tests/clients/test_panel_streams.py has it read from a recorded stream, from a live one."""
    run = subprocess.run(
        ["node", "panel.mjs"],
        cwd=NODE,
        env={**os.environ, "API_KEY": key, "BASE_URL": house.world.base_url, "MODEL": FAST},
        capture_output=True,
        text=True,
        timeout=50,
    )
    assert run.returncode == 0, run.stderr
    told: dict[str, Any] = json.loads(run.stdout)
    return told


def test_node_reads_over_heartbeats(house: PanelWorld, key: str, cast: Cast) -> None:
    """And its helper, which accumulates."""
    cast.members = dict.fromkeys(("one", "two", "three"), Member(roles={"member": Behaviour(head_delay_seconds=1.3)}))
    told = node_streams(house, key)
    assert (told["streamed"], told["strange"], told["error"]) == (RIGHT, 0, None)
    assert told["helper"] == {"content": RIGHT, "finish": "stop"}


def test_node_raises_at_a_run_that_failed(house: PanelWorld, key: str, cast: Cast) -> None:
    """After the head has gone out."""
    cast.members = dict.fromkeys(("one", "two", "three", "spare"), Member(roles={"member": Behaviour(status=500)}))
    told = node_streams(house, key)
    assert told["error"] == {"name": "APIError", "code": "upstream_unavailable"}
    assert told["helper"] == {"error": "APIError"}


def test_curl_as_the_page_shows_it(house: PanelWorld, key: str) -> None:
    """Word for word, but for the port."""
    typed = command("orchestrate.md", "normal wear").replace("http://127.0.0.1:8402", house.url)
    run = subprocess.run(
        ["sh", "-c", typed], env={**os.environ, "KEY": key}, capture_output=True, text=True, timeout=30
    )
    result = json.loads(run.stdout)
    assert (result["mode"], result["domain"], result["object"]) == ("balanced", "legal", "orchestration")


def test_httpx_as_the_page_shows_it(house: PanelWorld, key: str, capsys: pytest.CaptureFixture[str]) -> None:
    """The reader of events runs as it stands there."""
    code = compile(shown("orchestrate.md", "python", "iter_lines"), "orchestrate.md", "exec")
    exec(code, {"key": key, "base_url": house.world.base_url})
    assert capsys.readouterr().out.startswith(f"{RIGHT}\nconfidence: ")


def test_the_books_are_clean(house: PanelWorld) -> None:
    """After all of it."""
    books.assert_clean(house.world.gateway)
