"""What a request to a panel can ask for: tools, objects, images, languages, modes, limits."""

from __future__ import annotations

import json
from typing import Any

import httpx
import openai
import pytest

from tests.peers.behaviour import Behaviour
from tests.support.panel_clients import PRICES, charged, chat, disagreeing, orchestrate, told
from tests.support.panel_world import (
    Cast,
    Member,
    PanelWorld,
    events_of,
)

WEATHER = {
    "type": "function",
    "function": {"name": "weather", "description": "Of a city.", "parameters": {"type": "object"}},
}
PICTURE = {"type": "image_url", "image_url": {"url": "data:image/png;base64,iVBORw0KGgo="}}
SEEN = {"role": "user", "content": [{"type": "text", "text": "What is in the picture?"}, PICTURE]}


@pytest.fixture(autouse=True)
def staged(cast: Cast) -> Cast:
    return cast


# -- tools


@pytest.mark.parametrize("stream", [False, True])
async def test_the_synthesiser_alone_holds_the_tools(house: PanelWorld, key: str, cast: Cast, stream: bool) -> None:
    """Members read of them; the call comes out in OpenAI's shape."""
    calling = Behaviour(tool=("weather", '{"city": "Oslo"}'))
    cast.members = {"one": Member(roles={"synthesise": calling})}
    choice = {"type": "function", "function": {"name": "weather"}}
    answer = await chat(house, key, tools=[WEATHER], tool_choice=choice, parallel_tool_calls=False, stream=stream)
    assert answer.status_code == 200, answer.text
    if stream:
        chunks = [json.loads(line[6:]) for line in answer.text.splitlines() if line.startswith("data: {")]
        deltas = [one["choices"][0] for one in chunks if one["choices"]]
        calls = [call for one in deltas for call in one["delta"].get("tool_calls", ())]
        assert "".join(call["function"].get("arguments", "") for call in calls) == '{"city": "Oslo"}'
        assert calls[0]["id"] and calls[0]["function"]["name"] == "weather"
        assert deltas[-1]["finish_reason"] == "tool_calls"
    else:
        choice_told = answer.json()["choices"][0]
        assert choice_told["finish_reason"] == "tool_calls"
        (call,) = choice_told["message"]["tool_calls"]
        assert (call["type"], call["function"]["name"]) == ("function", "weather")
        assert json.loads(call["function"]["arguments"]) == {"city": "Oslo"}
    (written,) = told(house, "synthesise")
    assert (written["tools"], written["tool_choice"], written["parallel_tool_calls"]) == ([WEATHER], choice, False)
    for member in told(house, "member"):
        assert "tools" not in member and "weather" in json.dumps(member["messages"])


async def test_a_turn_that_ends_in_a_tools_result_is_answered(house: PanelWorld, key: str, cast: Cast) -> None:
    """Members read call and result as text, the synthesiser gets them as they are."""
    turn = [
        {"role": "system", "content": "Be kind."},
        {"role": "user", "content": "How warm is Oslo?"},
        {
            "role": "assistant",
            "content": None,
            "tool_calls": [
                {"id": "call_1", "type": "function", "function": {"name": "weather", "arguments": '{"city":"Oslo"}'}},
                {"id": "call_2", "type": "function", "function": {"name": "weather", "arguments": '{"city":"Bergen"}'}},
            ],
        },
        {"role": "tool", "tool_call_id": "call_1", "content": "7 degrees"},
        {"role": "tool", "tool_call_id": "call_2", "content": "9 degrees"},
    ]
    answer = await chat(house, key, messages=turn, tools=[WEATHER])
    assert answer.status_code == 200, answer.text
    assert answer.json()["choices"][0]["message"]["content"] == "After all: forty-two."
    for member in told(house, "member"):
        assert all(message["role"] in ("system", "user", "assistant") for message in member["messages"])
        assert all("tool_calls" not in message for message in member["messages"])
        read = json.dumps(member["messages"])
        assert "7 degrees" in read and "9 degrees" in read and "Bergen" in read
    (written,) = told(house, "synthesise")
    roles = [message["role"] for message in written["messages"]]
    assert roles == ["system", "user", "assistant", "tool", "tool", "user"]
    assert written["messages"][2]["tool_calls"] == turn[2]["tool_calls"]


