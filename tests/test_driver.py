"""The life of one exchange, without a socket."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from typing import Any

import orjson
import pytest

from proxy.driver import HEARTBEAT, Driver, DriverLimits
from proxy.exchange import Exchange, Finish, Request, Response, WhenLeft
from proxy.headers import Headers
from proxy.listeners.api import Arrival
from proxy.plugin import Next
from proxy.upstreams.api import FailureKind, UpstreamFailure
from tests.support.downstream import MemoryDownstream
from tests.support.fakes import Body, Chunks, FakeClock, Log, exchange, origin

EVENT = b'data: {"choices":[{"delta":{"content":"Hi"}}]}\n\n'


class Scene:
    """A driver around one prepared chain."""

    def __init__(self, chain: Next, **limits: Any) -> None:
        self.exchange = exchange()
        self.finished: list[Finish] = []
        self.ended: list[Finish] = []
        self.log = Log()
        self.exchange.on_finish(self.finished.append)
        fields = {"heartbeat_seconds": 60.0, "drain_client_gone_seconds": 5.0, "drain_client_gone_bytes": 1 << 20}
        self.driver = Driver(
            open_exchange=lambda _: self.exchange,
            chain=lambda _: chain,
            limits=DriverLimits(**{**fields, **limits}),
            request_id_header="x-tollway-request-id",
            on_open=lambda _: None,
            on_end=lambda _, reason: self.ended.append(reason),
            clock=FakeClock(),
            log=self.log,
        )
        request = Request(method="POST", path="/", headers=Headers(), reader=Body())
        self.arrival = Arrival(origin(), request)

    async def play(self, downstream: MemoryDownstream) -> None:
        """The whole life, as a task of its own: the driver cancels its own task."""
        await asyncio.create_task(self.driver.serve(self.arrival, downstream))


def answering(response: Response, *, dispatched: bool = True) -> Next:
    async def chain(seen: Exchange) -> Response:
        seen.dispatched = dispatched
        return response

    return chain


def stream(*pieces: bytes | Exception, sse: bool = True) -> Response:
    return Response(200, Headers(), stream=Chunks(*pieces), sse=sse)


async def test_whole_answer_carries_the_request_id() -> None:
    """Every response has it."""
    scene, down = Scene(answering(Response.of(200, b"{}"))), MemoryDownstream()
    await scene.play(down)
    assert (down.status, down.body, down.headers["x-tollway-request-id"]) == (200, b"{}", "req_test")
    assert scene.finished == scene.ended == [Finish.SERVED]


async def test_stream_is_passed_in_order_and_taps_see_it_first() -> None:
    """Peeked pieces first; a tap sees what the client is about to get."""
    response = stream(b"b", b"c")
    response.peeked = [b"a"]
    seen: list[tuple[bytes, bytes]] = []
    down = MemoryDownstream()
    response.taps.append(lambda chunk: seen.append((chunk, down.body)))
    scene = Scene(answering(response))
    await scene.play(down)
    assert (down.body, down.ended) == (b"abc", True)
    assert seen == [(b"b", b"a"), (b"c", b"ab")]


async def test_transform_may_keep_back_and_give_the_remainder_at_the_end() -> None:
    """b"" asks for what is left."""
    kept: list[bytes] = []

    def hold_back(chunk: bytes) -> bytes:
        if chunk:
            kept.append(chunk)
            return b""
        return b"".join(kept)

    response = stream(b"one", b"two")
    response.transforms.append(hold_back)
    down = MemoryDownstream()
    await Scene(answering(response)).play(down)
    assert (down.chunks, down.ended) == ([b"onetwo"], True)


async def test_every_transform_learns_of_the_end() -> None:
    """Also behind one that gives a remainder: it sees that first, then the end."""
    seen: list[bytes] = []

    def last_words(chunk: bytes) -> bytes:
        return chunk or b"last"

    def follow(chunk: bytes) -> bytes:
        seen.append(chunk)
        return chunk or b"!"

    response = stream(b"one")
    response.transforms += [last_words, follow]
    down = MemoryDownstream()
    await Scene(answering(response)).play(down)
    assert seen == [b"one", b"last", b""]
    assert b"".join(down.chunks) == b"onelast!"


async def test_sse_that_breaks_ends_with_an_error_event_in_its_own_format() -> None:
    """The client's parser reads the error, then a regular end; no [DONE] pretends completeness."""
    broken = UpstreamFailure(FailureKind.BROKEN, "reset", sent=True)
    scene, down = Scene(answering(stream(EVENT, broken))), MemoryDownstream()
    await scene.play(down)
    assert down.chunks[0] == EVENT
    last = down.chunks[-1]
    assert last.startswith(b"data: ") and last.endswith(b"\n\n")
    assert orjson.loads(last[6:])["error"]["code"] == "upstream_error"
    assert (down.ended, scene.finished) == (True, [Finish.UPSTREAM_FAILED])


