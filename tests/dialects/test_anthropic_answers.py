"""Usage and text of Anthropic's answers, read as they pass."""

from itertools import pairwise
from typing import Any

import orjson
import pytest
from anthropic.types import Message, RawMessageDeltaEvent, RawMessageStartEvent
from hypothesis import given
from hypothesis import strategies as st

from proxy.dialects import DIALECTS
from proxy.usage import Usage

MESSAGES = DIALECTS["anthropic.messages"]
MESSAGE: dict[str, Any] = {
    "id": "m",
    "type": "message",
    "role": "assistant",
    "model": "claude",
    "content": [],
    "stop_reason": None,
    "stop_sequence": None,
}
INPUT_USAGE = {
    "input_tokens": 10,
    "cache_read_input_tokens": 100,
    "cache_creation_input_tokens": 50,
    "cache_creation": {"ephemeral_5m_input_tokens": 30, "ephemeral_1h_input_tokens": 20},
    "output_tokens": 2,
}
REPORTED = Usage(160, 40, cached_tokens=100, cache_write_tokens=30, cache_write_1h_tokens=20, reasoning_tokens=25)


def event(kind: str, **members: Any) -> bytes:
    return b"event: " + kind.encode() + b"\ndata: " + orjson.dumps({"type": kind} | members) + b"\n\n"


def started(**usage: Any) -> bytes:
    message = MESSAGE | {"usage": INPUT_USAGE | usage}
    RawMessageStartEvent.model_validate({"type": "message_start", "message": message})
    return event("message_start", message=message)


def ended(**usage: Any) -> bytes:
    members = {"delta": {"stop_reason": "end_turn", "stop_sequence": None}, "usage": usage}
    RawMessageDeltaEvent.model_validate({"type": "message_delta"} | members)
    return event("message_delta", **members)


def delta(**members: Any) -> bytes:
    return event("content_block_delta", index=0, delta=members)


STREAM = b"".join(
    (
        started(),
        event(
            "content_block_start", index=0, content_block={"type": "tool_use", "id": "t", "name": "look", "input": {}}
        ),
        event("ping"),
        delta(type="thinking_delta", thinking="Hm. "),
        delta(type="text_delta", text='Grüße "usage" 😀'),
        delta(type="input_json_delta", partial_json='{"a":1}'),
        delta(type="signature_delta", signature="c2ln"),
        event("content_block_stop", index=0),
        ended(output_tokens=40, output_tokens_details={"thinking_tokens": 25}),
        event("message_stop"),
    )
)


def read(*chunks: bytes) -> Any:
    reader = MESSAGES.usage_reader(stream=True)
    for piece in chunks:
        reader.feed(piece)
    return reader


@given(st.lists(st.integers(0, len(STREAM)), max_size=8), st.sampled_from([b"\n", b"\r\n", b"\r"]))
def test_a_stream_is_read_the_same_however_it_is_cut(places: list[int], end: bytes) -> None:
    """Inside a character, a line end or a name; with all three line ends."""
    stream = STREAM.replace(b"\n", end)
    marks = [0, *sorted(places), len(stream)]
    reader = read(*(stream[start:stop] for start, stop in pairwise(marks)))
    assert reader.usage() == REPORTED
    assert reader.finished
    assert reader.output_text() == 'lookHm. Grüße "usage" 😀{"a":1}'


def test_the_last_value_of_each_field_wins() -> None:
    """message_delta is cumulative and may restate the input."""
    reader = read(
        started(), ended(output_tokens=5), ended(output_tokens=9, input_tokens=11, cache_read_input_tokens=None)
    )
    assert reader.usage() == Usage(161, 9, cached_tokens=100, cache_write_tokens=30, cache_write_1h_tokens=20)
    assert not reader.finished


def test_a_stream_that_breaks_keeps_its_input_and_estimates_its_output() -> None:
    """An upper estimate from the text that came, marked as counted."""
    assert read().usage() is None
    reader = read(started(), delta(type="text_delta", text="abcde"))
    assert reader.usage() == Usage(
        160, 3, cached_tokens=100, cache_write_tokens=30, cache_write_1h_tokens=20, counted=True
    )


def test_compaction_is_charged_beside_the_answer() -> None:
    """Its iteration is not in the totals, those of messages are."""
    iteration = {
        "input_tokens": 1000,
        "output_tokens": 70,
        "cache_read_input_tokens": 5,
        "cache_creation_input_tokens": 0,
    }
    message = iteration | {"type": "message"}
    report = {"input_tokens": 10, "output_tokens": 7, "iterations": [iteration | {"type": "compaction"}, message]}
    reader = MESSAGES.usage_reader(stream=False)
    reader.feed(orjson.dumps(MESSAGE | {"usage": report}))
    assert reader.usage() == Usage(1015, 77, cached_tokens=5)


def test_a_cache_write_of_unknown_lifetime_is_one_of_five_minutes() -> None:
    """Older answers tell the sum alone."""
    reader = MESSAGES.usage_reader(stream=False)
    reader.feed(
        orjson.dumps(MESSAGE | {"usage": {"input_tokens": 1, "output_tokens": 2, "cache_creation_input_tokens": 9}})
    )
    assert reader.usage() == Usage(10, 2, cache_write_tokens=9)


def test_a_whole_message() -> None:
    """Usage, text and end of a JSON body."""
    content = [
        {"type": "thinking", "thinking": "Hm. ", "signature": "s"},
        {"type": "text", "text": "Yes.", "citations": None},
        {"type": "tool_use", "id": "t", "name": "look", "input": {"a": 1}},
    ]
    document = MESSAGE | {"content": content, "usage": INPUT_USAGE | {"output_tokens": 40}}
    Message.model_validate(document)
    reader = MESSAGES.usage_reader(stream=False)
    reader.feed(orjson.dumps(document))
    assert reader.usage() == Usage(160, 40, cached_tokens=100, cache_write_tokens=30, cache_write_1h_tokens=20)
    assert reader.output_text() == 'Hm. Yes.look{"a":1}'
    assert reader.finished


@pytest.mark.parametrize(
    "nonsense",
    [
        b'event: message_start\ndata: {"type":"message_start","message":3,"usage":1}\n\n',
        b'data: {"type":"message_delta","usage":[]}\n\n',
        b'data: {"type":"message_delta","usage":{"output_tokens":"many","iterations":[1]}}\n\n',
        b'data: {"type":"content_block_delta","delta":4}\n\n',
        b'data: {"type":"content_block_delta","delta":{"text":5}}\n\n',
        b"data: message_stop\n\n",
        b'data: {"type":["usage"]}\n\n',
    ],
)
def test_nonsense_is_no_report_and_no_failure(nonsense: bytes) -> None:
    """Nothing an upstream sends makes a reader raise."""
    reader = read(nonsense)
    assert reader.usage() is None
    assert reader.output_text() == ""
    assert not reader.finished
