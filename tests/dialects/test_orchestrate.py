"""A question to a panel: what a request says, and every way to get it wrong."""

from __future__ import annotations

import json
from typing import Any

import orjson
import pytest

from proxy.consensus.settings import AUTO, DOMAINS
from proxy.dialects import DIALECTS, changed
from proxy.dialects.base import Call
from proxy.errors import Refusal

PANEL = DIALECTS["tollway.orchestrate"]
IMAGE = {"type": "image_url", "image_url": {"url": "https://x.test/a.png"}}
ASKED = {"role": "user", "content": "Why?"}


def parse(**members: Any) -> Call:
    return PANEL.parse(orjson.dumps({"prompt": "Why?", **members}))


def chat(*messages: dict[str, Any], **members: Any) -> Call:
    return PANEL.parse(orjson.dumps({"messages": messages, **members}))


def refusal(**members: Any) -> Refusal:
    with pytest.raises(Refusal) as refused:
        parse(**members)
    assert (refused.value.code, refused.value.status) == ("invalid_request", 400)
    return refused.value


def test_a_prompt_is_all_that_is_needed() -> None:
    """The mode is then the operator's default."""
    call = parse()
    assert (call.dialect, call.model, call.stream, call.wants_usage) == ("tollway.orchestrate", None, False, False)
    assert (call.output_tokens_max, call.output_field, call.choices) == (None, None, 1)
    assert (call.input_parts, call.images, call.unbounded) == (1, 0, None)


def test_a_stream_always_reports_its_usage() -> None:
    """Nothing is asked for by the way, nothing withheld."""
    assert parse(stream=True).wants_usage


def test_the_mode_stands_in_the_place_of_a_model() -> None:
    """Bare: how models are called is the catalogue's matter."""
    assert parse(mode="deep").model == "deep"
    assert parse(mode=None).model is None


def test_messages_may_hold_images() -> None:
    """They are counted."""
    call = chat({"role": "system", "content": "Be brief."}, {"role": "user", "content": [IMAGE, IMAGE]})
    assert (call.input_parts, call.images) == (2, 2)


def test_everything_at_once() -> None:
    """Each member with a value that it may have."""
    form = {"type": "json_schema", "json_schema": {"name": "n", "schema": {"type": "object"}, "strict": True}}
    call = parse(
        mode="fast", domain="legal", stream=True, conversation_id="new", response_format=form, seed=-7,
        webhook_url="https://hooks.example.com:8443/in?x=1", max_tokens=50, max_output_tokens=50, temperature=0.5,
        top_p=1, stop=["a", "b"], verified=True, metadata={"mine": "1"},
    )  # fmt: skip
    assert (call.output_tokens_max, call.output_field) == (50, "max_tokens")
    assert call.document["metadata"] == {"mine": "1"}
    for domain in (AUTO, *DOMAINS, None):
        parse(domain=domain)


@pytest.mark.parametrize(
    ("members", "param", "says"),
    [
        ({"prompt": None}, "prompt", "either"),
        ({"messages": [ASKED]}, "prompt", "either"),
        ({"prompt": ""}, "prompt", "something in it"),
        ({"prompt": " \n"}, "prompt", "something in it"),
        ({"prompt": ["Why?"]}, "prompt", "string"),
        ({"mode": "a b"}, "mode", "fast, balanced"),
        ({"mode": ""}, "mode", "fast, balanced"),
        ({"mode": "x" * 65}, "mode", "fast, balanced"),
        ({"mode": 1}, "mode", "fast, balanced"),
        ({"domain": "law"}, "domain", "legal"),
        ({"domain": ["legal"]}, "domain", "legal"),
        ({"stream": 1}, "stream", "true or false"),
        ({"verified": "yes"}, "verified", "true or false"),
        ({"conversation_id": ""}, "conversation_id", "'new'"),
        ({"conversation_id": "../x"}, "conversation_id", "'new'"),
        ({"conversation_id": "x" * 65}, "conversation_id", "'new'"),
        ({"max_tokens": 0}, "max_tokens", "integer"),
        ({"max_tokens": 1, "max_output_tokens": 2}, "max_output_tokens", "the same"),
        ({"temperature": 2.1}, "temperature", "from 0 to 2"),
        ({"temperature": True}, "temperature", "number"),
        ({"top_p": -1}, "top_p", "from 0 to 1"),
        ({"seed": 1.5}, "seed", "integer"),
        ({"stop": []}, "stop", "1 to 4"),
        ({"stop": [""]}, "stop", "1 to 4"),
        ({"stop": ["x"] * 5}, "stop", "1 to 4"),
        ({"response_format": "json"}, "response_format", "object"),
        ({"response_format": {"type": "xml"}}, "response_format.type", "json_schema"),
        ({"response_format": {"type": "json_schema"}}, "response_format.json_schema", "schema"),
        ({"metadata": {"a": 1}}, "metadata", "at most 16"),
        ({"metadata": {"a": "x" * 513}}, "metadata", "at most 16"),
        ({"metadata": dict.fromkeys(map(str, range(17)), "x")}, "metadata", "at most 16"),
    ],
)
def test_a_wrong_value_is_refused_by_name(members: dict[str, Any], param: str, says: str) -> None:
    """And says what it should be."""
    refused = refusal(**members)
    assert refused.param == param
    assert says in refused.message