async def test_error_event_after_half_an_event_starts_on_a_new_one() -> None:
    """A cut event is closed first, so that it cannot swallow the error."""
    broken = UpstreamFailure(FailureKind.BROKEN, "reset", sent=True)
    down = MemoryDownstream()
    await Scene(answering(stream(b'data: {"cho', broken))).play(down)
    assert down.chunks[-1].startswith(b"\n\ndata: ")


async def test_other_stream_that_breaks_is_cut() -> None:
    """Never a regular end for half a file."""
    broken = UpstreamFailure(FailureKind.BROKEN, "reset", sent=True)
    down = MemoryDownstream()
    await Scene(answering(stream(b"half", broken, sse=False))).play(down)
    assert (down.aborted, down.ended) == (True, False)


async def test_client_gone_before_dispatch_cancels_at_once() -> None:
    """Nothing was called: nothing goes on."""
    entered = asyncio.Event()

    async def waiting(_: Exchange) -> Response:
        entered.set()
        await asyncio.Event().wait()
        raise AssertionError("unreachable")

    scene, down = Scene(waiting), MemoryDownstream()
    task = asyncio.create_task(scene.driver.serve(scene.arrival, down))
    await entered.wait()
    down.leave()
    await task
    assert scene.finished == [Finish.CLIENT_GONE]


async def test_client_gone_after_dispatch_drains_to_the_usage() -> None:
    """The upstream's answer is read to its end, sent nowhere."""
    tapped: list[bytes] = []
    response = stream(EVENT, EVENT, b"usage")
    response.taps.append(tapped.append)
    down = MemoryDownstream(leave_after_chunks=1)
    scene = Scene(answering(response))
    await scene.play(down)
    assert tapped == [EVENT, EVENT, b"usage"]
    assert (down.chunks, scene.finished) == ([EVENT], [Finish.CLIENT_GONE])


async def test_drain_stops_at_its_byte_limit() -> None:
    """A client cannot make us read for ever."""
    tapped: list[bytes] = []
    response = stream(*[b"x" * 10] * 100)
    response.taps.append(tapped.append)
    scene = Scene(answering(response), drain_client_gone_bytes=35)
    await scene.play(MemoryDownstream(leave_after_chunks=1))
    assert len(tapped) < 8
    assert isinstance(response.stream, Chunks) and response.stream.closed
    assert scene.finished == [Finish.CLIENT_GONE]


class Hanging:
    """A stream that gives one piece and then nothing."""

    closed = False

    async def __aiter__(self) -> AsyncIterator[bytes]:
        yield EVENT
        await asyncio.Event().wait()

    async def aclose(self) -> None:
        self.closed = True


async def test_drain_stops_at_its_time_limit() -> None:
    """A silent upstream is given up."""
    hanging = Hanging()
    scene = Scene(answering(Response(200, Headers(), stream=hanging, sse=True)), drain_client_gone_seconds=0.02)
    await scene.play(MemoryDownstream(leave_after_chunks=1))
    assert (hanging.closed, scene.finished) == (True, [Finish.CLIENT_GONE])


