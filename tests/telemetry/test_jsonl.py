"""JSON lines reach the file whole, in order and once, whatever the disk and other writers do."""

from __future__ import annotations

import json
import re
import stat
import subprocess
import sys
import textwrap
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from proxy.telemetry import jsonl
from proxy.telemetry.jsonl import JsonLines

LARGE = 1 << 30


class Events:
    """A log that keeps its events."""

    def __init__(self) -> None:
        self.seen: list[tuple[str, dict[str, Any]]] = []

    def warning(self, event: str, **fields: Any) -> None:
        self.seen.append((event, fields))

    error = warning

    def names(self) -> list[str]:
        return [event for event, _ in self.seen]


type Opener = Callable[..., JsonLines]


@pytest.fixture
def events() -> Events:
    return Events()


@pytest.fixture
def opened(tmp_path: Path, events: Events) -> Iterator[Opener]:
    """Opens files of lines; closes them after the test."""
    files: list[JsonLines] = []

    def make(bytes_max: int = LARGE, files_max: int = 3, name: str = "a.jsonl") -> JsonLines:
        lines = JsonLines(tmp_path / name, bytes_max, files_max, events, flush_seconds=0.001)
        lines.start()
        files.append(lines)
        return lines

    yield make
    for lines in files:
        lines.close()


def numbers(*paths: Path) -> list[int]:
    """The numbers in files of lines, each line checked to be whole."""
    found: list[int] = []
    for path in paths:
        data = path.read_bytes()
        assert data.endswith(b"\n")
        found.extend(json.loads(line)["n"] for line in data.splitlines())
    return found


def rotated(path: Path) -> list[Path]:
    """All files of one path, oldest first."""
    old = [one for one in path.parent.iterdir() if re.fullmatch(re.escape(path.name) + r"\.\d+", one.name)]
    return [*sorted(old, key=lambda one: -int(one.suffix[1:])), path]


def test_lines_are_written_in_order(opened: Opener) -> None:
    """Each as one JSON document on a line of its own."""
    lines = opened()
    for number in range(500):
        lines.write({"n": number, "text": "a\nb"})

    assert lines.flush()
    assert list(range(500)) == numbers(lines.path)


def test_file_is_for_its_owner_alone(opened: Opener, tmp_path: Path) -> None:
    """Mode 0600, also where the file was there before with another."""
    (tmp_path / "b.jsonl").touch(mode=0o644)
    lines, present = opened(), opened(name="b.jsonl")

    assert stat.S_IMODE(lines.path.stat().st_mode) == 0o600
    assert stat.S_IMODE(present.path.stat().st_mode) == 0o600


def test_lines_of_an_earlier_run_stay(opened: Opener) -> None:
    """Opening appends; half a line left by a power cut is ended first."""
    lines = opened()
    lines.path.write_bytes(b'{"n":1}\n{"n":')
    lines.close()
    again = opened()
    again.write({"n": 2})
    assert again.flush()

    assert lines.path.read_bytes().splitlines() == [b'{"n":1}', b'{"n":', b'{"n":2}']


def test_rotation_neither_loses_nor_splits_a_line(opened: Opener) -> None:
    """Over many rotations every number is there once, in order, and no file is too large."""
    lines = opened(bytes_max=1_000, files_max=1_000)
    for number in range(3_000):
        lines.write({"n": number, "pad": "x" * (number % 40)})
    assert lines.flush()

    files = rotated(lines.path)
    assert len(files) > 50
    assert list(range(3_000)) == numbers(*files)
    assert all(path.stat().st_size <= 1_000 for path in files)
    assert all(stat.S_IMODE(path.stat().st_mode) == 0o600 for path in files)


def test_only_so_many_old_files_are_kept(opened: Opener) -> None:
    """The oldest go; what is kept is the newest without a gap."""
    lines = opened(bytes_max=100, files_max=3)
    for number in range(200):
        lines.write({"n": number})
    assert lines.flush()

    files = rotated(lines.path)
    assert len(files) == 4
    kept = numbers(*files)
    assert list(range(200 - len(kept), 200)) == kept


def test_line_longer_than_a_file_stands_alone(opened: Opener) -> None:
    """It is written whole, in a file of its own."""
    lines = opened(bytes_max=100, files_max=10)
    for number, size in enumerate((1, 500, 1)):
        lines.write({"n": number, "pad": "x" * size})
    assert lines.flush()

    assert [numbers(path) for path in rotated(lines.path)] == [[0], [1], [2]]


def test_close_writes_what_is_queued(opened: Opener, events: Events) -> None:
    """Nothing is lost at a regular end, and nothing is written after it."""
    lines = opened()
    for number in range(2_000):
        lines.write({"n": number})
    lines.close()
    assert list(range(2_000)) == numbers(lines.path)

    lines.write({"n": 1})
    assert lines.lost == 1
    assert events.names() == ["lines_lost"]


