"""Candidates in order, until the first byte."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from plugins.routing.plugin import RoutingPlugin
from plugins.routing.settings import RoutingSettings
from proxy.dialects import DIALECTS
from proxy.errors import Refusal
from proxy.exchange import Exchange, Response
from proxy.headers import Headers
from proxy.ledger.api import Hold, HoldRequest
from proxy.pricing.money import ZERO
from proxy.upstreams.api import FailureKind, UpstreamFailure
from proxy.upstreams.health import UpstreamStates
from tests.support.fakes import CHAT_BODY, Chunks, FakeClock, Log, exchange, generation, identity, model
from tests.support.ledger import MemoryLedger

CONTENT = b'data: {"id":"c","choices":[{"index":0,"delta":{"content":"Hi"},"finish_reason":null}],"usage":null}\n\n'
USAGE = b'data: {"id":"c","choices":[],"usage":{"prompt_tokens":9,"completion_tokens":1,"total_tokens":10}}\n\n'
DONE = b"data: [DONE]\n\n"
ERROR_EVENT = b'data: {"error":{"message":"overloaded","type":"server_error"}}\n\n'


class Upstreams:
    """What the terminal would do: (outcome, response) in turn, with the call kept."""

    def __init__(self, *steps: tuple[str, Response]) -> None:
        self.steps = list(steps)
        self.called: list[str] = []

    async def __call__(self, seen: Exchange) -> Response:
        assert seen.route is not None
        tried = seen.route.current
        self.called.append(tried.candidate.upstream)
        tried.outcome, response = self.steps.pop(0)
        tried.status = response.status
        return response


class States(UpstreamStates):
    """Remembers what was recorded."""

    def __init__(self, clock: FakeClock) -> None:
        super().__init__(clock)
        self.recorded: list[tuple[str, str]] = []

    def record(self, upstream: str, outcome: str, latency: float) -> None:
        self.recorded.append((upstream, outcome))


class Answered:
    """Remembers which upstreams gave a head, whose circuits opened and closed, and how hedges ended."""

    def __init__(self) -> None:
        self.upstreams: list[str] = []
        self.circuits: list[tuple[str, str]] = []
        self.hedges: list[str] = []

    def circuit_opened(self, upstream: str, reason: str, *, again: bool) -> None:
        self.circuits.append((upstream, reason + " again" if again else reason))

    def circuit_closed(self, upstream: str) -> None:
        self.circuits.append((upstream, "closed"))

    def hedged(self, model: str, outcome: str) -> None:
        self.hedges.append(outcome)

    def upstream_answered(self, upstream: str, seconds: float) -> None:
        self.upstreams.append(upstream)


def build(**settings: Any) -> RoutingPlugin:
    clock = FakeClock()
    services = SimpleNamespace(
        clock=clock, ledger=MemoryLedger(), log=Log(), states=States(clock), metrics=Answered(), generation=generation()
    )
    return RoutingPlugin(RoutingSettings(backoff_milliseconds=0, **settings), services)  # type: ignore[arg-type]


def held(*upstreams: str, stream: bool = False, usage: bool = False, own: bool = False) -> Exchange:
    """An exchange with a hold."""
    body: dict[str, Any] = {**CHAT_BODY, "stream": stream}
    if usage:
        body["stream_options"] = {"include_usage": True}
    seen = exchange(body=body, under=generation(models={"gpt-4o": model(upstreams=upstreams or ("a",))}))
    seen.identity = identity(provider_credential=own)
    seen.call = DIALECTS["openai.chat"].parse(seen.request._reader._pieces[0])  # type: ignore[attr-defined]
    seen.model = seen.generation.models["gpt-4o"]
    seen.hold = Hold(1, HoldRequest("x", "k", "u", "t", "o", "m", "chat", ZERO, ZERO, (), 0))
    return seen


def whole(status: int = 200, body: bytes = b"{}", **headers: str) -> Response:
    return Response(status, Headers({"content-type": "application/json", **headers}), body)


def stream(*pieces: bytes | Exception) -> Response:
    return Response(200, Headers({"content-type": "text/event-stream"}), stream=Chunks(*pieces), sse=True)


async def sent(response: Response) -> bytes:
    """What the driver would send of a stream."""
    out = []
    pieces = list(response.peeked)
    while pieces or (chunk := await response.pull()):
        piece = pieces.pop(0) if pieces else chunk
        for transform in response.transforms:
            piece = transform(piece)
        out.append(piece)
    out.extend(transform(b"") for transform in response.transforms)
    return b"".join(out)


async def test_first_candidate_that_answers_serves() -> None:
    """One attempt, one ledger row, marked dispatched before the call."""
    plugin, upstreams, seen = build(), Upstreams(("served", whole())), held("a", "b")
    response = await plugin(seen, upstreams)
    assert (response.status, upstreams.called, seen.dispatched) == (200, ["a"], True)
    assert [(a.upstream, a.upstream_model) for a in plugin.services.ledger.attempts] == [("a", "gpt-4o-upstream")]


@pytest.mark.parametrize(
    ("outcome", "status"),
    [("connect_failed", 503), ("first_byte_timeout", 504), ("broken", 502), ("garbage", 502), ("status", 429),
     ("status", 500), ("status", 529)],
)  # fmt: skip
async def test_failure_before_the_first_byte_tries_the_next(outcome: str, status: int) -> None:
    """Each attempt is a row of its own."""
    plugin = build(attempts_per_candidate=1)
    upstreams = Upstreams((outcome, whole(status)), ("served", whole()))
    seen = held("a", "b")
    response = await plugin(seen, upstreams)
    assert (response.status, upstreams.called) == (200, ["a", "b"])
    assert seen.route is not None
    assert [tried.outcome for tried in seen.route.tries] == [outcome, "served"]
    assert len(plugin.services.ledger.attempts) == 2
    assert plugin.services.states.recorded == [("a", outcome), ("b", "served")]
    assert plugin.services.metrics.upstreams[-1] == "b"


async def test_same_candidate_is_called_again_within_its_limit() -> None:
    """Twice here, then the next; three calls in all by default."""
    upstreams = Upstreams(*[("status", whole(500))] * 3)
    with pytest.raises(Refusal) as refused:
        await build()(held("a", "b"), upstreams)
    assert upstreams.called == ["a", "a", "b"]
    assert refused.value.code == "upstream_error"


@pytest.mark.parametrize("status", [400, 413, 422])
async def test_callers_own_mistake_is_passed_on_and_not_retried(status: int) -> None:
    """The provider's words about the request itself reach the caller."""
    upstreams = Upstreams(("status", whole(status, b'{"error":{}}')))
    response = await build()(held("a", "b"), upstreams)
    assert (response.status, response.body, upstreams.called) == (status, b'{"error":{}}', ["a"])


