"""What a scripted provider can be told to do with a request."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Any


class Fault(Enum):
    """Ways to misbehave. "Mid" ones strike after `Behaviour.after_chunks` pieces of the body."""

    HANG_BEFORE_HEAD = "hang before the head"
    HANG_AFTER_HEAD = "hang after the head"
    HANG_MID = "hang between two pieces"
    HANG_BEFORE_END = "everything but the last piece (usage, [DONE]), then hang"
    CLOSE_BEFORE_HEAD = "regular close instead of an answer"
    RESET_BEFORE_HEAD = "TCP reset instead of an answer"
    RESET_MID = "TCP reset within the body"
    HALF_CLOSE_MID = "regular close within the body: chunked without its end, or short of content-length"
    GARBAGE = "bytes that are not HTTP"
    GARBAGE_MID = "broken chunk framing within the body"
    HUGE_HEAD = "a header field of 1 MB"
    MANY_HEADERS = "1,000 header fields"
    GZIP = "gzip body with its content-encoding, asked for or not"
    WRONG_TYPE = "the regular body as text/html"
    ERROR_EVENT_FIRST = "200, then an error event in the place of an answer"
    ERROR_EVENT_MID = "an error event within the stream, which then ends"
    HUGE_LINE = "one SSE line of 10 MB"
    REDIRECT = "307 to another host"
    TRAILING_DATA = "bytes behind the end of the answer, a moment later"
    INFORMATIONAL = "102 and 103 before the head"
    CLOSE_AFTER = "close after the answer, without having announced it"
    NO_FRAMING = "neither length nor chunks: the body ends with the connection"
    ANSWER_EARLY = "answer as soon as the request's head is there, then read on"


class Usage(Enum):
    """Two things to put in the place of the real figures; a mapping is put there as it is, None as null."""

    REGULAR = "counted"
    MISSING = "no usage member at all, and no usage chunk"


@dataclass(frozen=True, slots=True)
class Behaviour:
    """How one request is answered. The default answers it well, in the dialect of its path."""

    status: int = 200
    """From 400 up: the dialect's error envelope, unless `body` is given."""
    body: bytes | None = None
    """In the place of the whole body."""
    content_type: str | None = None
    headers: tuple[tuple[str, str], ...] = ()
    """Added to the regular ones, for example ("retry-after", "2")."""
    text: str = "Hello from the scripted provider, which counts words as tokens."
    chunks: int | None = None
    """This many content chunks "w0 ", "w1 ", ... in the place of `text`."""
    tool: tuple[str, str] | None = None
    """Answer with a call of this tool: its name and its arguments as JSON."""
    reasoning_tokens: int = 0
    cached_tokens: int = 0
    cache_write_tokens: int = 0
    usage: Usage | Mapping[str, Any] | None = Usage.REGULAR
    usage_with_choices: bool = False
    """Streamed chat: the usage rides on the last chunk that has choices, as some vendors do."""
    delay_seconds: float = 0.0
    """Between two pieces of the body; a whole body is then cut into pieces, too."""
    head_delay_seconds: float = 0.0
    canaries: bool = False
    """Everything that is the provider's own is marked, see tests.peers.canaries."""
    fault: Fault | None = None
    after_chunks: int = 2