async def test_heartbeats_fill_silence_between_events_only() -> None:
    """A comment after the interval; none inside an event."""
    scene = Scene(answering(Response(200, Headers(), stream=Hanging(), sse=True)), heartbeat_seconds=0.01)
    down = MemoryDownstream()
    task = asyncio.create_task(scene.driver.serve(scene.arrival, down))
    async with asyncio.timeout(5):
        while down.chunks.count(HEARTBEAT) < 3:
            await asyncio.sleep(0.005)
    task.cancel()
    await task
    assert down.chunks[0] == EVENT
    assert set(down.chunks[1:]) == {HEARTBEAT}
    assert scene.finished == [Finish.DRAINED]


async def test_no_heartbeat_inside_an_event() -> None:
    """Half an event must not be torn by a comment."""

    class Torn(Hanging):
        async def __aiter__(self) -> AsyncIterator[bytes]:
            yield b"data: half"
            await asyncio.sleep(0.08)
            yield b" whole\n\n"

    down = MemoryDownstream()
    await Scene(answering(Response(200, Headers(), stream=Torn(), sse=True)), heartbeat_seconds=0.01).play(down)
    assert down.chunks == [b"data: half", b" whole\n\n"]


async def test_fault_outside_the_chain_is_500_and_finishes() -> None:
    """Fail closed there too."""

    async def bad(_: Exchange) -> Response:
        raise ValueError("outside")

    scene, down = Scene(bad), MemoryDownstream()
    await scene.play(down)
    assert (down.status, scene.finished) == (500, [Finish.FAILED])
    assert "outside" not in down.body.decode()


@pytest.mark.parametrize("raising", [ValueError("x"), BaseException("y")])
async def test_raising_finisher_does_not_keep_the_others_from_running(raising: BaseException) -> None:
    """Settlement runs whatever audit does."""

    def bad(_: Finish) -> None:
        raise raising

    scene = Scene(answering(Response.of(200, b"{}")))
    scene.exchange.on_finish(bad)
    await scene.play(MemoryDownstream())
    assert scene.finished == [Finish.SERVED]
    assert scene.log.names() == ["finish_failed"]


async def test_before_finish_runs_after_the_answer_and_is_bounded() -> None:
    """Our own count comes after the last byte; one that hangs is left out."""
    order: list[str] = []
    down = MemoryDownstream()

    async def closing() -> None:
        order.append(f"closing after {down.body!r}")

    async def hanging() -> None:
        await asyncio.Event().wait()

    scene = Scene(answering(Response.of(200, b"{}")), closing_seconds_max=0.01)
    scene.exchange.before_finish += [closing, hanging]
    await scene.play(down)
    assert order == ["closing after b'{}'"]
    assert (scene.finished, scene.log.names()) == ([Finish.SERVED], ["closing_timeout"])


@pytest.mark.parametrize("limit", ["seconds", "bytes"])
async def test_an_answer_given_up_is_still_counted_before_it_ends(limit: str) -> None:
    """Whichever limit the drain reached: the closings run, knowing that the answer was cut, then the callbacks."""
    limits = {"drain_client_gone_seconds": 0.02} if limit == "seconds" else {"drain_client_gone_bytes": 4}
    order: list[str] = []
    scene = Scene(answering(Response(200, Headers(), stream=Hanging(), sse=True)), **limits)

    async def closing() -> None:
        order.append(f"counted, cut {scene.exchange.cut}")
        await asyncio.sleep(0)

    scene.exchange.before_finish.append(closing)
    scene.exchange.on_finish(lambda reason: order.append(reason.value))
    await scene.play(MemoryDownstream(leave_after_chunks=1))
    assert order == ["counted, cut True", "client_gone"]
    assert scene.log.names() == []


