"""The journal: a JSON line for each call that came to its end, written as it did. A run that broke off goes on there.

The first line names the plan. A last line that was cut by the end of the process is dropped; anything else that cannot
be read stops the run, because what is missing is not known.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

import orjson

from proxy.evaluation.errors import BadJournal, BadPlan, Stopped

VERSION: Final = 1
LINE_BYTES_MAX: Final = 4 << 20
OK: Final = "ok"
FAILED: Final = "failed"
"""The call failed for good."""
ABSTAINED: Final = "abstained"
"""A judge that never gave a verdict that can be read."""


def key_of(*parts: str) -> str:
    """Of a call: what it is for, about what, by whom."""
    return "|".join(parts)


@dataclass(frozen=True, slots=True)
class Entry:
    """One call, retries included."""

    key: str
    status: str
    """ok | failed | abstained"""
    text: str = ""
    """What was answered, as it came."""
    reason: str = ""
    """Why it failed or abstained."""
    verdict: list[bool] | list[float] | None = None
    """Of a rubric: met or not. Of a pair: the scores in the order shown."""
    finish_reason: str = ""
    tries: int = 1
    seconds: float = 0.0
    """Of the last try."""
    input_tokens: int = 0
    output_tokens: int = 0
    cost: int | None = None
    """Nano-dollars of all tries; None: not known."""
    cost_basis: str = ""
    """reported | rates"""
    extra: Mapping[str, Any] = field(default_factory=dict)
    """What the gateway said beside the answer."""


class Journal:
    """Append-only. One process at a time writes it."""

    def __init__(self, path: Path, plan_digest: str) -> None:
        self.path = path
        self.entries: dict[str, Entry] = {}
        self._plan_digest = plan_digest
        self._file: int | None = None

    def read(self) -> Self:
        """What is there already. Raises BadPlan where another plan made it, BadJournal where it is damaged."""
        for number, line in self._lines():
            if number == 1:
                self._check_head(line)
                continue
            try:
                entry = Entry(**line)
            except TypeError as error:
                raise BadJournal(f"{self.path}:{number}: this is no line of a journal.") from error
            self.entries[entry.key] = entry
        return self

    def __enter__(self) -> Self:
        flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND
        self._file = os.open(self.path, flags, 0o600)
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            os.close(self._file)
            self._file = None
            raise Stopped(f"Another run is writing {self.path}. Wait for it, or name another folder.") from error
        self._drop_cut_line()
        if os.fstat(self._file).st_size == 0:
            self._write({"journal": VERSION, "plan": self._plan_digest})
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        if self._file is not None:
            os.close(self._file)
            self._file = None

    def add(self, entry: Entry) -> None:
        """Written before it counts."""
        self._write(asdict(entry))
        self.entries[entry.key] = entry

    def _write(self, content: dict[str, Any]) -> None:
        if self._file is None:
            raise RuntimeError("the journal is not open")
        left = memoryview(orjson.dumps(content, option=orjson.OPT_APPEND_NEWLINE))
        while left:
            left = left[os.write(self._file, left) :]

    def _lines(self) -> Iterator[tuple[int, dict[str, Any]]]:
        try:
            file = self.path.open("rb")
        except FileNotFoundError:
            return
        with file:
            number = 0
            while line := file.readline(LINE_BYTES_MAX):
                number += 1
                if not line.endswith(b"\n") and not file.read(1):
                    return
                try:
                    content = orjson.loads(line)
                except orjson.JSONDecodeError as error:
                    raise BadJournal(f"{self.path}:{number}: {error}. Mend it, or begin anew elsewhere.") from error
                if not isinstance(content, dict):
                    raise BadJournal(f"{self.path}:{number}: this is no line of a journal.")
                yield number, content

    def _check_head(self, line: dict[str, Any]) -> None:
        if line.get("journal") != VERSION:
            raise BadJournal(f"{self.path} is no journal of this version. Begin anew elsewhere.")
        if line.get("plan") != self._plan_digest:
            raise BadPlan(
                f"{self.path} was made by another plan. Results are reported by the plan that they were made by: "
                "name that one, or another folder."
            )

    def _drop_cut_line(self) -> None:
        """What a process that died was writing."""
        with self.path.open("r+b") as file:
            size = file.seek(0, os.SEEK_END)
            place, tail = size, b""
            while place > 0 and b"\n" not in tail:
                place = max(0, place - LINE_BYTES_MAX)
                file.seek(place)
                tail = file.read(min(LINE_BYTES_MAX, size - place))
            file.truncate(place + tail.rfind(b"\n") + 1)
