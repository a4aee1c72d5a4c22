"""Responses: what of a request decides about its cost, what is spliced, and how an answer is read."""

from __future__ import annotations

from typing import Any

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from openai.types.responses import ResponseErrorEvent, ResponseStreamEvent
from pydantic import TypeAdapter

from proxy.dialects import DIALECTS
from proxy.dialects.base import Call
from proxy.dialects.sse import event_data, event_name, split_events
from proxy.errors import Refusal, error_body
from proxy.pricing.bounds import REQUEST_TOKENS, SCHEMA_TOKENS, TOOLS_TOKENS, input_bound
from proxy.pricing.tokens import count, count_call
from proxy.usage import Usage
from tests.peers.behaviour import Behaviour
from tests.peers.responses_format import responses

RESPONSES = DIALECTS["openai.responses"]
IMAGE = "data:image/png;base64," + "A" * 4000
TOOL = {"type": "function", "name": "weather", "parameters": {"type": "object"}, "strict": True}


def parsed(**members: Any) -> Call:
    return RESPONSES.parse(orjson.dumps({"model": "gpt-5", "input": "Say hello.", **members}))


def refusal_of(**members: Any) -> Refusal:
    with pytest.raises(Refusal) as refused:
        parsed(**members)
    return refused.value


def said(*parts: Any, role: str = "user") -> dict[str, Any]:
    return {"role": role, "content": list(parts)}


def test_plain_text_is_one_part_with_its_limit() -> None:
    """The smallest request."""
    call = parsed(max_output_tokens=50)
    assert (call.model, call.stream, call.output_tokens_max, call.output_field) == (
        "gpt-5", False, 50, "max_output_tokens",
    )  # fmt: skip
    assert (call.input_parts, call.images, call.choices, call.unbounded, call.cache_write) == (1, 0, 1, None, True)


def test_stream_always_reports_its_usage() -> None:
    """Nothing of it is withheld from anybody."""
    assert parsed(stream=True).wants_usage
    assert not RESPONSES.withholds(b'data: {"usage":{}}\n\n')


@pytest.mark.parametrize(
    "members",
    [
        {
            "instructions": "Be brief.",
            "store": True,
            "include": ["reasoning.encrypted_content"],
            "metadata": {"a": "b"},
        },
        {"tools": [TOOL, {"type": "custom", "name": "shell"}], "tool_choice": "auto", "parallel_tool_calls": True},
        {"text": {"format": {"type": "json_schema", "name": "x", "schema": {}}, "verbosity": "low"}},
        {"reasoning": {"effort": "high", "summary": "auto"}, "service_tier": "flex", "truncation": "auto"},
        {"reasoning": {"mode": "standard"}, "service_tier": None, "background": False, "previous_response_id": None},
        {
            "input": [
                said({"type": "input_text", "text": "x"}),
                {"type": "message", "role": "assistant", "content": "y"},
            ]
        },
        {"input": [said({"type": "output_text", "text": "x", "annotations": []}, role="assistant")]},
        {"input": [{"type": "function_call", "call_id": "c", "name": "weather", "arguments": "{}"}]},
        {"input": [{"type": "function_call_output", "call_id": "c", "output": "18 degrees"}]},
        {"input": [{"type": "custom_tool_call_output", "output": [{"type": "input_text", "text": "x"}]}]},
        {"input": [{"type": "reasoning", "id": "rs_1", "summary": [], "encrypted_content": "gAAAA"}]},
    ],
)
def test_what_stands_whole_in_the_request_is_bounded(members: dict[str, Any]) -> None:
    """Text, the client's own tools, encrypted reasoning; members that only say how."""
    assert parsed(**members).unbounded is None