def test_queue_is_bounded_and_says_so_once(tmp_path: Path, events: Events, monkeypatch: pytest.MonkeyPatch) -> None:
    """Beyond its limit lines are counted as lost with one warning; what was accepted is written."""
    monkeypatch.setattr(jsonl, "QUEUE_BYTES_MAX", 1_000)
    lines = JsonLines(tmp_path / "a.jsonl", LARGE, 3, events, flush_seconds=0.001)
    for number in range(1_000):
        lines.write({"n": number})
    kept = 1_000 - lines.lost
    assert 0 < kept < 200
    assert events.names() == ["lines_lost"]

    lines.start()
    assert lines.flush()
    lines.write({"n": 1_000})
    lines.close()
    assert [*range(kept), 1_000] == numbers(lines.path)


def test_two_writers_of_one_path_share_it(opened: Opener) -> None:
    """As before and after a reload: neither loses a line, and a rotation by one is followed by the other."""
    one, other = opened(bytes_max=2_000, files_max=1_000), opened(bytes_max=2_000, files_max=1_000)
    for number in range(0, 2_000, 2):
        one.write({"n": number})
        other.write({"n": number + 1})
    assert one.flush()
    assert other.flush()

    assert list(range(2_000)) == sorted(numbers(*rotated(one.path)))


def test_file_moved_away_is_made_anew(opened: Opener) -> None:
    """Somebody else's rotation is followed without a signal."""
    lines = opened()
    lines.write({"n": 1})
    assert lines.flush()
    lines.path.rename(lines.path.with_name("moved"))
    lines.write({"n": 2})
    assert lines.flush()

    assert (numbers(lines.path.with_name("moved")), numbers(lines.path)) == ([1], [2])


def test_what_json_or_utf8_cannot_hold_is_escaped(opened: Opener) -> None:
    """A lone surrogate or a huge integer does not make a line disappear."""
    lines = opened()
    lines.write({"n": 2**70, "text": "\ud800"})
    assert lines.flush()

    assert numbers(lines.path) == [2**70]


@pytest.mark.parametrize("limits", [(0, 1), (1, 0)])
def test_limits_below_one_are_refused(tmp_path: Path, events: Events, limits: tuple[int, int]) -> None:
    """Nothing could be written."""
    with pytest.raises(ValueError, match="at least 1"):
        JsonLines(tmp_path / "a", *limits, events)


def test_path_that_cannot_be_opened_is_said_at_start(tmp_path: Path, events: Events) -> None:
    """Not at the first exchange."""
    (tmp_path / "folder").mkdir()
    with pytest.raises(OSError, match="directory"):
        JsonLines(tmp_path / "folder", LARGE, 3, events).start()


FULL_DISK = """
    import os, resource, sys
    from pathlib import Path
    from proxy.telemetry.jsonl import JsonLines

    class Log:
        def warning(self, event, **fields):
            print(event, fields.get("error", ""), flush=True)
        error = warning

    hard = resource.getrlimit(resource.RLIMIT_FSIZE)[1]
    resource.setrlimit(resource.RLIMIT_FSIZE, (1_000, hard))   # a write beyond it is cut short, then fails
    lines = JsonLines(Path(sys.argv[1]), 1 << 30, 3, Log(), flush_seconds=0.001)
    lines.start()
    for number in range(200):
        lines.write({"n": number})
    assert not lines.flush(0.2)
    assert os.path.getsize(sys.argv[1]) <= 1_000
    resource.setrlimit(resource.RLIMIT_FSIZE, (hard, hard))
    assert lines.flush(10)
    lines.close()
    assert lines.lost == 0
"""


def test_full_disk_is_said_once_and_no_line_is_lost_or_split(tmp_path: Path) -> None:
    """The write that failed half-way is cut back, kept and repeated until there is room."""
    path = tmp_path / "a.jsonl"
    run = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(FULL_DISK), str(path)],
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
        cwd=Path(jsonl.__file__).parents[2],
    )

    assert (run.returncode, run.stderr) == (0, "")
    assert [line.strip() for line in run.stdout.splitlines()] == [
        "lines_not_written File too large",
        "lines_written_again",
    ]
    assert list(range(200)) == numbers(path)


FULL_AT_CLOSE = """
    import resource, sys
    from pathlib import Path
    from proxy.telemetry.jsonl import JsonLines

    class Log:
        def warning(self, event, **fields):
            print(event, fields.get("lost", ""), flush=True)
        error = warning

    hard = resource.getrlimit(resource.RLIMIT_FSIZE)[1]
    lines = JsonLines(Path(sys.argv[1]), 1 << 30, 3, Log(), flush_seconds=0.001)
    lines.start()
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, hard))
    for number in range(20):
        lines.write({"n": number})
    lines.close()
    assert lines.lost == 20, lines.lost
"""


def test_close_on_a_full_disk_ends_and_counts_what_it_lost(tmp_path: Path) -> None:
    """A stop is not held up by a disk."""
    run = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(FULL_AT_CLOSE), str(tmp_path / "a.jsonl")],
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
        cwd=Path(jsonl.__file__).parents[2],
    )

    assert (run.returncode, run.stderr) == (0, "")
    assert "lines_lost 20" in run.stdout
