"""A stream under our own names: each event is read, rewritten by the allow-list and written again."""

from __future__ import annotations

from typing import Final

from plugins.conceal.formats import Format
from plugins.conceal.names import Names
from proxy.dialects import json_text
from proxy.dialects.base import Dialect
from proxy.dialects.sse import EventFramer, EventTooLarge, event_data, make_event
from proxy.errors import Refusal
from proxy.exchange import Exchange

_FAILED: Final = "failed in the middle of the answer"
_TOO_LARGE: Final = "sent more at once than is passed on"


class Concealer:
    """A transform. Comments, ids, retry times and events that the format does not know are left out.

    An event too large to be looked into ends the answer with an error: nothing passes unread.
    """

    __slots__ = ("_dialect", "_exchange", "_format", "_framer", "_names", "_over")

    def __init__(self, exchange: Exchange, format_: Format, dialect: Dialect, names: Names) -> None:
        self._exchange = exchange
        self._format = format_
        self._dialect = dialect
        self._names = names
        self._framer = EventFramer()
        self._over = False

    def __call__(self, chunk: bytes) -> bytes:
        if self._over:
            return b""
        if not chunk:
            return self._event(self._framer.rest())
        try:
            events = self._framer.feed(chunk)
        except EventTooLarge as oversized:
            self._over = True
            return b"".join([*map(self._event, oversized.events), self._error(_TOO_LARGE)])
        return self._event(events[0]) if len(events) == 1 else b"".join(map(self._event, events))

    def _event(self, event: bytes) -> bytes:
        if b"error" in event and self._dialect.is_error_event(event):
            return self._error(_FAILED)
        payload = event_data(event)
        document = json_text.read(payload) if payload else None
        if document is None:
            done = self._format.done
            return make_event(done) if done and payload.strip() == done else b""
        found = self._format.event(document, self._names)
        if found is None:
            return self._error(_FAILED) if document.get("error") else b""
        name, ours = found
        data = json_text.write(ours)
        if data is None:
            return self._error(_FAILED)
        return b"event: %b\ndata: %b\n\n" % (name, data) if name else b"data: %b\n\n" % data

    def _error(self, what: str) -> bytes:
        """Ours, or that of a plugin further in which refused what the model answered."""
        refusal = self._exchange.refusal or Refusal(
            "upstream_error",
            f"The model's server {what}. What came before is incomplete. Request id {self._exchange.request_id}.",
        )
        return self._dialect.error_event(refusal.envelope(dialect=self._dialect.name))
