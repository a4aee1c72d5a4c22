"""Part 5, chain: CPU of the plugins alone, in this process, against an upstream that costs nothing.

What routing, policy, content rules, deduplication and concealment add to the chain without them; and what a routing
decision takes among many models and upstreams. No socket and no ledger file is involved in either.
"""

from __future__ import annotations

import asyncio
import time
from dataclasses import replace
from pathlib import Path
from random import Random
from types import SimpleNamespace
from typing import Any, Final

import orjson
import yaml

from bench import tollway
from bench.figures import median
from bench.process import free_port
from bench.upstream import ANSWER, NO_HEADERS
from bench.wire import Endpoint, numbered
from plugins.routing.selection import ranked
from proxy.admission import capable
from proxy.assembly import build_plugins
from proxy.catalogue import Candidate, Model, Strategy
from proxy.chain import compose
from proxy.clock import SystemClock
from proxy.config.load import load_generation
from proxy.config.schema import Generation
from proxy.conversations.service import Conversations
from proxy.dialects import DIALECTS
from proxy.exchange import Exchange, Finish, ListenerKind, Origin, Request, Response
from proxy.headers import Headers
from proxy.idempotency.service import Once
from proxy.keys import KeyStore
from proxy.ledger.api import Attempt, Hold, HoldRequest
from proxy.operations import CHAT
from proxy.plugin import Next
from proxy.pricing.quote import Quote
from proxy.pricing.rates import Rates, parse_rate
from proxy.quoting import quote
from proxy.serving import tune_collector
from proxy.state import Counters
from proxy.telemetry.log import get_logger
from proxy.telemetry.metrics import Metrics
from proxy.upstreams.breakers import REFUSED
from proxy.upstreams.health import CandidateState, UpstreamStates
from proxy.webhooks.service import Webhooks

ENDPOINTS: Final = frozenset({"batch"})
"""Works in the background, and passes exchanges on as they are."""
ADDED: Final = frozenset({"content_rules", "dedup", "conceal", "cost_preview"})
"""Plugins that the chain is measured with and without."""
ROUNDS: Final = 7
EXCHANGES: Final = 1500
"""In a round, each way, in turn."""
MODELS: Final = 1000
UPSTREAMS: Final = 200
LANE_MEMBERS: Final = 8
WIDE_LANES: Final = 5
"""Lanes with a candidate at every one of the UPSTREAMS."""
DECISIONS: Final = 20_000
RULES: Final = {
    "models": {"allow": ["bench-*"], "deny": ["gpt-5*"]},
    "hours": [{"days": ["mon-sun"], "from": "00:00", "to": "24:00"}],
    "ip_ranges": ["127.0.0.0/8"],
    "max_tokens": 4096,
    "parameters": {"temperature": 0.2},
    "system_prefix": "Answer in one sentence.",
    "content": ["api_keys", "card_numbers", "mail_addresses"],
}


class _Ledger:
    """Takes every hold; keeps nothing."""

    def __init__(self) -> None:
        self._holds = 0

    async def hold(self, request: HoldRequest) -> Hold:
        self._holds += 1
        return Hold(self._holds, request)

    async def dispatch(self, hold: Hold, *, upstream: str, upstream_model: str, **_: Any) -> Attempt:
        hold.attempts += 1
        return Attempt(hold.id, hold.attempts, upstream, upstream_model)

    def settle(self, hold: Hold, settlement: Any) -> None:
        hold.ended = True

    def release(self, hold: Hold, **_: Any) -> None:
        hold.ended = True


class _Body:
    def __init__(self, body: bytes) -> None:
        self._body = body

    async def read(self) -> bytes:
        body, self._body = self._body, b""
        return body


_ANSWER: Final = orjson.dumps(ANSWER)


async def _upstream(exchange: Exchange) -> Response:
    if exchange.route is not None:
        exchange.route.current.status, exchange.route.current.outcome = 200, "served"
    return Response(200, Headers({"content-type": "application/json", "x-request-id": "upstream"}), _ANSWER)


