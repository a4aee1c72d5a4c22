"""What came of an orchestration goes to its owner's webhook, as it goes out to the caller."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import orjson
import pytest

from plugins.webhooks.plugin import WebhooksPlugin, WebhooksSettings
from proxy.dialects import DIALECTS
from proxy.dialects.sse import make_event
from proxy.errors import Refusal
from proxy.exchange import Exchange, ListenerKind, Response
from proxy.headers import Headers
from proxy.identities import IdentityKind
from proxy.operations import CHAT, ORCHESTRATE
from proxy.plugin import Next
from proxy.pricing.money import Nano
from tests.support.fakes import Chunks, Log, exchange, identity

URL = "https://hooks.example.com/x"
RESULT = {"id": "orch_1", "object": "orchestration", "answer": "Forty-two."}


class Told:
    """The outbox, kept."""

    def __init__(self) -> None:
        self.events: list[tuple[str, str | None, str, dict[str, Any], str | None]] = []
        self.log = Log()
        self.full = False

    async def enqueue(
        self, owner: str, url: str | None, type: str, payload: dict[str, Any], *, event_id: str | None = None
    ) -> str | None:
        if self.full:
            raise Refusal("overloaded", "The outbox cannot be written.", retry_after_seconds=1)
        self.events.append((owner, url, type, payload, event_id))
        return event_id


def orchestrated(**changes: Any) -> Exchange:
    body = {"prompt": "?", "mode": "fast", "webhook_url": URL}
    seen = exchange(operation=ORCHESTRATE, body=body)
    seen.identity = identity(**changes)
    seen.call = DIALECTS["tollway.orchestrate"].parse(orjson.dumps(body))
    seen.charge = Nano(5)
    return seen


async def told(seen: Exchange, response: Response, outbox: Told | None = None) -> Told:
    """What is in the outbox once the answer went out."""
    outbox = outbox or Told()
    services: Any = SimpleNamespace(webhooks=outbox, log=outbox.log)

    async def rest(_: Exchange) -> Response:
        return response

    call_next: Next = rest
    answer = await WebhooksPlugin(WebhooksSettings(), services)(seen, call_next)
    while answer.stream is not None and (chunk := await answer.pull()):
        for transform in answer.transforms:
            assert transform(chunk) == chunk
    for closing in seen.before_finish:
        await closing()
    return outbox


def whole(status: int = 200, **body: Any) -> Response:
    return Response(status, Headers({"content-type": "application/json"}), orjson.dumps(body))


async def test_a_whole_result_is_told_as_it_goes_out() -> None:
    """To the address of the request, once for each exchange."""
    seen = orchestrated()
    outbox = await told(seen, whole(**RESULT))
    assert outbox.events == [
        (identity().key_id, URL, "orchestration.completed", {**RESULT, "id": "orch_1"}, f"evt_{seen.request_id}")
    ]


async def test_a_failed_run_is_told_with_its_error() -> None:
    """What the caller was told, under the exchange's id."""
    seen = orchestrated()
    outbox = await told(seen, whole(503, error={"code": "upstream_unavailable"}))
    ((_, _, kind, payload, _),) = outbox.events
    assert (kind, payload) == (
        "orchestration.failed", {"id": seen.request_id, "error": {"code": "upstream_unavailable"}}
    )  # fmt: skip


@pytest.mark.parametrize("cut", [1, 7, 1000])
async def test_a_stream_is_told_by_its_last_event(cut: int) -> None:
    """In whatever pieces it goes out."""
    events = make_event(b'{"seq":0}', b"accepted") + make_event(b'{"text":"Forty-two."}', b"token")
    events += make_event(orjson.dumps({"seq": 2, "result": RESULT}), b"done")
    pieces = [events[at : at + cut] for at in range(0, len(events), cut)]
    response = Response(200, Headers(), stream=Chunks(*pieces), sse=True)
    outbox = await told(orchestrated(), response)
    assert [(kind, payload) for _, _, kind, payload, _ in outbox.events] == [("orchestration.completed", RESULT)]


async def test_a_streams_error_is_told_as_a_failure() -> None:
    """In the place of a result."""
    event = make_event(orjson.dumps({"error": {"code": "upstream_error"}}), b"error")
    outbox = await told(orchestrated(), Response(200, Headers(), stream=Chunks(event), sse=True))
    assert [(kind, payload["error"]) for _, _, kind, payload, _ in outbox.events] == [
        ("orchestration.failed", {"code": "upstream_error"})
    ]


async def test_an_outbox_that_cannot_be_written_keeps_no_answer_back() -> None:
    """It is logged."""
    outbox = Told()
    outbox.full = True
    response = whole(**RESULT)
    await told(orchestrated(), response, outbox)
    assert (response.status, outbox.log.names()) == (200, ["webhook_not_queued"])


async def test_nothing_is_told_where_no_run_ended() -> None:
    """Refused before a run, repeated, cut before its end, of no key's holder, no orchestration, or a batch's item."""
    refused, repeated, chat = orchestrated(), orchestrated(), orchestrated()
    refused.charge = None
    repeated.repeated = True
    chat.operation = CHAT
    payer = orchestrated(kind=IdentityKind.PAYER)
    item = orchestrated()
    item.origin = replace(item.origin, kind=ListenerKind.INWARD)
    for seen in (refused, repeated, chat, payer, item):
        assert (await told(seen, whole(**RESULT))).events == []
    cut = Response(200, Headers(), stream=Chunks(b"event: token\ndata: {}\n\n"), sse=True)
    assert (await told(orchestrated(), cut)).events == []
