"""Idempotency-Key: one run for one key, the stored answer byte for byte, and a key that is free when a run fails."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from plugins.idempotency.plugin import IdempotencyPlugin, IdempotencySettings
from proxy.chain import compose
from proxy.dialects import DIALECTS
from proxy.errors import Refusal
from proxy.exchange import Exchange, Finish, Response
from proxy.headers import Headers
from proxy.idempotency.service import Once
from proxy.identities import IdentityKind
from proxy.operations import ORCHESTRATE
from proxy.payments.api import Credential, Presented
from proxy.policy.rules import NO_RULES
from tests.support.fakes import Chunks, FakeClock, Log, exchange, generation, identity, model

PANEL: Any = SimpleNamespace(name="fast", input_tokens_max=8_000)
BODY = b'{"prompt":"What is a tort?","mode":"fast"}'
DONE = (
    b'event: token\ndata: {"type":"token","text":"x"}\n\nevent: done\ndata: {"type":"done","result":{"answer":"x"}}\n\n'
)
CUT = b'event: error\ndata: {"type":"error","error":{}}\n\n'


class Panel:
    """The rest of the chain."""

    def __init__(self) -> None:
        self.calls = 0
        self.gate = asyncio.Event()
        self.gate.set()
        self.answers: list[Response | BaseException] = []

    async def __call__(self, seen: Exchange) -> Response:
        self.calls += 1
        number = self.calls
        await self.gate.wait()
        answer = self.answers.pop(0) if self.answers else Response.of(200, b'{"answer":"%d"}' % number)
        if isinstance(answer, BaseException):
            raise answer
        return answer


class Bench:
    """The plugin on a file of its own, and what stands behind it."""

    def __init__(self, folder: Path, **settings: Any) -> None:
        self.clock, self.log, self.panel = FakeClock(), Log(), Panel()
        self.repeated: list[str] = []
        self.generation = replace(generation(), root=folder)
        self.once = Once(folder, self.clock, self.log)
        services: Any = SimpleNamespace(
            clock=self.clock,
            log=self.log,
            once=self.once,
            generation=SimpleNamespace(consensus=None),
            metrics=SimpleNamespace(repeated=self.repeated.append),
        )
        self.plugin = IdempotencyPlugin(IdempotencySettings(**settings), services)
        self.chain = compose([self.plugin], self.panel, self.log)

    def exchange(self, key: str | None = "k1", body: bytes = BODY, **changes: Any) -> Exchange:
        facts = {
            name: changes.pop(name)
            for name in ("identity", "payment_proof", "presented", "model", "origin")
            if name in changes
        }
        headers = {} if key is None else {"idempotency-key": key}
        seen = exchange(body=body, under=self.generation, headers=headers, operation=ORCHESTRATE, **changes)
        seen.call = DIALECTS[ORCHESTRATE.dialect or ""].parse(body)
        seen.model, seen.policy, seen.identity = model("consensus-fast", panel=PANEL), NO_RULES, identity()
        for name, value in facts.items():
            setattr(seen, name, value)
        return seen

    async def ask(self, *args: Any, **changes: Any) -> Response:
        return await self.serve(self.exchange(*args, **changes))

    async def serve(self, seen: Exchange, *, leaves: bool = False) -> Response:
        """As the driver does: the stream read through the transforms, closings, callbacks."""
        try:
            response = await self.chain(seen)
        except asyncio.CancelledError:
            seen.finish(Finish.CLIENT_GONE)
            raise
        if response.stream is not None:
            await self._read(response, leaves=leaves)
        if not leaves:
            for closing in seen.before_finish:
                await closing()
        assert not seen.finish(Finish.CLIENT_GONE if leaves else Finish.SERVED)
        return response

    async def _read(self, response: Response, *, leaves: bool) -> None:
        sent = []
        while chunk := await response.pull():
            sent.append(_through(response, chunk))
            if leaves:
                return
        sent.append(_through(response, b""))
        response.body = b"".join(sent)


def _through(response: Response, chunk: bytes) -> bytes:
    for transform in response.transforms:
        chunk = transform(chunk)
    return chunk


def streamed(*pieces: bytes | Exception) -> Response:
    return Response(200, Headers({"content-type": "text/event-stream"}), stream=Chunks(*pieces), sse=True)


@pytest.fixture
async def bench(tmp_path: Path) -> AsyncIterator[Bench]:
    made = Bench(tmp_path)
    await made.plugin.start()
    yield made
    await made.plugin.stop()


async def test_same_key_and_body_give_the_stored_answer(bench: Bench) -> None:
    """Byte for byte, marked, with nobody called; the exchange says that it is a repetition."""
    first = await bench.ask()
    seen = bench.exchange()
    again = await bench.serve(seen)
    assert (first.body, again.body, bench.panel.calls) == (b'{"answer":"1"}', b'{"answer":"1"}', 1)
    assert "idempotent-replayed" not in first.headers
    assert again.headers["idempotent-replayed"] == "true"
    assert again.headers["content-type"] == "application/json"
    assert (seen.repeated, bench.repeated) == (True, ["idempotency"])


async def test_stream_is_told_again_byte_for_byte(bench: Bench) -> None:
    """As a stream, with its own head."""
    bench.panel.answers = [streamed(DONE[:20], DONE[20:])]
    first = await bench.ask()
    again = await bench.ask()
    assert (first.body, again.body, bench.panel.calls) == (DONE, DONE, 1)
    assert (again.sse, again.headers["idempotent-replayed"]) == (True, "true")


async def test_stored_answer_is_what_came_from_further_in(bench: Bench) -> None:
    """What plugins further out change in it is not stored: they change it anew."""
    response = await bench.chain(seen := bench.exchange())
    response.headers["x-outer"] = "1"
    response.body = b"concealed"
    seen.finish(Finish.SERVED)
    again = await bench.ask()
    assert again.body == b'{"answer":"1"}'
    assert "x-outer" not in again.headers


async def test_running_twin_is_refused_with_a_wait(bench: Bench) -> None:
    """409 and Retry-After; one run."""
    bench.panel.gate.clear()
    first = asyncio.create_task(bench.ask())
    while bench.panel.calls == 0:
        await asyncio.sleep(0.001)
    twin = await bench.ask()
    assert (twin.status, twin.headers["retry-after"]) == (409, "2")
    bench.panel.gate.set()
    assert (await first).status == 200
    assert bench.panel.calls == 1


@pytest.mark.parametrize("change", [{"body": BODY + b" "}, {"path": "/v1/elsewhere"}])
async def test_other_request_under_the_key_is_refused(bench: Bench, change: dict[str, Any]) -> None:
    """422, running or kept, and the stored answer stays."""
    await bench.ask()
    other = await bench.ask(**change)
    assert (other.status, b"idempotency_mismatch" in other.body, bench.panel.calls) == (422, True, 1)
    assert (await bench.ask()).headers["idempotent-replayed"] == "true"


@pytest.mark.parametrize(
    "failure",
    [Refusal("upstream_unavailable", "No.", retry_after_seconds=1), RuntimeError("x"), Response.of(500, b"{}")],
)
async def test_failed_run_frees_the_key(bench: Bench, failure: Any) -> None:
    """A retry runs, and no failure is ever told again."""
    bench.panel.answers = [failure]
    assert (await bench.ask()).status >= 500
    assert (await bench.ask()).body == b'{"answer":"2"}'


@pytest.mark.parametrize("pieces", [(CUT,), (DONE[:30],), (CUT, DONE)])
async def test_stream_without_its_end_is_not_kept(bench: Bench, pieces: tuple[bytes, ...]) -> None:
    """An error in it, or none of its format's end: the key is free."""
    bench.panel.answers = [streamed(*pieces)]
    response = await bench.chain(seen := bench.exchange())
    if CUT in pieces:
        seen.refusal = Refusal("upstream_error", "It broke.")
    await bench._read(response, leaves=False)
    seen.finish(Finish.SERVED)
    assert (await bench.ask()).body == b'{"answer":"2"}'


