"""A real proxy in a process of its own, on free ports, with a configuration folder of its own."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Self

import yaml

START_SECONDS_MAX = 30
STOP_SECONDS_MAX = 40
ROOT = Path(__file__).resolve().parents[2]


class GatewayProcess:
    """`with GatewayProcess(folder) as gateway:`; `gateway.url("api")` is where a client goes."""

    def __init__(self, folder: Path, *, environment: Mapping[str, str] | None = None) -> None:
        self.folder = folder
        self._environment = {**os.environ, **(environment or {}), "PYTHONPATH": str(ROOT)}
        self._process: subprocess.Popen[str] | None = None
        self._addresses: dict[str, tuple[str, int]] = {}

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def start(self) -> None:
        """Returns once the listeners are bound. Raises RuntimeError with what the process printed."""
        with (self.folder / "serve.log").open("a") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "proxy", "serve", "--json", "--config", str(self.folder / "config.yaml")],
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
                cwd=self.folder,
                env=self._environment,
            )
        stdout = self._process.stdout
        line = stdout.readline() if stdout is not None else ""
        if not line:
            raise RuntimeError(f"the gateway did not start:\n{self.log()}")
        self._addresses = {name: (address[0], address[1]) for name, address in json.loads(line)["listeners"].items()}

    def stop(self) -> int:
        """SIGTERM, wait for the drain, return the exit status. A second call does nothing."""
        if self._process is not None and self._process.poll() is None:
            self._process.send_signal(signal.SIGTERM)
        return self.wait()

    def wait(self) -> int:
        """Wait for the end of a process that was told to end; its exit status. 0 where it was waited for before."""
        if self._process is None:
            return 0
        process, self._process = self._process, None
        try:
            return process.wait(STOP_SECONDS_MAX)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
            raise
        finally:
            if process.stdout is not None:
                process.stdout.close()

    def signal(self, number: int) -> None:
        """Send a signal and go on."""
        if self._process is not None:
            self._process.send_signal(number)

    def kill(self) -> None:
        """SIGKILL: the crash of a machine, as far as a process can tell."""
        if self._process is not None:
            process, self._process = self._process, None
            process.kill()
            process.wait()
            if process.stdout is not None:
                process.stdout.close()

    @property
    def running(self) -> bool:
        """Neither stopped nor dead."""
        return self._process is not None and self._process.poll() is None

    @property
    def pid(self) -> int:
        """The process under test."""
        if self._process is None:
            raise RuntimeError("not running")
        return self._process.pid

    def address(self, listener: str) -> tuple[str, int]:
        """Where a listener is bound."""
        return self._addresses[listener]

    def url(self, listener: str, *, scheme: str = "http") -> str:
        """Base address of a listener, without a path."""
        host, port = self._addresses[listener]
        return f"{scheme}://{host}:{port}"

    def cli(self, *arguments: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        """Run `tollway ARGUMENTS --config ...` against the same folder, as an operator would."""
        return subprocess.run(
            [sys.executable, "-m", "proxy", *arguments, "--config", str(self.folder / "config.yaml")],
            capture_output=True,
            text=True,
            check=check,
            cwd=self.folder,
            env=self._environment,
            timeout=60,
        )

    def make_key(self, *, team: str = "default", user: str = "tester", caps: tuple[str, ...] = ()) -> str:
        """A new key of ours, by the command an operator uses."""
        extra = [part for cap in caps for part in ("--cap", cap)]
        made = self.cli("keys", "create", "--team", team, "--user", user, "--json", *extra)
        return str(json.loads(made.stdout)["key"])

    def log(self) -> str:
        """What the process wrote to stderr."""
        return (self.folder / "serve.log").read_text()

    def audit_lines(self) -> list[dict[str, Any]]:
        """The audit log so far, without a line that is still being written."""
        path = self.folder / "var" / "audit.jsonl"
        written = path.read_text() if path.exists() else ""
        return [json.loads(line) for line in written.splitlines(keepends=True) if line.endswith("\n")]


def write_folder(folder: Path, *, config: Mapping[str, Any], policies: Mapping[str, Mapping[str, Any]]) -> Path:
    """A configuration folder; `policies` by file name without `.yaml`. Returns the folder."""
    (folder / "policies").mkdir(parents=True, exist_ok=True)
    (folder / "config.yaml").write_text(yaml.safe_dump(dict(config), sort_keys=False))
    for name, content in policies.items():
        (folder / "policies" / f"{name}.yaml").write_text(yaml.safe_dump(dict(content), sort_keys=False))
    return folder
