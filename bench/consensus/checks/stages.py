"""One member that hangs holds no stage up for longer than the grace."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from bench.consensus.figures import spread
from bench.consensus.findings import Finding, Plan, percent
from bench.consensus.items import questions
from bench.consensus.laws import Errors, Judging, Latency, Laws
from bench.consensus.panels import members, panel
from bench.consensus.running import OUTCOMES, Ran, run_all
from proxy.consensus.settings import Mode

SHARE: Final = 1.25
SECONDS: Final = 0.5
ROUNDING: Final = 1e-6
MEDIANS: Final = {"fast": 3.0, "balanced": 8.0, "deep": 8.0}
"""Seconds of a call in the middle; log-normal with sigma .45."""
GATHERED: Final = ("member", "judge", "refine")


@dataclass(frozen=True, slots=True)
class Stage:
    """One stage of one run, seconds."""

    role: str
    quorum: float
    lasted: float

    @property
    def limit(self) -> float:
        """What it may last."""
        return max(SHARE * self.quorum, self.quorum + SECONDS)


def measure(plan: Plan, seed: int) -> list[Finding]:
    """See the module."""
    found = []
    for shape, count in (("fast", 3), ("balanced", 3), ("deep", 5)):
        ran, mode = _runs(shape, count, plan, seed, hanging=True)
        found.append(_finding(shape, ran, mode))
        found.append(_latency(shape, count, plan, seed))
    return found


def _runs(shape: str, count: int, plan: Plan, seed: int, *, hanging: bool) -> tuple[list[Ran], Mode]:
    names = members(count)
    errors = Errors((0.7,) * count, 0.3, 0.0, 0.0)
    items = questions(f"stages/{shape}", plan.stage_runs, names, errors, seed)
    mode = panel(shape, names)
    hung = frozenset({names[-1]}) if hanging else frozenset[str]()
    laws = Laws(latency=Latency(MEDIANS[shape]), hanging=hung, judging=Judging())
    return run_all(mode, items, laws, seed), mode


def _finding(shape: str, ran: Sequence[Ran], mode: Mode) -> Finding:
    stages = [stage for one in ran for stage in _stages(one, mode)]
    over = [stage for stage in stages if stage.lasted > stage.limit + ROUNDING]
    unended = sum(one.outcome not in OUTCOMES for one in ran)
    by_role: dict[str, list[float]] = defaultdict(list)
    for stage in stages:
        by_role[stage.role].append(stage.lasted / stage.limit)
    return Finding.of(
        "hanging member",
        f"{shape}: stages that outlast max({SHARE} x quorum, quorum + {SECONDS} s) with one member hanging",
        f"{len(over)} of {len(stages)} ({percent(len(over) / max(len(stages), 1))}), in {len(ran)} runs;"
        f" longest {max((stage.lasted / stage.limit for stage in stages), default=0.0):.3f} of its limit",
        "none",
        not over and bool(stages) and not unended,
        stages={role: len(shares) for role, shares in by_role.items()},
        longest={role: round(max(shares), 4) for role, shares in by_role.items()},
    )


def _stages(one: Ran, mode: Mode) -> Iterator[Stage]:
    """Those that came to their quorum."""
    calls = defaultdict(list)
    for call in one.calls.meter.spans:
        if call.role in GATHERED:
            calls[call.role, call.round].append(call)
    for (role, _), made in calls.items():
        began = min(call.began for call in made)
        served = sorted(call.ended for call in made if call.served)
        quorum = min(mode.quorum, len(made))
        if len(served) >= quorum:
            yield Stage(role, served[quorum - 1] - began, max(call.ended for call in made) - began)


def _latency(shape: str, count: int, plan: Plan, seed: int) -> Finding:
    """What a whole run takes, nobody hanging: a figure of the scripted law, not of any provider."""
    ran, _ = _runs(shape, count, plan, seed, hanging=False)
    hung, _ = _runs(shape, count, plan, seed, hanging=True)
    return Finding.of(
        "run time",
        f"{shape}: seconds of a run at calls of {MEDIANS[shape]:.0f} s (log-normal, sigma .45), p50/p95/p99",
        f"{spread([one.seconds for one in ran])}; with one member hanging {spread([one.seconds for one in hung])}",
        "",
        None,
    )