@pytest.mark.parametrize(
    ("outcome", "status", "code"),
    [
        ("status", 429, "rate_limited"),
        ("status", 401, "upstream_error"),
        ("status", 403, "upstream_error"),
        ("status", 404, "upstream_error"),
        ("status", 500, "upstream_error"),
        ("status", 503, "upstream_unavailable"),
        ("connect_failed", 503, "upstream_unavailable"),
        ("first_byte_timeout", 504, "upstream_timeout"),
        ("garbage", 200, "upstream_error"),
    ],
)
async def test_last_failure_is_in_our_own_words(outcome: str, status: int, code: str) -> None:
    """What an upstream says about our account is not the caller's business."""
    upstreams = Upstreams((outcome, whole(status, b"sk-operator is over its limit")))
    with pytest.raises(Refusal) as refused:
        await build(attempts_max=1)(held("a"), upstreams)
    assert refused.value.code == code
    assert "sk-operator" not in refused.value.message
    if code in ("rate_limited", "upstream_unavailable"):
        assert refused.value.retry_after_seconds is not None


async def test_upstreams_own_wait_is_handed_on() -> None:
    """429 with Retry-After keeps its seconds."""
    with pytest.raises(Refusal) as refused:
        await build(attempts_max=1)(held("a"), Upstreams(("status", whole(429, b"", **{"retry-after": "17"}))))
    assert refused.value.retry_after_seconds == 17


async def test_error_with_200_of_the_callers_own_provider_is_passed_on() -> None:
    """Its own account: what its provider says is for it to read."""
    upstreams = Upstreams(("garbage", whole(200, b'{"error":{"message":"no credit"}}')))
    response = await build()(held("a", own=True), upstreams)
    assert (response.status, response.body) == (200, b'{"error":{"message":"no credit"}}')


