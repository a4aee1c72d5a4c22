"""What came of an orchestration, told as its caller has it: after content rules and concealment, whole or streamed."""

from __future__ import annotations

from typing import Any, Final

from proxy.dialects.json_text import read
from proxy.dialects.sse import EventFramer, EventTooLarge, event_data, event_name
from proxy.errors import Refusal
from proxy.exchange import Exchange, ListenerKind, Response
from proxy.identities import IdentityKind
from proxy.operations import ORCHESTRATE
from proxy.webhooks.service import Webhooks

COMPLETED: Final = "orchestration.completed"
FAILED: Final = "orchestration.failed"


def concerned(exchange: Exchange) -> bool:
    """An orchestration of the holder of a key; a batch tells of its own at its end."""
    identity = exchange.identity
    asked = exchange.operation is ORCHESTRATE and exchange.origin.kind is not ListenerKind.INWARD
    return asked and identity is not None and identity.kind is IdentityKind.KEY


async def tell(exchange: Exchange, webhooks: Webhooks, document: dict[str, Any] | None, log: Any) -> None:
    """Put the end of a run into the outbox, once. `document`: the result, or `{"error": ...}`; None: nothing came.

    An outbox that cannot be written is logged: the caller has paid for an answer, and gets it.
    """
    call, identity = exchange.call, exchange.identity
    if call is None or identity is None or document is None:
        return
    type_ = FAILED if "error" in document else COMPLETED
    payload = {"id": exchange.request_id, **document}
    event_id = f"evt_{exchange.request_id}"
    url = call.document.get("webhook_url")
    try:
        await webhooks.enqueue(identity.key_id, url, type_, payload, event_id=event_id)
    except Refusal as refusal:
        log.error("webhook_not_queued", request_id=exchange.request_id, reason=refusal.message)


async def tell_whole(exchange: Exchange, response: Response, webhooks: Webhooks, log: Any) -> None:
    """An answer that is not streamed. What was refused before a run, or repeated, ended none."""
    if exchange.charge is not None and not exchange.repeated:
        await tell(exchange, webhooks, read(response.body), log)


class Watch:
    """A transform that changes nothing: it keeps the last event of a stream as it goes out."""

    __slots__ = ("_framer", "document")

    def __init__(self) -> None:
        self._framer: EventFramer | None = EventFramer()
        self.document: dict[str, Any] | None = None

    def __call__(self, chunk: bytes) -> bytes:
        if self._framer is not None and chunk:
            try:
                events = self._framer.feed(chunk)
            except EventTooLarge:
                self._framer, events = None, []
            for event in events:
                self._read(event)
        return chunk

    def _read(self, event: bytes) -> None:
        name = event_name(event)
        if name in (b"done", b"error") and (data := read(event_data(event))) is not None:
            self.document = {"error": data.get("error")} if name == b"error" else data.get("result")