class _Chain:
    """A composed chain and the exchanges that go through it."""

    def __init__(
        self, generation: Generation, keys: KeyStore, requests: list[bytes], *, leave_out: frozenset[str]
    ) -> None:
        clock = SystemClock()
        chain = [link for link in generation.chain if link[0] not in {*leave_out, *ENDPOINTS}]
        state, log = generation.state, get_logger()
        self._generation = replace(generation, chain=tuple(chain), chain_marks=())
        services = SimpleNamespace(
            clock=clock, log=log, metrics=Metrics(models=generation.models, teams=generation.teams),
            ledger=_Ledger(), keys=keys, counters=Counters(clock), upstreams=SimpleNamespace(),
            states=UpstreamStates(clock), byo=SimpleNamespace(model=lambda *_: None), rails=None,
            webhooks=Webhooks(state, clock, log), once=Once(state, clock, log),
            conversations=Conversations(state, clock, log), generation=self._generation,
        )  # fmt: skip
        self.plugins = build_plugins(self._generation, services)
        self._call: Next = compose(self.plugins, _upstream, services.log)
        self._requests = requests
        self._clock = clock
        self._number = 0

    async def start(self) -> None:
        for plugin in self.plugins:
            await plugin.start()

    async def stop(self) -> None:
        for plugin in self.plugins:
            await plugin.stop()

    async def one(self) -> None:
        """One whole exchange: in, through, out, settled."""
        self._number += 1
        request = numbered(self._requests[self._number % len(self._requests)], self._number)
        head, _, body = request.partition(b"\r\n\r\n")
        headers = Headers(
            [(field[0], field[1]) for field in (line.split(": ", 1) for line in head.decode().split("\r\n")[1:])]
        )
        exchange = Exchange(
            request_id=f"bench-{self._number}",
            origin=Origin("api", ListenerKind.REVERSE, "127.0.0.1", loopback=True),
            request=Request(method="POST", path="/v1/chat/completions", headers=headers, reader=_Body(body)),
            operation=CHAT,
            generation=self._generation,
            started=self._clock.monotonic(),
            started_ms=self._clock.now_ms(),
        )
        response = await self._call(exchange)
        if response.status != 200:
            raise RuntimeError(f"the chain answered {response.status}: {response.body.decode()}")
        exchange.status = 200
        for closing in exchange.before_finish:
            await closing()
        if raised := exchange.finish(Finish.SERVED):
            raise raised[0]
        if exchange.settlement is None or exchange.settlement.charged <= 0:
            raise RuntimeError("an exchange was not charged")

    async def block(self, count: int) -> float:
        """CPU microseconds for each of `count` exchanges."""
        begun = time.process_time()
        for _ in range(count):
            await self.one()
        return 1e6 * (time.process_time() - begun) / count


def _everything(config: dict[str, Any], models: dict[str, Any]) -> None:
    """A lane over four upstreams, and concealment in the chain."""
    if "conceal" not in config["chain"]:
        config["chain"].insert(config["chain"].index("webhooks") + 1, "conceal")
    for number in range(4):
        config["upstreams"][f"bench-{number}"] = {"base_url": "http://127.0.0.1:9/v1", "key": "sk-bench"}
        models[f"bench-member-{number}"] = {**models[tollway.MODEL], "candidates": [f"bench-{number}"]}
    models["bench-lane"] = {
        "lane": [f"bench-member-{number}" for number in range(4)],
        "price": {"input": 2.5, "output": 10},
    }


def _generation(folder: Path, *, rules: bool) -> tuple[Generation, KeyStore, list[str]]:
    config = tollway.write_configuration(folder, free_port(), free_port(), change=_everything)
    if rules:
        file = folder / "policies/teams.yaml"
        content = yaml.safe_load(file.read_text())
        content["teams"][tollway.TEAM] |= RULES
        file.write_text(yaml.safe_dump(content, sort_keys=False))
    keys, database = tollway.make_keys(config)
    return load_generation(config), KeyStore(database, SystemClock()), keys


