"""Part 3, streams: 100 at once through each gateway, and directly as the control."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from bench import books
from bench.figures import percentile
from bench.gateway import Gateway
from bench.plan import Plan
from bench.streams import CHUNK_MILLISECONDS, CHUNKS, STREAMS, StreamRun, run_streams
from bench.upstream import Upstream

WARM_STREAMS: Final = 20
DIRECT: Final = "direct"


def _of(samples: list[float], percent: float) -> float | None:
    return round(percentile(samples, percent), 3) if samples else None


def _summary(runs: list[StreamRun]) -> dict[str, Any]:
    first = [sample for run in runs for sample in run.first_ms]
    delay = [sample for run in runs for sample in run.delay_ms]
    faults: dict[str, int] = {}
    for run in runs:
        for fault, count in run.faults.items():
            faults[fault] = faults.get(fault, 0) + count
    chunks = sum(run.chunks for run in runs)
    return {
        "streams": sum(run.streams for run in runs),
        "streams_failed": sum(run.failed for run in runs),
        "faults": faults,
        "chunks": chunks,
        "chunks_expected": sum(run.streams for run in runs) * CHUNKS,
        "cpu_us_per_chunk": round(1e6 * sum(run.cpu_seconds for run in runs) / max(chunks, 1), 2),
        "first_p50_ms": _of(first, 50),
        "first_p99_ms": _of(first, 99),
        "chunk_delay_p50_ms": _of(delay, 50),
        "chunk_delay_p99_ms": _of(delay, 99),
        "chunk_delay_max_ms": _of(delay, 100),
        "rounds": [
            {
                "streams": run.streams,
                "chunks": run.chunks,
                "failed": run.failed,
                "seconds": round(run.seconds, 2),
                "cpu_seconds": round(run.cpu_seconds, 2),
                "cpu_us_per_chunk": round(run.cpu_us, 2),
                "first_p50_ms": _of(run.first_ms, 50),
                "first_p99_ms": _of(run.first_ms, 99),
                "chunk_delay_p99_ms": _of(run.delay_ms, 99),
            }
            for run in runs
        ],
    }


def _with_added(figures: dict[str, Any], control: dict[str, Any]) -> dict[str, Any]:
    """The gateway's percentiles less the control's."""
    added = {
        f"added_{name}": round(figures[name] - control[name], 3)
        for name in ("first_p50_ms", "first_p99_ms", "chunk_delay_p50_ms", "chunk_delay_p99_ms")
        if figures[name] is not None and control[name] is not None
    }
    return {**added, **figures}


def measure(gateways: Mapping[str, Gateway], upstream: Upstream, plan: Plan) -> dict[str, Any]:
    """All in turn, direct control included, `plan.stream_rounds` times; a round's arrivals are the same for each."""
    targets = {DIRECT: (upstream.endpoint, upstream.server.pid)}
    targets |= {name: (gateway.endpoint, gateway.pid) for name, gateway in gateways.items()}
    for endpoint, pid in targets.values():
        run_streams(endpoint, pid, waves=1, seed=0, streams=WARM_STREAMS)
    runs: dict[str, list[StreamRun]] = {name: [] for name in targets}
    for turn in range(plan.stream_rounds):
        for name, (endpoint, pid) in targets.items():
            waves = 1 if name == "litellm" else plan.stream_waves
            run = run_streams(endpoint, pid, waves=waves, seed=turn + 1)
            runs[name].append(run)
            first = percentile(run.first_ms, 99) if run.first_ms else float("nan")
            print(
                f"  round {turn + 1} {name:9} {run.cpu_us:7.1f} us CPU/chunk, first chunk p99 {first:8.1f} ms,"
                f" {run.failed} of {run.streams} streams at fault",
                flush=True,
            )
    control = _summary(runs.pop(DIRECT))
    figures = {name: _with_added(_summary(of), control) for name, of in runs.items()}
    for name, gateway in gateways.items():
        whole = figures[name]["streams"] - figures[name]["streams_failed"]
        figures[name] |= books.check(gateway, whole + WARM_STREAMS)
    return {
        "at_once": STREAMS,
        "chunks_each": CHUNKS,
        "chunk_milliseconds": CHUNK_MILLISECONDS,
        "direct": control,
        "gateways": figures,
    }
