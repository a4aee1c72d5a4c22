"""What each attempt really used."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import orjson
import pytest

from plugins.metering.plugin import MeteringPlugin, MeteringSettings
from proxy.dialects import DIALECTS
from proxy.exchange import Exchange, Finish, Response
from proxy.headers import Headers
from proxy.ledger.api import Attempt, Hold, HoldRequest, Purse
from proxy.pricing.money import Nano
from proxy.quoting import quote
from proxy.routes import Route, Try
from proxy.usage import Usage
from tests.support.fakes import CHAT_BODY, Chunks, exchange

CONTENT = b'data: {"id":"c","choices":[{"index":0,"delta":{"content":"Hello there"},"finish_reason":null}]}\n\n'
USAGE = b'data: {"id":"c","choices":[],"usage":{"prompt_tokens":9,"completion_tokens":3,"total_tokens":12}}\n\n'
DONE = b"data: [DONE]\n\n"

TEAM_PURSE = Purse("team", "default")


def plugin(**settings: Any) -> MeteringPlugin:
    return MeteringPlugin(MeteringSettings(**settings), SimpleNamespace())  # type: ignore[arg-type]


def routed(outcome: str = "served", *, stream: bool = False) -> Exchange:
    seen = exchange(body={**CHAT_BODY, "stream": stream})
    seen.call = DIALECTS["openai.chat"].parse(seen.request._reader._pieces[0])  # type: ignore[attr-defined]
    seen.model = seen.generation.models["gpt-4o"]
    seen.quote = quote(seen.model, seen.call, provider_credential=False)
    seen.route = Route([Try(seen.model.candidates[0], Attempt(1, 1, "openai", "m"), 200, outcome)])
    return seen


async def meter(seen: Exchange, response: Response, **settings: Any) -> None:
    """Through the plugin, the stream to its end, and the exchange finished."""

    async def rest(_: Exchange) -> Response:
        return response

    answer = await plugin(**settings)(seen, rest)
    while await answer.pull():
        continue
    for closing in seen.before_finish:
        await closing()
    assert seen.finish(Finish.SERVED) == []


def whole(content: str = "Hello there", usage: dict[str, Any] | None = None) -> Response:
    body: dict[str, Any] = {"choices": [{"index": 0, "message": {"role": "assistant", "content": content}}]}
    if usage is not None:
        body["usage"] = usage
    return Response.of(200, orjson.dumps(body))


def stream(*pieces: bytes) -> Response:
    return Response(200, Headers(), stream=Chunks(*pieces), sse=True)


async def test_reported_usage_of_a_whole_answer() -> None:
    """Cached and reasoning tokens included."""
    usage = {
        "prompt_tokens": 100,
        "completion_tokens": 40,
        "prompt_tokens_details": {"cached_tokens": 64},
        "completion_tokens_details": {"reasoning_tokens": 30},
    }
    seen = routed()
    await meter(seen, whole(usage=usage))
    assert seen.usage == Usage(100, 40, cached_tokens=64, reasoning_tokens=30)
    assert seen.route is not None and seen.route.current.usage == seen.usage


@pytest.mark.parametrize("size", [1, 5, 1000])
async def test_reported_usage_of_a_stream(size: int) -> None:
    """Whatever the chunking."""
    raw = CONTENT + USAGE + DONE
    seen = routed(stream=True)
    await meter(seen, stream(*[raw[at : at + size] for at in range(0, len(raw), size)]))
    assert seen.usage == Usage(9, 3)


@pytest.mark.parametrize("streamed", [False, True])
async def test_missing_usage_is_counted(streamed: bool) -> None:
    """Our own count, marked as such: 'Hello there' is two tokens."""
    seen = routed(stream=streamed)
    await meter(seen, stream(CONTENT, DONE) if streamed else whole())
    assert seen.usage is not None
    assert (seen.usage.counted, seen.usage.output_tokens) == (True, 2)
    assert 5 <= seen.usage.input_tokens <= 20


async def test_missing_usage_of_a_lane_is_counted_with_its_members_own_figures() -> None:
    """An image costs what it costs at the candidate that served, not what the lane's entry knows."""
    image = {"type": "image_url", "image_url": {"url": "https://example.test/a.png"}}
    body = {**CHAT_BODY, "messages": [{"role": "user", "content": [image]}]}
    seen = routed()
    seen.call = DIALECTS["openai.chat"].parse(orjson.dumps(body))
    assert seen.route is not None and seen.model is not None and seen.quote is not None
    seen.model = replace(seen.model, image_tokens_max=None, encoding=None)
    seen.quote = replace(seen.quote, input_tokens=5_000)
    tried = seen.route.current
    tried.candidate = replace(tried.candidate, image_tokens_max=900, encoding="cl100k_base")
    await meter(seen, whole())
    assert seen.usage is not None and 900 < seen.usage.input_tokens < 950


