"""docs/money.md: its commands exist, and its example of a refusal is what is answered."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

from typer.main import get_command
from typer.testing import CliRunner

from plugins.spend_caps.plugin import SpendCapsSettings
from plugins.spend_caps.refusal import empty
from proxy.cli import app
from proxy.ledger.api import Purse, PurseState
from proxy.operation_table import ADMIN
from proxy.pricing.money import ZERO, Nano
from proxy.pricing.quote import Quote

PAGE = (Path(__file__).resolve().parents[2] / "docs" / "money.md").read_text()


def test_the_commands_are_those_of_the_program() -> None:
    """Each command and each of its options."""
    lines = [line.strip().removeprefix("tollway ") for line in PAGE.splitlines() if line.startswith("    tollway ")]
    assert len(lines) >= 8
    for line in lines:
        words = shlex.split(line.partition(">")[0])
        shown = CliRunner().invoke(app, [*words[:2], "--help"], terminal_width=300)
        assert shown.exit_code == 0, line
        for option in (word for word in words if word.startswith("--")):
            assert option in shown.output, f"{option} of {line}"
    assert {"credit", "partners", "ledger"} <= set(get_command(app).commands)  # type: ignore[attr-defined]


def test_the_endpoints_and_settings_are_there() -> None:
    """On the admin listener, and in the plugin."""
    for method, path in re.findall(r"(?m)^    (GET|POST) +(/\S+)", PAGE):
        assert any(known.template == path and method in known.methods for known in ADMIN), path
    assert "clamp_purse" in SpendCapsSettings.model_fields


def test_the_refusal_is_the_one_that_is_answered() -> None:
    """Words and members."""
    state = PurseState(Purse("team", "acme"), Nano(4_000_000), ZERO, ZERO)
    refusal = empty(state, Quote(1, 1, 1, Nano(12_500_000), None))
    flat = " ".join(PAGE.split())
    assert refusal.message.partition(" USD left")[0] + " USD left" in flat
    assert refusal.details is not None
    for name, value in refusal.details["balance"].items():
        assert f'"{name}": "{value}"' in flat