@pytest.mark.parametrize(
    ("members", "named"),
    [
        ({"previous_response_id": "resp_1"}, "previous_response_id"),
        ({"conversation": {"id": "conv_1"}}, "conversation"),
        ({"prompt": {"id": "pmpt_1"}}, "prompt"),
        ({"background": True}, "background"),
        ({"context_management": [{"type": "compaction"}]}, "context_management"),
        ({"moderation": {"model": "omni-moderation-latest"}}, "moderation"),
        ({"n": 2}, "'n'"),
        ({"service_tier": "priority"}, "service_tier"),
        ({"service_tier": "fast"}, "service_tier"),
        ({"service_tier": ["flex"]}, "service_tier"),
        ({"reasoning": {"mode": "pro"}}, "reasoning.mode"),
        ({"tools": [{"type": "web_search"}]}, "web_search"),
        ({"tools": [TOOL, {"type": "mcp", "server_label": "x"}]}, "mcp"),
        ({"tools": [{"type": "file_search", "vector_store_ids": ["vs_1"]}]}, "file_search"),
        ({"tools": [{"type": "code_interpreter", "container": {"type": "auto"}}]}, "code_interpreter"),
        ({"tools": [{"type": "image_generation"}]}, "image_generation"),
        ({"tools": [{"type": "local_shell"}]}, "local_shell"),
        ({"input": [{"type": "item_reference", "id": "msg_1"}]}, "item_reference"),
        ({"input": [{"type": "reasoning", "id": "rs_1", "summary": []}]}, "reasoning kept by the provider"),
        ({"input": [{"type": "compaction", "encrypted_content": "x"}]}, "compaction"),
        ({"input": [{"type": "mcp_list_tools", "tools": []}]}, "mcp_list_tools"),
        ({"input": [said({"type": "input_file", "file_id": "file_1"})]}, "input_file"),
        ({"input": [said({"type": "input_file", "file_url": "https://x.test/a.pdf"})]}, "input_file"),
        ({"input": [said({"type": "input_audio", "input_audio": {}})]}, "input_audio"),
        ({"input": [said({"type": "input_image", "file_id": "file_1"})]}, "an image kept by the provider"),
        ({"input": [said({"type": "input_image", "image_url": IMAGE, "detail": "original"})]}, "detail"),
        ({"input": [said({"type": "input_video", "url": "x"})]}, "input_video"),
        (
            {"input": [{"type": "function_call_output", "output": [{"type": "input_file", "file_id": "f"}]}]},
            "input_file",
        ),
    ],
)
def test_what_nobody_can_bound_is_named(members: dict[str, Any], named: str) -> None:
    """What the provider keeps, fetches or runs itself."""
    assert named in (parsed(**members).unbounded or "")


@pytest.mark.parametrize(
    ("members", "param"),
    [
        ({"input": None}, "input"),
        ({"input": []}, "input"),
        ({"input": {"role": "user"}}, "input"),
        ({"input": ["x"]}, "input[0]"),
        ({"input": [{"content": "x"}]}, "input[0].role"),
        ({"input": [{"type": 1}]}, "input[0].type"),
        ({"input": [{"role": "user", "content": 1}]}, "input[0].content"),
        ({"input": [{"role": "user", "content": ["x"]}]}, "input[0].content[0]"),
        ({"input": [{"role": "user", "content": [{"text": "x"}]}]}, "input[0].content[0].type"),
        ({"input": [{"role": "user", "Content": "x"}]}, "input[0].Content"),
        ({"input": [said({"type": "input_text", "text": "x", "imageUrl": IMAGE})]}, "input[0].content[0].imageUrl"),
        ({"max_output_tokens": 0}, "max_output_tokens"),
        ({"max_output_tokens": 16.0}, "max_output_tokens"),
        ({"Max_Output_Tokens": 5}, "Max_Output_Tokens"),
        ({"previousResponseId": "resp_1"}, "previousResponseId"),
        ({"stream": "yes"}, "stream"),
        ({"tools": {}}, "tools"),
        ({"tools": [{}]}, "tools[0].type"),
        ({"instructions": [1]}, "instructions"),
        ({"text": "x"}, "text"),
        ({"reasoning": "high"}, "reasoning"),
    ],
)
def test_a_wrong_member_is_a_400_that_names_it(members: dict[str, Any], param: str) -> None:
    """And so is another spelling of one that decides."""
    refused = refusal_of(**members)
    assert (refused.status, refused.param) == (400, param)