async def test_count_switched_off_leaves_usage_unknown() -> None:
    """The hold is then charged in full."""
    seen = routed()
    await meter(seen, whole(), count=False)
    assert seen.usage is None


async def test_body_that_is_no_answer_is_garbage() -> None:
    """So that routing may try another."""
    seen = routed()
    await meter(seen, Response.of(200, b"<html>502</html>"))
    assert seen.route is not None
    assert (seen.route.current.outcome, seen.usage) == ("garbage", None)


@pytest.mark.parametrize(
    "body", [b'{"error":{"message":"no"}}', b'{"object":"error","message":"no"}', b'{"error":"no","choices":[]}']
)
async def test_error_with_200_is_garbage(body: bytes) -> None:
    """An error in the place of an answer is no answer, whatever its status: nothing is counted, nothing charged."""
    seen = routed()
    await meter(seen, Response.of(200, body))
    assert seen.route is not None
    assert (seen.route.current.outcome, seen.usage) == ("garbage", None)


async def test_answer_with_an_error_beside_it_is_served() -> None:
    """What was generated is charged: some servers add why it ends."""
    seen = routed()
    body = b'{"choices":[{"index":0,"message":{"content":"Hello there"}}],"error":{"message":"cut"}}'
    await meter(seen, Response.of(200, body))
    assert seen.route is not None and seen.route.current.outcome == "served"
    assert seen.usage is not None and seen.usage.output_tokens == 2


async def test_failed_attempt_is_not_metered() -> None:
    """An error body has no usage."""
    seen = routed("status")
    await meter(seen, whole(usage={"prompt_tokens": 1, "completion_tokens": 1}))
    assert seen.usage is None


async def test_negative_and_absurd_figures_are_cut_to_sense() -> None:
    """A provider's nonsense cannot make money."""
    seen = routed()
    await meter(
        seen,
        whole(usage={"prompt_tokens": 10, "completion_tokens": -5, "prompt_tokens_details": {"cached_tokens": 99}}),
    )
    assert seen.usage == Usage(10, 0, cached_tokens=10)


async def given_up(*pieces: bytes, purse: Purse | None = TEAM_PURSE) -> Exchange:
    """A stream that is left after these pieces."""
    seen = routed(stream=True)
    seen.hold = Hold(1, HoldRequest("x", "k", "u", "t", "o", "m", "chat", Nano(9), Nano(9), (), 0, purse))

    async def rest(_: Exchange) -> Response:
        return stream(*pieces, b"never read")

    answer = await plugin()(seen, rest)
    for _ in pieces:
        await answer.pull()
    seen.give_up()
    for closing in seen.before_finish:
        await closing()
    assert seen.finish(Finish.CLIENT_GONE) == []
    return seen


async def test_an_answer_given_up_is_counted_but_its_usage_stays_unknown() -> None:
    """Leaving early is no discount against caps; a prepaid balance pays what came."""
    words = [b'data: {"choices":[{"index":0,"delta":{"content":" word"}}]}\n\n'] * 20
    seen = await given_up(*words)
    assert seen.usage is None and seen.route is not None
    tried = seen.route.current
    assert tried.usage is None and tried.counted is not None
    assert (tried.counted.output_tokens, tried.counted.counted) == (20, True)
    assert tried.counted.input_tokens > 0


async def test_an_answer_given_up_is_not_counted_where_nobody_pays_for_it() -> None:
    """Caps take the full hold; counting it would be for nothing."""
    seen = await given_up(b'data: {"choices":[{"index":0,"delta":{"content":" word"}}]}\n\n', purse=None)
    assert seen.route is not None and seen.route.current.counted is None


async def test_an_answer_given_up_behind_its_end_has_its_usage() -> None:
    """What the upstream reported before it was left is the usage."""
    usage = b'data: {"choices":[],"usage":{"prompt_tokens":9,"completion_tokens":7}}\n\ndata: [DONE]\n\n'
    seen = await given_up(usage)
    assert seen.usage == Usage(9, 7)
    assert seen.route is not None and seen.route.current.counted is None


@pytest.mark.parametrize("purse", [TEAM_PURSE, None])
async def test_a_report_beyond_any_model_is_counted_for_a_purse(purse: Purse | None) -> None:
    """The report stays what was said; the count is what a purse pays, and is made for nobody else."""
    seen = routed()
    seen.hold = Hold(1, HoldRequest("x", "k", "u", "t", "o", "m", "chat", Nano(9), Nano(9), (), 0, purse))
    await meter(seen, whole("word word word", {"prompt_tokens": 1 << 60, "completion_tokens": 1}))
    assert seen.usage is not None and seen.usage.implausible and seen.route is not None
    counted = seen.route.current.counted
    assert (counted is None) == (purse is None)
    assert counted is None or (counted.output_tokens, counted.counted) == (3, True)