async def test_a_history_with_tools_needs_none_declared(house: PanelWorld, key: str) -> None:
    """The client has put them away: everybody reads text."""
    turn = [
        {"role": "user", "content": "How warm is Oslo?"},
        {"role": "assistant", "tool_calls": [
            {"id": "c", "type": "function", "function": {"name": "weather", "arguments": "{}"}}
        ]},
        {"role": "tool", "tool_call_id": "c", "content": [{"type": "text", "text": "7 degrees"}]},
    ]  # fmt: skip
    answer = await chat(house, key, messages=turn)
    assert answer.status_code == 200, answer.text
    for seen in house.world.provider.requests:
        assert all(message["role"] != "tool" for message in seen.json()["messages"])


def piece(**call: Any) -> bytes:
    choice = {"index": 0, "delta": {"tool_calls": [call]}, "finish_reason": None}
    return b"data: " + json.dumps({"choices": [choice]}).encode() + b"\n\n"


SPELLINGS = {
    "as OpenAI": [
        piece(index=0, id="c1", type="function", function={"name": "weather", "arguments": ""}),
        piece(index=0, function={"arguments": '{"city":'}),
        piece(index=0, function={"arguments": '"Oslo"}'}),
        piece(index=1, id="c2", type="function", function={"name": "weather", "arguments": '{"city":"Bergen"}'}),
    ],
    "without an index": [
        piece(id="c1", function={"name": "weather", "arguments": '{"city":'}),
        piece(function={"arguments": '"Oslo"}'}),
        piece(id="c2", type="function", function={"name": "weather", "arguments": '{"city":"Bergen"}'}),
    ],
    "with its id each time": [
        piece(id="c1", function={"name": "weather", "arguments": '{"city":'}),
        piece(id="c1", function={"arguments": '"Oslo"}'}),
        piece(id="c2", function={"name": "weather", "arguments": '{"city":"Bergen"}'}),
    ],
    "without an id, arguments as objects": [
        piece(index=0, function={"name": "weather", "arguments": {"city": "Oslo"}}),
        piece(index=1, id="", function={"name": "weather", "arguments": {"city": "Bergen"}}),
    ],
}


@pytest.mark.parametrize("how", SPELLINGS)
async def test_parallel_calls_come_out_as_openai_spells_them(house: PanelWorld, key: str, cast: Cast, how: str) -> None:
    """However the synthesiser's provider does; whole and streamed alike, each with an id to answer to."""
    end = b'data: {"choices": [{"index": 0, "delta": {}, "finish_reason": "tool_calls"}]}\n\ndata: [DONE]\n\n'
    body = b"".join(SPELLINGS[how]) + end
    cast.members = {"one": Member(roles={"synthesise": Behaviour(body=body, content_type="text/event-stream")})}
    whole = (await chat(house, key, tools=[WEATHER])).json()["choices"][0]["message"]["tool_calls"]
    async with openai.AsyncOpenAI(api_key=key, base_url=f"{house.url}/v1", max_retries=0) as client:
        asked: Any = {"messages": [{"role": "user", "content": "?"}], "tools": [WEATHER]}
        async with client.chat.completions.stream(model="consensus-fast", **asked) as stream:
            message = (await stream.get_final_completion()).choices[0].message
    streamed = [call.to_dict() for call in message.tool_calls or []]
    for calls in (whole, streamed):
        functions: Any = [call["function"] for call in calls]
        assert [json.loads(one["arguments"]) for one in functions] == [{"city": "Oslo"}, {"city": "Bergen"}]
        assert {one["name"] for one in functions} == {"weather"}
        assert all(call["id"] and call["type"] == "function" for call in calls)
        assert len({call["id"] for call in calls}) == 2


# -- objects


SCHEMA = {
    "type": "object",
    "properties": {"city": {"type": "string"}, "degrees": {"type": "integer"}},
    "required": ["city", "degrees"],
    "additionalProperties": False,
}
AS_SCHEMA = {"type": "json_schema", "json_schema": {"name": "weather", "schema": SCHEMA, "strict": True}}
WARM, COLD = '{"city":"Oslo","degrees":7}', '{"city":"Oslo","degrees":-7}'


def objects(one: str, two: str, three: str, written: str = WARM, **roles: Behaviour) -> dict[str, Member]:
    return {
        name: Member(text, trailer="", written=written, roles=dict(roles))
        for name, text in (("one", one), ("two", two), ("three", three))
    }


async def test_objects_that_agree_are_the_answer(house: PanelWorld, key: str, cast: Cast) -> None:
    """Whatever the order of their members; the schema went to every member."""
    cast.members = objects(WARM, '```json\n{"degrees": 7, "city": "Oslo"}\n```', COLD)
    answer = await orchestrate(house, key, response_format=AS_SCHEMA)
    result = answer.json()
    assert json.loads(result["answer"]) == json.loads(WARM)
    assert all(one["response_format"] == AS_SCHEMA for one in told(house, "member"))