async def _added(folder: Path) -> dict[str, float]:
    chains: dict[str, _Chain] = {}
    for name, rules, model, leave_out in (
        ("edge", False, tollway.MODEL, ADDED),
        ("shipped", False, tollway.MODEL, frozenset({"conceal"})),
        ("everything", True, "bench-lane", frozenset[str]()),
    ):
        home = folder / name
        home.mkdir()
        generation, store, keys = _generation(home, rules=rules)
        headers = tuple((("authorization", f"Bearer {key}"),) for key in keys)
        requests = Endpoint(name, 1, model, headers).requests()
        chains[name] = _Chain(generation, store, requests, leave_out=leave_out)
    for chain in chains.values():
        await chain.start()
        await chain.block(EXCHANGES // 3)
    # As a server does once it has started.
    tune_collector()
    samples: dict[str, list[float]] = {name: [] for name in chains}
    for _ in range(ROUNDS):
        for name, chain in chains.items():
            samples[name].append(await chain.block(EXCHANGES))
    for chain in chains.values():
        await chain.stop()
    cost = {name: median(each) for name, each in samples.items()}
    return {
        **{f"{name}_us": round(each, 1) for name, each in cost.items()},
        "shipped_added_us": round(cost["shipped"] - cost["edge"], 1),
        "everything_added_us": round(cost["everything"] - cost["edge"], 1),
    }


def _lanes(count: int, members: int) -> dict[str, Model]:
    """`count` lanes, each of so many `members` of the UPSTREAMS, at prices of their own."""
    lanes, dearest = {}, Rates(input=parse_rate(25), output=parse_rate(110))
    for number in range(count):
        candidates = tuple(
            Candidate(
                f"upstream-{(number * 7 + member * 13) % UPSTREAMS}",
                f"model-{number}",
                cost=Rates(
                    input=parse_rate(1 + (member * 37 + number) % 199) // 8,
                    output=parse_rate(1 + (member * 53 + number) % 211) // 2,
                ),
                context_tokens=128_000,
            )
            for member in range(members)
        )
        lanes[f"lane-{number}"] = Model(
            f"lane-{number}", candidates, dearest, 128_000, 4096, 16_384, frozenset({CHAT.name}),
            strategy=Strategy.CHEAPEST, lane=True,
        )  # fmt: skip
    return lanes


def _decision_us(count: int, members: int) -> float:
    """From a model's name to the candidate to call: what it can do, what it costs, whether its circuit is closed."""
    lanes, clock, draw = _lanes(count, members), SystemClock(), Random(1)
    states = UpstreamStates(clock)
    body = Endpoint("direct", 1, "lane-0", NO_HEADERS).requests()[0].partition(b"\r\n\r\n")[2]
    call = DIALECTS["openai.chat"].parse(body)

    def state_of(candidate: Candidate) -> CandidateState:
        return states.candidate(candidate.upstream, candidate.upstream_model)

    def decide(name: str, asked: Quote) -> Candidate:
        model, now = lanes[name], clock.monotonic()
        for candidate in ranked(model, capable(model, call), asked, state_of=state_of, now=now, draw=draw):
            if state_of(candidate).breaker.admit(now) != REFUSED:
                return candidate
        raise RuntimeError("every circuit is open")

    names = list(lanes)
    asked = quote(lanes["lane-0"], call, provider_credential=False)
    for name in names:
        dearest = state_of(decide(name, asked)).breaker
        for _ in range(5 if name.endswith("0") else 0):
            dearest.failed(1, clock.monotonic())
    begun = time.process_time()
    for number in range(DECISIONS):
        decide(names[number * 7 % count], asked)
    return 1e6 * (time.process_time() - begun) / DECISIONS


def measure(folder: Path) -> dict[str, Any]:
    """Microseconds of CPU an exchange."""
    figures: dict[str, Any] = {
        "errors": 0,
        "decision_us": round(_decision_us(MODELS, LANE_MEMBERS), 2),
        "wide_decision_us": round(_decision_us(WIDE_LANES, UPSTREAMS), 2),
        **asyncio.run(_added(folder)),
    }
    print(f"  {figures}", flush=True)
    return {"gateways": {"tollway": figures}}