@pytest.mark.parametrize(
    "url",
    [
        "https://", "ftp://x.test/", "https://user:pw@x.test/", "https://user@x.test/",
        "https://x.test/#f", "https://x.test/ a", "https://x.test/\n", "https://x.test:99999/", "https://[::1",
        "https://t\u00f6st.test/", "//x.test/", "x" * 2049, 7, "https://x.test/" + "a" * 2048,
    ],
)  # fmt: skip
def test_a_webhook_goes_to_an_address(url: Any) -> None:
    """Whether it may be http, and whose network it is in, is looked at where it is called."""
    assert refusal(webhook_url=url).param == "webhook_url"


@pytest.mark.parametrize(
    ("member", "says"),
    [
        ("promt", "Did you mean 'prompt'?"),
        ("webhook", "Did you mean 'webhook_url'?"),
        ("xyzzy", "Known are prompt, messages"),
        ("model", "'mode'"),
        ("max_completion_tokens", "'max_tokens'"),
        ("tools", "/v1/chat/completions"),
        ("tool_choice", "/v1/chat/completions"),
        ("n", "one answer"),
        ("logprobs", "leave it out"),
        ("maxTokens", "spelled 'max_tokens'"),
        ("Mode", "spelled 'mode'"),
    ],
)
def test_an_unknown_member_is_refused_with_what_to_do(member: str, says: str) -> None:
    """By its name, whatever its value: nobody else reads it."""
    refused = refusal(**{member: None})
    assert refused.param == member
    assert says in refused.message


def test_a_long_name_is_not_repeated_whole() -> None:
    """Nor compared."""
    assert len(refusal(**{"x" * 100_000: 1}).message) < 500


@pytest.mark.parametrize(
    ("messages", "param"),
    [
        ([], "prompt"),
        ([{"role": "user"}], "messages[0].content"),
        ([{"role": "user", "content": ""}], "messages[0].content"),
        ([{"role": "critic", "content": "x"}], "messages[0].role"),
        ([{"role": "tool", "content": "x", "tool_call_id": "c"}], "messages[0]"),
        ([ASKED, {"role": "assistant", "content": None, "tool_calls": [{"id": "c"}]}, ASKED], "messages[1]"),
        ([ASKED, {"role": "assistant", "content": "Because."}], "messages[1].role"),
        ([{"role": "user", "content": [{"type": "input_audio", "input_audio": {}}]}], "messages"),
        ([{"role": "user", "content": [{"type": "file", "file": {}}]}], "messages"),
        ([{"role": "user", "content": [{"type": "image_url"}]}], "messages[0].content[0].image_url"),
        ([{"Role": "user", "role": "user", "content": "x"}], "messages[0].Role"),
    ],
)
def test_what_no_panel_reads_is_refused(messages: list[dict[str, Any]], param: str) -> None:
    """Tools, sound, files, and what is no question."""
    with pytest.raises(Refusal) as refused:
        chat(*messages)
    assert refused.value.status == 400
    assert refused.value.param in (param, "messages")


def test_a_prompt_can_become_messages() -> None:
    """What knows more of a conversation puts it in; null is as if it were not there."""
    before = PANEL.parse(b'{"prompt": "Why?", "mode":"fast"}')
    call = changed(
        before, {"prompt": b"null", "messages": orjson.dumps([ASKED, {**ASKED, "role": "assistant"}, ASKED])}
    )
    assert call.input_parts == 3
    assert json.loads(call.body)["mode"] == "fast"


def test_limits_are_changed_where_they_stand() -> None:
    """In every member that sets one."""
    call = parse(max_output_tokens=50)
    out = json.loads(PANEL.rewrite(call, model="fast", output_tokens=9, output_field=None, report_usage=True))
    assert out == {"prompt": "Why?", "max_output_tokens": 9, "mode": "fast"}
    same = PANEL.rewrite(parse(mode="fast"), model="fast", output_tokens=None, output_field=None, report_usage=True)
    assert json.loads(same) == {"prompt": "Why?", "mode": "fast"}
