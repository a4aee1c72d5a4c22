"""python -m bench.profile [--streams] [--native]: where Tollway's CPU goes under the bench's load, by self time.

First the load runs without a sampler: that gives the CPU of each thread for each request or chunk, from /proc. Then
it runs with py-spy, which looks only at threads that hold the interpreter's lock; their shares divide the CPU of
their thread. What a thread does outside the lock (system calls, SQLite) is thereby spread over what it does within.
The stacks stay in bench/results/profile-*.folded, the format of flame graph tools.
"""

from __future__ import annotations

import argparse
import re
import sys
import sysconfig
import tempfile
from collections import Counter, defaultdict
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from operator import itemgetter
from pathlib import Path
from typing import Final

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from bench import setup, tollway
from bench.cpu import thread_seconds
from bench.gateway import Gateway
from bench.load import Generator
from bench.process import ROOT, BenchError, Server
from bench.report import RESULTS
from bench.streams import CHUNK_MILLISECONDS, CHUNKS, run_streams
from bench.upstream import start_fixed, start_streaming

WARM_SECONDS: Final = 3
SECONDS: Final = 10
STREAM_WAVES: Final = 3
RATE: Final = 200
"""Samples per second. Each stops the process for a moment."""
ROWS: Final = 40
SITE: Final = f"{sysconfig.get_path('purelib')}/"
STDLIB: Final = f"{sysconfig.get_path('stdlib')}/"
THREAD: Final = re.compile(r"thread \((\d+)\)")

LOOP: Final = "uvloop and what else runs in C beneath the event loop"
LOOP_FRAME: Final = (f"{STDLIB}asyncio/runners.py", "run")
"""Without --native the innermost frame that is seen of it."""

type Stack = list[tuple[str, str]]
"""Outermost first: function and file."""


@dataclass(frozen=True, slots=True)
class ThreadCost:
    """Microseconds of one thread for each request or chunk."""

    name: str
    user: float
    system: float


def group_of(file: str) -> str:
    """The package a file belongs to: a folder of ours by name, one of others' by distribution, a C library."""
    if file.startswith((f"{ROOT}/proxy/", f"{ROOT}/plugins/")):
        parts = Path(file).relative_to(ROOT).parts
        return "/".join(parts[:-1][:3]) if len(parts) > 2 else "/".join(parts)
    if file.startswith(SITE):
        return file.removeprefix(SITE).split("/")[0]
    if file.startswith(STDLIB):
        return f"python: {file.removeprefix(STDLIB).split('/')[0].removesuffix('.py')}"
    if file == "<string>":
        return "python: generated __init__ and the like"
    if file.startswith("<"):
        return f"python: {file.strip('<>').removeprefix('frozen ')}"
    parts = Path(file).parts
    if "uvloop" in parts or "libuv-x86_64" in parts:
        return "uvloop"
    name = Path(file).name
    return f"native: {name.split('.')[0].split('-')[0]}" if ".so" in name else f"native: {name or '?'}"


def parse(folded: str) -> list[tuple[Stack, int]]:
    """py-spy's raw format: `outer (file:line);inner (file:line) COUNT`."""
    stacks = []
    for line in folded.splitlines():
        text, _, count = line.rpartition(" ")
        stack = []
        for frame in text.split(";"):
            if THREAD.match(frame):
                stack.append((frame, ""))
                continue
            function, _, place = frame.rpartition(" (")
            file = place.removesuffix(")")
            head, colon, tail = file.rpartition(":")
            stack.append((function or frame, head if colon and tail.isdigit() else file))
        stacks.append((stack, int(count)))
    return stacks


class Costs:
    """Microseconds for each unit, by package, by function alone, and by function of ours with all it calls."""

    def __init__(self, folded: str, threads: dict[int, ThreadCost]) -> None:
        self.packages: defaultdict[str, float] = defaultdict(float)
        self.functions: defaultdict[str, float] = defaultdict(float)
        self.inclusive: defaultdict[str, float] = defaultdict(float)
        self.samples = 0
        stacks = parse(folded)
        sampled: Counter[int] = Counter()
        for stack, count in stacks:
            sampled[self._thread(stack)] += count
            self.samples += count
        for stack, count in stacks:
            thread = self._thread(stack)
            if thread in threads:
                cost = threads[thread]
                self._add(stack[1:], (cost.user + cost.system) * count / sampled[thread])

    @staticmethod
    def _thread(stack: Stack) -> int:
        named = THREAD.match(stack[0][0])
        return int(named[1]) if named else 0

    def _add(self, frames: Stack, microseconds: float) -> None:
        function, file = frames[-1]
        self.packages[LOOP if (file, function) == LOOP_FRAME else group_of(file)] += microseconds
        self.functions[self._name(function, file)] += microseconds
        for name in {self._name(*frame) for frame in frames if frame[1].startswith(f"{ROOT}/p")}:
            self.inclusive[name] += microseconds

    @staticmethod
    def _name(function: str, file: str) -> str:
        for prefix in (SITE, STDLIB, f"{ROOT}/"):
            if file.startswith(prefix):
                return f"{file.removeprefix(prefix)} {function}"
        return f"{Path(file).name} {function}"


