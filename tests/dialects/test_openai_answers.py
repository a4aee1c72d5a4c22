"""Usage and text of OpenAI's answers, read as they pass."""

from itertools import pairwise
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st
from openai.types import CreateEmbeddingResponse
from openai.types.chat import ChatCompletion, ChatCompletionChunk

from proxy.dialects import DIALECTS, stream_reader
from proxy.dialects.sse import EVENT_BYTES_MAX
from proxy.usage import Usage

CHAT = DIALECTS["openai.chat"]
EMBEDDINGS = DIALECTS["openai.embeddings"]
USAGE = {
    "prompt_tokens": 100,
    "completion_tokens": 50,
    "total_tokens": 150,
    "prompt_tokens_details": {"cached_tokens": 64, "cache_write_tokens": 10},
    "completion_tokens_details": {"reasoning_tokens": 20},
}
REPORTED = Usage(100, 50, cached_tokens=64, cache_write_tokens=10, reasoning_tokens=20)


def chunk(content: str | None = None, **members: Any) -> bytes:
    """One chunk in the provider's own shape, checked by its SDK's type."""
    document = {
        "id": "c",
        "object": "chat.completion.chunk",
        "created": 1,
        "model": "m",
        "choices": [{"index": 0, "delta": {"content": content}, "finish_reason": None}],
    } | members
    ChatCompletionChunk.model_validate(document)
    return b"data: " + orjson.dumps(document) + b"\n\n"


STREAM = b"".join(
    (
        chunk("", usage=None),
        b": keep-alive\n\n",
        chunk("Grüße ", usage=None),
        chunk('an "usage" 😀', usage=None),
        chunk(choices=[], usage=USAGE),
        b"data: [DONE]\n\n",
    )
)


def read(*chunks: bytes) -> Any:
    reader = CHAT.usage_reader(stream=True)
    for piece in chunks:
        reader.feed(piece)
    return reader


@given(st.lists(st.integers(0, len(STREAM)), max_size=8), st.sampled_from([b"\n", b"\r\n", b"\r"]))
def test_a_stream_is_read_the_same_however_it_is_cut(places: list[int], end: bytes) -> None:
    """Inside a character, a line end or `"usage"`; with all three line ends."""
    stream = STREAM.replace(b"\n", end)
    marks = [0, *sorted(places), len(stream)]
    reader = read(*(stream[start:stop] for start, stop in pairwise(marks)))
    assert reader.usage() == REPORTED
    assert reader.finished
    assert reader.output_text() == 'Grüße an "usage" 😀'
    assert reader.bytes_beyond == 0


def test_a_stream_byte_by_byte() -> None:
    """The hardest cut of all."""
    reader = read(*(STREAM[i : i + 1] for i in range(len(STREAM))))
    assert (reader.usage(), reader.finished) == (REPORTED, True)


def test_the_last_report_wins_and_is_never_summed() -> None:
    """Usage beside choices, in every chunk, cumulative."""
    reports = [{"prompt_tokens": 9, "completion_tokens": n, "total_tokens": 9 + n} for n in range(1, 6)]
    reader = read(*(chunk("x", usage=report) for report in reports))
    assert reader.usage() == Usage(9, 5)
    reader.feed(chunk("y", usage=None))
    assert reader.usage() == Usage(9, 5)
    assert not reader.finished


def test_usage_that_only_groq_reports() -> None:
    """In a member of its own, where nobody asked."""
    assert read(chunk("x", x_groq={"id": "r", "usage": USAGE})).usage() == REPORTED


def test_a_stream_without_usage_reports_none() -> None:
    """So that the caller counts itself."""
    reader = read(chunk("a", usage=None), chunk("b"), b"data: [DONE]\n\n")
    assert reader.usage() is None
    assert reader.output_text() == "ab"


