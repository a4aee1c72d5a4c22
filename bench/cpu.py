"""What a process tree used: CPU seconds and resident bytes, read from /proc."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final

TICKS_PER_SECOND: Final = os.sysconf("SC_CLK_TCK")
PROC: Final = Path("/proc")


def _stat(pid: int) -> list[str] | None:
    """Fields of /proc/PID/stat from the third on (the name before them may hold spaces); None: gone."""
    try:
        text = (PROC / str(pid) / "stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return None
    return text[text.rindex(")") + 2 :].split()


def tree(root: int) -> list[int]:
    """`root` and all its living descendants."""
    children: dict[int, list[int]] = {}
    for entry in PROC.iterdir():
        if entry.name.isdigit() and (fields := _stat(int(entry.name))) is not None:
            children.setdefault(int(fields[1]), []).append(int(entry.name))
    found = [root]
    for pid in found:
        found.extend(children.get(pid, ()))
    return found


def cpu_seconds(root: int) -> float:
    """User and system time of the tree, children that ended and were waited for included. Step: 10 ms."""
    ticks = 0
    for pid in tree(root):
        if (fields := _stat(pid)) is not None:
            ticks += sum(int(field) for field in fields[11:15])
    return ticks / TICKS_PER_SECOND


def resident_bytes(root: int) -> int:
    """Resident bytes of the tree, each process by smaps_rollup; pages shared among them count for each."""
    total = 0
    for pid in tree(root):
        try:
            lines = (PROC / str(pid) / "smaps_rollup").read_text().splitlines()
        except (FileNotFoundError, ProcessLookupError):
            continue
        total += sum(int(line.split()[1]) << 10 for line in lines if line.startswith("Rss:"))
    return total


def thread_seconds(pid: int) -> dict[int, tuple[str, float, float]]:
    """Thread id -> name, user seconds and system seconds, for the living threads of one process."""
    seen = {}
    for task in (PROC / str(pid) / "task").iterdir():
        try:
            name, text = (task / "comm").read_text().strip(), (task / "stat").read_text()
        except (FileNotFoundError, ProcessLookupError):
            continue
        user, system = (int(ticks) / TICKS_PER_SECOND for ticks in text[text.rindex(")") + 2 :].split()[11:13])
        seen[int(task.name)] = (name, user, system)
    return seen