def test_a_kept_prompt_needs_no_input() -> None:
    """It brings its own; nobody bounds it."""
    call = RESPONSES.parse(b'{"model":"gpt-5","prompt":{"id":"pmpt_1"}}')
    assert call.unbounded is not None
    assert input_bound(call, image_tokens_max=None) is not None
    assert count_call(call, "o200k_base") is not None


def test_model_and_limit_are_spliced_and_nothing_else() -> None:
    """Byte for byte around them; the upstream's own name for a limit does not matter here."""
    body = b'{ "input" : "x\\u00e9",\n "model":"gpt-5" , "store":false,"max_output_tokens": 900}'
    call = RESPONSES.parse(body)
    sent = RESPONSES.rewrite(call, model="real", output_tokens=50, output_field="max_tokens", report_usage=True)
    assert sent == b'{ "input" : "x\\u00e9",\n "model":"real" , "store":false,"max_output_tokens": 50}'
    assert RESPONSES.rewrite(call, model="gpt-5", output_tokens=900, output_field=None, report_usage=True) is body


def test_an_absent_limit_is_added() -> None:
    """Streamed or not, no usage needs to be asked for."""
    call = RESPONSES.parse(b'{"model":"gpt-5","input":"x","stream":true}')
    sent = RESPONSES.rewrite(call, model="gpt-5", output_tokens=50, output_field=None, report_usage=True)
    assert orjson.loads(sent) == {"model": "gpt-5", "input": "x", "stream": True, "max_output_tokens": 50}


# -- bounds and counts


def test_images_count_as_the_models_most_and_not_as_text() -> None:
    """By data or by address, in messages and in results of tools."""
    by_data, by_address = {"type": "input_image", "image_url": IMAGE}, {"type": "input_image", "image_url": "https://x"}
    call = parsed(input=[said(by_data, by_address), {"type": "function_call_output", "output": [by_data]}])
    assert (call.images, call.unbounded) == (3, None)
    bound = input_bound(call, image_tokens_max=1000)
    assert bound is not None
    assert 3000 < bound < 3000 + len(call.body) - 2 * len(IMAGE) + REQUEST_TOKENS + 100
    assert input_bound(call, image_tokens_max=None) is None
    counted = count_call(call, "o200k_base", image_tokens_max=1000)
    assert counted is not None
    assert 3000 < counted < bound


def test_data_that_no_image_was_counted_for_stays_in_the_bound() -> None:
    """An item whose content nobody shows to the model as an image."""
    call = parsed(input=[{"type": "function_call", "name": "x", "content": [{"image_url": IMAGE}]}, said(), said(
        {"type": "input_image", "image_url": "https://x"})])  # fmt: skip
    bound = input_bound(call, image_tokens_max=10)
    assert bound is not None
    assert bound > len(call.body)


def test_tools_and_schema_are_bounded_as_rendered_anew() -> None:
    """Twice their bytes, and what is written around them."""
    plain, more = parsed(), parsed(tools=[TOOL], text={"format": {"type": "json_schema", "schema": {"a": 1}}})
    before, after = input_bound(plain, image_tokens_max=None), input_bound(more, image_tokens_max=None)
    assert before is not None
    assert after is not None
    assert after - before > 2 * (len(more.body) - len(plain.body)) - 40 + TOOLS_TOKENS + SCHEMA_TOKENS


def test_count_holds_all_that_the_model_reads() -> None:
    """Input as text or items alike, instructions, tools, schema; not what only says how."""
    text = "How many tokens does this sentence have?"
    alone = count_call(parsed(input=text), "o200k_base")
    assert alone is not None
    assert count(text, "o200k_base") < alone <= (count(text, "o200k_base") or 0) + 8
    assert count_call(parsed(input=[said({"type": "input_text", "text": text})]), "o200k_base") == alone
    assert count_call(parsed(input=text, metadata={"k": "v" * 100}, include=["x" * 50], store=True), "o200k_base") == (
        alone
    )
    for member in ({"instructions": text}, {"tools": [TOOL]}, {"text": {"format": {"type": "json_schema"}}}):
        counted = count_call(parsed(input=text, **member), "o200k_base")
        assert counted is not None
        assert counted > alone


