"""Twins: one answer, one charge; whoever leads may fail or leave, and nobody waits for ever."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest

from plugins.dedup.plugin import DedupPlugin, DedupSettings
from proxy.catalogue import Candidate
from proxy.chain import compose
from proxy.dialects import DIALECTS
from proxy.errors import Refusal
from proxy.exchange import Exchange, Response
from proxy.identities import IdentityKind
from proxy.plugin import Next
from proxy.policy.rules import NO_RULES
from tests.support.fakes import CHAT_BODY, EMBEDDINGS, Chunks, FakeClock, Log, exchange, generation, identity, model


class Metrics:
    """Counts what was repeated."""

    def __init__(self) -> None:
        self.sources: list[str] = []

    def repeated(self, source: str) -> None:
        self.sources.append(source)


class Upstream:
    """The rest of the chain. Each call waits for its turn where the gate is shut, then answers as told."""

    def __init__(self) -> None:
        self.calls = 0
        self.gate = asyncio.Event()
        self.gate.set()
        self.answers: list[Response | Exception] = []
        self.called = asyncio.Event()

    async def __call__(self, seen: Exchange) -> Response:
        self.calls += 1
        number = self.calls
        seen.dispatched = True
        self.called.set()
        await self.gate.wait()
        answer = self.answers.pop(0) if self.answers else Response.of(200, b'{"number":%d}' % number)
        if isinstance(answer, Exception):
            raise answer
        return answer


class Bench:
    """The plugin, its clock, and what stands behind it."""

    def __init__(self, **settings: Any) -> None:
        self.clock, self.metrics, self.upstream = FakeClock(), Metrics(), Upstream()
        self.generation = generation()
        services: Any = SimpleNamespace(clock=self.clock, metrics=self.metrics, generation=self.generation)
        self.plugin = DedupPlugin(DedupSettings(**settings), services)
        self.chain = compose([self.plugin], self.upstream, Log())

    def exchange(self, body: Mapping[str, Any] | bytes = CHAT_BODY, **changes: Any) -> Exchange:
        facts = {name: changes.pop(name) for name in ("identity", "payment_proof") if name in changes}
        seen = exchange(body=body, under=changes.pop("under", self.generation), **changes)
        raw = seen.request._reader._pieces[0]  # type: ignore[attr-defined]
        seen.call = DIALECTS[seen.operation.dialect or ""].parse(raw)
        seen.model = self.generation.models["gpt-4o"]
        seen.policy, seen.identity = NO_RULES, identity()
        for name, value in facts.items():
            setattr(seen, name, value)
        return seen

    async def ask(self, *args: Any, **changes: Any) -> Response:
        return await self.chain(self.exchange(*args, **changes))

    def begin(self, *args: Any, **changes: Any) -> asyncio.Task[Response]:
        return asyncio.get_running_loop().create_task(self.ask(*args, **changes))

    async def twins(self, count: int, **changes: Any) -> list[asyncio.Task[Response]]:
        """So many at once, the first of them held upstream and all others waiting for it."""
        self.upstream.gate.clear()
        tasks = [self.begin(**changes)]
        await self.upstream.called.wait()
        tasks += [self.begin(**changes) for _ in range(count - 1)]
        await settle()
        return tasks


async def settle() -> None:
    """Let every task run until it waits for something outside."""
    for _ in range(10):
        await asyncio.sleep(0)


async def test_an_identical_request_is_answered_from_memory() -> None:
    """The same bytes, marked, nobody called; the exchange says so."""
    bench = Bench()
    first = await bench.ask()
    bench.clock.advance(2.5)
    seen = bench.exchange()
    second = await bench.chain(seen)
    assert (first.headers["x-dedup"], second.headers["x-dedup"], second.headers["age"]) == ("miss", "hit", "2")
    assert (first.body, second.body, bench.upstream.calls) == (b'{"number":1}', b'{"number":1}', 1)
    assert (seen.repeated, seen.dispatched, bench.metrics.sources) == (True, False, ["memory"])


async def test_white_space_and_order_of_members_mean_nothing() -> None:
    """The normalised body decides; any other difference is a difference."""
    bench = Bench()
    await bench.ask(b'{"model":"gpt-4o","messages":[{"role":"user","content":"x"}],"temperature":1}')
    same = b'{ "temperature": 1, "messages": [{"content": "\\u0078", "role": "user"}], "model": "gpt-4o" }'
    assert (await bench.ask(same)).headers["x-dedup"] == "hit"
    other = b'{"model":"gpt-4o","messages":[{"role":"user","content":"x"}],"temperature":1,"user":"u"}'
    assert (await bench.ask(other)).headers["x-dedup"] == "miss"


@pytest.mark.parametrize(
    "change",
    [
        {"identity": identity(key_id="key_000000000002")},
        {"headers": {"openai-beta": "assistants=v2"}},
        {"headers": {"idempotency-key": "another"}},
        {"operation": EMBEDDINGS, "body": {"model": "gpt-4o", "input": "x"}},
        {"payment_proof": "abc"},
    ],
)
async def test_another_caller_operation_or_request_is_no_twin(change: dict[str, Any]) -> None:
    """Each calls for itself."""
    bench = Bench()
    await bench.ask()
    await bench.ask(**change)
    assert bench.upstream.calls == 2


@pytest.mark.parametrize(
    "change",
    [
        {"body": {**CHAT_BODY, "stream": True}},
        {"identity": identity(kind=IdentityKind.ANONYMOUS, key_id="anonymous")},
        {"identity": identity(kind=IdentityKind.OWN_KEY, key_id="own", provider_credential=True)},
        {"identity": identity(provider_credential=True)},
        {"headers": {"x-no-cache": "1"}},
        {"headers": {"x-no-cache": ""}},
        {"headers": {"X-No-Cache": "yes"}},
    ],
)
async def test_these_are_neither_remembered_nor_answered_from_memory(change: dict[str, Any]) -> None:
    """Streams, callers nobody knows by a key of ours, and those who want an answer of their own."""
    bench = Bench()
    for _ in range(2):
        answer = await bench.ask(**change)
        assert "x-dedup" not in answer.headers
    assert (bench.upstream.calls, len(bench.plugin._memory)) == (2, 0)


@pytest.mark.parametrize("value", ["0", "false", "False"])
async def test_a_no_cache_that_says_no_changes_nothing(value: str) -> None:
    """0 and false leave it to us."""
    bench = Bench()
    await bench.ask()
    assert (await bench.ask(headers={"x-no-cache": value})).headers["x-dedup"] == "hit"


async def test_no_cache_takes_nothing_away_from_others() -> None:
    """What was remembered stays so."""
    bench = Bench()
    await bench.ask()
    await bench.ask(headers={"x-no-cache": "1"})
    assert (await bench.ask()).body == b'{"number":1}'


async def test_an_answer_is_forgotten_after_30_seconds() -> None:
    """Counted from when it was complete."""
    bench = Bench()
    await bench.ask()
    bench.clock.advance(29.9)
    assert (await bench.ask()).headers["x-dedup"] == "hit"
    bench.clock.advance(0.1)
    assert (await bench.ask()).headers["x-dedup"] == "miss"
    assert bench.upstream.calls == 2


async def test_memory_is_bounded_in_number_and_size() -> None:
    """The oldest goes first; what is too large is not kept."""
    bench = Bench(entries_max=3, answer_bytes_max=1024)
    for number in range(5):
        await bench.ask({**CHAT_BODY, "seed": number})
    assert len(bench.plugin._memory) == 3
    assert (await bench.ask({**CHAT_BODY, "seed": 2})).headers["x-dedup"] == "hit"
    assert (await bench.ask({**CHAT_BODY, "seed": 1})).headers["x-dedup"] == "miss"
    bench.upstream.answers = [Response.of(200, b"x" * 1025)]
    large = await bench.ask({**CHAT_BODY, "seed": 9})
    assert "x-dedup" not in large.headers
    assert (await bench.ask({**CHAT_BODY, "seed": 9})).headers["x-dedup"] == "miss"


async def test_whatever_is_too_old_does_not_stay_in_memory() -> None:
    """Any request forgets it, its own or another's."""
    bench = Bench()
    for number in range(5):
        await bench.ask({**CHAT_BODY, "seed": number})
    bench.clock.advance(31)
    await bench.ask()
    assert len(bench.plugin._memory) == 1


