"""What a wire format must be able to tell us. One module beside this one for each dialect.

A dialect is pure: bytes in, typed values out. It knows no socket, no money and no configuration.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

from proxy.dialects.json_scan import Scan
from proxy.usage import Usage


@dataclass(frozen=True, slots=True, eq=False)
class Call:
    """A request body, parsed once at the edge."""

    dialect: str
    body: bytes
    """As the client sent it; changes are spliced in, never re-serialised."""
    spans: dict[str, tuple[int, int, int, int]]
    """Top-level member -> (start of key, end of key, start of value, end of value) in `body`."""
    model: str | None
    """The body's model; None where it names none."""
    stream: bool
    wants_usage: bool
    """The client asked for the usage of a stream itself; otherwise it is withheld from it."""
    output_tokens_max: int | None
    """The client's own output limit for one choice; None where it set none."""
    output_field: str | None
    """The member in which it set it."""
    choices: int
    input_parts: int
    """Messages and tools (or inputs): providers add a few tokens for each."""
    images: int
    cache_write: bool
    """The request asks the provider to write to its prompt cache, which can be dearer than input."""
    unbounded: str | None
    """A feature whose cost cannot be bounded, in words for the caller; None where there is none."""
    document: dict[str, Any]
    """The parsed body, read-only by agreement: for counting tokens and for policies."""


class UsageReader(Protocol):
    """Reads one answer as it passes, at byte level, without decoding every chunk."""

    def feed(self, chunk: bytes) -> None:
        """The next bytes of the upstream's answer body."""
        ...

    def usage(self) -> Usage | None:
        """What was reported; None where nothing was. For streams the last report wins.

        A stream that broke after a report of its input alone gives that report with an upper estimate of its
        output, and `counted` set.
        """
        ...

    def output_text(self) -> str:
        """Text generated so far (bounded), for our own count where nothing was reported."""
        ...

    @property
    def bytes_beyond(self) -> int:
        """Bytes of the answer that `output_text` lacks: at one token a byte, an upper estimate of their tokens."""
        ...

    @property
    def finished(self) -> bool:
        """The dialect's own end was seen (`[DONE]`, `message_stop`, or a whole JSON body that is no error)."""
        ...


class Dialect(Protocol):
    """One wire format."""

    name: str
    output_fields: tuple[str, ...]
    """Members that limit the output, the dialect's preferred one first; () where output is not generated."""

    def parse(self, body: bytes, found: Scan | None = None) -> Call:
        """Raises Refusal `invalid_json` or `invalid_request` with the offending member in `param`.

        `found` is what `scan` finds in the body, where that is known already.
        """
        ...

    def rewrite(
        self, call: Call, *, model: str, output_tokens: int | None, output_field: str | None, report_usage: bool
    ) -> bytes:
        """The body for the upstream: model, output limit and the request for usage spliced into the client's bytes.

        `output_field` is used where the client set no limit itself, or set it in a member that such an upstream
        does not know and would ignore; None means the preferred one.
        """
        ...

    def usage_reader(self, *, stream: bool) -> UsageReader: ...

    def is_error_event(self, event: bytes) -> bool:
        """Whether one whole SSE event of the upstream is an error (in the place of an answer)."""
        ...

    def is_content_event(self, event: bytes) -> bool:
        """Whether one whole SSE event carries, or directly opens, the answer: the head may go out now."""
        ...

    def says_something(self, event: bytes) -> bool:
        """Whether one whole SSE event has something of the answer itself in it: a payment is burnt for that."""
        ...

    def withholds(self, event: bytes) -> bool:
        """Whether this event exists only because we asked for the usage (kept from a client that did not)."""
        ...

    def error_event(self, body: bytes) -> bytes:
        """An error envelope as this dialect's SSE event, for a stream that breaks after its head."""
        ...