def test_a_last_event_without_its_blank_line_is_read() -> None:
    """An upstream that closes early."""
    assert read(chunk(choices=[], usage=USAGE).rstrip(b"\n")).usage() == REPORTED
    assert read(chunk("a"), b"data: [DONE]").finished


def test_asking_in_the_middle_of_an_event_disturbs_nothing() -> None:
    """Usage, end and text may be asked for at any time."""
    reader = CHAT.usage_reader(stream=True)
    for i in range(len(STREAM)):
        reader.feed(STREAM[i : i + 1])
        assert reader.usage() in (None, REPORTED)
        assert reader.finished in (False, True)
        assert 'Grüße an "usage" 😀'.startswith(reader.output_text())
    assert (reader.usage(), reader.finished, reader.output_text()) == (REPORTED, True, 'Grüße an "usage" 😀')


def test_all_that_was_generated_is_text() -> None:
    """Reasoning, refusals and tool calls are output, too; choices are told apart."""
    deltas = [
        (1, {"content": "B1"}),
        (0, {"reasoning_content": "R", "content": "A1"}),
        (1, {"refusal": "no"}),
        (0, {"tool_calls": [{"index": 0, "function": {"name": "f", "arguments": '{"a":'}}]}),
        (0, {"tool_calls": [{"index": 0, "function": {"arguments": "1}"}}]}),
    ]
    reader = read(*(chunk(choices=[{"index": index, "delta": delta}]) for index, delta in deltas))
    assert reader.output_text() == 'RA1f{"a":1}B1no'


@pytest.mark.parametrize(
    "event",
    [
        b"data: garbage\n\n",
        b'data: {"usage": 5}\n\n',
        b'data: {"usage": [{"prompt_tokens": 1}]}\n\n',
        b'data: {"usage": {"prompt_tokens": "1", "completion_tokens": null}}\n\n',
        b'data: {"usage": {"prompt_tokens": 0, "completion_tokens": 0, "total_tokens": 0}}\n\n',
        b'data: {"choices": [5, {"delta": 7}, {"delta": {"tool_calls": [1], "function_call": 3}}], "usage"\n\n',
        b'data: {"choices": {"delta": 7}, "usage": {}}\n\n',
        b'data: [1, "usage"]\n\n',
        b'data: {"x": "\xff", "usage": {"prompt_tokens": 7}}\n\n',
        b"\n\n\n\n",
    ],
)
def test_nonsense_is_no_report_and_no_failure(event: bytes) -> None:
    """Nothing an upstream sends makes a reader raise."""
    reader = read(event)
    assert reader.usage() is None
    assert reader.output_text() == ""


def test_images_and_audio_are_read_apart() -> None:
    """Parts of the prompt and of the completion that have rates of their own."""
    report = {
        "prompt_tokens": 100,
        "completion_tokens": 50,
        "total_tokens": 150,
        "prompt_tokens_details": {"audio_tokens": 20, "image_tokens": 30},
        "completion_tokens_details": {"audio_tokens": 40},
    }
    usage = read(chunk("x", usage=report)).usage()
    assert usage == Usage(100, 50, image_tokens=30, audio_tokens=20, audio_output_tokens=40)


def test_reasoning_that_only_the_total_shows_is_output() -> None:
    """Some providers leave it out of completion_tokens."""
    report = {
        "prompt_tokens": 10,
        "completion_tokens": 5,
        "total_tokens": 115,
        "completion_tokens_details": {"reasoning_tokens": 100},
    }
    assert read(chunk("x", usage=report)).usage() == Usage(10, 105, reasoning_tokens=100)


def test_negative_input_does_not_make_output() -> None:
    """What the total holds beyond the prompt is output, yet never more than the total."""
    report = {"prompt_tokens": -400, "completion_tokens": 3, "total_tokens": 5}
    assert read(chunk("x", usage=report)).usage() == Usage(0, 5)


