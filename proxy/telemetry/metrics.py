"""Prometheus metrics of one process. Every label value is a name from the configuration or from this code.

A client can add no series: a model, team or upstream that is not configured is counted as `other`, an exchange
that never got as far as having one as `none`; listeners and operations are named by the configuration and the code.
All updates of exchanges come from the event loop; the ledger's thread may call the methods that say so.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Final

from prometheus_client import CollectorRegistry, Counter, ProcessCollector
from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest

from proxy.clock import Clock, SystemClock
from proxy.pricing.money import NANO_PER_USD, Nano
from proxy.telemetry.families import OTHER, Cell, Counters, Distribution, Gauges, Histograms

if TYPE_CHECKING:
    from proxy.exchange import Exchange, Finish
    from proxy.ledger.api import CapState, PurseState

NONE: Final = "none"
BYO: Final = "byo"
"""Stands for every upstream and every model that a customer registered."""
_BYO_PREFIXES: Final = ("byo:", "byo-")
FIRST_BYTE_BOUNDS: Final = (0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0)
TOTAL_BOUNDS: Final = (0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0, 900.0, 1800.0)
"""Seconds."""
ROWS_MAX: Final = 10_000
"""Combinations of labels whose cells are remembered; beyond it they are looked up each time."""
TOKEN_KINDS: Final = ("input", "output", "cached", "cache_write", "reasoning")


class _Row:
    """The cells of one (listener, operation, model, status, outcome), so that an exchange needs one look-up."""

    __slots__ = (
        "cache_write",
        "cached",
        "first_byte",
        "in_flight",
        "input",
        "output",
        "reasoning",
        "requests",
        "total",
    )

    def __init__(self, metrics: Metrics, listener: str, operation: str, model: str, status: int, outcome: str) -> None:
        self.requests: Cell = metrics.requests.series(listener, operation, model, _status(status), outcome)
        self.in_flight: Cell = metrics.in_flight.series(listener)
        self.first_byte: Distribution = metrics.first_byte.series(operation, model)
        self.total: Distribution = metrics.total.series(operation, model)
        self.input, self.output, self.cached, self.cache_write, self.reasoning = (
            metrics.tokens.series(model, kind) for kind in TOKEN_KINDS
        )


class Metrics:
    """One registry. Made once; `know` adds the names that a reload brings."""

    def __init__(
        self,
        *,
        models: Iterable[str] = (),
        teams: Iterable[str] = (),
        upstreams: Iterable[str] = (),
        clock: Clock | None = None,
    ) -> None:
        self._monotonic = (clock or SystemClock()).monotonic
        self._models: set[str] = set()
        self._teams: set[str] = set()
        self._upstreams: set[str] = set()
        self._rows: dict[tuple[str, str, str, int, str], _Row] = {}
        self._money: dict[tuple[str, str], tuple[Cell, Cell]] = {}
        self._tries: dict[tuple[str, str], Cell] = {}
        self.registry = CollectorRegistry(auto_describe=False)
        self._make_families()
        self._make_rare()
        self.know(models=models, teams=teams, upstreams=upstreams)

    def _make_families(self) -> None:
        by_model = ("operation", "model")
        self.requests = Counters(
            "tollway_requests",
            "Exchanges that have ended.",
            ("listener", "operation", "model", "status", "outcome"),
        )
        self.tokens = Counters("tollway_tokens", "Tokens as the upstreams reported them.", ("model", "kind"))
        self.charged = Counters(
            "tollway_charged_usd", "What callers were charged.", ("team", "model"), scale=NANO_PER_USD
        )
        self.listed = Counters(
            "tollway_list_cost_usd", "What the same exchanges cost at list.", ("team", "model"), scale=NANO_PER_USD
        )
        self.first_byte = Histograms(
            "tollway_first_byte_seconds", "From the request's head to the answer's first byte.", by_model,
            FIRST_BYTE_BOUNDS,
        )  # fmt: skip
        self.total = Histograms(
            "tollway_exchange_seconds", "From the request's head to the end.", by_model, TOTAL_BOUNDS
        )
        self.in_flight = Gauges("tollway_in_flight", "Exchanges under way.", ("listener",))
        self.attempts = Counters("tollway_upstream_attempts", "Upstream calls by their end.", ("upstream", "outcome"))
        self.upstream_seconds = Histograms(
            "tollway_upstream_first_byte_seconds", "From calling an upstream to its answer's head.", ("upstream",),
            FIRST_BYTE_BOUNDS,
        )  # fmt: skip
        self.circuits_open = Gauges(
            "tollway_circuits_open", "Circuits of an upstream's models that are not closed.", ("upstream",)
        )
        self.repeats = Counters(
            "tollway_repeated_answers", "Requests answered with the answer of an identical one.", ("source",)
        )
        self.caps_left = Gauges(
            "tollway_cap_left_usd", "What is left of a team's cap in its present window.", ("team", "window", "basis"),
            scale=NANO_PER_USD,
        )  # fmt: skip
        self.purses_left = Gauges(
            "tollway_purse_left_usd", "What is left in a prepaid purse.", ("scope", "owner", "wallet"),
            scale=NANO_PER_USD,
        )  # fmt: skip
        for family in (
            self.requests, self.tokens, self.charged, self.listed, self.first_byte, self.total, self.in_flight,
            self.attempts, self.upstream_seconds, self.circuits_open, self.repeats, self.caps_left,
            self.purses_left,
        ):  # fmt: skip
            self.registry.register(family)

    def _make_rare(self) -> None:
        """Rare enough for a lock, so any thread may count them."""
        registry = self.registry
        self._soft_caps = Counter(
            "tollway_soft_cap_crossings",
            "Holds that crossed a cap's soft limit.",
            ("scope", "team", "window"),
            registry=registry,
        )
        self._content = Counter(
            "tollway_content_matches", "What content rules took out or refused.", ("rule", "action"), registry=registry
        )
        self._hold_failures = Counter(
            "tollway_hold_failures", "Holds that were not given.", ("reason",), registry=registry
        )
        self._circuit_openings = Counter(
            "tollway_circuit_openings", "Circuits opened, by the trouble: failing or limited.", ("upstream", "reason"),
            registry=registry,
        )  # fmt: skip
        self._hedges = Counter(
            "tollway_hedges", "Second candidates called beside a silent first one.", ("model", "outcome"),
            registry=registry,
        )  # fmt: skip
        self._payments = Counter(
            "tollway_payments", "Payments by rail and what became of them.", ("rail", "outcome"), registry=registry
        )
        self._runs = Counter(
            "tollway_consensus_runs", "Runs of panels by mode and what they came to.", ("mode", "outcome"),
            registry=registry,
        )  # fmt: skip
        self._panel_calls = Counter(
            "tollway_consensus_calls", "Calls of panels by what they were for and their end.", ("role", "status"),
            registry=registry,
        )  # fmt: skip
        self._double_ends = Counter(
            "tollway_ledger_double_ends", "Second ends of one hold: a fault of ours.", registry=registry
        )
        self._overages = Counter(
            "tollway_ledger_overages", "Exchanges that cost more than was held for them.", registry=registry
        )
        self._overage_usd = Counter(
            "tollway_ledger_overage_usd", "By how much they did, all together.", registry=registry
        )
        ProcessCollector(registry=registry)

    def know(
        self,
        *,
        models: Iterable[str] = (),
        teams: Iterable[str] = (),
        upstreams: Iterable[str] = (),
    ) -> None:
        """Add names of the configuration. Those of an earlier one stay known."""
        self._models.update(models)
        self._teams.update(teams)
        self._upstreams.update(upstreams)
        self._rows.clear()
        self._money.clear()
        self._tries.clear()

    def opened(self, exchange: Exchange) -> None:
        """An exchange has begun. Each is ended by one `observe`."""
        self.in_flight.series(exchange.origin.listener).value += 1

    def observe(self, exchange: Exchange, reason: Finish) -> None:
        """Count an exchange that has ended, by whatever facts it has."""
        now = self._monotonic()
        model = NONE if exchange.model is None else exchange.model.name
        key = (exchange.origin.listener, exchange.operation.name, model, exchange.status, reason.value)
        row = self._rows.get(key) or self._row(key)
        row.requests.value += 1
        row.in_flight.value -= 1
        row.total.observe(now - exchange.started)
        if exchange.first_byte is not None:
            row.first_byte.observe(exchange.first_byte - exchange.started)
        usage = exchange.usage
        if usage is not None:
            row.input.value += usage.input_tokens
            row.output.value += usage.output_tokens
            row.cached.value += usage.cached_tokens
            row.cache_write.value += usage.cache_write_tokens + usage.cache_write_1h_tokens
            row.reasoning.value += usage.reasoning_tokens
        settlement = exchange.settlement
        if settlement is not None and exchange.identity is not None:
            owner = (exchange.identity.team, model)
            charged, listed = self._money.get(owner) or self._money_cells(owner)
            charged.value += settlement.charged
            listed.value += settlement.list or 0
        if exchange.route is not None:
            for attempt in exchange.route.tries:
                ended = (attempt.candidate.upstream, attempt.outcome)
                (self._tries.get(ended) or self._try_cell(ended)).value += 1

    def _row(self, key: tuple[str, str, str, int, str]) -> _Row:
        listener, operation, model, status, outcome = key
        known = model if model == NONE else _known(model, self._models)
        row = _Row(self, listener, operation, known, status, outcome)
        if len(self._rows) < ROWS_MAX:
            self._rows[key] = row
        return row

    def _money_cells(self, owner: tuple[str, str]) -> tuple[Cell, Cell]:
        team, model = owner
        names = (_known(team, self._teams), model if model == NONE else _known(model, self._models))
        cells = (self.charged.series(*names), self.listed.series(*names))
        if len(self._money) < ROWS_MAX:
            self._money[owner] = cells
        return cells

    def _try_cell(self, ended: tuple[str, str]) -> Cell:
        upstream, outcome = ended
        cell = self.attempts.series(_known(upstream, self._upstreams), outcome)
        if len(self._tries) < ROWS_MAX:
            self._tries[ended] = cell
        return cell

    def upstream_answered(self, upstream: str, seconds: float) -> None:
        """An upstream's head came this long after it was called."""
        self.upstream_seconds.series(_known(upstream, self._upstreams)).observe(seconds)

    def circuit_opened(self, upstream: str, reason: str, *, again: bool) -> None:
        """A circuit opened; `again`: its trial failed, so it was not closed before. `reason` is a word of ours."""
        known = _known(upstream, self._upstreams)
        self._circuit_openings.labels(known, reason).inc()
        if not again:
            self.circuits_open.series(known).value += 1

    def circuit_closed(self, upstream: str) -> None:
        """A circuit's trial succeeded."""
        self.circuits_open.series(_known(upstream, self._upstreams)).value -= 1

    def hedged(self, model: str, outcome: str) -> None:
        """A second candidate was called at once; `outcome` is won or lost."""
        self._hedges.labels(_known(model, self._models), outcome).inc()

    def repeated(self, source: str) -> None:
        """A request was answered from memory, or with its twin's answer: `source` is memory or twin."""
        self.repeats.series(source).value += 1

    def set_caps(self, states: Iterable[CapState]) -> None:
        """Show where these caps stand; only those of known teams are shown."""
        for state in states:
            cap = state.cap
            if cap.scope == "team" and cap.scope_id in self._teams:
                self.caps_left.series(cap.scope_id, cap.window, cap.basis.value).value = state.left

    def set_purses(self, states: Iterable[PurseState]) -> None:
        """Show where the purses of teams and organisations stand; one that nothing was put into is not shown."""
        for state in states:
            purse = state.purse
            if state.granted and purse.scope in ("team", "organisation"):
                self.purses_left.series(purse.scope, purse.scope_id, purse.wallet).value = state.left

    def soft_cap_crossed(self, scope: str, scope_id: str, window: str) -> None:
        """A hold crossed a soft limit. Users and keys are counted together. Any thread."""
        team = _known(scope_id, self._teams) if scope == "team" else NONE
        self._soft_caps.labels(scope, team, window).inc()

    def content_struck(self, rule: str, action: str) -> None:
        """A content rule matched; both words are the configuration's. Any thread."""
        self._content.labels(rule, action).inc()

    def hold_failed(self, reason: str) -> None:
        """A hold was not given; `reason` is a word of ours, never a client's. Any thread."""
        self._hold_failures.labels(reason).inc()

    def payment(self, rail: str, outcome: str) -> None:
        """A proof was burnt or left unserved, a balance served or not. Any thread."""
        self._payments.labels(rail, outcome).inc()

    def consensus_run(self, mode: str, outcome: str) -> None:
        """A panel's run ended: answered, degraded, failed or left (by its client)."""
        self._runs.labels(mode, outcome).inc()

    def consensus_call(self, role: str, status: str) -> None:
        """One of its calls ended; both are words of `proxy.consensus.api`."""
        self._panel_calls.labels(role, status).inc()

    def ledger_double_end(self) -> None:
        """A hold was ended twice. Any thread."""
        self._double_ends.inc()

    def ledger_overage(self, nano: Nano) -> None:
        """An exchange cost this much more than its hold. Any thread."""
        self._overages.inc()
        self._overage_usd.inc(nano / NANO_PER_USD)

    def render(self) -> tuple[bytes, str]:
        """All metrics in Prometheus' text format, and its content type. On the event loop."""
        return generate_latest(self.registry), CONTENT_TYPE_LATEST


def _known(name: str, names: set[str]) -> str:
    """A label out of a bounded set: customers' own upstreams and models are one."""
    if name in names:
        return name
    return BYO if name.startswith(_BYO_PREFIXES) else OTHER


def _status(status: int) -> str:
    """Upstreams may invent codes: only real classes are told apart beyond the registered range."""
    if not status:
        return NONE
    return str(status) if 100 <= status <= 599 else OTHER