@pytest.mark.parametrize("invalid", ["It is warm.", '{"city": "Oslo"}', '{"city": "Oslo", "degrees": "7"}', "[]"])
async def test_an_invalid_object_loses_its_vote(house: PanelWorld, key: str, cast: Cast, invalid: str) -> None:
    """The other two decide."""
    cast.members = objects(WARM, WARM, invalid)
    answer = await orchestrate(house, key, response_format=AS_SCHEMA)
    assert json.loads(answer.json()["answer"]) == json.loads(WARM)
    assert answer.json()["source"] in ("typed_agreement", "synthesis")


@pytest.mark.parametrize("stream", [False, True])
async def test_an_invalid_final_object_is_repaired_once(house: PanelWorld, key: str, cast: Cast, stream: bool) -> None:
    """Before anything of it goes out."""
    cast.members = objects(WARM, COLD, '{"city":"Bergen","degrees":9}', written=WARM)
    cast.members["one"].roles["synthesise"] = Behaviour(chunks=3)
    answer = await orchestrate(house, key, response_format=AS_SCHEMA, stream=stream)
    result = events_of(answer.text)[-1][1]["result"] if stream else answer.json()
    assert json.loads(result["answer"]) == json.loads(WARM)
    assert len(told(house, "repair")) == 1
    if stream:
        said = "".join(data["text"] for name, data in events_of(answer.text) if name == "token")
        assert said == result["answer"]


async def test_where_repair_fails_a_members_object_stands_in(house: PanelWorld, key: str, cast: Cast) -> None:
    """The best valid one, and it is said."""
    broken = Behaviour(chunks=3)
    cast.members = objects(WARM, COLD, '{"city":"Bergen","degrees":9}', synthesise=broken, repair=broken)
    answer = await orchestrate(house, key, response_format=AS_SCHEMA)
    result = answer.json()
    assert result["source"] == "member_object"
    assert set(json.loads(result["answer"])) == {"city", "degrees"}


async def test_any_object_will_do(house: PanelWorld, key: str, cast: Cast) -> None:
    """json_object, on a chat completion."""
    cast.members = objects('{"a": 1}', '{"a": 2}', '{"a": 3}', written='{"a": 2}')
    answer = await chat(house, key, response_format={"type": "json_object"})
    assert json.loads(answer.json()["choices"][0]["message"]["content"]) == {"a": 2}


async def test_no_valid_object_at_all_is_said(house: PanelWorld, key: str, cast: Cast) -> None:
    """The answer is what there is; its quality is doubted."""
    cast.members = objects("Warm.", "Cold.", "Mild.", written="Warm it is.")
    answer = await orchestrate(house, key, response_format=AS_SCHEMA)
    assert answer.status_code == 200, answer.text
    result = answer.json()
    assert result["gate"] == "failed" or result["confidence"] == "low", result


# -- limits and drawing


async def test_limits_and_drawing_are_the_final_answers(house: PanelWorld, key: str, cast: Cast) -> None:
    """max_tokens, stop, seed and temperature go to the synthesiser; members have the mode's own."""
    cast.members = disagreeing(written="one two three four five six seven")
    answer = await chat(house, key, max_tokens=3, stop=["END"], seed=7, temperature=0.5)
    choice = answer.json()["choices"][0]
    assert choice["finish_reason"] == "length" and choice["message"]["content"] == "one two three"
    (written,) = told(house, "synthesise")
    assert (written["stop"], written["seed"], written["temperature"]) == (["END"], 7, 0.5)
    assert written.get("max_completion_tokens", written.get("max_tokens")) == 3
    for member in told(house, "member"):
        assert member.get("max_completion_tokens", member.get("max_tokens")) == 1024
        assert "stop" not in member and "seed" not in member


async def test_a_larger_limit_than_the_modes_is_lowered(house: PanelWorld, key: str, cast: Cast) -> None:
    """To final_max, as documented."""
    cast.members = disagreeing()
    answer = await chat(house, key, max_completion_tokens=1_000_000)
    assert answer.status_code == 200, answer.text
    (written,) = told(house, "synthesise")
    assert written.get("max_completion_tokens", written.get("max_tokens")) == 2048


# -- languages, domains, turns


