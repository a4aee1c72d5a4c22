"""What a policy changes in a body: only what it must, every other byte as the client sent it."""

from __future__ import annotations

import json
from typing import Any

import pytest

from proxy.dialects import DIALECTS
from proxy.dialects.base import Call
from proxy.errors import Refusal
from proxy.policy.amendments import amended
from proxy.policy.callers import merged
from proxy.policy.rules import Policy
from tests.support.rules import scoped

CHAT = "openai.chat"
MESSAGES = "anthropic.messages"
EMBEDDINGS = "openai.embeddings"
RESPONSES = "openai.responses"
ORCHESTRATE = "tollway.orchestrate"


def policy(**rules: Any) -> Policy:
    """Of one scope."""
    return merged([scoped("team", **rules)], "standard")


def change(
    rules: Policy, dialect: str, body: bytes, *, field: str | None = None, default: int | None = 1000
) -> tuple[bytes, Call]:
    """The new body, and the call that was parsed from it."""
    call = amended(rules, DIALECTS[dialect].parse(body), limit_field=field, output_default=default)
    return call.body, call


def test_nothing_to_change_gives_the_same_call_back() -> None:
    """Not even a copy."""
    call = DIALECTS[CHAT].parse(b'{"model":"m","temperature":0.2,"max_tokens":5,"messages":[{"role":"user"}]}')
    same = policy(parameters={"temperature": 0.2}, output_tokens_max=5)
    assert amended(same, call, limit_field=None, output_default=1000) is call


def test_a_forced_member_replaces_the_clients_value_in_place() -> None:
    """Odd spacing, key order and everything else stay."""
    body = (
        b'{ "model" : "m",\n  "temperature":  1.9 , "x_unknown": [1, 2],'
        b'"messages":[{"role":"user","content":"\\u00e9"}] }'
    )
    changed, call = change(policy(parameters={"temperature": 0.2}), CHAT, body)
    assert changed == body.replace(b"1.9", b"0.2")
    assert call.document["temperature"] == 0.2


def test_a_forced_member_that_is_missing_is_put_in_front() -> None:
    """Whatever its kind."""
    forced = {"temperature": 0.2, "stop": ["a"], "store": False}
    changed, _ = change(policy(parameters=forced), CHAT, b'{"model":"m","messages":[{"role":"user"}]}')
    assert changed == b'{"temperature":0.2,"stop":["a"],"store":false,"model":"m","messages":[{"role":"user"}]}'


def test_members_go_to_the_formats_that_know_them() -> None:
    """A provider would refuse the others."""
    forced = policy(parameters={"temperature": 0.2, "seed": 7, "stop_sequences": ["x"], "user": "u"})
    chat, _ = change(forced, CHAT, b'{"model":"m","messages":[{"role":"user"}]}')
    messages, _ = change(forced, MESSAGES, b'{"model":"m","max_tokens":5,"messages":[{"role":"user","content":"a"}]}')
    embeddings, _ = change(forced, EMBEDDINGS, b'{"model":"m","input":"a"}')
    assert set(json.loads(chat)) == {"model", "messages", "temperature", "seed", "user"}
    assert set(json.loads(messages)) == {"model", "messages", "max_tokens", "temperature", "stop_sequences"}
    assert set(json.loads(embeddings)) == {"model", "input", "user"}


@pytest.mark.parametrize("spelled", ["Temperature", "TEMPERATURE", "Temp_erature"])
def test_a_forced_member_cannot_be_undone_by_another_spelling(spelled: str) -> None:
    """Servers that ignore case would take the client's."""
    body = json.dumps({"model": "m", "messages": [{"role": "user"}], spelled: 2}).encode()
    with pytest.raises(Refusal) as refused:
        change(policy(parameters={"temperature": 0.2}), CHAT, body)
    assert (refused.value.code, refused.value.param) == ("invalid_request", spelled)


@pytest.mark.parametrize(
    ("dialect", "members", "expected"),
    [
        (CHAT, b'"max_tokens":9000', b'"max_tokens":500'),
        (CHAT, b'"max_completion_tokens": 9000', b'"max_completion_tokens": 500'),
        (CHAT, b'"max_tokens":9000,"max_completion_tokens":9000', b'"max_tokens":500,"max_completion_tokens":500'),
        (CHAT, b'"max_tokens":null,"max_completion_tokens":9000', b'"max_tokens":null,"max_completion_tokens":500'),
        (MESSAGES, b'"max_tokens":9000', b'"max_tokens":500'),
    ],
)
def test_a_larger_limit_is_lowered_where_the_client_set_it(dialect: str, members: bytes, expected: bytes) -> None:
    """In its own field, or both of them."""
    body = b'{"model":"m",%s,"messages":[{"role":"user","content":"a"}]}'
    changed, call = change(policy(output_tokens_max=500), dialect, body % members)
    assert changed == body % expected
    assert call.output_tokens_max == 500


