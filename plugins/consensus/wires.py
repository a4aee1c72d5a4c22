"""How a run is told to its caller: whole, or as server-sent events. One wire for each format."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from proxy.consensus.api import CallRecord, Event, Result, RunFailed
from proxy.dialects import json_text
from proxy.pricing.money import ZERO, Nano
from proxy.telemetry.request_id import PREFIX


@dataclass(frozen=True, slots=True)
class Meta:
    """What an answer says besides the run's result. What it was charged is known at its end."""

    request_id: str
    created: int
    """Unix seconds."""
    model: str
    """As the caller asked for it: `consensus-balanced`."""
    mode: str
    """That was asked for; `auto` may end in another."""
    charged: Nano = ZERO
    credits_milli: int = 0
    """Thousandths of a credit, of the mode's price as it was charged."""
    conversation_id: str | None = None
    wants_usage: bool = False
    """A chat's stream ends with its usage only where the caller asked for it."""
    show_cost: bool = False
    """Tell what each call cost at list: the operator's matter, not the caller's."""
    metadata: Mapping[str, str] = field(default_factory=dict)
    """The caller's own, repeated."""

    def answer_id(self, prefix: str) -> str:
        """The answer's id: the exchange's, under the format's own prefix."""
        return prefix + self.request_id.removeprefix(PREFIX)


class Wire(Protocol):
    """Says one run in one format. A stream is `opening`, then an `event` for each, then `closing` or `failed`.

    Every method gives whole server-sent events, or b"" where there is nothing to say in this format.
    """

    content_type: str
    """Of a whole answer."""

    def opening(self) -> bytes:
        """The first bytes, sent before anything is known of the answer. No payment is burnt for them."""
        ...

    def event(self, event: Event) -> bytes:
        """One thing that happened. `accepted`, `quality`, `usage`, `done` and `error` are the wire's own to tell, in
        `opening`, `closing` and `failed`: b""."""
        ...

    def closing(self, result: Result, records: Sequence[CallRecord], meta: Meta) -> bytes:
        """The rest of the answer that no `token` brought, and all that is known at the end.

        Raises RuntimeError where what was streamed is not how the result begins.
        """
        ...

    def failed(self, failure: RunFailed) -> bytes:
        """The end of a stream that has begun and has no answer."""
        ...

    def whole(self, result: Result, records: Sequence[CallRecord], meta: Meta) -> bytes:
        """The body of an answer that is not streamed."""
        ...


class Streamed:
    """What of the answer has gone out, so that the end says the rest and nothing twice."""

    __slots__ = ("_pieces", "calls")

    def __init__(self) -> None:
        self._pieces: list[str] = []
        self.calls = False
        """Calls of tools have gone out."""

    def add(self, text: str) -> None:
        """A piece of the text."""
        self._pieces.append(text)

    def rest_of(self, result: Result) -> str:
        """What is left of the result's text. Raises RuntimeError where it does not go on from what was sent."""
        sent = "".join(self._pieces)
        if not result.text.startswith(sent):
            raise RuntimeError("a panel's answer is not what was streamed of it")
        return result.text[len(sent) :]


def json_of(document: Mapping[str, Any]) -> bytes:
    """Compact JSON, half characters as escapes. Raises RuntimeError for what is nested too deep to be written."""
    written = json_text.write(dict(document))
    if written is None:
        raise RuntimeError("a panel's answer cannot be written as JSON")
    return written