async def test_a_request_too_large_has_no_twins() -> None:
    """It is not even digested."""
    bench = Bench(request_bytes_max=1024)
    body = {**CHAT_BODY, "user": "x" * 1024}
    await bench.ask(body)
    await bench.ask(body)
    assert bench.upstream.calls == 2


async def test_a_large_request_is_digested_in_a_thread_to_the_same_end() -> None:
    """Above 256 KB."""
    bench = Bench()
    body = {**CHAT_BODY, "user": "x" * (300 << 10)}
    await bench.ask(body)
    assert (await bench.ask(body)).headers["x-dedup"] == "hit"


@pytest.mark.parametrize("status", [201, 400, 402, 429, 500, 502])
async def test_only_a_200_is_remembered(status: int) -> None:
    """An error is its own caller's alone."""
    bench = Bench()
    bench.upstream.answers = [Response.of(status, b"{}")]
    assert "x-dedup" not in (await bench.ask()).headers
    assert (await bench.ask()).status == 200
    assert bench.upstream.calls == 2


async def test_a_stream_that_nobody_asked_for_is_not_remembered() -> None:
    """An upstream may stream all the same."""
    bench = Bench()
    streamed = Response.of(200, b"")
    streamed.stream = Chunks(b"data: x\n\n")
    bench.upstream.answers = [streamed]
    assert "x-dedup" not in (await bench.ask()).headers
    assert (await bench.ask()).headers["x-dedup"] == "miss"