async def test_own_provider_key_is_used_once_and_answered_as_is() -> None:
    """Its SDK retries itself, and the provider's answer is for it."""
    upstreams = Upstreams(("status", whole(429, b"yours")))
    response = await build()(held("a", own=True), upstreams)
    assert (response.status, response.body, upstreams.called) == (429, b"yours", ["a"])


async def test_error_event_in_place_of_an_answer_tries_the_next() -> None:
    """200 with an error event is a failure like any other while no byte has gone out."""
    first = stream(ERROR_EVENT, DONE)
    upstreams = Upstreams(("served", first), ("served", stream(CONTENT, USAGE, DONE)))
    seen = held("a", stream=True, usage=True)
    response = await build()(seen, upstreams)
    assert await sent(response) == CONTENT + USAGE + DONE
    assert seen.route is not None
    assert [tried.outcome for tried in seen.route.tries] == ["error_event", "served"]
    assert isinstance(first.stream, Chunks) and first.stream.closed


@pytest.mark.parametrize(
    ("pieces", "outcome"),
    [
        ((), "garbage"),
        ((b": ping\n\n",), "garbage"),
        ((UpstreamFailure(FailureKind.BROKEN, "reset", sent=True),), "broken"),
        ((b": ping\n\n", UpstreamFailure(FailureKind.IDLE, "silent", sent=True)), "idle_timeout"),
    ],
)
async def test_stream_without_content_is_retried(pieces: tuple[bytes | Exception, ...], outcome: str) -> None:
    """A stream that ends or breaks before any content has delivered nothing."""
    upstreams = Upstreams(("served", stream(*pieces)), ("served", stream(CONTENT, DONE)))
    seen = held("a", stream=True, usage=True)
    response = await build()(seen, upstreams)
    assert await sent(response) == CONTENT + DONE
    assert seen.route is not None and seen.route.tries[0].outcome == outcome


@pytest.mark.parametrize("size", [1, 7, 64, 4096])
async def test_usage_we_asked_for_is_withheld_whatever_the_chunking(size: int) -> None:
    """The client gets every other byte, in order."""
    raw = CONTENT * 3 + USAGE + DONE
    pieces = [raw[at : at + size] for at in range(0, len(raw), size)]
    response = await build()(held("a", stream=True), Upstreams(("served", stream(*pieces))))
    assert await sent(response) == CONTENT * 3 + DONE


async def test_usage_the_client_asked_for_passes() -> None:
    """Byte for byte."""
    response = await build()(held("a", stream=True, usage=True), Upstreams(("served", stream(CONTENT + USAGE + DONE))))
    assert (await sent(response), response.transforms) == (CONTENT + USAGE + DONE, [])


async def test_client_gone_begins_no_further_attempt() -> None:
    """Nobody is waiting any more."""
    seen = held("a", "b")
    seen.client_gone = True
    upstreams = Upstreams(("status", whole(500)))
    with pytest.raises(Refusal):
        await build()(seen, upstreams)
    assert upstreams.called == ["a"]


@pytest.mark.parametrize("outcome", ["unsent", "running"])
async def test_attempt_refused_on_our_side_is_not_repeated(outcome: str) -> None:
    """The client reads why; another attempt would end the same way, and no upstream is to blame."""
    plugin, upstreams = build(), Upstreams((outcome, whole(400, b"why")))
    response = await plugin(held("a", "b"), upstreams)
    assert (response.status, response.body, upstreams.called) == (400, b"why", ["a"])
    assert plugin.services.states.recorded == []


@pytest.mark.parametrize("asked", ["\u00b2", "9" * 400, "9" * 5000, "-1", "1.5", "Sat, 21 Nov 2026 05:00:00 GMT"])
async def test_nonsense_in_retry_after_is_no_fault_of_ours(asked: str) -> None:
    """An upstream's header never ends as our 500."""
    plugin = build(attempts_per_candidate=2)
    with pytest.raises(Refusal) as refused:
        await plugin(held("a"), Upstreams(*[("status", whole(429, **{"retry-after": asked}))] * 2))
    assert refused.value.wire_headers()["retry-after"] == "5"


async def test_answer_beyond_our_limit_is_not_made_again() -> None:
    """The upstream did what it was asked for, and would do it again at the same price."""
    upstreams = Upstreams(("too_large", whole(502)))
    with pytest.raises(Refusal, match="Ask for a stream"):
        await build()(held("a", "b"), upstreams)
    assert upstreams.called == ["a"]
