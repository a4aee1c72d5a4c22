"""The run as tables on the terminal and as one JSON file."""

from __future__ import annotations

import json
import os
import platform
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from bench.process import ROOT
from bench.targets import MET, MISSED

RESULTS: Final = ROOT / "bench/results"
COLUMNS: Final[dict[str, dict[str, str]]] = {
    "requests": {
        "cpu_ms_per_request": "CPU ms/request",
        "requests_per_second": "requests/s",
        "p50_ms": "p50 ms",
        "p99_ms": "p99 ms",
        "resident_mb": "resident MB",
        "errors": "errors",
    },
    "latency": {
        "requests": "requests",
        "added_p50_ms": "added p50 ms",
        "added_p90_ms": "added p90 ms",
        "added_p99_ms": "added p99 ms",
        "direct_p50_ms": "direct p50 ms",
        "direct_p99_ms": "direct p99 ms",
    },
    "streams": {
        "cpu_us_per_chunk": "CPU us/chunk",
        "added_first_p50_ms": "first chunk added p50 ms",
        "added_first_p99_ms": "first chunk added p99 ms",
        "added_chunk_delay_p99_ms": "any chunk added p99 ms",
        "chunks": "chunks",
        "streams_failed": "streams at fault",
    },
    "memory": {
        "start_mb": "start MB",
        "first_mb": "first MB",
        "last_mb": "last MB",
        "growth_percent": "growth %",
        "requests": "requests",
        "errors": "errors",
    },
    "chain": {
        "edge_us": "edge, us",
        "shipped_added_us": "shipped adds, us",
        "everything_added_us": "everything adds, us",
        "decision_us": "routing decision, us",
        "wide_decision_us": "routing decision among 200 candidates, us",
    },
    "scale": {
        "start_few_seconds": "start, 100 keys, s",
        "start_many_seconds": "10,000 keys, s",
        "lookup_few_us": "look-up, 100 keys, us",
        "lookup_many_us": "10,000 keys, us",
        "first_lookup_many_us": "first, us",
    },
    "failover": {
        "requests": "requests",
        "errors": "failed",
        "opened_ms": "circuit open after ms",
        "closed_after_return_ms": "closed after return, ms",
        "trials_after_return": "trials",
    },
    "payment": {
        "l402_us": "L402, us",
        "x402_us": "x402, us",
        "cashu_us": "4 notes, us",
        "balance_check_us": "balance, a look, us",
        "balance_added_us": "balance adds, us",
        "challenge_us": "402, us",
    },
}


def machine() -> dict[str, Any]:
    """What the bench ran on."""
    text = Path("/proc/cpuinfo").read_text()
    model = next((line.partition(":")[2].strip() for line in text.splitlines() if line.startswith("model name")), "?")
    pages = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    return {
        "cpu": model,
        "cores": len(os.sched_getaffinity(0)),
        "memory_gb": round(pages / 1e9, 1),
        "kernel": platform.release(),
        "python": platform.python_version(),
        "load_average_at_start": [round(figure, 2) for figure in os.getloadavg()],
    }


def commit() -> str:
    """The checkout's commit, `+` behind it when files differ from it."""
    git = ["git", "-C", str(ROOT)]
    head = subprocess.run([*git, "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=False)
    changed = subprocess.run(
        [*git, "status", "--porcelain", "--", "proxy", "plugins", "bench", "policies", "config.yaml"],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    return (head.stdout.strip() or "unknown") + "+" * bool(changed.stdout.strip())


def _cell(value: Any) -> str:
    return "-" if value is None else f"{value:,}" if isinstance(value, int) else f"{value:,.2f}"


def show(result: Mapping[str, Any]) -> None:
    """Tables for a reader."""
    console = Console(width=max(Console().width, 110))
    for part, columns in COLUMNS.items():
        if (section := result["parts"].get(part)) is None:
            continue
        table = Table(title=f"{part}, {'quick: not the full sizes' if section['quick'] else section['measured_at']}")
        table.add_column("gateway")
        for heading in columns.values():
            table.add_column(heading, justify="right")
        rows = dict(section["gateways"])
        if "direct" in section:
            rows["(direct)"] = section["direct"]
        for name, figures in rows.items():
            table.add_row(name, *(_cell(figures.get(key)) for key in columns))
        console.print(table)
    verdicts = Table(title="targets")
    for heading in ("part", "what", "target", "Tollway", ""):
        verdicts.add_column(heading)
    for row in result["targets"]:
        colour = {MET: "green", MISSED: "bold red"}.get(row["verdict"], "yellow")
        verdicts.add_row(
            row["part"], row["what"], row["target"], row["figure"], f"[{colour}]{row['verdict']}[/{colour}]"
        )
    console.print(verdicts)
    for part, section in result["parts"].items():
        for name, reason in section["unavailable"].items():
            console.print(f"[bold red]{part}: {name} could not be measured:[/] {escape(reason)}")


def earlier(file: Path) -> dict[str, Any]:
    """The parts that `file` already holds, so that --only renews the named ones."""
    if not file.exists():
        return {}
    parts: dict[str, Any] = json.loads(file.read_text()).get("parts", {})
    return parts


def write(file: Path, result: Mapping[str, Any]) -> None:
    """Write the JSON file."""
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps(result, indent=1) + "\n")
