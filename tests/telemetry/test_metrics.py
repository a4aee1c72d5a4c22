"""Metrics count what happened, under names that only the configuration can add to."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families

from proxy.catalogue import Candidate, Model
from proxy.exchange import Exchange, Finish, ListenerKind, Origin, Request
from proxy.headers import Headers
from proxy.identities import Identity, IdentityKind
from proxy.ledger.api import Attempt, Basis, Cap, CapState, Purse, PurseState, Settlement
from proxy.operations import CHAT, LOCAL
from proxy.pricing.money import Nano
from proxy.routes import Route, Try
from proxy.telemetry.families import SERIES_MAX, Counters
from proxy.telemetry.metrics import Metrics
from proxy.usage import Usage


class ManualClock:
    """Seconds that pass when told."""

    seconds = 100.0

    def now_ms(self) -> int:
        return 0

    def monotonic(self) -> float:
        return self.seconds


class NoBody:
    """A request without a body."""

    async def read(self) -> bytes:
        return b""


def exchange(model: str | None = "fast", team: str | None = "red", listener: str = "edge", **facts: Any) -> Exchange:
    made = Exchange(
        request_id="req_1",
        origin=Origin(listener, ListenerKind.REVERSE, "127.0.0.1", loopback=True),
        request=Request(method="POST", path="/v1/chat/completions", headers=Headers(), reader=NoBody()),
        operation=CHAT,
        generation=None,  # type: ignore[arg-type]
        started=100.0,
        started_ms=0,
    )
    if model is not None:
        made.model = Model(model, (Candidate("openai", "m"),), None, 1, 1, 1, frozenset())
    if team is not None:
        made.identity = Identity(IdentityKind.KEY, "key_1", "ada", team, "acme", "standard")
    for name, value in facts.items():
        setattr(made, name, value)
    return made


@pytest.fixture
def metrics() -> Metrics:
    return Metrics(clock=ManualClock(), models=["fast"], teams=["red"], upstreams=["openai"])


def samples(metrics: Metrics) -> dict[tuple[str, frozenset[tuple[str, str]]], float]:
    """Every sample of the exposition, read back with Prometheus' own parser."""
    text, content_type = metrics.render()
    assert content_type.startswith("text/plain")
    return {
        (sample.name, frozenset(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(text.decode())
        for sample in family.samples
    }


def value(metrics: Metrics, name: str, **labels: str) -> float | None:
    return samples(metrics).get((name, frozenset(labels.items())))


def names(metrics: Metrics, label: str) -> Iterator[str]:
    return (val for _, labels in samples(metrics) for key, val in labels if key == label)


def test_served_exchange_is_counted_everywhere(metrics: Metrics) -> None:
    """Requests, tokens, money, latencies, attempts; and in flight is back at 0."""
    candidate = Candidate("openai", "m")
    usage = Usage(10, 20, cached_tokens=4, cache_write_tokens=1, cache_write_1h_tokens=2, reasoning_tokens=5)
    ended = exchange(
        status=200,
        first_byte=100.3,
        usage=usage,
        route=Route(
            [
                Try(candidate, Attempt(1, 1, "openai", "m"), 500, "status"),
                Try(candidate, Attempt(1, 2, "openai", "m"), 200, "served", usage=usage),
            ]
        ),
        settlement=Settlement(Nano(1_500_000_000), Nano(500_000_000), (), "served", 0),
    )
    metrics.opened(ended)
    assert value(metrics, "tollway_in_flight", listener="edge") == 1
    metrics.observe(ended, Finish.SERVED)

    assert value(metrics, "tollway_in_flight", listener="edge") == 0
    assert (
        value(
            metrics,
            "tollway_requests_total",
            listener="edge",
            operation="chat.completions",
            model="fast",
            status="200",
            outcome="served",
        )
        == 1
    )
    kinds = {"input": 10, "output": 20, "cached": 4, "cache_write": 3, "reasoning": 5}
    assert kinds == {kind: value(metrics, "tollway_tokens_total", model="fast", kind=kind) for kind in kinds}
    assert value(metrics, "tollway_charged_usd_total", team="red", model="fast") == 1.5
    assert value(metrics, "tollway_list_cost_usd_total", team="red", model="fast") == 0.5
    by_model = {"operation": "chat.completions", "model": "fast"}
    assert value(metrics, "tollway_first_byte_seconds_bucket", le="0.25", **by_model) == 0
    assert value(metrics, "tollway_first_byte_seconds_bucket", le="0.5", **by_model) == 1
    assert value(metrics, "tollway_first_byte_seconds_count", **by_model) == 1
    assert value(metrics, "tollway_upstream_attempts_total", upstream="openai", outcome="status") == 1
    assert value(metrics, "tollway_upstream_attempts_total", upstream="openai", outcome="served") == 1


def test_histogram_buckets_are_cumulative_and_end_in_infinity(metrics: Metrics) -> None:
    """A value on a bound is within it; beyond the last bound only +Inf counts it."""
    for seconds in (0.025, 0.03, 500.0):
        metrics.upstream_answered("openai", seconds)

    bounds = {"0.025": 1, "0.05": 2, "120.0": 2, "+Inf": 3}
    name = "tollway_upstream_first_byte_seconds_bucket"
    assert bounds == {bound: value(metrics, name, upstream="openai", le=bound) for bound in bounds}
    assert pytest.approx(value(metrics, "tollway_upstream_first_byte_seconds_sum", upstream="openai")) == 500.055


def test_exchange_without_any_fact_is_counted(metrics: Metrics) -> None:
    """Refused before the chain, client gone before an answer: no fact is needed."""
    ended = exchange(model=None, team=None, operation=LOCAL)
    metrics.opened(ended)
    metrics.observe(ended, Finish.CLIENT_GONE)

    assert (
        value(
            metrics,
            "tollway_requests_total",
            listener="edge",
            operation="local",
            model="none",
            status="none",
            outcome="client_gone",
        )
        == 1
    )


def test_unknown_names_are_counted_as_other(metrics: Metrics) -> None:
    """No name that the configuration lacks becomes a label."""
    for number in range(50):
        candidate = Candidate(f"up{number}", "m")
        ended = exchange(
            model=f"model{number}",
            team=f"team{number}",
            status=1_000 + number,
            usage=Usage(1, 1),
            route=Route([Try(candidate, Attempt(1, 1, f"up{number}", "m"), 0, "broken")]),
            settlement=Settlement(Nano(1), None, (), "served", 0),
        )
        metrics.opened(ended)
        metrics.observe(ended, Finish.SERVED)
        metrics.soft_cap_crossed("team", f"team{number}", "day")
        metrics.soft_cap_crossed("user", f"user{number}", "day")

    assert {"other"} == set(names(metrics, "model"))
    assert {"other"} == set(names(metrics, "upstream"))
    assert {"other"} == set(names(metrics, "status"))
    assert {"other", "none"} == set(names(metrics, "team"))
    assert value(metrics, "tollway_tokens_total", model="other", kind="input") == 50


def test_names_of_a_reload_are_known_from_then_on(metrics: Metrics) -> None:
    """Counted as other before, by name after; what was counted stays."""
    metrics.observe(exchange(model="new", status=200), Finish.SERVED)
    metrics.know(models=["new"])
    metrics.observe(exchange(model="new", status=200), Finish.SERVED)

    assert {"other", "new"} == set(names(metrics, "model"))


def test_series_of_one_family_are_bounded() -> None:
    """The last resort: past the limit everything goes to one series."""
    family = Counters("x", "x", ("a", "b"))
    for number in range(SERIES_MAX + 500):
        family.series(str(number), "b").value += 1

    assert family.series("other", "other").value == 500
    assert len(next(iter(family.collect())).samples) == SERIES_MAX + 1


def test_purses_left_show_those_that_something_was_put_into(metrics: Metrics) -> None:
    """Of teams and organisations; users and keys would be series without end."""
    purses = [Purse("team", "red"), Purse("team", "red", "frontier"), Purse("user", "red/ann")]
    granted = [10_000_000_000, 0, 5]
    metrics.set_purses(
        PurseState(purse, Nano(amount), Nano(1), Nano(2)) for purse, amount in zip(purses, granted, strict=True)
    )
    shown = [line for line in metrics.render()[0].decode().splitlines() if line.startswith("tollway_purse_left_usd{")]
    assert shown == ['tollway_purse_left_usd{owner="red",scope="team",wallet="balance"} 9.999999997']


def test_caps_left_show_known_teams_in_dollars(metrics: Metrics) -> None:
    """By window and basis; keys and users are not shown."""
    cap = Cap("team", "red", "month", 0, 1, Basis.CHARGED, Nano(10_000_000_000))
    unknown = Cap("team", "blue", "month", 0, 1, Basis.CHARGED, Nano(10))
    key = Cap("key", "red", "day", 0, 1, Basis.LIST, Nano(10))
    metrics.set_caps(CapState(one, Nano(0), Nano(2_500_000_000)) for one in (cap, unknown, key))

    assert value(metrics, "tollway_cap_left_usd", team="red", window="month", basis="charged") == 7.5
    assert {"red"} == set(names(metrics, "team"))


def test_ledger_alarms_count_from_any_thread(metrics: Metrics) -> None:
    """The ledger's writer is a thread of its own; no count is lost."""

    def work() -> None:
        for _ in range(1_000):
            metrics.ledger_double_end()
            metrics.ledger_overage(Nano(1_000_000))
            metrics.hold_failed("cap")

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert value(metrics, "tollway_ledger_double_ends_total") == 4_000
    assert value(metrics, "tollway_ledger_overages_total") == 4_000
    assert pytest.approx(value(metrics, "tollway_ledger_overage_usd_total")) == 4.0
    assert value(metrics, "tollway_hold_failures_total", reason="cap") == 4_000


def test_two_registries_do_not_meet() -> None:
    """Nothing is registered globally: two gateways in one process count apart."""
    one, other = Metrics(), Metrics()
    one.ledger_double_end()

    assert value(other, "tollway_ledger_double_ends_total") == 0


def test_circuits_are_shown_by_upstream_and_hedges_by_model(metrics: Metrics) -> None:
    """A trial that failed is another opening, but the circuit was not closed; names that nobody configured are one."""
    metrics.circuit_opened("openai", "failing", again=False)
    metrics.circuit_opened("openai", "failing", again=True)
    metrics.circuit_opened("unheard-of", "limited", again=False)
    assert value(metrics, "tollway_circuits_open", upstream="openai") == 1
    assert value(metrics, "tollway_circuit_openings_total", upstream="openai", reason="failing") == 2
    assert value(metrics, "tollway_circuits_open", upstream="other") == 1
    metrics.circuit_closed("openai")
    assert value(metrics, "tollway_circuits_open", upstream="openai") == 0
    metrics.hedged("fast", "won")
    metrics.hedged("unheard-of", "lost")
    assert value(metrics, "tollway_hedges_total", model="fast", outcome="won") == 1
    assert value(metrics, "tollway_hedges_total", model="other", outcome="lost") == 1


def test_runs_of_panels_are_counted_with_their_calls(metrics: Metrics) -> None:
    """By mode and outcome, by role and status."""
    metrics.consensus_run("deep", "degraded")
    metrics.consensus_call("judge", "served")
    assert value(metrics, "tollway_consensus_runs_total", mode="deep", outcome="degraded") == 1
    assert value(metrics, "tollway_consensus_calls_total", role="judge", status="served") == 1


def test_content_matches_are_counted_by_rule_and_action() -> None:
    """Both are words of the configuration."""
    metrics = Metrics()
    for action in ("redact", "redact", "refuse"):
        metrics.content_struck("api_keys", action)
    assert value(metrics, "tollway_content_matches_total", rule="api_keys", action="redact") == 2
    assert value(metrics, "tollway_content_matches_total", rule="api_keys", action="refuse") == 1
