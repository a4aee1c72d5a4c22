"""Servers the bench starts: each in a process group of its own, stopped by that group's id and nothing wider."""

from __future__ import annotations

import os
import shlex
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).resolve().parent.parent
"""The checkout."""
READY_SECONDS: Final = 90
STOP_SECONDS: Final = 15
POLL_SECONDS: Final = 0.1
LOG_TAIL_BYTES: Final = 2000
SYSTEM_PATHS: Final = "/usr/local/sbin:/usr/sbin"


class BenchError(Exception):
    """Something the bench needs is missing or did not work; the message says what."""


def tool(name: str) -> str:
    """Path of an installed program."""
    found = shutil.which(name) or shutil.which(name, path=SYSTEM_PATHS)
    if found is None:
        raise BenchError(f"{name} is not installed")
    return found


def free_port() -> int:
    """A loopback TCP port that nobody listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def shown(command: Sequence[str], folder: Path) -> str:
    """The command as a reader may repeat it: the checkout is `.`, the temporary folder `$TMP`."""
    line = shlex.join(command)
    return line.replace(str(folder), "$TMP").replace(f"{ROOT}/", "").replace("/usr/bin/", "").replace("/usr/sbin/", "")


class Server:
    """A running server. Its output goes to `log`, whose tail is in every error about it."""

    def __init__(self, name: str, command: Sequence[str], folder: Path, *, cwd: Path | None = None) -> None:
        self.name = name
        self.command = shown(command, folder)
        self.log = folder / f"{name}.log"
        with self.log.open("wb") as output:
            self._process = subprocess.Popen(
                command,
                cwd=cwd or folder,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        self.pid = self._process.pid

    def wait_ready(self, probe: Callable[[], bool]) -> None:
        """Returns once `probe` is true; OSError from it means not yet. BenchError when it ends or takes too long."""
        deadline = time.monotonic() + READY_SECONDS
        while time.monotonic() < deadline:
            if self._process.poll() is not None:
                raise BenchError(f"{self.name} ended with {self._process.returncode}: {self.tail()}")
            try:
                if probe():
                    return
            except OSError:
                pass
            time.sleep(POLL_SECONDS)
        self.stop()
        raise BenchError(f"{self.name} was not ready within {READY_SECONDS} s: {self.tail()}")

    def alive(self) -> bool:
        """Whether the server's first process still runs."""
        return self._process.poll() is None

    def wait_end(self, seconds: float) -> None:
        """Returns once a program that ends by itself has done so. BenchError when it failed or takes longer."""
        try:
            status = self._process.wait(seconds)
        except subprocess.TimeoutExpired:
            status = None
        if status != 0:
            raise BenchError(
                f"{self.name} {'did not end' if status is None else f'ended with {status}'}: {self.tail()}"
            )

    def stop(self) -> None:
        """SIGTERM to the group, SIGKILL after STOP_SECONDS; returns when the first process is gone."""
        if self._process.poll() is None:
            self._signal(signal.SIGTERM)
            try:
                self._process.wait(STOP_SECONDS)
            except subprocess.TimeoutExpired:
                self._signal(signal.SIGKILL)
                self._process.wait()
        self._signal(signal.SIGKILL)

    def kill(self) -> None:
        """SIGKILL to the group, as a machine dies; returns when the first process is gone."""
        self._signal(signal.SIGKILL)
        self._process.wait()

    def tail(self) -> str:
        """The end of what the server printed."""
        return self.log.read_bytes()[-LOG_TAIL_BYTES:].decode(errors="replace").strip()

    def _signal(self, number: signal.Signals) -> None:
        try:
            os.killpg(self.pid, number)
        except ProcessLookupError:
            return


def port_open(port: int) -> bool:
    """Whether something on loopback accepts connections at `port`."""
    with socket.socket() as probe:
        probe.settimeout(1)
        return probe.connect_ex(("127.0.0.1", port)) == 0