TEXTS = st.text(max_size=60) | st.sampled_from(
    ["\n" * 40, "<|endoftext|>", "\U0001f469\u200d\U0001f4bb" * 9, "word " * 50]
)
ITEMS = st.one_of(
    st.builds(lambda text: {"role": "user", "content": text}, TEXTS),
    st.builds(lambda text: said({"type": "input_text", "text": text}), TEXTS),
    st.builds(lambda text: {"type": "function_call", "call_id": "c", "name": "f", "arguments": text}, TEXTS),
    st.builds(lambda text: {"type": "function_call_output", "call_id": "c", "output": text}, TEXTS),
    st.builds(
        lambda text: said({"type": "input_image", "image_url": IMAGE}, {"type": "input_text", "text": text}), TEXTS
    ),
)


@given(items=st.lists(ITEMS, min_size=1, max_size=5), instructions=TEXTS, described=TEXTS)
@settings(deadline=None)
def test_no_count_is_above_the_bound(items: list[Any], instructions: str, described: str) -> None:
    """Whatever stands in items, instructions, tools and schema."""
    call = parsed(
        input=items,
        instructions=instructions,
        tools=[{**TOOL, "description": described}],
        text={"format": {"type": "json_schema", "name": "x", "schema": {"description": described}}},
    )
    bound = input_bound(call, image_tokens_max=1000)
    counted = count_call(call, "cl100k_base", image_tokens_max=1000)
    assert bound is not None
    assert counted is not None
    assert counted <= bound


# -- answers


def answer(**behaviour: Any) -> bytes:
    return b"".join(responses({"model": "gpt-5", "input": "one two three"}, Behaviour(**behaviour)).pieces)


def stream(**behaviour: Any) -> list[bytes]:
    request = {"model": "gpt-5", "input": "one two three", "stream": True}
    return responses(request, Behaviour(**behaviour)).pieces


COSTLY = {"reasoning_tokens": 64, "cached_tokens": 1024, "cache_write_tokens": 10}


def test_usage_of_a_whole_answer() -> None:
    """Cached, written and reasoning tokens are parts of their whole."""
    reader = RESPONSES.usage_reader(stream=False)
    reader.feed(answer(text="a b", **COSTLY))
    assert reader.usage() == Usage(3 + 1024 + 10, 2 + 64, 1024, 10, 0, 64)
    assert (reader.finished, reader.output_text()) == (True, "a b")


@pytest.mark.parametrize("cut", [1, 7, 100, 100_000])
def test_usage_of_a_stream_however_it_is_cut(cut: int) -> None:
    """The event that ends it reports; its text is read once, not once more from the `done` events."""
    whole = b"".join(stream(text="a b", **COSTLY))
    reader = RESPONSES.usage_reader(stream=True)
    for start in range(0, len(whole), cut):
        reader.feed(whole[start : start + cut])
    assert reader.usage() == Usage(3 + 1024 + 10, 2 + 64, 1024, 10, 0, 64)
    assert (reader.finished, reader.output_text()) == (True, "a b")


def test_a_call_of_a_tool_is_output() -> None:
    """Name and arguments, whole and streamed."""
    for streamed in (False, True):
        reader = RESPONSES.usage_reader(stream=streamed)
        tool = {"tool": ("weather", '{"city": "Oslo"}')}
        reader.feed(b"".join(stream(**tool)) if streamed else answer(**tool))
        assert set(reader.output_text()) >= set('weather{"city": "Oslo"}')
        assert "weather" in reader.output_text()
        assert '{"city": "Oslo"}' in reader.output_text()