async def test_a_count_that_fails_ends_the_exchange_all_the_same() -> None:
    """Of an answer given up: the hold is settled whatever becomes of the count."""
    answer = Response(200, Headers(), stream=Hanging(), sse=True)
    scene = Scene(answering(answer), drain_client_gone_seconds=0.02)

    async def failing() -> None:
        raise ValueError("no vocabulary")

    scene.exchange.before_finish.append(failing)
    await scene.play(MemoryDownstream(leave_after_chunks=1))
    assert (scene.finished, scene.log.names()) == ([Finish.CLIENT_GONE], ["closing_failed"])
    assert isinstance(answer.stream, Hanging) and answer.stream.closed


def finishers_in_order() -> list[str]:
    """Helper of the next test."""
    order: list[str] = []
    seen = exchange()
    names: tuple[str, ...] = ("audit", "spend_caps", "metering")

    def note(name: str) -> Callable[[Finish], None]:
        return lambda _: order.append(name)

    for name in names:
        seen.on_finish(note(name))
    seen.finish(Finish.SERVED)
    return order


def test_finishers_run_last_registered_first() -> None:
    """Metering before settlement, settlement before audit."""
    assert finishers_in_order() == ["metering", "spend_caps", "audit"]


async def test_upstream_streams_are_closed_wherever_the_chain_left_them() -> None:
    """A chain that is cancelled or fails while it waits for content keeps no upstream connection."""
    left = Chunks()

    async def chain(seen: Exchange) -> Response:
        seen.dispatched = True
        seen.streams.append(left)
        await asyncio.Event().wait()
        raise AssertionError

    scene, down = Scene(chain, drain_client_gone_seconds=0.01), MemoryDownstream()
    asyncio.get_running_loop().call_soon(lambda: asyncio.get_running_loop().call_soon(down.leave))
    await scene.play(down)
    assert (scene.finished, left.closed) == ([Finish.CLIENT_GONE], True)


@pytest.mark.parametrize("pieces", [(b"data: half", b" whole\n\n"), ()])
async def test_heartbeat_that_falls_due_as_data_arrives_tears_nothing(pieces: tuple[bytes, ...]) -> None:
    """Both in one turn of the loop: what arrived first goes out first, and nothing follows the end."""

    class Late(Hanging):
        async def __aiter__(self) -> AsyncIterator[bytes]:
            yield EVENT
            loop = asyncio.get_running_loop()
            arrives = loop.create_future()
            loop.call_later(0.045, arrives.set_result, None)
            loop.call_later(0.01, time.sleep, 0.06)  # Both timers ring in the turn after this one.
            await arrives
            for piece in pieces:
                yield piece

    class Strict(MemoryDownstream):
        async def write(self, chunk: bytes) -> None:
            assert not self.ended
            await super().write(chunk)
            await asyncio.sleep(0)

    down = Strict()
    await Scene(answering(Response(200, Headers(), stream=Late(), sse=True)), heartbeat_seconds=0.05).play(down)
    await asyncio.sleep(0)
    assert down.chunks == [EVENT, *pieces]


async def test_calls_that_are_cancelled_with_it_have_ended_before_it_is_settled() -> None:
    """Whoever leaves while a piece is being written to him: what his calls cost is counted by then."""
    order: list[str] = []

    class Calls(Chunks):
        async def aclose(self) -> None:
            await asyncio.sleep(0)
            order.append("ended")

    class Stalled(MemoryDownstream):
        async def write(self, chunk: bytes) -> None:
            asyncio.get_running_loop().call_soon(self.leave)
            await asyncio.Event().wait()

    async def chain(seen: Exchange) -> Response:
        seen.when_left = WhenLeft.CANCEL
        return Response(200, Headers(), stream=Calls(b"a", b"b"), sse=True)

    scene = Scene(chain)
    scene.exchange.on_finish(lambda reason: order.append(reason.value))
    await scene.play(Stalled())
    assert order[:2] == ["ended", "client_gone"]
