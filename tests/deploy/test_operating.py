"""docs/operating.md says what is so: metrics, commands, files."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest
from typer.testing import CliRunner

from proxy.cli import app
from proxy.exchange import Finish
from proxy.telemetry.metrics import Metrics

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs" / "operating.md").read_text()
COMMANDS = sorted(
    {
        line.partition("#")[0].strip()
        for file in (PAGE, (ROOT / "README.md").read_text())
        for line in re.findall(r"(?m)^(?:    |\$ (?:\.venv/bin/)?)(tollway .*)$", file)
    }
)


def test_every_metric_is_listed_with_its_labels() -> None:
    """And no metric that is not there."""
    metrics = Metrics(models=("m",), teams=("t",), upstreams=("u",))
    there = {}
    for family in metrics.registry.collect():
        if family.name.startswith("tollway_"):
            there[family.name + ("_total" if family.type == "counter" else "")] = family.type
    rows = re.findall(r"(?m)^\| `(tollway_\w+)` \| (\w+) \| ([\w, ]*?) ?\| ", PAGE)
    assert {name: kind for name, kind, _ in rows} == there
    labels = {name: tuple(part for part in text.split(", ") if part) for name, _, text in rows}
    for family in (metrics.requests, metrics.tokens, metrics.charged, metrics.listed, metrics.attempts):
        assert labels[f"{family.name}_total"] == family.labels
    for family in (metrics.first_byte, metrics.total, metrics.upstream_seconds, metrics.in_flight, metrics.caps_left):
        assert labels[family.name] == family.labels


def test_alerts_ask_for_metrics_that_exist() -> None:
    """By name, without what Prometheus appends to a histogram."""
    listed = set(re.findall(r"(?m)^\| `(tollway_\w+)` \|", PAGE))
    asked = {name.removesuffix("_bucket") for name in re.findall(r"\b(tollway_\w+)(?=[\[{ ])", PAGE)}
    assert asked and asked <= listed


def test_every_outcome_is_named() -> None:
    """As the metrics and the audit spell it."""
    for finish in Finish:
        assert finish.value in PAGE


@pytest.mark.parametrize("command", COMMANDS)
def test_commands_are_understood(command: str) -> None:
    """Each option of a command in the docs is one of its options."""
    words = shlex.split(command)[1:]
    path = [word for word in words if re.fullmatch(r"[a-z]+", word)][:2]
    if words[:1] == ["pay"] and words[1].startswith("-"):
        path = ["pay", "request"]  # What begins with no command is a request.
    shown = CliRunner().invoke(app, [*path, "--help"], env={"COLUMNS": "200"})
    if shown.exit_code:
        shown = CliRunner().invoke(app, [*path[:1], "--help"], env={"COLUMNS": "200"})
    assert shown.exit_code == 0, shown.output
    for word in words:
        if word.startswith("--"):
            assert word in shown.output


@pytest.mark.parametrize("link", sorted(set(re.findall(r"\]\(([^)#]+)\)", PAGE))))
def test_links_lead_somewhere(link: str) -> None:
    """Relative to docs/."""
    assert (ROOT / "docs" / link).exists()