async def test_client_that_leaves_frees_the_key(bench: Bench) -> None:
    """In the middle of a stream, and while it waits for a whole answer."""
    bench.panel.answers = [streamed(DONE[:20], DONE[20:])]
    await bench.serve(bench.exchange(), leaves=True)
    bench.panel.gate.clear()
    waits = asyncio.create_task(bench.ask())
    while bench.panel.calls < 2:
        await asyncio.sleep(0.001)
    waits.cancel()
    await asyncio.wait({waits})
    bench.panel.gate.set()
    assert (await bench.ask()).body == b'{"answer":"3"}'


async def test_client_that_leaves_while_it_claims_frees_the_key(bench: Bench) -> None:
    """Nobody holds what was claimed for it."""
    waits = asyncio.create_task(bench.ask())
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    waits.cancel()
    await asyncio.wait({waits})
    answers = [await bench.ask() for _ in range(2)]
    assert any(answer.status == 200 for answer in answers)


@pytest.mark.parametrize(
    "change",
    [
        {"identity": identity(key_id="key_000000000002")},
        {"payment_proof": "ab" * 32},
        {"identity": identity(kind=IdentityKind.PAYER), "presented": Presented(Credential.BALANCE, "t", "cd" * 32)},
        {"key": "k2"},
    ],
)
async def test_key_of_another_caller_is_another_key(bench: Bench, change: dict[str, Any]) -> None:
    """Whoever pays by a proof has the proof as a scope: a retry with the same payment."""
    await bench.ask()
    assert (await bench.ask(**change)).body == b'{"answer":"2"}'
    assert (await bench.ask(**change)).headers["idempotent-replayed"] == "true"


