"""What every plugin promises, whoever wrote it. Parametrised over all that `proxy.discovery` finds built in."""

from __future__ import annotations

import asyncio
import importlib
import json
from collections.abc import AsyncIterator
from dataclasses import fields, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import yaml
from annotated_types import Ge, Gt, Le, Lt
from pydantic import ValidationError

from proxy import discovery, shipped
from proxy.chain import PRICED_FACTS, ChainError, check, compose
from proxy.conversations.service import Conversations
from proxy.dialects import DIALECTS
from proxy.exchange import Exchange, Finish, Response
from proxy.idempotency.service import Once
from proxy.ledger.api import Attempt, Hold, HoldRequest
from proxy.payments.settings import Payments
from proxy.plugin import Plugin, PluginSettings, Stage
from proxy.policy.rules import NO_RULES
from proxy.pricing.money import Nano
from proxy.pricing.quote import Quote
from proxy.routes import Route, Try
from proxy.state import Counters
from proxy.upstreams.health import UpstreamStates
from proxy.webhooks.service import Webhooks
from tests.support.fakes import KEY, FakeClock, Log, Rest, exchange, generation, identity
from tests.support.ledger import MemoryLedger

CHAIN = [
    entry if isinstance(entry, str) else next(iter(entry))
    for entry in yaml.safe_load((shipped.folder() / "config.yaml").read_text())["chain"]
]
NAMES = sorted(discovery.built_in(), key=lambda name: CHAIN.index(name) if name in CHAIN else len(CHAIN))
"""In the order of the shipped chain: within a stage it decides."""
BODY = b'{"model":"gpt-4o","messages":[{"role":"user","content":"CANARY-PROMPT"}]}'
ANSWER = (
    b'{"id":"c","object":"chat.completion","choices":[{"index":0,"message":{"role":"assistant","content":'
    b'"CANARY-ANSWER"},"finish_reason":"stop"}],"usage":{"prompt_tokens":9,"completion_tokens":1,"total_tokens":10}}'
)
FOR_PAYERS = frozenset({"payer_limit"})
"""Plugins that do nothing at all where nobody is asked to pay."""
FOR_RAILS = frozenset({"balance", "payer_api"})
"""Plugins that have endpoints only, and these only where a rail is on."""
FACTS = {field.name for field in fields(Exchange)}


class Keys:
    """One key is known."""

    def lookup(self, key: str) -> Any:
        if key != KEY:
            return None
        return SimpleNamespace(key_id="key_1", user="ann", team="default", tier=None, caps=(), name="")


class Sink:
    """Metrics or upstream states that take anything."""

    def __getattr__(self, name: str) -> Any:
        return lambda *_args, **_fields: None


class Poison:
    """Whatever is asked of it, it raises."""

    def __getattr__(self, name: str) -> Any:
        raise RuntimeError(f"poisoned {KEY}")


class Bench:
    """A plugin among fakes, with what it may leave open in view."""

    def __init__(self, name: str, folder: Path) -> None:
        self.clock, self.log, self.ledger = FakeClock(), Log(), MemoryLedger()
        self.counters = Counters(self.clock)
        self.generation = replace(generation(), root=folder, payments=Payments() if name in FOR_PAYERS else None)
        self.services: Any = SimpleNamespace(
            clock=self.clock,
            log=self.log,
            metrics=Sink(),
            ledger=self.ledger,
            keys=Keys(),
            counters=self.counters,
            upstreams=Sink(),
            states=UpstreamStates(self.clock),
            byo=Sink(),
            inward=Sink(),
            webhooks=Webhooks(folder / "state", self.clock, self.log),
            once=Once(folder / "state", self.clock, self.log),
            conversations=Conversations(folder / "state", self.clock, self.log),
            rails=None,
            generation=self.generation,
        )
        kind = discovery.find(name)
        self.plugin: Plugin[Any] = kind(kind.Settings(), self.services)

    def exchange(self, key: str = KEY) -> Exchange:
        """A chat completion on which everything that is established further out is established."""
        seen = exchange(body=BODY, under=self.generation, headers={"authorization": f"Bearer {key}"})
        required = self.plugin.requires | ({"route"} if self.plugin.stage is Stage.METER else frozenset())
        known = self.facts()
        for fact in required:
            setattr(seen, fact, known[fact])
        return seen

    def facts(self) -> dict[str, Any]:
        model = self.generation.models["gpt-4o"]
        candidate = model.candidates[0]
        request = HoldRequest("req_test", "k", "u", "t", "o", "m", "op", Nano(1), None, (), 0)
        attempt = Attempt(1, 1, candidate.upstream, candidate.upstream_model)
        return {
            "identity": identity(),
            "policy": NO_RULES,
            "call": DIALECTS["openai.chat"].parse(BODY),
            "model": model,
            "quote": Quote(100, 100, 1, Nano(1_000), Nano(1_000)),
            "hold": Hold(0, request),
            "route": Route([Try(candidate, attempt, 200, "served")]),
        }

    def nothing_left_open(self) -> bool:
        """No slot in use, every hold of the ledger ended."""
        ended = [hold for hold, _ in (*self.ledger.settled, *self.ledger.released)]
        return len(self.counters.streams) == 0 and ended == self.ledger.holds


