"""A configuration without files for the commands on keys, teams, spend and the ledger."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path

import pytest
import typer
from click.testing import Result
from typer.testing import CliRunner

from proxy.cli import opening
from proxy.config.schema import Generation
from tests.support.fakes import FakeClock, cap, generation, team

Tollway = Callable[..., Result]


@pytest.fixture
def operator_clock(monkeypatch: pytest.MonkeyPatch) -> FakeClock:
    """Noon in July."""
    clock = FakeClock(1_782_900_000_000)
    monkeypatch.setattr(opening, "CLOCK", clock)
    return clock


@pytest.fixture
def configured(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, operator_clock: FakeClock) -> Generation:
    """Two teams; red has caps of its own and of its organisation."""
    made = generation(
        teams=(team("red", caps=(cap("5"), cap("100", "total"))), team("blue")),
        organisations={"acme": (cap("500", "month"),)},
    )
    made = dataclasses.replace(made, root=tmp_path)
    (tmp_path / "config.yaml").write_text("")
    monkeypatch.setattr(opening, "load_generation", lambda path: made)
    return made


@pytest.fixture
def run_command(configured: Generation) -> Callable[[typer.Typer], Tollway]:
    """From a command group to a function that runs it with the configuration."""

    def bind(app: typer.Typer) -> Tollway:
        def run(*arguments: str) -> Result:
            config = str(configured.root / "config.yaml")
            return CliRunner().invoke(app, [*arguments, "--config", config], terminal_width=200)

        return run

    return bind
