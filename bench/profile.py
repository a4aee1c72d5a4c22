"""python -m bench.profile [--streams] [--native]: where Tollway's CPU goes under the bench's load, by self time."""

from __future__ import annotations

import argparse
import sys
import sysconfig
import tempfile
from collections import Counter
from contextlib import ExitStack
from pathlib import Path
from typing import Final

from rich.console import Console
from rich.table import Table

from bench import setup, tollway
from bench.cpu import cpu_seconds
from bench.load import Generator
from bench.process import ROOT, BenchError, Server
from bench.streams import CHUNK_MILLISECONDS, CHUNKS, run_streams
from bench.upstream import start_fixed, start_streaming

SECONDS: Final = 10
RATE: Final = 200
"""Samples per second; each stops the process for a moment, so throughput is lower than in the bench."""
WARM_SECONDS: Final = 2
ROWS: Final = 40
INCLUSIVE_ROWS: Final = 30
SITE: Final = f"{sysconfig.get_path('purelib')}/"
STDLIB: Final = f"{sysconfig.get_path('stdlib')}/"

type Stack = list[tuple[str, str]]
"""Outermost first: function and file."""


def group_of(file: str) -> str:
    """The package a file belongs to: a folder of ours by name, one of others' by distribution, a C library."""
    if file.startswith((f"{ROOT}/proxy/", f"{ROOT}/plugins/")):
        parts = Path(file).relative_to(ROOT).parts
        return "/".join(parts[:-1][:3]) if len(parts) > 2 else "/".join(parts)
    if file.startswith(SITE):
        return file.removeprefix(SITE).split("/")[0]
    if file.startswith(STDLIB):
        return f"python: {file.removeprefix(STDLIB).split('/')[0].removesuffix('.py')}"
    if file.startswith("<"):
        return f"python: {file.strip('<>').removeprefix('frozen ')}"
    name = Path(file).name
    return f"native: {name.split('.')[0].split('-')[0]}" if ".so" in name else name or "?"


def parse(folded: str) -> list[tuple[Stack, int]]:
    """py-spy's raw format: `outer (file:line);inner (file:line) COUNT`."""
    stacks = []
    for line in folded.splitlines():
        text, _, count = line.rpartition(" ")
        stack = []
        for frame in text.split(";"):
            function, _, place = frame.rpartition(" (")
            file = place.removesuffix(")")
            head, colon, tail = file.rpartition(":")
            stack.append((function or frame, head if colon and tail.isdigit() else file))
        stacks.append((stack, int(count)))
    return stacks


def _shown(file: str) -> str:
    return file.replace(SITE, "").replace(STDLIB, "").replace(f"{ROOT}/", "")


def _table(title: str, counts: Counter[str], total: int, microseconds: float, rows: int) -> Table:
    table = Table(title=title)
    table.add_column("self" if "self" in title else "in it")
    table.add_column("us each", justify="right")
    table.add_column("where", no_wrap=True)
    for name, count in counts.most_common(rows):
        share = count / total
        table.add_row(f"{100 * share:5.1f} %", f"{microseconds * share:.1f}", name)
    return table


def show(folded: str, microseconds: float, unit: str) -> None:
    """Tables by package and by function; `microseconds` of CPU for one `unit` are shared out among them."""
    stacks = parse(folded)
    total = sum(count for _, count in stacks)
    packages: Counter[str] = Counter()
    functions: Counter[str] = Counter()
    inclusive: Counter[str] = Counter()
    threads: Counter[str] = Counter()
    for stack, count in stacks:
        frames = [frame for frame in stack if not frame[0].startswith("thread ")]
        threads[stack[0][0] if stack[0][0].startswith("thread ") else "?"] += count
        function, file = frames[-1]
        packages[group_of(file)] += count
        functions[f"{_shown(file)} {function}"] += count
        for name in {f"{_shown(file)} {function}" for function, file in frames if file.startswith(f"{ROOT}/p")}:
            inclusive[name] += count
    console = Console(width=130)
    console.print(f"{total} samples; {microseconds:.0f} us of CPU for each {unit} while sampled")
    console.print(_table(f"self time by package, us for each {unit}", packages, total, microseconds, ROWS))
    console.print(_table("self time by function", functions, total, microseconds, ROWS))
    console.print(_table("our functions with all they call", inclusive, total, microseconds, INCLUSIVE_ROWS))
    console.print(_table("self time by thread", threads, total, microseconds, ROWS))


def profile(folder: Path, *, streams: bool, native: bool) -> None:
    """Start Tollway and its upstream, load it, sample it, print."""
    output = folder / "stacks"
    with ExitStack() as stack:
        upstream = start_streaming(folder, CHUNKS, CHUNK_MILLISECONDS) if streams else start_fixed(folder)
        stack.callback(upstream.server.stop)
        gateway = tollway.start(upstream.port, folder, streaming=streams)
        stack.callback(gateway.stop)
        generator = Generator(gateway.endpoint, folder)
        if not streams:
            generator.run(WARM_SECONDS, gateway.pid)
        before = cpu_seconds(gateway.pid)
        sampler = Server(
            "py-spy",
            [
                str(setup.profiler() / "bin/py-spy"), "record", "--pid", str(gateway.pid), "--format", "raw",
                "--full-filenames", "--function", "--threads", *(("--native",) if native else ()),
                "--duration", str(SECONDS), "--rate", str(RATE), "--output", str(output),
            ],
            folder,
        )  # fmt: skip
        stack.callback(sampler.stop)
        if streams:
            run = run_streams(gateway.endpoint, gateway.pid, waves=SECONDS // 2, seed=1)
            count, unit = run.chunks, "chunk"
        else:
            count, unit = generator.run(SECONDS, gateway.pid).requests, "request"
        used = cpu_seconds(gateway.pid) - before
        sampler.wait_end(2 * SECONDS)
        show(output.read_text(), 1e6 * used / max(count, 1), unit)


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