def test_text_is_bounded_and_what_is_missing_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    """Beyond the limit, bytes are counted instead of kept: each is less than one token."""
    monkeypatch.setattr(stream_reader, "TEXT_BYTES_MAX", 1000)
    monkeypatch.setattr(stream_reader, "RAW_BYTES_MAX", 4096)
    reader = read(*(chunk("é" * 50) for _ in range(100)))
    assert len(reader.output_text().encode()) == 1000
    assert reader.bytes_beyond == 9000


def test_a_long_stream_keeps_its_text_not_its_events() -> None:
    """Text is exact over several conversions of kept events."""
    reader = read(*(chunk(f"{n} ") for n in range(3000)))
    assert reader.output_text() == "".join(f"{n} " for n in range(3000))


def test_an_event_without_end_is_skipped_and_the_usage_still_found() -> None:
    """Memory is bounded by the framer's limit; the events after it are read."""
    pieces = [b"data: " + b"x" * 100] + [b"x" * (1 << 20)] * (1 + (EVENT_BYTES_MAX >> 20)) + [b"tail\n\n"]
    reader = read(chunk("a"), *pieces, chunk("b", usage=USAGE))
    assert reader.usage() == REPORTED
    assert reader.output_text() == "ab"
    assert reader.bytes_beyond >= EVENT_BYTES_MAX


def completion(**members: Any) -> bytes:
    document = {
        "id": "c",
        "object": "chat.completion",
        "created": 1,
        "model": "m",
        "choices": [
            {"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": 'Hi "usage":{}'}}
        ],
        "usage": USAGE,
    } | members
    ChatCompletion.model_validate(document)
    return orjson.dumps(document)


@given(st.lists(st.integers(0, 400), max_size=5))
def test_a_whole_answer_is_read_however_it_is_cut(places: list[int]) -> None:
    """Usage, text and end of a JSON body."""
    body = completion()
    marks = [0, *sorted(place % (len(body) + 1) for place in places), len(body)]
    reader = CHAT.usage_reader(stream=False)
    for start, stop in pairwise(marks):
        reader.feed(body[start:stop])
    assert (reader.usage(), reader.finished, reader.output_text()) == (REPORTED, True, 'Hi "usage":{}')


@pytest.mark.parametrize("body", [b"", b"{", b"<html>", b"[]", b'{"error":{"message":"x"}}', completion()[:-1]])
def test_a_broken_answer_reports_nothing(body: bytes) -> None:
    """And raises nothing."""
    reader = CHAT.usage_reader(stream=False)
    reader.feed(body)
    assert reader.usage() is None
    assert reader.output_text() == ""


def test_null_usage_of_a_whole_answer_is_none() -> None:
    """Its text is there to be counted."""
    reader = CHAT.usage_reader(stream=False)
    reader.feed(completion(usage=None))
    assert reader.usage() is None
    assert reader.output_text() == 'Hi "usage":{}'


def test_usage_of_large_embeddings_is_read_from_their_end() -> None:
    """Megabytes of vectors are neither kept nor parsed."""
    vector = b'{"object":"embedding","index":0,"embedding":[' + b",".join([b"0.0123456789"] * 3000) + b"]}"
    body = (
        b'{"object":"list","data":['
        + b",".join([vector] * 300)
        + b'],"model":"m","usage":{"prompt_tokens":77,"total_tokens":77}}'
    )
    reader = EMBEDDINGS.usage_reader(stream=False)
    for start in range(0, len(body), 65536):
        reader.feed(body[start : start + 65536])
    assert reader.usage() == Usage(77, 0)
    assert reader.finished
    assert reader.output_text() == ""


def test_usage_of_small_embeddings() -> None:
    """All of it is input."""
    document = {"object": "list", "data": [], "model": "m", "usage": {"prompt_tokens": 8, "total_tokens": 8}}
    CreateEmbeddingResponse.model_validate(document)
    reader = EMBEDDINGS.usage_reader(stream=False)
    reader.feed(orjson.dumps(document))
    assert reader.usage() == Usage(8, 0)