async def answered(seen: Exchange) -> Response:
    """The upstream's answer, as the end of a chain gives it."""
    if seen.route is not None:
        seen.route.current.outcome = "served"
    return Response.of(200, ANSWER)


@pytest.fixture(params=NAMES)
async def bench(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Bench]:
    """Every plugin in turn, started."""
    made = Bench(request.param, tmp_path)
    await made.plugin.start()
    yield made
    await made.plugin.stop()


@pytest.fixture(params=NAMES)
def kind(request: pytest.FixtureRequest) -> type[Plugin[Any]]:
    """Every plugin's class in turn."""
    return discovery.find(request.param)


def test_the_chain_of_all_of_them_stands() -> None:
    """Those that the shipped configuration names are there, and their facts fit."""
    assert {
        "audit", "balance", "byo", "catalogue", "conceal", "cors", "cost_preview", "dedup", "identity", "ip_limit",
        "key_limit", "metering", "payer_api", "payer_limit", "pricing", "routing", "spend_caps", "team_policy",
        "content_rules",
    } <= set(NAMES)  # fmt: skip
    check([_bare(discovery.find(name)) for name in NAMES])


@pytest.mark.parametrize("left_out", NAMES)
def test_leaving_one_out_closes_a_priced_path_and_never_opens_one(left_out: str) -> None:
    """Either nothing depended on it, or the chain does not start."""
    rest = [_bare(discovery.find(name)) for name in NAMES if name != left_out]
    if discovery.find(left_out).provides & {*PRICED_FACTS, "usage"}:
        with pytest.raises(ChainError, match="no plugin"):
            check(rest)
    else:
        check(rest)


def _bare(kind: type[Plugin[Any]]) -> Plugin[Any]:
    """An instance for its class attributes alone."""
    return kind.__new__(kind)


def test_name_is_that_of_its_folder(kind: type[Plugin[Any]]) -> None:
    """What config.yaml says and what an error message says are one word."""
    assert kind.__module__ == f"plugins.{kind.name}.plugin"
    assert importlib.import_module(kind.__module__).PLUGIN is kind


def test_it_is_documented(kind: type[Plugin[Any]]) -> None:
    """Module: one line that says what it does. Class and settings: a docstring of their own."""
    first = (importlib.import_module(kind.__module__).__doc__ or "").strip().splitlines()[0]
    assert 20 <= len(first) <= 120
    assert first.endswith((".", ";", "?"))
    assert kind.__doc__
    assert kind.__doc__ != Plugin.__doc__
    assert kind.Settings.__doc__


def test_stage_and_facts_are_consistent(kind: type[Plugin[Any]]) -> None:
    """Facts are names of the exchange; nobody requires what it provides, or observes what it requires."""
    assert isinstance(kind.stage, Stage)
    for facts in (kind.provides, kind.requires, kind.observes):
        assert isinstance(facts, frozenset)
        assert facts <= FACTS
    assert not kind.provides & kind.requires
    assert not kind.observes & (kind.requires | kind.provides)
    if kind.stage in (Stage.OBSERVE, Stage.GUARD):
        assert not kind.requires
        assert not kind.provides


def test_a_fact_has_one_owner() -> None:
    """No two plugins provide the same."""
    provided = [fact for name in NAMES for fact in discovery.find(name).provides]
    assert sorted(provided) == sorted(set(provided))


def test_unknown_option_is_refused(kind: type[Plugin[Any]]) -> None:
    """A misspelt option is an error at start, never a default at run time."""
    with pytest.raises(ValidationError, match="no_such_option"):
        kind.Settings.model_validate({"no_such_option": 1})


