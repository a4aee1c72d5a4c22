"""What Tollway is to reach, and whether the figures of a run reach it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Final

MITMDUMP_CPU_MAX: Final = 0.7
PORTKEY_CPU_MAX: Final = 0.9
PORTKEY_THROUGHPUT_MIN: Final = 1.0
LITELLM_THROUGHPUT_MIN: Final = 15.0
ADDED_P50_MS_MAX: Final = 3.0
ADDED_P99_MS_MAX: Final = 10.0
FIRST_CHUNK_P99_MS_MAX: Final = 50.0
MITMDUMP_CHUNK_CPU_MAX: Final = 0.6
GROWTH_PERCENT_MAX: Final = 10.0
RESIDENT_MB_MAX: Final = 220.0
CHAIN_ADDED_US_MAX: Final = 150.0
DECISION_US_MAX: Final = 30.0
START_SECONDS_MAX: Final = 2.0
LOOKUP_ADDED_US_MAX: Final = 1.0
FIRST_LOOKUP_RATIO_MAX: Final = 1.5
CIRCUIT_OPEN_MS_MAX: Final = 1000.0

PAYMENT_US_MAX: Final = {
    "l402_us": ("looking at an L402 payment", 500.0),
    "x402_us": ("looking at an x402 payment", 1500.0),
    "cashu_us": ("reading a token of 4 notes, with its proofs", 3000.0),
    "balance_added_us": ("paying from a balance, added to a key", 200.0),
    "challenge_us": ("a whole 402, its invoice made before", 1000.0),
}

MET: Final = "met"
MISSED: Final = "MISSED"
NOT_MEASURED: Final = "not measured"


@dataclass(frozen=True, slots=True)
class Verdict:
    """One target against one figure."""

    part: str
    what: str
    target: str
    figure: str
    verdict: str


class _Part:
    """The figures of one part; a figure that is not there gives a verdict of its own."""

    def __init__(self, name: str, sections: Mapping[str, Any]) -> None:
        self.name = name
        self._gateways: Mapping[str, Any] = sections.get(name, {}).get("gateways", {})
        self.verdicts: list[Verdict] = []

    def figure(self, gateway: str, key: str) -> float | None:
        """None: not measured, or measured with errors so that it means nothing."""
        figures = self._gateways.get(gateway, {})
        if key not in ("errors", "streams_failed") and figures.get("errors"):
            return None
        value = figures.get(key)
        return None if value is None else float(value)

    def at_most(self, what: str, value: float | None, limit: float, unit: str) -> None:
        """The figure may not exceed the limit."""
        self._add(what, f"<= {limit:g}{unit}", value, unit, value is not None and value <= limit)

    def at_least(self, what: str, value: float | None, limit: float, unit: str) -> None:
        """The figure may not be below the limit."""
        self._add(what, f">= {limit:g}{unit}", value, unit, value is not None and value >= limit)

    def _add(self, what: str, target: str, value: float | None, unit: str, reached: bool) -> None:
        if value is None:
            self.verdicts.append(Verdict(self.name, what, target, "-", NOT_MEASURED))
        else:
            self.verdicts.append(Verdict(self.name, what, target, f"{value:.4g}{unit}", MET if reached else MISSED))


def _ratio(one: float | None, other: float | None) -> float | None:
    return None if one is None or not other else one / other


def _requests(part: _Part) -> None:
    cpu, rate = "cpu_ms_per_request", "requests_per_second"
    own_cpu, own_rate = part.figure("tollway", cpu), part.figure("tollway", rate)
    part.at_most("answers that are errors", part.figure("tollway", "errors"), 0, "")
    part.at_most("answers that the ledger does not account for", part.figure("tollway", "unbooked"), 0, "")
    part.at_most(
        "CPU per request against mitmdump", _ratio(own_cpu, part.figure("mitmdump", cpu)), MITMDUMP_CPU_MAX, " x"
    )
    part.at_most("CPU per request against Portkey", _ratio(own_cpu, part.figure("portkey", cpu)), PORTKEY_CPU_MAX, " x")
    part.at_least(
        "throughput against Portkey", _ratio(own_rate, part.figure("portkey", rate)), PORTKEY_THROUGHPUT_MIN, " x"
    )
    part.at_least(
        "throughput against LiteLLM", _ratio(own_rate, part.figure("litellm", rate)), LITELLM_THROUGHPUT_MIN, " x"
    )


def _latency(part: _Part) -> None:
    part.at_most("added latency, p50", part.figure("tollway", "added_p50_ms"), ADDED_P50_MS_MAX, " ms")
    part.at_most("added latency, p99", part.figure("tollway", "added_p99_ms"), ADDED_P99_MS_MAX, " ms")


def _streams(part: _Part) -> None:
    own, stock = part.figure("tollway", "cpu_us_per_chunk"), part.figure("mitmdump", "cpu_us_per_chunk")
    part.at_most("streams with a chunk lost or out of order", part.figure("tollway", "streams_failed"), 0, "")
    part.at_most("streams that the ledger does not account for", part.figure("tollway", "unbooked"), 0, "")
    part.at_most(
        "added time to first chunk, p99", part.figure("tollway", "added_first_p99_ms"), FIRST_CHUNK_P99_MS_MAX, " ms"
    )
    part.at_most("CPU per chunk against mitmdump", _ratio(own, stock), MITMDUMP_CHUNK_CPU_MAX, " x")


def _memory(part: _Part) -> None:
    part.at_most("answers that are errors", part.figure("tollway", "errors"), 0, "")
    part.at_most("answers that the ledger does not account for", part.figure("tollway", "unbooked"), 0, "")
    part.at_most("growth, first to last", part.figure("tollway", "growth_percent"), GROWTH_PERCENT_MAX, " %")
    part.at_most("resident size at the end", part.figure("tollway", "last_mb"), RESIDENT_MB_MAX, " MB")


def _chain(part: _Part) -> None:
    added, decision = part.figure("tollway", "everything_added_us"), part.figure("tollway", "decision_us")
    part.at_most("CPU that the new plugins add, all of them at work", added, CHAIN_ADDED_US_MAX, " us")
    part.at_most("routing decision, 1,000 models, 200 upstreams", decision, DECISION_US_MAX, " us")
    wide = part.figure("tollway", "wide_decision_us")
    part.at_most("the same, all 200 of them candidates of one lane", wide, DECISION_US_MAX, " us")


def _scale(part: _Part) -> None:
    start = part.figure("tollway", "start_many_seconds")
    part.at_most("start, 10,000 keys and 500 teams", start, START_SECONDS_MAX, " s")
    added, ratio = part.figure("tollway", "lookup_added_us"), part.figure("tollway", "first_lookup_ratio")
    part.at_most("a key's look-up, 10,000 keys less 100", added, LOOKUP_ADDED_US_MAX, " us")
    part.at_most("a key's first look-up, 10,000 keys against 100", ratio, FIRST_LOOKUP_RATIO_MAX, " x")


def _failover(part: _Part) -> None:
    part.at_most("requests that failed", part.figure("tollway", "errors"), 0, "")
    part.at_most(
        "from the upstream's death to its open circuit", part.figure("tollway", "opened_ms"), CIRCUIT_OPEN_MS_MAX, " ms"
    )
    part.at_most("trials until the circuit closed again", part.figure("tollway", "trials_after_return"), 1, "")


def _payment(part: _Part) -> None:
    for key, (what, limit) in PAYMENT_US_MAX.items():
        part.at_most(what, part.figure("tollway", key), limit, " us")


PARTS: Final = {
    "requests": _requests,
    "latency": _latency,
    "streams": _streams,
    "memory": _memory,
    "chain": _chain,
    "scale": _scale,
    "failover": _failover,
    "payment": _payment,
}
"""In the order of the report."""


def judge(sections: Mapping[str, Any]) -> list[dict[str, str]]:
    """Every target, against the figures of the parts that are there."""
    verdicts: list[Verdict] = []
    for name, judge_part in PARTS.items():
        if name in sections:
            part = _Part(name, sections)
            judge_part(part)
            verdicts += part.verdicts
    return [asdict(verdict) for verdict in verdicts]