async def test_nobody_shares_headers() -> None:
    """What plugins further out do to one answer does not show in the next."""
    bench = Bench()
    for _ in range(3):
        answer = await bench.ask()
        assert "x-tollway-request-id" not in answer.headers
        answer.headers["x-tollway-request-id"] = "req_1"
        answer.headers["x-dedup"] = "spoilt"


async def test_concurrent_twins_share_one_call() -> None:
    """Twenty at once: one upstream call, one `miss`, nineteen with the same answer."""
    bench = Bench()
    tasks = await bench.twins(20)
    bench.upstream.gate.set()
    answers = await asyncio.gather(*tasks)
    assert bench.upstream.calls == 1
    assert [answer.headers["x-dedup"] for answer in answers] == ["miss", *["hit"] * 19]
    assert {answer.body for answer in answers} == {b'{"number":1}'}
    assert bench.metrics.sources == ["twin"] * 19


async def test_twins_share_an_answer_too_large_to_be_remembered() -> None:
    """They have waited for it; who comes later calls."""
    bench = Bench(answer_bytes_max=1024)
    tasks = await bench.twins(2)
    bench.upstream.answers = [Response.of(200, b"x" * 2000)]
    bench.upstream.gate.set()
    assert [len(answer.body) for answer in await asyncio.gather(*tasks)] == [2000, 2000]
    assert (await bench.ask()).body == b'{"number":2}'


async def test_when_the_first_fails_another_takes_its_place() -> None:
    """The failure is the first's alone; the next one calls, and the rest wait for that."""
    bench = Bench()
    tasks = await bench.twins(5)
    bench.upstream.answers = [Refusal("upstream_error", "It failed.")]
    bench.upstream.gate.set()
    answers = await asyncio.gather(*tasks)
    assert [answer.status for answer in answers] == [502, 200, 200, 200, 200]
    assert bench.upstream.calls == 2


async def test_when_the_first_is_cancelled_another_takes_its_place() -> None:
    """Its client left before it was answered."""
    bench = Bench()
    tasks = await bench.twins(4)
    tasks[0].cancel()
    await settle()
    assert bench.upstream.calls == 2
    bench.upstream.gate.set()
    assert [answer.body for answer in await asyncio.gather(*tasks[1:])] == [b'{"number":2}'] * 3
    assert tasks[0].cancelled()


