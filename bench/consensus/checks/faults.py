"""Whatever goes wrong with its calls, a run ends in exactly one defined way."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, Final

from bench.consensus.findings import Finding, Plan
from bench.consensus.items import questions
from bench.consensus.laws import FAULTS, Errors, Faults, Latency, Laws
from bench.consensus.panels import members, panel
from bench.consensus.running import OUTCOMES, Ran, run_all
from proxy.consensus.api import Role

SHAPES: Final = (("fast", 3), ("balanced", 3), ("deep", 5))
SHARE: Final = 0.4
"""Of calls that go wrong, all kinds alike."""
HEAVY_SHARE: Final = 0.85
SLACK_SECONDS: Final = 1.0
"""Beyond the deadline of a run."""
ROLES: Final = tuple(role.value for role in Role)
LAWS: Final = Laws(
    latency=Latency(3.0), faults={role: Faults(dict.fromkeys(FAULTS, SHARE / len(FAULTS))) for role in ROLES}
)
HEAVY: Final = Laws(
    latency=Latency(3.0), faults={role: Faults(dict.fromkeys(FAULTS, HEAVY_SHARE / len(FAULTS))) for role in ROLES}
)


def runs_of(shape: str, count: int, runs: int, seed: int, laws: Laws = LAWS, **changes: Any) -> list[Ran]:
    """A mode in its shipped shape, with two spares, in a world where things go wrong."""
    names = members(count)
    items = questions(f"faults/{shape}", runs, names, Errors((0.8,) * count, 0.3, 0.05, 0.5), seed)
    spares = tuple([replace(seat, vendor=f"spare-{seat.name}") for seat in panel(shape, ("s1", "s2")).seats])
    return run_all(panel(shape, names, spares=spares, **changes), items, laws, seed)


def measure(plan: Plan, seed: int) -> list[Finding]:
    """See the module."""
    found = []
    for name, laws, share in (("some", LAWS, SHARE), ("most", HEAVY, HEAVY_SHARE)):
        ran = [one for shape, count in SHAPES for one in runs_of(shape, count, plan.fault_runs, seed, laws)]
        found.append(_outcomes(name, share, ran))
    found.append(_lost(plan, seed))
    return found


def _outcomes(name: str, share: float, ran: Sequence[Ran]) -> Finding:
    outcomes = Counter(one.outcome for one in ran)
    strange = {kind: count for kind, count in outcomes.items() if kind not in OUTCOMES}
    problems = Counter(problem for one in ran for problem in inconsistencies(one))
    known = ", ".join(f"{outcomes[kind]} {kind}" for kind in OUTCOMES if outcomes[kind])
    return Finding.of(
        "failures",
        f"{len(ran)} runs with {share:.0%} of all calls going wrong ({name}; {len(FAULTS)} kinds, every role)",
        f"{known}; {sum(strange.values())} undefined, {sum(problems.values())} inconsistent",
        "each ends in one defined outcome, told as it is",
        not strange and not problems,
        outcomes=dict(outcomes),
        inconsistencies=dict(problems),
        sources=dict(Counter(one.result.source for one in ran if one.result is not None)),
    )


def inconsistencies(one: Ran) -> list[str]:
    """What a run says that cannot be."""
    found = []
    told = "".join(str(data.get("text", "")) for _, data in one.named("token"))
    if one.result is not None:
        if told != one.result.text:
            found.append("the streamed text is not the result's")
        if not one.result.text.strip():
            found.append("an answer without text")
        if not 0 <= one.result.quality.score <= 100:
            found.append("a score out of bounds")
        if not one.result.members:
            found.append("no word of the members")
    if one.failure is not None:
        if not one.failure.refusal.message:
            found.append("a failure without a reason")
        if not one.failure.members:
            found.append("a failure without its members' reasons")
    if one.calls.meter.open:
        found.append("calls left open")
    if one.seconds > one.deadline + SLACK_SECONDS:
        found.append("past its deadline")
    return found


def _lost(plan: Plan, seed: int) -> Finding:
    """Judges, or the synthesiser, lost altogether."""
    rows = {}
    strange = 0
    for role in ("judge", "synthesis", "refine", "check", "member"):
        for kind in ("unavailable", "broken", "garbage", "empty", "hang"):
            laws = Laws(latency=Latency(3.0), faults={role: Faults({kind: 1.0})})
            ran = runs_of("deep", 5, max(plan.fault_runs // 25, 2), seed, laws)
            counts = Counter(one.outcome for one in ran)
            strange += sum(count for outcome, count in counts.items() if outcome not in OUTCOMES)
            strange += sum(len(inconsistencies(one)) for one in ran)
            rows[f"every {role} call: {kind}"] = dict(counts)
    return Finding.of(
        "failures, a role lost",
        f"deep, every call of one role failing in one way ({len(rows)} combinations)",
        f"{strange} undefined or inconsistent",
        "none",
        strange == 0,
        outcomes=rows,
    )