@pytest.mark.parametrize(
    ("prompt", "language", "name"),
    [
        ("Wie lange darf ein Vermieter die Kaution nach dem Auszug einbehalten?", "de", "German"),
        ("退去した後、大家さんは敷金をいつまで保管できますか。", "ja", "Japanese"),
        ("How long may a landlord keep the deposit after the tenant has left?", "en", "English"),
    ],
)
async def test_everybody_is_told_the_language_of_the_question(
    house: PanelWorld, key: str, cast: Cast, prompt: str, language: str, name: str
) -> None:
    """Members and synthesiser alike, and the domain."""
    cast.members = disagreeing()
    answer = await orchestrate(house, key, prompt=prompt, domain="legal")
    result = answer.json()
    assert (result["language"], result["domain"]) == (language, "legal")
    for role in ("member", "synthesise"):
        for one in told(house, role):
            system = one["messages"][0]["content"]
            assert name in system and "legal" in system


async def test_several_turns_and_the_callers_system_prompt_reach_everybody(
    house: PanelWorld, key: str, cast: Cast
) -> None:
    """The caller's instructions first, ours behind them in the same message."""
    cast.members = disagreeing()
    turns = [
        {"role": "system", "content": "Speak like a pirate."},
        {"role": "user", "content": "What is six times seven?"},
        {"role": "assistant", "content": "Forty-two."},
        {"role": "user", "content": "And doubled?"},
    ]
    answer = await orchestrate(house, key, prompt=None, messages=turns)
    assert answer.status_code == 200, answer.text
    for role in ("member", "synthesise"):
        for one in told(house, role):
            first, *rest = one["messages"]
            assert first["role"] == "system" and first["content"].startswith("Speak like a pirate.")
            assert [message["role"] for message in rest] == ["user", "assistant", "user"]


async def test_a_follow_up_has_the_finals_of_earlier_turns(house: PanelWorld, key: str, cast: Cast) -> None:
    """Never members' own drafts; and it is another caller's to nobody."""
    first = (await orchestrate(house, key, conversation_id="new")).json()
    second = await orchestrate(house, key, prompt="And doubled?", conversation_id=first["conversation_id"])
    assert second.status_code == 200, second.text
    last = told(house, "member")[-1]["messages"]
    assert [one["role"] for one in last][-3:] == ["user", "assistant", "user"]
    assert last[-2]["content"] == first["answer"]
    stranger = house.world.gateway.make_key(user="mallory")
    refused = await orchestrate(house, stranger, conversation_id=first["conversation_id"])
    assert (refused.status_code, refused.json()["error"]["code"]) == (404, "not_found")


async def test_verified_holds_the_answer_back(house: PanelWorld, key: str, cast: Cast) -> None:
    """No token before the gate, and all of it after."""
    cast.members = disagreeing(like="42", written="It is 41.")
    answer = await orchestrate(house, key, mode="balanced", verified=True, stream=True)
    events = events_of(answer.text)
    result = events[-1][1]["result"]
    assert result["gate"] in ("passed", "replaced")
    assert "".join(data["text"] for name, data in events if name == "token") == result["answer"]
    chatted = await chat(house, key, consensus={"verified": True, "domain": "technical"})
    assert chatted.json()["consensus"]["domain"] == "technical"


# -- modes


async def test_auto_costs_what_it_ended_in(house: PanelWorld, key: str, cast: Cast) -> None:
    """Fast where members agree; balanced, with the answers that are there, where they do not."""
    quick = await orchestrate(house, key, mode="auto")
    result = quick.json()
    assert (result["mode"], result["requested_mode"], result["escalated"]) == ("fast", "auto", False)
    assert (result["credits_charged"], await charged(house, quick)) == (1, PRICES["fast"])
    house.world.provider.requests.clear()
    cast.members = disagreeing(like="42")
    slow = await orchestrate(house, key, mode="auto")
    result = slow.json()
    assert (result["mode"], result["requested_mode"], result["escalated"]) == ("balanced", "auto", True)
    assert (result["credits_charged"], await charged(house, slow)) == (3, PRICES["balanced"])
    assert len(told(house, "member")) == 3 and len(told(house, "evaluate")) == 3
    asked = await chat(house, key, model="consensus-auto")
    assert asked.json()["model"] == "consensus-auto"


async def test_the_models_list_has_the_modes(house: PanelWorld, key: str) -> None:
    """By their names, without their members."""
    async with httpx.AsyncClient(headers={"authorization": f"Bearer {key}"}) as client:
        listed = (await client.get(f"{house.url}/v1/models")).json()["data"]
    assert {"consensus-fast", "consensus-balanced", "consensus-deep", "consensus-auto"} <= {one["id"] for one in listed}