async def test_a_waiting_twin_that_leaves_disturbs_nobody() -> None:
    """Neither the first nor those who wait with it."""
    bench = Bench()
    tasks = await bench.twins(3)
    tasks[1].cancel()
    with pytest.raises(asyncio.CancelledError):
        await tasks[1]
    bench.upstream.gate.set()
    assert [(await task).status for task in (tasks[0], tasks[2])] == [200, 200]
    assert bench.upstream.calls == 1


async def test_twins_of_a_request_that_keeps_failing_do_not_queue_for_ever() -> None:
    """After three that failed, each is served on its own."""
    bench = Bench()
    tasks = await bench.twins(8)
    bench.upstream.answers = [Refusal("upstream_error", "It failed.") for _ in range(8)]
    bench.upstream.gate.set()
    assert {answer.status for answer in await asyncio.gather(*tasks)} == {502}
    assert bench.upstream.calls == 8
    assert (await bench.ask()).status == 200


async def test_waiting_has_an_end() -> None:
    """Then the request is served on its own, whatever the first is doing."""
    bench = Bench(wait_seconds_max=0.01)
    tasks = await bench.twins(2)
    while bench.upstream.calls < 2:
        await asyncio.sleep(0.001)
    bench.upstream.gate.set()
    assert {answer.body for answer in await asyncio.gather(*tasks)} == {b'{"number":1}', b'{"number":2}'}


async def test_a_proofs_twin_is_409_while_the_first_runs_and_answered_after() -> None:
    """One proof of payment buys one answer; who brings it again gets that one."""
    bench = Bench()
    (first,) = await bench.twins(1, payment_proof="digest")
    refused = await bench.ask(payment_proof="digest")
    assert (refused.status, b'"payment_under_way"' in refused.body) == (409, True)
    assert refused.headers["retry-after"] == "2"
    bench.upstream.gate.set()
    await first
    assert (await bench.ask(payment_proof="digest")).headers["x-dedup"] == "hit"
    assert bench.upstream.calls == 1


async def test_an_answer_that_was_kept_further_in_stays_a_hit() -> None:
    """What the ledger gives again to who shows a spent proof was bought before, and says so."""
    bench = Bench()

    async def kept(seen: Exchange, call_next: Next) -> Response:
        response = await call_next(seen)
        seen.repeated = True
        response.headers["x-dedup"] = "hit"
        return response

    seen = bench.exchange(payment_proof="digest")
    response = await bench.plugin(seen, lambda asked: kept(asked, bench.upstream))
    assert response.headers["x-dedup"] == "hit"


async def test_an_alias_that_is_registered_anew_is_another_model() -> None:
    """Nobody is given what the server answered that stood behind it before, or under a key that was replaced."""
    bench = Bench()
    for upstream, marked in (("byo:1", "miss"), ("byo:1", "hit"), ("byo:1.1700", "miss"), ("byo:2", "miss")):
        seen = bench.exchange()
        seen.model = model("byo-x", candidates=(Candidate(upstream, "m"),), byo=True)
        assert (await bench.chain(seen)).headers["x-dedup"] == marked


async def test_another_configuration_begins_with_an_empty_memory() -> None:
    """And an exchange of the old one keeps out of the new one's."""
    bench = Bench()
    await bench.ask()
    tasks = await bench.twins(2, body={**CHAT_BODY, "seed": 1})
    old, new = bench.generation, replace(bench.generation)
    bench.plugin.follow(new)
    bench.upstream.gate.set()
    assert [answer.status for answer in await asyncio.gather(*tasks)] == [200, 200]
    assert bench.upstream.calls == 2
    assert "x-dedup" not in (await bench.ask(under=old)).headers
    assert (await bench.ask(under=new)).headers["x-dedup"] == "miss"
    assert len(bench.plugin._memory) == 1
