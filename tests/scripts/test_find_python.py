"""scripts/find-python: candidates are run, not believed."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).resolve().parents[2] / "scripts" / "find-python"
REAL = os.path.realpath(sys.executable)


def program(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"#!/bin/bash\n{text}\n")
    path.chmod(0o755)


@pytest.fixture
def machine(tmp_path: Path) -> Path:
    """A machine with the usual tools and an old python3."""
    tools = tmp_path / "bin"
    program(tools / "python3", "exit 1   # 3.11: the version check fails")
    for name in ("bash", "env", "grep", "sort", "sed"):
        (tools / name).symlink_to(next(p for p in (Path("/usr/bin") / name, Path("/bin") / name) if p.exists()))
    return tmp_path


def find(machine: Path) -> subprocess.CompletedProcess[str]:
    environment = {"PATH": str(machine / "bin"), "HOME": str(machine)}
    return subprocess.run([str(SCRIPT)], capture_output=True, text=True, env=environment, timeout=30, check=False)


def test_one_on_the_path_is_taken_and_its_real_path_printed(machine: Path) -> None:
    """A link is followed."""
    (machine / "bin" / "python3.13").symlink_to(REAL)
    assert find(machine).stdout.strip() == REAL


def test_a_shim_that_fails_is_passed_over_for_pyenvs_own(machine: Path) -> None:
    """The shim says 3.13 and fails; the prefix of an installed version works."""
    program(machine / "bin" / "python3.13", 'echo "pyenv: python3.13: command not found" >&2; exit 127')
    prefix = machine / "versions" / "3.13.1"
    (prefix / "bin").mkdir(parents=True)
    (prefix / "bin" / "python3").symlink_to(REAL)
    program(
        machine / "bin" / "pyenv",
        f'case "$1" in versions) printf "3.11.7\\n3.13.1\\n" ;; prefix) [ "$2" = 3.13.1 ] && echo {prefix} ;; esac',
    )
    assert find(machine).stdout.strip() == REAL


def test_pyenv_is_found_without_being_on_the_path(machine: Path) -> None:
    """Its folder is enough."""
    folder = machine / ".pyenv" / "versions" / "3.14.0" / "bin"
    folder.mkdir(parents=True)
    (folder / "python3").symlink_to(REAL)
    assert find(machine).stdout.strip() == REAL


def test_with_none_it_stops_and_names_a_command_that_installs_one(machine: Path) -> None:
    """On standard error, with nothing on standard output."""
    program(machine / "bin" / "pyenv", "exit 0")
    found = find(machine)
    assert found.returncode == 1
    assert found.stdout == ""
    assert "pyenv install 3.13" in found.stderr
