"""How messages name this program."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from proxy.cli.program import program


def test_on_the_path_it_is_called_by_its_name(monkeypatch: pytest.MonkeyPatch) -> None:
    """The short way."""
    monkeypatch.setattr(shutil, "which", lambda _: "/usr/bin/tollway")
    assert program() == "tollway"


def test_elsewhere_it_is_named_so_that_it_can_be_called(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The launcher of the environment, by the shorter of its two paths."""
    launcher = tmp_path / "bin" / "tollway"
    launcher.parent.mkdir()
    launcher.write_text("#!/bin/sh\necho called\n")
    launcher.chmod(0o755)
    monkeypatch.setattr(shutil, "which", lambda _: None)
    monkeypatch.setattr(sys, "executable", str(launcher.parent / "python"))
    monkeypatch.chdir(tmp_path)
    assert program() == "bin/tollway"
    assert subprocess.run([program()], capture_output=True, text=True, check=True).stdout == "called\n"


def test_without_a_launcher_the_module_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """By the interpreter that runs it."""
    monkeypatch.setattr(shutil, "which", lambda _: None)
    monkeypatch.setattr(sys, "executable", str(tmp_path / "python"))
    assert program() == f"{tmp_path}/python -m proxy"
