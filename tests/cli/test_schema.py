"""tollway schema, run as an operator runs it."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "proxy", "schema", *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False, cwd=ROOT, timeout=30)


def test_one_file_as_json_schema() -> None:
    """With or without its folder."""
    assert json.loads(run("policies/teams.yaml").stdout)["title"] == "policies/teams.yaml"
    assert run("teams.yaml").stdout == run("policies/teams.yaml").stdout


def test_markdown_is_the_page_in_docs() -> None:
    """Byte for byte, whatever order a set has in this process."""
    assert run("--markdown").stdout == (ROOT / "docs" / "configuration.md").read_text()
    assert "## policies/limits.yaml" in run("limits.yaml", "--markdown").stdout


def test_unknown_file_names_the_near_miss() -> None:
    """And fails."""
    failed = run("team.yaml")
    assert failed.returncode != 0
    assert "teams.yaml" in failed.stderr