@pytest.mark.parametrize(
    "change",
    [
        {"key": None},
        {"model": model("gpt-4o")},
        {"identity": identity(kind=IdentityKind.PAYER)},
        {"identity": identity(provider_credential=True)},
    ],
)
async def test_what_is_not_asked_once_runs_each_time(bench: Bench, change: dict[str, Any]) -> None:
    """No key, no panel, nobody whose key it is: who has not paid yet is told the price."""
    bodies = [(await bench.ask(**change)).body for _ in range(2)]
    assert bodies == [b'{"answer":"1"}', b'{"answer":"2"}']


@pytest.mark.parametrize("key", ["", "x" * 256, "a b", "\u00e9", "a\tb"])
async def test_key_that_is_none_is_refused(bench: Bench, key: str) -> None:
    """Empty, too long, or with something in it that cannot be seen."""
    refused = await bench.ask(key)
    assert (refused.status, b"invalid_header" in refused.body, bench.panel.calls) == (400, True, 0)


async def test_two_keys_are_refused(bench: Bench) -> None:
    """Nobody guesses which."""
    seen = bench.exchange()
    seen.request.headers.add("idempotency-key", "k2")
    assert (await bench.serve(seen)).status == 400


async def test_body_is_compared_as_the_client_sent_it(bench: Bench) -> None:
    """Whatever plugins further out have put into the call."""
    await bench.ask()
    seen = bench.exchange()
    seen.call = DIALECTS[ORCHESTRATE.dialect or ""].parse(b'{"prompt":"with a history"}')
    assert (await bench.serve(seen)).headers["idempotent-replayed"] == "true"


async def test_larger_answer_is_not_kept(tmp_path: Path) -> None:
    """Its key is free again, streamed or whole."""
    bench = Bench(tmp_path, answer_bytes_max=1024)
    await bench.plugin.start()
    bench.panel.answers = [Response.of(200, b" " * 1025), streamed(b": " + b"x" * 1024 + b"\n\n", DONE)]
    assert [len((await bench.ask()).body) > 1024 for _ in range(2)] == [True, True]
    assert (await bench.ask()).body == b'{"answer":"3"}'
    await bench.plugin.stop()


async def test_file_that_cannot_be_used_refuses(tmp_path: Path) -> None:
    """Nothing runs where nobody could say whether it ran already."""
    bench = Bench(tmp_path)
    refused = await bench.ask()
    assert (refused.status, bench.panel.calls) == (503, 0)
    assert "retry-after" in refused.headers
