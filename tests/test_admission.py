"""Which candidates can serve a call."""

from __future__ import annotations

from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.admission import capable, needs, permitted, with_room
from proxy.catalogue import CAPABILITIES, Candidate, Model
from proxy.dialects import DIALECTS
from proxy.dialects.base import Call
from proxy.errors import Refusal
from proxy.policy.rules import NO_RULES, Policy, Rules, ScopedRules
from tests.support.fakes import CHAT_BODY, model

IMAGE = {"type": "image_url", "image_url": {"url": "https://example.test/a.png"}}
TOOL = {"type": "function", "function": {"name": "f", "parameters": {}}}
SCHEMA = {"type": "json_schema", "json_schema": {"name": "s", "schema": {}}}


def chat(**members: Any) -> Call:
    return DIALECTS["openai.chat"].parse(orjson.dumps({**CHAT_BODY, **members}))


def lane(*candidates: Candidate, **changes: Any) -> Model:
    return model("lane", candidates=candidates, lane=True, **changes)


def one(name: str, **changes: Any) -> Candidate:
    return Candidate(**{"upstream": name, "upstream_model": name, "model": name, **changes})


@pytest.mark.parametrize(
    ("members", "needed"),
    [
        ({}, set()),
        ({"stream": True}, {"streaming"}),
        ({"tools": [TOOL]}, {"tools"}),
        ({"tools": []}, set()),
        ({"functions": [{"name": "f"}]}, {"tools"}),
        ({"messages": [{"role": "user", "content": [IMAGE]}]}, {"vision"}),
        ({"response_format": SCHEMA}, {"json_schema"}),
        ({"response_format": {"type": "json_object"}}, set()),
        ({"response_format": None}, set()),
        ({"stream": True, "tools": [TOOL], "response_format": SCHEMA}, {"streaming", "tools", "json_schema"}),
    ],
)
def test_what_a_chat_needs(members: dict[str, Any], needed: set[str]) -> None:
    """Asked for by members of the body, never by their mere presence."""
    assert needs(chat(**members)) == needed


def test_what_a_message_needs() -> None:
    """Anthropic's own spellings."""
    body = {
        "model": "m", "max_tokens": 5, "messages": [{"role": "user", "content": "x"}], "stream": True,
        "tools": [{"name": "t", "input_schema": {}}],
        "output_config": {"format": {"type": "json_schema", "schema": {}}},
    }  # fmt: skip
    assert needs(DIALECTS["anthropic.messages"].parse(orjson.dumps(body))) == {"tools", "json_schema", "streaming"}


def test_candidates_that_cannot_do_it_are_left_out() -> None:
    """The rest keep their order."""
    able = [one("a", capabilities=frozenset({"streaming"})), one("b"), one("c", capabilities=frozenset({"tools"}))]
    assert [c.upstream for c in capable(lane(*able), chat(tools=[TOOL]))] == ["b", "c"]
    assert [c.upstream for c in capable(lane(*able), chat())] == ["a", "b", "c"]


@pytest.mark.parametrize(
    ("members", "param", "said"),
    [
        ({"tools": [TOOL]}, "tools", "call tools"),
        ({"messages": [{"role": "user", "content": [IMAGE]}]}, "messages", "read images"),
        ({"response_format": SCHEMA}, "response_format", "answer by a JSON schema"),
        ({"stream": True}, "stream", "stream"),
    ],
)
def test_what_none_can_do_is_refused_by_name(members: dict[str, Any], param: str, said: str) -> None:
    """400, with the member that asks for it."""
    with pytest.raises(Refusal) as refused:
        capable(lane(one("a", capabilities=frozenset())), chat(**members))
    assert (refused.value.status, refused.value.param) == (400, param)
    assert f"cannot {said}" in refused.value.message


def test_needs_that_only_different_candidates_meet_are_refused_as_such() -> None:
    """One calls tools, the other streams, none does both."""
    split = lane(one("a", capabilities=frozenset({"tools"})), one("b", capabilities=frozenset({"streaming"})))
    with pytest.raises(Refusal) as refused:
        capable(split, chat(tools=[TOOL], stream=True))
    assert "stream and call tools in one call" in refused.value.message


def denying(*names: str) -> Policy:
    return Policy((ScopedRules("team", "t", Rules(models_denied=names)),), restricts_models=True)


def test_members_that_a_rule_denies_serve_nobody() -> None:
    """A lane goes on without them; with none left it is refused."""
    route = lane(one("a"), one("b"))
    assert [c.model for c in permitted(route.candidates, route, denying("a"))] == ["b"]
    assert permitted(route.candidates, route, NO_RULES) is route.candidates
    with pytest.raises(Refusal) as refused:
        permitted(route.candidates, route, denying("a", "b"))
    assert (refused.value.status, refused.value.code) == (403, "model_not_allowed")


def test_the_context_leaves_out_the_small_ones() -> None:
    """By input alone where none has room for the output beside it."""
    route = lane(one("s", context_tokens=1000), one("m", context_tokens=2000), one("l", context_tokens=9000))

    def names(tokens: int, output: int) -> str:
        return "".join(c.upstream for c in with_room(route.candidates, route, tokens, output))

    assert names(500, 400) == "sml"
    assert names(500, 600) == "ml"
    assert names(1001, 10) == "ml"
    assert names(8999, 5000) == "l"
    assert names(9001, 1) == ""


def test_an_output_limit_leaves_out_those_that_do_not_take_it() -> None:
    """Up to what the largest takes: a larger one is lowered, it excludes nobody further."""
    route = lane(one("a", output_tokens_max=100), one("b", output_tokens_max=200))
    assert [c.upstream for c in with_room(route.candidates, route, 1, 150)] == ["b"]
    assert [c.upstream for c in with_room(route.candidates, route, 1, 5000)] == ["b"]
    assert with_room(route.candidates, route, 1, 100) is route.candidates


@given(
    st.lists(st.tuples(st.integers(1, 100), st.integers(1, 100)), min_size=1), st.integers(0, 120), st.integers(1, 120)
)
def test_room_is_empty_only_where_the_input_fits_nowhere(
    sizes: list[tuple[int, int]], tokens: int, output: int
) -> None:
    """And what is found always takes the input."""
    route = lane(*[one(f"u{n}", context_tokens=c, output_tokens_max=o) for n, (c, o) in enumerate(sizes)])
    found = with_room(route.candidates, route, tokens, output)
    assert bool(found) == any(tokens <= context for context, _ in sizes)
    assert all(tokens <= candidate.context_tokens for candidate in found)


def test_every_capability_has_its_word() -> None:
    """A new one cannot be forgotten in the refusal."""
    nothing = lane(one("a", capabilities=frozenset()))
    everything = chat(
        stream=True, tools=[TOOL], response_format=SCHEMA, messages=[{"role": "user", "content": [IMAGE]}]
    )
    assert needs(everything) == CAPABILITIES
    with pytest.raises(Refusal) as refused:
        capable(nothing, everything)
    assert all(word in refused.value.message for word in ("tools", "images", "schema", "stream"))