def test_settings_have_defaults_are_frozen_described_and_bounded(kind: type[Plugin[Any]]) -> None:
    """`plugin: name` alone works; every option says what it does, every number has a bound."""
    settings = kind.Settings()
    assert isinstance(settings, PluginSettings)
    for name, field in kind.Settings.model_fields.items():
        assert field.description, name
        if field.annotation in (int, float):
            assert any(isinstance(bound, (Ge, Gt, Le, Lt)) for bound in field.metadata), name
        with pytest.raises(ValidationError, match="frozen"):
            setattr(settings, name, getattr(settings, name))


async def test_it_serves_with_its_defaults_and_provides_its_facts(bench: Bench) -> None:
    """An ordinary request passes; what it provides is there, and nothing is left open at the end."""
    seen = bench.exchange()
    response = await compose([bench.plugin], answered, bench.log)(seen)

    assert (response.status, seen.refusal) == (200, None)
    assert [fact for fact in bench.plugin.provides if getattr(seen, fact) is None] == []
    assert seen.finish(Finish.SERVED) == []
    assert bench.nothing_left_open()


async def test_an_exception_in_it_fails_closed(bench: Bench) -> None:
    """500 in the envelope with the request id, the rest of the chain not called, the fault in the log."""
    seen, rest = bench.exchange(), Rest()
    for fact in ("request", "origin", "identity", "policy", "model", "call", "route"):
        setattr(seen, fact, Poison())
    response = await compose([bench.plugin], rest, bench.log)(seen)
    raised = seen.finish(Finish.FAILED)

    if bench.plugin.name == "audit":
        assert [type(error) for error in raised] == [RuntimeError]
        return
    if _only_has_endpoints(bench.plugin):
        assert (raised, rest.seen, bench.nothing_left_open()) == ([], [seen], True)
        return
    assert raised == []
    assert response.status == 500
    error = json.loads(response.body)["error"]
    assert (error["code"], seen.request_id in error["message"]) == ("internal_error", True)
    assert KEY not in response.body.decode()
    assert bench.log.names() == ["exchange_failed"]
    on_the_way_back = bench.plugin.stage is Stage.METER or bench.plugin.name == "conceal"
    assert rest.seen == [] or on_the_way_back
    assert bench.nothing_left_open()


def _only_has_endpoints(plugin: Plugin[Any]) -> bool:
    """It reads nothing of an exchange on its way, or of orchestrations alone, so nothing of one can make it fail."""
    if plugin.name == "webhooks":
        return True
    reads = plugin.provides | plugin.requires | plugin.observes
    return not reads and (plugin.router() is not None or plugin.name in FOR_RAILS)


async def test_an_exception_further_in_leaves_nothing_open(bench: Bench) -> None:
    """It gets an answer, not an exception; the answer says nothing about the fault."""

    async def fail(_: Exchange) -> Response:
        raise RuntimeError("CANARY-FAULT")

    seen = bench.exchange()
    response = await compose([bench.plugin], fail, bench.log)(seen)

    assert response.status >= 500
    assert b"CANARY" not in response.body
    assert seen.finish(Finish.FAILED) == []
    assert bench.nothing_left_open()


async def test_cancellation_propagates_and_leaves_nothing_open(bench: Bench) -> None:
    """A client that leaves ends the exchange at once: nobody swallows it, slots and holds come back."""
    inside = asyncio.Event()

    async def hang(_: Exchange) -> Response:
        inside.set()
        await asyncio.Event().wait()
        raise AssertionError

    seen = bench.exchange()
    task = asyncio.get_running_loop().create_task(compose([bench.plugin], hang, bench.log)(seen))
    await asyncio.wait_for(inside.wait(), 10)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task

    assert seen.finish(Finish.CLIENT_GONE) == []
    assert bench.nothing_left_open()
    assert "exchange_failed" not in bench.log.names()


@pytest.mark.parametrize("key", [KEY, KEY[:-1] + "0"])
async def test_no_secret_and_no_content_in_log_or_refusal(bench: Bench, key: str) -> None:
    """Known key or unknown: neither it nor a prompt is repeated."""
    seen = bench.exchange(key)
    response = await compose([bench.plugin], answered, bench.log)(seen)
    seen.finish(Finish.SERVED)
    said = repr(bench.log.events) + (response.body.decode() if seen.refusal else "") + repr(dict(response.headers))

    assert key[4:] not in said
    assert "CANARY" not in said
