"""Every exchange leaves exactly one line, with all that is known and no content."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from decimal import Decimal
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from pydantic import ValidationError

from plugins.audit.plugin import AuditPlugin, AuditSettings
from proxy.chain import compose_observers
from proxy.dialects import DIALECTS
from proxy.errors import Refusal
from proxy.exchange import Exchange, Finish, Response
from proxy.headers import Headers
from proxy.ledger.api import Attempt, Basis, Cap, CapState, Hold, HoldRequest, Settlement
from proxy.ledger.payment_api import Lease, Proof, Unit
from proxy.operations import LOCAL
from proxy.payments.api import Credential, Presented
from proxy.policy.content_patterns import PATTERNS
from proxy.policy.rules import Policy
from proxy.pricing.money import Nano
from proxy.routes import Route, Try
from proxy.usage import Usage
from tests.support.fakes import KEY, Chunks, FakeClock, Log, Rest, exchange, generation, identity, model

FIELDS = {
    "time", "request_id", "listener", "peer", "key_id", "user", "team", "organisation", "tier", "operation",
    "model_asked", "model", "stream", "upstream", "upstream_model", "attempts", "status", "error", "outcome", "dedup",
    "content_rules",
    "tokens_in", "tokens_out", "tokens_cached", "tokens_cache_write", "tokens_reasoning", "counted", "charged_usd",
    "list_usd", "rail", "payment_id", "soft_caps_crossed", "latency_first_byte_ms", "latency_ms", "bytes_in",
    "bytes_out",
}  # fmt: skip
ANSWER = (
    b'{"id":"x","choices":[{"index":0,"message":{"role":"assistant","content":"CANARY-ANSWER"},'
    b'"finish_reason":"stop"}]}'
)


class Audit:
    """A started plugin on a folder of its own; `lines()` stops it and reads what it wrote."""

    def __init__(self, folder: Path, **settings: Any) -> None:
        self.clock = FakeClock()
        self.log = Log()
        self.generation = replace(generation(), root=folder)
        services: Any = SimpleNamespace(clock=self.clock, log=self.log, generation=self.generation)
        self.plugin = AuditPlugin(AuditSettings(**settings), services)
        self.path = folder / "var" / "audit.jsonl"

    async def run(
        self, seen: Exchange, reason: Finish = Finish.SERVED, answer: Response | None = None, seconds: float = 0.25
    ) -> Response:
        response = await self.plugin(seen, Rest([answer or Response.of(200, ANSWER)]))
        while response.stream is not None and await response.pull():
            continue
        self.clock.advance(seconds)
        assert seen.finish(reason) == []
        return response

    async def lines(self) -> list[dict[str, Any]]:
        await self.plugin.stop()
        return [json.loads(line) for line in self.path.read_text().splitlines()]


type Opener = Callable[..., Any]


@pytest.fixture
def audit(tmp_path: Path) -> Opener:
    @asynccontextmanager
    async def opened(**settings: Any) -> AsyncIterator[Audit]:
        made = Audit(tmp_path, **settings)
        await made.plugin.start()
        try:
            yield made
        finally:
            await made.plugin.stop()

    return opened


def served() -> Exchange:
    """An exchange with every fact: a failed attempt, a served one, a soft cap crossed."""
    seen = exchange(headers={"authorization": f"Bearer {KEY}", "content-length": "999"})
    seen.identity = identity()
    seen.call = DIALECTS["openai.chat"].parse(
        b'{"model":"fast","stream":true,"messages":[{"role":"user","content":"CANARY-PROMPT"}]}'
    )
    seen.model = model("gpt-4o", upstreams=("openai", "backup"))
    first, second = seen.model.candidates
    usage = Usage(100, 50, cached_tokens=40, cache_write_tokens=3, cache_write_1h_tokens=4, reasoning_tokens=20)
    seen.route = Route(
        [
            Try(first, Attempt(1, 1, first.upstream, first.upstream_model), 503, "status"),
            Try(second, Attempt(1, 2, second.upstream, second.upstream_model), 200, "served", usage=usage),
        ]
    )
    seen.usage = usage
    cap = Cap("team", "default", "month", 0, 1, Basis.CHARGED, Nano(5_000_000_000), Nano(4_000_000_000))
    request = HoldRequest("req_test", "k", "u", "t", "o", "m", "op", Nano(1), None, (cap,), 0)
    seen.hold = Hold(1, request, soft_crossed=(CapState(cap, Nano(1), Nano(2)),))
    seen.settlement = Settlement(Nano(1_234_567_891), Nano(7), (), "served", 0)
    seen.status, seen.first_byte, seen.bytes_out = 200, 1000.1, 4321
    return seen


async def test_line_says_who_what_where_how_much_and_how_long(audit: Opener) -> None:
    """All fields of an exchange that went the whole way."""
    async with audit() as running:
        await running.run(served())
        (line,) = await running.lines()

    assert set(line) == FIELDS
    assert line == {
        "time": "2023-11-14T22:13:20.000Z",
        "request_id": "req_test",
        "listener": "api",
        "peer": "127.0.0.1",
        "key_id": "key_000000000001",
        "user": "tester",
        "team": "default",
        "organisation": "acme",
        "tier": "standard",
        "operation": "chat.completions",
        "model_asked": "fast",
        "model": "gpt-4o",
        "stream": True,
        "upstream": "backup",
        "upstream_model": "gpt-4o-upstream",
        "attempts": [
            {"upstream": "openai", "model": "gpt-4o-upstream", "status": 503, "outcome": "status"},
            {"upstream": "backup", "model": "gpt-4o-upstream", "status": 200, "outcome": "served"},
        ],
        "status": 200,
        "error": None,
        "outcome": "served",
        "content_rules": [],
        "dedup": False,
        "tokens_in": 100,
        "tokens_out": 50,
        "tokens_cached": 40,
        "tokens_cache_write": 7,
        "tokens_reasoning": 20,
        "counted": False,
        "charged_usd": "1.234567891",
        "list_usd": "0.000000007",
        "rail": None,
        "payment_id": None,
        "soft_caps_crossed": [{"scope": "team", "id": "default", "window": "month", "limit_usd": "5.00"}],
        "latency_first_byte_ms": 100.0,
        "latency_ms": 250.0,
        "bytes_in": 85,
        "bytes_out": 4321,
    }


async def test_amounts_are_exact_text(audit: Opener) -> None:
    """Read back as decimals they are the nano-dollars that were settled."""
    async with audit() as running:
        seen = served()
        seen.settlement = Settlement(Nano(9_007_199_254_740_993_000_000_001), None, (), "served", 0)
        await running.run(seen)
        (line,) = await running.lines()

    assert Decimal(line["charged_usd"]) * 10**9 == 9_007_199_254_740_993_000_000_001
    assert line["list_usd"] is None


async def test_no_content_and_no_credential_is_written_by_default(audit: Opener) -> None:
    """Neither prompt nor answer nor key, streamed or not."""
    async with audit() as running:
        await running.run(served())
        streamed = Response(200, Response.of(200, b"").headers, stream=Chunks(b"data: CANARY\n\n"), sse=True)
        await running.run(served(), answer=streamed)
        await running.lines()

    written = running.path.read_text()
    assert "CANARY" not in written
    assert KEY not in written
    assert written.count("\n") == 2


async def test_exchange_refused_before_the_chain_is_written(audit: Opener) -> None:
    """With nothing known but who knocked and why it was refused."""
    async with audit() as running:
        seen = exchange(operation=LOCAL, headers={"content-length": "12"})
        seen.refusal = Refusal("not_found", "no")

        async def refuse(refused: Exchange) -> Response:
            raise refused.refusal or AssertionError

        response = await compose_observers([running.plugin], refuse, Log())(seen)
        seen.status = response.status
        seen.finish(Finish.REFUSED)
        (line,) = await running.lines()

    assert set(line) == FIELDS
    known = {name: value for name, value in line.items() if value not in (None, [])}
    assert known == {
        "time": "2023-11-14T22:13:20.000Z",
        "request_id": "req_test",
        "listener": "api",
        "peer": "127.0.0.1",
        "operation": "local",
        "status": 404,
        "error": "not_found",
        "outcome": "refused",
        "dedup": False,
        "latency_ms": 0.0,
        "bytes_in": 12,
        "bytes_out": 0,
    }


async def test_client_that_left_before_an_answer_is_written(audit: Opener) -> None:
    """Status null: none was sent."""
    async with audit() as running:
        await running.run(exchange(), Finish.CLIENT_GONE)
        (line,) = await running.lines()

    assert (line["status"], line["outcome"], line["latency_first_byte_ms"]) == (None, "client_gone", None)


async def test_settlement_made_at_the_end_is_in_the_line(audit: Opener) -> None:
    """The plugins further in settle in their own callbacks; the line is written after them."""
    async with audit() as running:
        seen = exchange()

        async def rest(under: Exchange) -> Response:
            under.on_finish(lambda _: setattr(under, "settlement", Settlement(Nano(10**9), None, (), "served", 0)))
            return Response.of(200, b"{}")

        await running.plugin(seen, rest)
        seen.finish(Finish.SERVED)
        (line,) = await running.lines()

    assert line["charged_usd"] == "1.00"


async def test_exchange_that_raises_within_leaves_its_line(audit: Opener) -> None:
    """However it ends, `finish` comes."""
    async with audit() as running:

        async def fail(_: Exchange) -> Response:
            raise RuntimeError

        seen = exchange()
        with pytest.raises(RuntimeError):
            await running.plugin(seen, fail)
        seen.finish(Finish.FAILED)
        (line,) = await running.lines()

    assert line["outcome"] == "failed"


async def test_whole_answer_and_request_are_kept_when_asked_for(audit: Opener) -> None:
    """The body as sent, the answer as text."""
    async with audit(content=True) as running:
        await running.run(served())
        (line,) = await running.lines()

    assert "CANARY-PROMPT" in line["request"]
    assert line["answer"] == "CANARY-ANSWER"


async def test_streamed_answer_is_kept_as_text_and_passes_unchanged(audit: Opener) -> None:
    """What was already pulled counts, too; nothing of the stream is held back."""

    def event(text: str) -> bytes:
        chunk = {"id": "x", "choices": [{"index": 0, "delta": {"content": text}}]}
        return f"data: {json.dumps(chunk)}\n\n".encode()

    async with audit(content=True) as running:
        streamed = Response(
            200,
            Response.of(200, b"").headers,
            stream=Chunks(event("lo "), event("wor")[:20], event("wor")[20:], event("ld"), b"data: [DONE]\n\n"),
            sse=True,
            peeked=[event("Hel")],
        )
        response = await running.run(served(), answer=streamed)
        (line,) = await running.lines()

    assert response is streamed
    assert response.peeked == [event("Hel")]
    assert line["answer"] == "Hello world"


async def test_kept_content_is_bounded(audit: Opener) -> None:
    """In bytes, without half a character at the end."""
    async with audit(content=True, content_bytes_max=8) as running:
        answer = ANSWER.replace(b"CANARY-ANSWER", "ééééééééé".encode())
        await running.run(served(), answer=Response.of(200, answer))
        (line,) = await running.lines()

    assert (line["request"], line["answer"]) == ('{"model"', "éééé")


async def test_errors_keep_no_answer(audit: Opener) -> None:
    """There is none; the code says what happened."""
    async with audit(content=True) as running:
        await running.run(served(), Finish.UPSTREAM_FAILED, answer=Response.of(502, b'{"error":{}}'))
        (line,) = await running.lines()

    assert line["answer"] is None


async def test_odd_text_of_a_client_cannot_keep_its_line_out(audit: Opener) -> None:
    """A model name of lone surrogates and line breaks, a million characters long."""
    async with audit() as running:
        seen = exchange()
        seen.path_model = "\ud800\n" * 500_000
        await running.run(seen)
        (line,) = await running.lines()

    assert len(line["model_asked"]) == 200


async def test_declared_length_that_is_no_number_is_unknown(audit: Opener) -> None:
    """Not believed, not crashed over."""
    async with audit() as running:
        for declared in ("²", "-1", "9" * 5_000, "x"):
            await running.run(exchange(headers={"content-length": declared}))
        lines = await running.lines()

    assert [line["bytes_in"] for line in lines] == [None] * 4


async def test_file_that_cannot_be_opened_stops_the_start(tmp_path: Path) -> None:
    """No exchange goes unrecorded."""
    (tmp_path / "var").mkdir()
    (tmp_path / "var" / "audit.jsonl").mkdir()

    with pytest.raises(OSError, match="directory"):
        await Audit(tmp_path).plugin.start()


async def test_path_of_the_settings_is_taken_from_the_state_folder(audit: Opener, tmp_path: Path) -> None:
    """Absolute ones as they are."""
    async with audit(path="logs/lines.jsonl") as running:
        await running.run(exchange())
    async with audit(path=str(tmp_path / "elsewhere.jsonl")) as running:
        await running.run(exchange())

    assert (tmp_path / "var/logs/lines.jsonl").read_text().count("\n") == 1
    assert (tmp_path / "elsewhere.jsonl").read_text().count("\n") == 1


@pytest.mark.parametrize("settings", [{"bytes_max": 1}, {"files_max": 0}, {"path": ""}, {"content_bytes_max": 0}])
def test_settings_that_cannot_work_are_refused(settings: dict[str, Any]) -> None:
    """At start."""
    with pytest.raises(ValidationError):
        AuditSettings(**settings)


async def test_content_that_rules_took_away_is_not_kept(audit: Opener) -> None:
    """With content rules the line holds what went out, not what the upstream sent, and no refused request."""
    async with audit(content=True) as running:
        seen = exchange()
        seen.call = DIALECTS["openai.chat"].parse(b'{"model":"m","messages":[{"role":"user"}],"stream":true}')
        seen.policy = Policy(content=(PATTERNS["api_keys"],))
        sent = b'data: {"choices":[{"index":0,"delta":{"content":"[gone]"}}]}\n\n'
        answer = Response(200, Headers(), stream=Chunks(b"data: secret\n\n"), sse=True)
        answer.transforms.append(lambda _: sent)
        response = await running.plugin(seen, Rest([answer]))
        piece = await response.pull()
        for transform in response.transforms:
            piece = transform(piece)
        seen.finish(Finish.SERVED)
        (line,) = await running.lines()

    assert piece == sent
    assert (line["request"], line["answer"]) == (None, "[gone]")


async def test_line_of_a_paid_request_names_the_rail_and_the_payment(audit: Opener) -> None:
    """By its public id; nothing of the proof."""
    async with audit() as running:
        seen = served()
        proof = Proof("lightning", "ab" * 32, Unit.MSAT, 21_000, settled=True)
        seen.presented = Presented(Credential.L402, "CANARY-MACAROON:CANARY-PREIMAGE", "d" * 64)
        assert seen.hold is not None
        seen.hold.lease = Lease("pay_" + "1" * 32, 1, 1, proof, settled=True)
        await running.run(seen)
        (line,) = await running.lines()

    assert (line["rail"], line["payment_id"]) == ("l402", "pay_" + "1" * 32)
    assert "CANARY" not in json.dumps(line)