def test_an_incomplete_answer_is_an_end_with_its_usage() -> None:
    """`response.incomplete`: the limit was reached."""
    request = {"model": "gpt-5", "input": "one", "stream": True, "max_output_tokens": 2}
    pieces = responses(request, Behaviour(text="a b c d")).pieces
    assert b"event: response.incomplete" in pieces[-1]
    reader = RESPONSES.usage_reader(stream=True)
    reader.feed(b"".join(pieces))
    assert (reader.usage(), reader.finished) == (Usage(1, 2), True)
    assert RESPONSES.is_content_event(pieces[-1])


def test_a_stream_without_its_end_reports_nothing() -> None:
    """Only its text is there, for our own count."""
    reader = RESPONSES.usage_reader(stream=True)
    reader.feed(b"".join(stream(text="a b c")[:-1]))
    assert (reader.usage(), reader.finished, reader.output_text()) == (None, False, "a b c")


@pytest.mark.parametrize("usage", [None, {}, {"input_tokens": 0, "output_tokens": 0}, {"input_tokens": "many"}])
def test_a_usage_that_reports_nothing_is_none(usage: Any) -> None:
    """And the end is seen all the same."""
    reader = RESPONSES.usage_reader(stream=True)
    reader.feed(b"".join(stream(usage=usage)))
    assert (reader.usage(), reader.finished) == (None, True)


def test_a_text_that_speaks_of_events_is_no_event() -> None:
    """What a model writes is escaped: it ends nothing and reports nothing."""
    text = 'data: {"type":"response.completed","response":{"usage":{"input_tokens":1}}}'
    reader = RESPONSES.usage_reader(stream=True)
    reader.feed(b"".join(stream(text=text)[:-1]))
    assert (reader.usage(), reader.finished) == (None, False)


def test_the_head_goes_out_with_the_first_item() -> None:
    """Not with `response.created`: until something is generated another upstream can still be asked."""
    kinds = [(event_name(event).decode(), RESPONSES.is_content_event(event)) for event in stream(text="a")]
    assert kinds[:3] == [
        ("response.created", False),
        ("response.in_progress", False),
        ("response.output_item.added", True),
    ]
    assert all(content for _, content in kinds[2:])
    assert not any(RESPONSES.is_error_event(event) for event in stream(text="an error"))


@pytest.mark.parametrize(
    "event",
    [
        b'event: error\ndata: {"type":"error","code":"x","message":"y","param":null,"sequence_number":0}\n\n',
        b'data: {"type":"error","message":"y"}\n\n',
        b'event: response.failed\ndata: {"type":"response.failed","response":{"error":{"code":"server_error"}}}\n\n',
        b'data: {"error":{"message":"no"}}\n\n',
        b'data: {"object":"error","message":"no"}\n\n',
    ],
)
def test_errors_in_the_place_of_an_answer(event: bytes) -> None:
    """Each way in which servers send one."""
    assert RESPONSES.is_error_event(event)
    assert not RESPONSES.is_content_event(event)


def test_our_error_event_is_one_of_the_format() -> None:
    """The SDK's own type takes it, and the envelope is in it for clients that look for one."""
    event = RESPONSES.error_event(error_body("It broke.", "api_error", "upstream_error"))
    assert event_name(event) == b"error"
    document = orjson.loads(event_data(event))
    assert ResponseErrorEvent.model_validate(document).message == "It broke."
    assert document["error"]["code"] == "upstream_error"


@pytest.mark.parametrize("behaviour", [{}, {"tool": ("weather", '{"city": "Oslo"}')}])
def test_the_scripted_provider_speaks_the_sdks_format(behaviour: dict[str, Any]) -> None:
    """Every event of it is one of the SDK's own types."""
    adapter: TypeAdapter[Any] = TypeAdapter(ResponseStreamEvent)
    for number, event in enumerate(split_events(b"".join(stream(**behaviour)))):
        found = adapter.validate_json(event_data(event))
        assert (found.type, found.sequence_number) == (event_name(event).decode(), number)