def _table(title: str, costs: Mapping[str, float], total: float) -> Table:
    table = Table(title=title)
    table.add_column("us each", justify="right")
    table.add_column("%", justify="right")
    table.add_column("where", overflow="fold")
    for name, cost in sorted(costs.items(), key=itemgetter(1), reverse=True)[:ROWS]:
        table.add_row(f"{cost:.1f}", f"{100 * cost / total:.1f}", escape(name))
    return table


def show(folded: str, threads: dict[int, ThreadCost], unit: str) -> None:
    """Print the tables."""
    costs = Costs(folded, threads)
    total = sum(cost.user + cost.system for cost in threads.values())
    console = Console(width=120)
    console.print(f"{total:.1f} us of CPU for each {unit} without the sampler; {costs.samples} samples")
    table = Table(title=f"CPU by thread, us for each {unit}")
    for heading in ("thread", "user", "system"):
        table.add_column(heading)
    for number, cost in sorted(threads.items()):
        if cost.user + cost.system > 0:
            table.add_row(f"{number} {cost.name}", f"{cost.user:.1f}", f"{cost.system:.1f}")
    console.print(table)
    console.print(_table(f"self time by package, us for each {unit}", costs.packages, total))
    console.print(_table(f"self time by function, us for each {unit}", costs.functions, total))
    console.print(_table(f"our functions with all they call, us for each {unit}", costs.inclusive, total))


def _thread_costs(gateway: Gateway, load: Callable[[], int]) -> dict[int, ThreadCost]:
    before = thread_seconds(gateway.pid)
    count = load()
    costs = {}
    for number, (name, user, system) in thread_seconds(gateway.pid).items():
        _, user_before, system_before = before.get(number, (name, 0.0, 0.0))
        costs[number] = ThreadCost(name, 1e6 * (user - user_before) / count, 1e6 * (system - system_before) / count)
    return costs


def profile(folder: Path, *, streams: bool, native: bool) -> None:
    """Start Tollway and its upstream, load it, load it again while sampling, print."""
    output = RESULTS / f"profile-{'streams' if streams else 'requests'}.folded"
    output.parent.mkdir(parents=True, exist_ok=True)
    with ExitStack() as stack:
        upstream = start_streaming(folder, CHUNKS, CHUNK_MILLISECONDS) if streams else start_fixed(folder)
        stack.callback(upstream.server.stop)
        gateway = tollway.start(upstream.port, folder, streaming=streams)
        stack.callback(gateway.stop)
        generator = Generator(gateway.endpoint, folder)

        def load() -> int:
            if streams:
                return run_streams(gateway.endpoint, gateway.pid, waves=STREAM_WAVES, seed=1).chunks
            return generator.run(SECONDS, gateway.pid).requests

        if not streams:
            generator.run(WARM_SECONDS, gateway.pid)
        threads = _thread_costs(gateway, load)
        sampler = Server(
            "py-spy",
            [
                str(setup.profiler() / "bin/py-spy"), "record", "--pid", str(gateway.pid), "--format", "raw", "--gil",
                "--full-filenames", "--function", "--threads", *(("--native",) if native else ()),
                "--duration", str(SECONDS), "--rate", str(RATE), "--output", str(output),
            ],
            folder,
        )  # fmt: skip
        stack.callback(sampler.stop)
        load()
        sampler.wait_end(2 * SECONDS)
        show(output.read_text(), threads, "chunk" if streams else "request")


def main() -> int:
    """Exit status 0 unless something could not be started."""
    parser = argparse.ArgumentParser(prog="python -m bench.profile", description="Where Tollway's CPU goes.")
    parser.add_argument("--streams", action="store_true", help="under 100 streams instead of requests")
    parser.add_argument("--native", action="store_true", help="C functions, too")
    chosen = parser.parse_args()
    try:
        setup.programs()
        (ROOT / "var").mkdir(exist_ok=True)
        with tempfile.TemporaryDirectory(prefix="bench-", dir=ROOT / "var") as name:
            profile(Path(name), streams=chosen.streams, native=chosen.native)
    except BenchError as error:
        print(f"bench: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
