"""Builds everything from a configuration; starts, serves, drains."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from proxy.assembly import StartError, build_plugins, endpoints_of
from proxy.background import warm_language_model, watch_caps
from proxy.byo import ByoStore
from proxy.capture import CaptureTable
from proxy.chain import compose, compose_observers
from proxy.clock import Clock, SystemClock
from proxy.config.schema import Generation
from proxy.connect_policy import CapturePolicy
from proxy.conversations.service import Conversations
from proxy.driver import Driver, DriverLimits
from proxy.endpoints import admin, bridge, credit, public
from proxy.endpoints.browsers import refuse_pages
from proxy.errors import Refusal
from proxy.exchange import Exchange, Finish, ListenerKind, Response
from proxy.idempotency.service import Once
from proxy.inward import Inward
from proxy.kept_secrets import SecretUnreadable
from proxy.keys import KeyStore
from proxy.ledger.schema import DATABASE_NAME
from proxy.ledger.store import SqliteLedger
from proxy.listeners.api import Arrival
from proxy.listeners.mitm.engine import MitmEngine
from proxy.operation_table import OperationTable
from proxy.operations import BY_NAME, LOCAL, PLAIN, WEBSOCKET, Operation, Target
from proxy.plugin import Next
from proxy.reload import Reloader
from proxy.secrets import same_secret
from proxy.state import Counters
from proxy.telemetry.log import get_logger
from proxy.telemetry.metrics import Metrics
from proxy.telemetry.request_id import RequestIds
from proxy.terminal import Terminal
from proxy.upstreams.client import PooledClient
from proxy.upstreams.demo import DemoUpstream
from proxy.upstreams.health import UpstreamStates
from proxy.upstreams.probes import Probes
from proxy.webhooks.service import Webhooks

if TYPE_CHECKING:
    from proxy.payments.rails import Rails

ADMIN_CLOSE_SECONDS: Final = 1.0
"""What a scrape under way has left once everything else has ended."""
BUILT_IN_DEMO: Final = "builtin:demo"


@dataclass(slots=True)
class Services:
    """What plugins are handed; see proxy.plugin.Services."""

    clock: Clock
    log: Any
    metrics: Metrics
    ledger: SqliteLedger
    keys: KeyStore
    counters: Counters
    upstreams: PooledClient
    states: UpstreamStates
    byo: ByoStore
    generation: Generation
    inward: Inward
    webhooks: Webhooks
    once: Once
    conversations: Conversations
    rails: Rails | None = None


class Gateway:
    """One running proxy."""

    def __init__(
        self, generation: Generation, *, config: Path | None = None, clock: Clock | None = None, log: Any = None
    ) -> None:
        """`config` is the file that a reload reads again; None: there is no reload."""
        self.generation = generation
        self._config = config
        self.reloader: Reloader | None = None
        self.clock: Clock = clock or SystemClock()
        self.log = get_logger() if log is None else log
        self.ready = False
        self._accepting = True
        self._request_ids = RequestIds(self.clock)
        self._capture = CaptureTable(generation.capture)
        self._limited = {
            (listener.name, name): replace(BY_NAME[name], body_bytes_max=bytes_max)
            for listener in generation.listeners
            for name, bytes_max in listener.body_bytes_max.items()
        }
        self._background: list[asyncio.Task[None]] = []
        self._demo: DemoUpstream | None = None
        self._demo_url = ""

    async def start(self) -> None:
        """Open the state, build the chain, bind the listeners. Raises StartError, OSError, ChainError."""
        generation = self.generation
        if self._config is not None:
            self.reloader = Reloader(self._config, lambda: self.generation, self.follow, self.log)
        generation.state.mkdir(mode=0o700, parents=True, exist_ok=True)
        database = generation.state / DATABASE_NAME
        self.metrics = Metrics(
            clock=self.clock,
            models=generation.models,
            teams=generation.teams,
            upstreams=(*generation.upstreams, *generation.keyless_upstreams),
        )
        self.ledger = SqliteLedger.open(database, self.clock, self.log, metrics=self.metrics)
        self.keys = KeyStore(database, self.clock)
        self.client = PooledClient()
        self.states = UpstreamStates(self.clock, self.client.in_flight)
        generation = self.generation = await self._with_demo(generation)
        self.byo = ByoStore(database, self.clock, generation)
        self.inward = Inward(
            lambda: self.driver.serve, self.keys, lambda: self.generation,
            answer_bytes_max=generation.file.limits.answer_bytes_max,
        )  # fmt: skip
        self.services = Services(
            self.clock, self.log, self.metrics, self.ledger, self.keys, Counters(self.clock), self.client,
            self.states, self.byo, generation, self.inward, Webhooks(generation.state, self.clock, self.log),
            Once(generation.state, self.clock, self.log), Conversations(generation.state, self.clock, self.log),
            self._rails(generation),
        )  # fmt: skip
        if self.services.rails is not None:
            await self.services.rails.start()
        self.plugins = build_plugins(generation, self.services)
        for plugin in self.plugins:
            await plugin.start()
        self._compose()
        self.driver = self._driver()
        self.engine = self._engine(admin=False)
        self.admin_engine = self._engine(admin=True)
        await self.engine.start()
        await self.admin_engine.start()
        self._background = self._watches()
        self.probes = Probes(self.client, self.states, self.clock, self.log)
        self.probes.follow(generation.upstreams.values())
        self.ready = True
        self.inward.open()

    def _rails(self, generation: Generation) -> Rails | None:
        """All ways to pay; packages that only they need are imported here."""
        if generation.payments is None:
            return None
        from proxy.payments.rails import build_rails

        try:
            return build_rails(
                generation.payments, state=generation.state, ledger=self.ledger, clock=self.clock, log=self.log
            )
        except (ValueError, OSError, SecretUnreadable) as error:
            raise StartError(f"payments: {error}") from error

    def _watches(self) -> list[asyncio.Task[None]]:
        loop = asyncio.get_running_loop()
        watches = [
            loop.create_task(self.keys.watch(), name="key-watch"),
            loop.create_task(self.byo.watch(), name="byo-watch"),
            loop.create_task(
                watch_caps(lambda: self.generation, self.ledger, self.metrics, self.clock, self.log), name="caps-watch"
            ),
        ]
        if any(model.panel is not None for model in self.generation.models.values()):
            watches.append(loop.create_task(warm_language_model(self.log), name="language-model"))
        seconds = self.generation.file.reload_seconds
        if self.reloader is not None and seconds:
            watches.append(loop.create_task(self.reloader.watch(seconds), name="config-watch"))
        return watches

    async def follow(self, generation: Generation) -> None:
        """Take over a changed configuration: exchanges that begin from now on live under it."""
        self.metrics.know(
            models=generation.models,
            teams=generation.teams,
            upstreams=(*generation.upstreams, *generation.keyless_upstreams),
        )
        generation = await self._with_demo(generation)
        capture = CaptureTable(generation.capture)
        self.generation = self.services.generation = generation
        self._capture = capture
        self.byo.follow(generation)
        self.probes.follow(generation.upstreams.values())
        for plugin in self.plugins:
            plugin.follow(generation)

    async def _with_demo(self, generation: Generation) -> Generation:
        """The generation with the built-in demo upstream running, where one is configured."""
        upstreams = dict(generation.upstreams)
        for name, upstream in generation.upstreams.items():
            if upstream.base_url == BUILT_IN_DEMO:
                if self._demo is None:
                    self._demo = DemoUpstream()
                    self._demo_url = await self._demo.start()
                upstreams[name] = replace(upstream, base_url=self._demo_url)
        return replace(generation, upstreams=upstreams)

    def _compose(self) -> None:
        generation = self.generation
        self._policy = CapturePolicy(lambda: self.generation, lambda: self._capture, self.keys)
        routers = [router for plugin in self.plugins if (router := plugin.router()) is not None]
        self._operations = OperationTable(endpoints_of(self.plugins))
        health = public.router(lambda: self.ready, self.byo.models)
        public_app = public.application("Tollway", [health, *routers])
        admin_app = public.application(
            "Tollway admin",
            [
                health,
                admin.router(
                    metrics=self.metrics,
                    states=self.states,
                    generation=lambda: self.generation,
                    ca_certificate=generation.ca_certificate,
                    reloader=lambda: self.reloader,
                ),
                credit.router(ledger=self.ledger, keys=self.keys, generation=lambda: self.generation, clock=self.clock),
            ],
        )
        terminal = Terminal(
            client=self.client,
            local=partial(bridge.call, public_app),
            connect_policy=self._policy,
            answer_bytes_max=generation.file.limits.answer_bytes_max,
            log=self.log,
        )
        self._full = compose(self.plugins, terminal, self.log)
        self._refused = compose_observers(self.plugins, _refuse, self.log)
        self._admin = compose_observers(self.plugins, partial(_admin, self, admin_app), self.log)

    def _engine(self, *, admin: bool) -> MitmEngine:
        """The admin listeners have an engine of their own: a crowd of clients, or a drain, leaves them reachable."""
        generation = self.generation
        return MitmEngine(
            tuple(one for one in generation.listeners if (one.kind == ListenerKind.ADMIN.value) == admin),
            generation.file.limits,
            self.driver.serve,
            self._policy,
            generation.ca_folder,
            self.log,
        )

    @property
    def addresses(self) -> dict[str, tuple[str, int]]:
        """Listener -> the host and port that it really has, in the file's order."""
        bound = self.engine.addresses | self.admin_engine.addresses
        return {listener.name: bound[listener.name] for listener in self.generation.listeners}

    def _driver(self) -> Driver:
        file = self.generation.file
        return Driver(
            open_exchange=self._open,
            chain=self._chain,
            limits=DriverLimits(file.heartbeat_seconds, file.drain_client_gone_seconds, file.drain_client_gone_bytes),
            request_id_header=file.request_id_header,
            on_open=self._opened,
            on_end=self._ended,
            clock=self.clock,
            log=self.log,
        )

    def _open(self, arrival: Arrival) -> Exchange:
        request, origin = arrival.request, arrival.origin
        refusal, operation, model, captured = arrival.refusal, LOCAL, None, None
        if refusal is None:
            try:
                if origin.captured_host is not None:
                    captured = self._capture.match(
                        origin.captured_host, origin.captured_port or 443, local=origin.loopback
                    )
                operation, model = self._operation(arrival, captured)
            except Refusal as refused:
                refusal = refused
        return Exchange(
            request_id=self._request_ids.new(),
            origin=origin,
            request=request,
            operation=operation,
            generation=self.generation,
            started=self.clock.monotonic(),
            started_ms=self.clock.now_ms(),
            captured=captured,
            path_model=model,
            refusal=refusal,
        )

    def _operation(self, arrival: Arrival, captured: Any) -> tuple[Operation, str | None]:
        request, origin = arrival.request, arrival.origin
        closed = not self._accepting and origin.kind is not ListenerKind.ADMIN
        if closed and request.path not in ("/health", "/v1/health"):
            raise Refusal("draining", "This proxy is shutting down. Try again in a moment.", retry_after_seconds=5)
        if origin.captured_host is not None and captured is None:
            return PLAIN, None
        if arrival.websocket:
            return WEBSOCKET, None
        found = self._operations.resolve(request.method, request.path, captured, origin.kind)
        limited = self._limited.get((origin.listener, found.operation.name))
        return limited or found.operation, found.model

    def _chain(self, exchange: Exchange) -> Next:
        if exchange.refusal is not None:
            return self._refused
        if exchange.origin.kind is ListenerKind.ADMIN:
            return self._admin
        return self._full

    def _opened(self, exchange: Exchange) -> None:
        self.metrics.opened(exchange)

    def _ended(self, exchange: Exchange, reason: Finish) -> None:
        self.metrics.observe(exchange, reason)

    async def drain(self, hurry: asyncio.Event) -> None:
        """Readiness first, no new exchanges, running ones finish within the deadline or until `hurry` is set.

        Holds are settled either way. The admin listeners answer to the last: /health says 503 there all the while.
        """
        self.ready = False
        self._accepting = False
        await self._close_engine(hurry)
        await self.inward.close()
        await self.admin_engine.close(ADMIN_CLOSE_SECONDS)
        for plugin in reversed(self.plugins):
            await plugin.stop()
        await self.probes.stop()
        if self.services.rails is not None:
            await self.services.rails.stop()
        await self.client.close()
        if self._demo is not None:
            await self._demo.stop()
        for task in self._background:
            task.cancel()
        await self.ledger.close()
        self.keys.close()
        self.byo.close()

    async def _close_engine(self, hurry: asyncio.Event) -> None:
        loop = asyncio.get_running_loop()
        closing = loop.create_task(self.engine.close(self.generation.file.drain_seconds), name="drain")
        hurried = loop.create_task(hurry.wait(), name="hurry")
        await asyncio.wait({closing, hurried}, return_when=asyncio.FIRST_COMPLETED)
        hurried.cancel()
        if closing.done():
            await closing
            return
        closing.cancel()
        await asyncio.wait({closing})
        await self.engine.close(0)


async def _refuse(exchange: Exchange) -> Response:
    if exchange.refusal is None:
        raise Refusal("internal_error", "Refused without a reason.")
    raise exchange.refusal


async def _admin(gateway: Gateway, application: Any, exchange: Exchange) -> Response:
    """The admin listener serves its own endpoints only, behind its token where it has one, and to no web page."""
    if exchange.operation.target is not Target.LOCAL:
        raise Refusal("not_found", "The admin listener serves its own endpoints only, /health and /metrics among them.")
    token = gateway.generation.listener(exchange.origin.listener).token
    refuse_pages(exchange.request.headers, token=token is not None)
    given = exchange.request.headers.get("authorization", "").removeprefix("Bearer ")
    if token is not None and not exchange.request.path.endswith("/health") and not same_secret(given, token):
        raise Refusal("invalid_api_key", "Send the admin listener's token: 'Authorization: Bearer TOKEN'.")
    return await bridge.call(application, exchange)
