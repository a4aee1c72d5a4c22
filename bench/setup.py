"""The bench's own environments under bench/env, made on first use from the locks in bench/locks."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from bench.process import ROOT, BenchError, tool

BENCH: Final = ROOT / "bench"
LOCKS: Final = BENCH / "locks"
ENVIRONMENTS: Final = BENCH / "env"
STAMP: Final = ".lock.sha256"
INSTALL_SECONDS: Final = 1800
DEBIAN: Final = {"wrk": "wrk", "nginx": "nginx", "node": "nodejs", "npm": "npm"}
"""Program -> Debian package."""


def _run(command: Sequence[str], folder: Path) -> None:
    done = subprocess.run(
        command, cwd=folder, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=INSTALL_SECONDS,
        check=False,
    )  # fmt: skip
    if done.returncode:
        raise BenchError(f"{' '.join(command)} failed: {(done.stderr or done.stdout)[-2000:]}")


def _installed(program: str) -> bool:
    try:
        tool(program)
    except BenchError:
        return False
    return True


def programs() -> None:
    """wrk, nginx, node and npm are there afterwards; as root on Debian they are installed."""
    missing = [name for name in DEBIAN if not _installed(name)]
    if not missing:
        return
    install = ["apt-get", "install", "-y", "--no-install-recommends", *(DEBIAN[name] for name in missing)]
    if os.geteuid() != 0 or shutil.which("apt-get") is None:
        raise BenchError(f"{', '.join(missing)} not installed; as root: {' '.join(install)}")
    print(f"installing {', '.join(missing)}", flush=True)
    _run(["apt-get", "update", "-qq"], ROOT)
    _run(install, ROOT)


def _stale(folder: Path, lock: Path) -> str | None:
    """The lock's digest when `folder` was not made from it, else None."""
    digest = hashlib.sha256(lock.read_bytes()).hexdigest()
    stamp = folder / STAMP
    return None if stamp.exists() and stamp.read_text() == digest else digest


def python_environment(name: str) -> Path:
    """bench/env/NAME, a virtual environment with exactly what bench/locks/NAME.lock says."""
    folder, lock = ENVIRONMENTS / name, LOCKS / f"{name}.lock"
    if (digest := _stale(folder, lock)) is not None:
        print(f"making bench/env/{name} (first use)", flush=True)
        _run([sys.executable, "-m", "venv", "--clear", str(folder)], ROOT)
        _run([str(folder / "bin/pip"), "install", "--quiet", "--no-deps", "--require-hashes", "-r", str(lock)], ROOT)
        (folder / STAMP).write_text(digest)
    return folder


def node_environment(name: str) -> Path:
    """bench/env/NAME with the node packages of bench/locks/NAME/package-lock.json; no install script is run."""
    folder, lock = ENVIRONMENTS / name, LOCKS / name / "package-lock.json"
    if (digest := _stale(folder, lock)) is not None:
        print(f"making bench/env/{name} (first use)", flush=True)
        folder.mkdir(parents=True, exist_ok=True)
        for file in ("package.json", "package-lock.json"):
            shutil.copyfile(lock.with_name(file), folder / file)
        _run(["npm", "ci", "--ignore-scripts", "--no-audit", "--no-fund"], folder)
        (folder / STAMP).write_text(digest)
    return folder


def litellm() -> Path:
    """LiteLLM's environment."""
    return python_environment("litellm")


def portkey() -> Path:
    """Portkey's environment."""
    return node_environment("portkey")


def profiler() -> Path:
    """py-spy's environment."""
    return python_environment("profiler")
