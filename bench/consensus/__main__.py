"""python -m bench.consensus [--quick] [--seed N] [--only CHECKS] [--json FILE]"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any, Final

from rich.console import Console
from rich.table import Table

from bench import report
from bench.consensus.checks import accuracy, bad_members, books, faults, judges, replaying, stages
from bench.consensus.findings import FULL, MET, MISSED, QUICK, Finding, Plan

CHECKS: Final[dict[str, ModuleType]] = {
    "accuracy": accuracy,
    "replay": replaying,
    "judges": judges,
    "bad_members": bad_members,
    "stages": stages,
    "books": books,
    "faults": faults,
}
FILE: Final = report.RESULTS / "consensus.json"
SEED: Final = 20_240


def measure(plan: Plan, seed: int, names: list[str], progress: Callable[[str], None]) -> dict[str, Any]:
    """All findings, with what they took."""
    findings: list[Finding] = []
    seconds: dict[str, float] = {}
    for name in names:
        begun = time.process_time()
        findings += CHECKS[name].measure(plan, seed)
        seconds[name] = round(time.process_time() - begun, 1)
        progress(f"{name}: {seconds[name]} s of CPU")
    return {
        "plan": plan.name,
        "seed": seed,
        "commit": report.commit(),
        "cpu_seconds": seconds,
        "missed": [finding.what for finding in findings if finding.verdict == MISSED],
        "findings": [finding.document() for finding in findings],
    }


def show(result: dict[str, Any]) -> None:
    """A table for a reader."""
    console = Console(width=max(Console().width, 150))
    table = Table(title=f"consensus, {result['plan']}, seed {result['seed']}", show_lines=True)
    for heading in ("check", "what", "figure", "limit", ""):
        table.add_column(heading)
    for row in result["findings"]:
        colour = {MET: "green", MISSED: "bold red"}.get(row["verdict"], "default")
        table.add_row(row["check"], row["what"], row["figure"], row["limit"], f"[{colour}]{row['verdict']}[/{colour}]")
    console.print(table)


def main() -> int:
    """Exit status 0 whether or not something is missed: the table says so."""
    parser = argparse.ArgumentParser(prog="python -m bench.consensus", description="A panel against scripted models.")
    parser.add_argument("--quick", action="store_true", help="does everything work? Too few runs to say more")
    parser.add_argument("--seed", type=int, default=SEED)
    parser.add_argument("--only", default=",".join(CHECKS), help=f"of {', '.join(CHECKS)}; separated by commas")
    parser.add_argument(
        "--json", type=Path, help="where to write the result; else, of a full run, results/consensus.json"
    )
    chosen = parser.parse_args()
    names = chosen.only.split(",")
    if unknown := set(names) - set(CHECKS):
        parser.error(f"unknown: {', '.join(sorted(unknown))}")
    result = measure(QUICK if chosen.quick else FULL, chosen.seed, names, lambda line: print(line, flush=True))
    show(result)
    file = chosen.json or (FILE if not chosen.quick and len(names) == len(CHECKS) else None)
    if file is not None:
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
