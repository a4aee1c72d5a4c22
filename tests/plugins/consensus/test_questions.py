"""What a panel is asked, of both formats, and what it cannot be asked."""

from __future__ import annotations

from typing import Any

import orjson
import pytest

from plugins.consensus.questions import question_of
from proxy.consensus.api import Question
from proxy.dialects import DIALECTS
from proxy.errors import Refusal

HELLO = [{"role": "user", "content": "Hello"}]
TOOL = {"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}}
FORM = {"type": "json_schema", "json_schema": {"name": "n", "schema": {"type": "object"}}}
IMAGE = {"type": "image_url", "image_url": {"url": "data:image/png;base64,AA=="}}


def of_chat(**members: Any) -> Question:
    document = {"model": "consensus-fast", "messages": HELLO, **members}
    return question_of(DIALECTS["openai.chat"].parse(orjson.dumps(document)), 500)


def of_prompt(**members: Any) -> Question:
    return question_of(DIALECTS["tollway.orchestrate"].parse(orjson.dumps({"prompt": "Hello", **members})), 500)


def test_a_prompt_and_a_chat_ask_the_same() -> None:
    """Of the smallest requests."""
    assert of_chat() == of_prompt() == Question(tuple(HELLO), 500)


def test_a_chat_brings_its_tools_its_form_and_how_to_draw() -> None:
    """For the synthesiser; images for those who see."""
    found = of_chat(
        messages=[{"role": "user", "content": [IMAGE]}], tools=[TOOL], tool_choice="auto", parallel_tool_calls=False,
        response_format=FORM, temperature=0.1, top_p=0.9, seed=7, stop="x", presence_penalty=-1, frequency_penalty=1,
    )  # fmt: skip
    assert (found.tools, found.tool_choice, found.parallel_tool_calls) == ((TOOL,), "auto", False)
    assert (found.response_format, found.images) == (FORM, 1)
    assert found.sampling == {
        "temperature": 0.1, "top_p": 0.9, "seed": 7, "stop": "x", "presence_penalty": -1, "frequency_penalty": 1,
    }  # fmt: skip


def test_an_orchestration_brings_its_domain_and_whether_to_verify() -> None:
    """A chat completion says both in the member `consensus`."""
    named = of_prompt(domain="legal", verified=True, temperature=0.2)
    assert (named.domain, named.verified, named.sampling) == ("legal", True, {"temperature": 0.2})
    extended = of_chat(consensus={"domain": "legal", "verified": True})
    assert (extended.domain, extended.verified) == ("legal", True)


def test_plain_text_is_no_form() -> None:
    """Whoever says so out of habit gets what everybody gets."""
    assert of_chat(response_format={"type": "text"}).response_format is None
    assert of_prompt(response_format={"type": "text"}).response_format is None


def test_what_clients_send_as_a_matter_of_course_changes_nothing() -> None:
    """Among it every member that is null, false or empty."""
    habits = {
        "user": "u", "metadata": {"a": "b"}, "safety_identifier": "s", "prompt_cache_key": "k", "n": 1,
        "reasoning_effort": "low", "verbosity": "low", "service_tier": "auto", "modalities": ["text"], "store": False,
        "logprobs": False, "top_logprobs": None, "functions": [], "logit_bias": {}, "stream": True,
        "stream_options": {"include_usage": True}, "max_tokens": 5, "audio": None, "some_vendors": None,
    }  # fmt: skip
    assert of_chat(**habits) == of_chat()


@pytest.mark.parametrize(
    ("members", "param", "says"),
    [
        ({"n": 2}, "n", "one answer"),
        ({"logprobs": True}, "logprobs", "leave it out"),
        ({"top_logprobs": 3}, "top_logprobs", "leave it out"),
        ({"logit_bias": {"1": 2}}, "logit_bias", "leave it out"),
        ({"functions": [{"name": "f"}]}, "functions", "'tools'"),
        ({"function_call": "auto"}, "function_call", "'tool_choice'"),
        ({"store": True}, "store", "/v1/orchestrate"),
        ({"top_k": 5}, "top_k", "single model"),
        ({"audio": {"voice": "a"}}, None, "audio output"),
        ({"modalities": ["text", "audio"]}, None, "other than text"),
        ({"prediction": {"type": "content"}}, None, "predicted outputs"),
        ({"web_search_options": {}}, None, "web search"),
        ({"tools": [{"type": "web_search"}]}, None, "server-side tool"),
        ({"messages": [{"role": "user", "content": [{"type": "file"}]}]}, None, "a file"),
        ({"messages": [*HELLO, {"role": "function", "name": "f", "content": "x"}]}, "messages[1].role", "tool"),
        ({"temperature": "hot"}, "temperature", "number"),
        ({"response_format": {"type": "grammar"}}, "response_format.type", "json_schema"),
        ({"consensus": {"depth": 2}}, "consensus.depth", "domain and verified"),
        ({"consensus": {"domain": "law"}}, "consensus.domain", "legal"),
        ({"consensus": {"verified": 1}}, "consensus.verified", "true or false"),
        ({"consensus": True}, "consensus", "object"),
    ],
)
def test_what_a_panel_cannot_do_is_refused_with_what_to_do_instead(
    members: dict[str, Any], param: str | None, says: str
) -> None:
    """Before it has a price."""
    with pytest.raises(Refusal) as refused:
        of_chat(**members)
    assert (refused.value.status, refused.value.param) == (400, param)
    assert says in refused.value.message
