"""Events are cut where the standard says, whatever the chunks, and no byte is lost."""

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st
from openai._streaming import SSEDecoder

from proxy.dialects.sse import EventFramer, EventTooLarge, event_data, event_name, make_event, split_events

PIECE = st.sampled_from(
    [b"\n", b"\r", b"\r\n", b"\n\n", b"\r\n\r\n", b"data: x", b"data:{}", b"event: e", b": c", b"", "é😀".encode()]
)
STREAM = st.lists(PIECE, max_size=30).map(b"".join)


def framed(chunks: list[bytes]) -> tuple[list[bytes], bytes]:
    framer = EventFramer()
    events = [event for chunk in chunks for event in framer.feed(chunk)]
    assert framer.pending == len(framer.rest())
    return events, framer.rest()


def cut(data: bytes, places: list[int]) -> list[bytes]:
    marks = [0, *sorted(place % (len(data) + 1) for place in places), len(data)]
    return [data[start:end] for start, end in pairwise(marks)]


@given(STREAM, st.lists(st.integers(0, 500), max_size=12))
def test_events_do_not_depend_on_the_chunks(stream: bytes, places: list[int]) -> None:
    """Any split gives the same events and the same rest."""
    whole = framed([stream])
    assert framed(cut(stream, places)) == whole
    assert framed([stream[i : i + 1] for i in range(len(stream))]) == whole


@given(STREAM)
def test_events_and_rest_are_the_input(stream: bytes) -> None:
    """Byte for byte."""
    events, rest = framed([stream])
    assert b"".join(events) + rest == stream
    assert b"".join(split_events(stream)) == stream


@given(STREAM)
def test_events_mean_what_the_whole_stream_means(stream: bytes) -> None:
    """The SDK's decoder finds the same in the events, one by one, as in the stream."""

    def decoded(data: bytes) -> list[tuple[str | None, str]]:
        return [(sse.event, sse.data) for sse in SSEDecoder().iter_bytes(iter([data]))]

    events, rest = framed([stream + b"\n\n"])
    apart = [found for event in [*events, rest] for found in decoded(event)]
    assert apart == decoded(stream + b"\n\n")


@pytest.mark.parametrize("end", [b"\n\n", b"\r\n\r\n", b"\n\r\n", b"\r\n\n", b"\r\n\r", b"\n\r", b"\r\r"])
def test_every_blank_line_ends_an_event(end: bytes) -> None:
    """All line ends of the standard, mixed as well; the next byte decides about a bare CR."""
    assert framed([b"data: 1" + end + b"data: 2"]) == ([b"data: 1" + end], b"data: 2")


def test_a_crlf_is_one_line_end() -> None:
    """Two lines with CRLF are one event."""
    assert framed([b"event: a\r\ndata: b\r\n\r\n"]) == ([b"event: a\r\ndata: b\r\n\r\n"], b"")


def test_an_event_beyond_the_limit_is_told_and_kept() -> None:
    """The whole events before it are handed out with the error, and no byte is lost."""
    framer = EventFramer(event_bytes_max=20)
    with pytest.raises(EventTooLarge) as caught:
        framer.feed(b"data: 1\n\ndata: " + b"x" * 30 + b"\n\ndata: 2\n\n")
    assert caught.value.events == [b"data: 1\n\n"]
    assert framer.rest() == b"data: " + b"x" * 30 + b"\n\ndata: 2\n\n"


def test_an_endless_line_is_bounded() -> None:
    """A line that never ends is refused once it is longer than the limit."""
    framer = EventFramer(event_bytes_max=1000)
    assert framer.feed(b"x" * 1000) == []
    with pytest.raises(EventTooLarge):
        framer.feed(b"x")


def test_a_long_event_in_tiny_chunks_is_linear() -> None:
    """Each byte is looked at once, not once for every chunk."""
    framer = EventFramer()
    event = b"data: " + b"y" * 300_000 + b"\n\n"
    found = [made for i in range(0, len(event), 10) for made in framer.feed(event[i : i + 10])]
    assert found == [event]


@pytest.mark.parametrize(
    ("event", "data", "name"),
    [
        (b"data: {}\n\n", b"{}", b""),
        (b"data:{}\n\n", b"{}", b""),
        (b"data:  x\r\n\r\n", b" x", b""),
        (b"event: ping\ndata: 1\ndata: 2\n\n", b"1\n2", b"ping"),
        (b"data: 1\nevent: a\nevent:b\n\n", b"1", b"b"),
        (b"\xef\xbb\xbfdata: 1\n\n", b"1", b""),
        (b": data: no\nid: 1\n\n", b"", b""),
        (b"data: 1\rdata: 2\r\r", b"1\n2", b""),
        (b"\ndata: 1\n\n", b"1", b""),
        (b"data: [DONE]", b"[DONE]", b""),
    ],
)
def test_fields_of_an_event(event: bytes, data: bytes, name: bytes) -> None:
    """Data and name, as the standard reads them."""
    assert event_data(event) == data
    assert event_name(event) == name


@given(st.binary(max_size=60), st.sampled_from([b"", b"error"]))
def test_a_made_event_is_one_event(data: bytes, name: bytes) -> None:
    """Whatever line ends the data has."""
    event = make_event(data, name)
    assert framed([event]) == ([event], b"")
    assert event_name(event) == name
    assert event_data(event) == b"\n".join(data.splitlines())