@pytest.mark.parametrize(("default", "field", "expected"), [
    (1000, None, {"max_completion_tokens": 500}),
    (400, None, {}),
    (500, None, {}),
    (None, None, {"max_completion_tokens": 500}),
    (None, "max_tokens", {"max_tokens": 500}),
    (None, "no_such_field", {"max_completion_tokens": 500}),
])  # fmt: skip
def test_without_a_limit_of_the_client_the_default_is_lowered(
    default: int | None, field: str | None, expected: dict[str, int]
) -> None:
    """Only where it is above; on the client's own account nobody else sets one."""
    body = b'{"model":"m","messages":[{"role":"user"}]}'
    changed, call = change(policy(output_tokens_max=500), CHAT, body, field=field, default=default)
    assert {key: value for key, value in json.loads(changed).items() if "tokens" in key} == expected
    assert call.output_tokens_max == (500 if expected else None)


def test_embeddings_have_no_output_to_limit() -> None:
    """And no system prompt."""
    body = b'{"model":"m","input":"a"}'
    assert change(policy(output_tokens_max=5, system_prefix="x"), EMBEDDINGS, body)[0] == body


def test_a_thinking_budget_above_the_ceiling_is_refused_in_words() -> None:
    """The provider would answer with an error that names a limit which the client never set."""
    body = (
        b'{"model":"m","max_tokens":9000,"thinking":{"type":"enabled","budget_tokens":2000},'
        b'"messages":[{"role":"user","content":"a"}]}'
    )
    with pytest.raises(Refusal) as refused:
        change(policy(output_tokens_max=2000), MESSAGES, body)
    assert refused.value.param == "thinking.budget_tokens"
    assert b'"max_tokens":2001' in change(policy(output_tokens_max=2001), MESSAGES, body)[0]


PREFIXED = [
    # No system message: one is put before all others.
    (
        b'[ {"role":"user","content":"hi"}]',
        b'[ {"role":"system","content":"Be \\"brief\\"."},{"role":"user","content":"hi"}]',
    ),
    # A text: joined, with the client's own escapes kept.
    (
        b'[{"content":"caf\\u00e9 {[","role":"system"},{"role":"user","content":"hi"}]',
        b'[{"content":"Be \\"brief\\".\\n\\ncaf\\u00e9 {[","role":"system"},{"role":"user","content":"hi"}]',
    ),
    (
        b'[{"role":"developer","content":"x"}]',
        b'[{"role":"developer","content":"Be \\"brief\\".\\n\\nx"}]',
    ),
    # Parts: one more in front, cache marks where they were.
    (
        b'[{"role":"system","content":[ {"type":"text","text":"x","cache_control":{"type":"ephemeral"}}]}]',
        b'[{"role":"system","content":[{"type":"text","text":"Be \\"brief\\"."}, '
        b'{"type":"text","text":"x","cache_control":{"type":"ephemeral"}}]}]',
    ),
    # Nothing in it.
    (b'[{"role":"system","content":""}]', b'[{"role":"system","content":"Be \\"brief\\"."}]'),
    (b'[{"role":"system","content":[]}]', b'[{"role":"system","content":"Be \\"brief\\"."}]'),
    (b'[{"role":"system","content":null}]', b'[{"role":"system","content":"Be \\"brief\\"."}]'),
    (b'[{"role":"system"}]', b'[{"content":"Be \\"brief\\".","role":"system"}]'),
    # A later system message does not count: what comes first must be the operator's.
    (
        b'[{"role":"user","content":"hi"},{"role":"system","content":"x"}]',
        b'[{"role":"system","content":"Be \\"brief\\"."},{"role":"user","content":"hi"},'
        b'{"role":"system","content":"x"}]',
    ),
]


@pytest.mark.parametrize(("messages", "expected"), PREFIXED)
def test_chat_the_prefix_stands_before_the_system_prompt(messages: bytes, expected: bytes) -> None:
    """And every other byte where it was."""
    body = b'{"model": "m", "messages": %s, "x": [1, {"a": "]"}]}'
    changed, call = change(policy(system_prefix='Be "brief".'), CHAT, body % messages)
    assert changed == body % expected
    assert call.document == json.loads(changed)


