"""Every call is in the books at what it cost, no run costs more than was held, no stream falls silent, and who leaves
leaves no call behind."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from random import Random
from typing import Final

from bench.consensus.checks.faults import LAWS, runs_of
from bench.consensus.figures import spread
from bench.consensus.findings import Finding, Plan
from bench.consensus.items import questions
from bench.consensus.laws import Errors, Latency, Laws
from bench.consensus.panels import consensus_of, members, panel
from bench.consensus.running import Ran, engine_of
from bench.consensus.streamed import Told, tell
from bench.consensus.virtual_time import run as run_virtually

SHAPES: Final = (("fast", 3), ("balanced", 3), ("deep", 5))
HEARTBEAT_SECONDS: Final = 15.0
SLACK_SECONDS: Final = 1.0
CANCEL_SECONDS: Final = 1.0


def measure(plan: Plan, seed: int) -> list[Finding]:
    """See the module."""
    ran = [one for shape, count in SHAPES for one in runs_of(shape, count, plan.fault_runs, seed)]
    told = [one for shape, count in SHAPES for one in _told(shape, count, plan.cancel_runs, seed, leave=False)]
    left = [one for shape, count in SHAPES for one in _told(shape, count, plan.cancel_runs, seed, leave=True)]
    return [_sums(ran, [*told, *left]), _holds(plan, seed), _gaps(told), _cancels(left)]


def _sums(ran: Sequence[Ran], told: Sequence[Told]) -> Finding:
    """The provider's meter, the records, and what the run tells of its usage."""
    calls = [one.calls for one in ran] + [one.calls for one in told]
    wrong = sum(each.meter.cost != sum(record.cost for record in each.records) for each in calls)
    lost = sum(each.meter.calls != len(each.records) or each.meter.open != 0 for each in calls)
    tokens = sum(
        (each.meter.input_tokens, each.meter.output_tokens)
        != (sum(record.input_tokens for record in each.records), sum(record.output_tokens for record in each.records))
        for each in calls
    )
    said = sum(_usage_differs(one) for one in ran)
    running = sum(record.status == "running" for each in calls for record in each.records)
    return Finding.of(
        "meters",
        f"{len(calls)} runs with failures and with clients that leave: the provider's meters against the panel's books",
        f"{wrong} sums of cost, {tokens} sums of tokens, {lost} counts of calls and {said} reported usages differ;"
        f" {running} records left open; {sum(each.meter.calls for each in calls)} calls",
        "none differs",
        not (wrong or lost or tokens or said or running),
    )


def _usage_differs(one: Ran) -> bool:
    """Of runs with a result: the event `usage`."""
    told = one.named("usage")
    if one.result is None:
        return False
    if len(told) != 1:
        return True
    data, meter = told[0][1], one.calls.meter
    return (data.get("input_tokens"), data.get("output_tokens"), data.get("calls")) != (
        meter.input_tokens, meter.output_tokens, meter.calls
    )  # fmt: skip


def _holds(plan: Plan, seed: int) -> Finding:
    """Budgets from what is shipped down to where a run is refused: the run leaves stages out, and never overspends."""
    over, runs, refused, skipped, dearest = 0, 0, 0, 0, 0.0
    for shape, count in SHAPES:
        whole = panel(shape, members(count)).budget
        for share in (100, 60, 40, 30, 10):
            budget = whole * share // 100
            for one in runs_of(shape, count, max(plan.fault_runs // 5, 2), seed, budget=budget):
                runs += 1
                over += one.calls.meter.cost > budget
                refused += one.outcome == "refused"
                skipped += one.result is not None and any("budget" in reason for reason in one.result.skipped)
                dearest = max(dearest, one.calls.meter.cost / budget)
    return Finding.of(
        "hold",
        f"{runs} runs at 100, 60, 40, 30 and 10 % of the shipped budgets: cost against the hold",
        f"{over} above it; the dearest took {dearest:.1%} of it; {skipped} left stages out, {refused} were refused"
        " before any call",
        "none above",
        over == 0,
    )


def _told(shape: str, count: int, runs: int, seed: int, *, leave: bool) -> list[Told]:
    names = members(count)
    items = questions(f"told/{shape}", runs, names, Errors((0.7,) * count, 0.3, 0.0, 0.0), seed)
    laws = Laws(latency=Latency(12.0 if shape != "fast" else 5.0), faults=LAWS.faults)
    random = Random(f"{seed}/leave/{shape}")
    mode = panel(shape, names)

    async def all_of_them() -> list[Told]:
        engine = engine_of(consensus_of(mode), seed)
        found = []
        for item in items:
            after = random.uniform(0.0, 1.2 * laws.latency.median_seconds * (3 if shape != "fast" else 1))
            found.append(await tell(engine, mode.name, item, laws, seed, HEARTBEAT_SECONDS, after if leave else None))
            await asyncio.sleep(0)
        return found

    return run_virtually(all_of_them())


def _gaps(told: Sequence[Told]) -> Finding:
    gaps = [one.client.longest_gap for one in told]
    unended = sum(not one.client.finished for one in told)
    return Finding.of(
        "heartbeat",
        f"{len(told)} streams through the driver on virtual time, calls of 5 and 12 s: longest gap between bytes",
        f"{max(gaps):.1f} s at a heartbeat of {HEARTBEAT_SECONDS:.0f} s (p50/p95/p99 {spread(gaps)}); {unended} without"
        " an end",
        f"at most {HEARTBEAT_SECONDS + SLACK_SECONDS:.0f} s",
        max(gaps) <= HEARTBEAT_SECONDS + SLACK_SECONDS and not unended,
    )


def _cancels(left: Sequence[Told]) -> Finding:
    under_way = [one for one in left if one.left_at is not None and one.calls.meter.calls]
    took = [max(one.calls.meter.closed_at - (one.left_at or 0.0), 0.0) for one in under_way]
    still = sum(one.calls.meter.open for one in left)
    cut = sum(record.status == "cancelled" for one in under_way for record in one.calls.records)
    return Finding.of(
        "cancel",
        f"{len(under_way)} clients that leave in the middle: until the last upstream call is closed (virtual time)",
        f"at most {max(took, default=0.0):.3f} s; {cut} calls cut off, {still} left open",
        f"at most {CANCEL_SECONDS:.0f} s, none left open",
        bool(under_way) and max(took, default=0.0) <= CANCEL_SECONDS and not still,
    )