@pytest.mark.parametrize(
    ("members", "expected"),
    [
        (b'"system":"x\\u00e9",', b'"system":"P\\n\\nx\\u00e9",'),
        (
            b'"system": [{"type":"text","text":"x","cache_control":{"type":"ephemeral"}}],',
            b'"system": [{"type":"text","text":"P"},{"type":"text","text":"x","cache_control":{"type":"ephemeral"}}],',
        ),
        (b'"system":[],', b'"system":"P",'),
        (b'"system":null,', b'"system":"P",'),
    ],
)
def test_messages_the_prefix_stands_before_the_system_prompt(members: bytes, expected: bytes) -> None:
    """A text or blocks."""
    body = b'{"model":"m",%s"max_tokens":5,"messages":[{"role":"user","content":"a"}]}'
    assert change(policy(system_prefix="P"), MESSAGES, body % members)[0] == body % expected


def test_messages_without_a_system_prompt_get_one() -> None:
    """In front."""
    body = b'{"model":"m","max_tokens":5,"messages":[{"role":"user","content":"a"}]}'
    assert change(policy(system_prefix="P"), MESSAGES, body)[0] == b'{"system":"P",' + body[1:]


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        (
            b'{"model":"m","instructions": "caf\\u00e9","max_output_tokens":900,"input":"a"}',
            b'{"temperature":0.2,"store":false,"model":"m","instructions": "P\\n\\ncaf\\u00e9",'
            b'"max_output_tokens":50,"input":"a"}',
        ),
        (
            b'{"model":"m","input":"a"}',
            b'{"temperature":0.2,"store":false,"max_output_tokens":50,"instructions":"P","model":"m","input":"a"}',
        ),
    ],
)
def test_responses_are_amended_in_their_own_members(body: bytes, expected: bytes) -> None:
    """Instructions, max_output_tokens, and those forced members that it knows."""
    forced = {"temperature": 0.2, "seed": 7, "store": False}
    rules = policy(system_prefix="P", output_tokens_max=50, parameters=forced)
    changed, call = change(rules, RESPONSES, body)
    assert changed == expected
    assert call.output_tokens_max == 50


def test_a_system_prompt_of_another_kind_is_refused() -> None:
    """Nothing is guessed."""
    body = b'{"model":"m","messages":[{"role":"system","content":7}]}'
    with pytest.raises(Refusal):
        change(policy(system_prefix="P"), CHAT, body)


def test_everything_at_once_is_spliced_once_and_priced_as_sent() -> None:
    """The call that is priced is the one that goes out."""
    rules = policy(system_prefix="P", output_tokens_max=7, parameters={"temperature": 0})
    body = b'{"model":"m","max_tokens":9,"temperature":1,"messages":[{"role":"user","content":"a"}]}'
    changed, call = change(rules, CHAT, body)
    assert changed == (
        b'{"model":"m","max_tokens":7,"temperature":0,"messages":[{"role":"system","content":"P"},'
        b'{"role":"user","content":"a"}]}'
    )
    assert (call.body, call.input_parts, call.output_tokens_max) == (changed, 2, 7)


def test_a_prefix_makes_messages_of_a_prompt() -> None:
    """Which has no other place for it; messages have it as a chat's do."""
    rules = policy(system_prefix="Be kind.")
    changed, call = change(rules, ORCHESTRATE, b'{"prompt": "Why\\u003f","mode":"fast"}')
    system = {"role": "system", "content": "Be kind."}
    assert changed.endswith(b'"prompt": null,"mode":"fast"}')
    assert call.document["messages"] == [system, {"role": "user", "content": "Why?"}]
    _, again = change(rules, ORCHESTRATE, b'{"messages":[{"role":"user","content":"Why?"}]}')
    assert again.document["messages"] == call.document["messages"]


def test_limit_and_forced_members_bind_a_panel() -> None:
    """Those that its format knows."""
    rules = policy(parameters={"temperature": 0.2, "user": "u"}, output_tokens_max=5)
    changed, call = change(rules, ORCHESTRATE, b'{"prompt":"Why?"}')
    assert json.loads(changed) == {"temperature": 0.2, "max_tokens": 5, "prompt": "Why?"}
    assert call.output_tokens_max == 5
