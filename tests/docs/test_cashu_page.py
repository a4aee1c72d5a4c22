"""docs/cashu.md: its settings, codes and commands are those of the program."""

from __future__ import annotations

import re
import shlex
import textwrap
from pathlib import Path

import yaml
from typer.testing import CliRunner

from proxy.cli import app
from proxy.config.payment_entries import MintEntry, PaymentsEntry
from proxy.config.payments import build_payments
from proxy.config.problems import Marks, Problem
from proxy.errors import CODES
from proxy.payments.cashu.mint import NEEDED

PAGE = (Path(__file__).resolve().parents[2] / "docs" / "cashu.md").read_text()


def test_the_example_turns_the_rail_on() -> None:
    """As it stands."""
    text = PAGE.split("    payments:\n", 1)[1].split("\n\n", 1)[0]
    entry = PaymentsEntry.model_validate(yaml.safe_load(textwrap.dedent("    payments:\n" + text))["payments"])
    problems: list[Problem] = []
    payments = build_payments(entry, Marks("config.yaml"), problems, tiers=(), root=Path())
    assert not problems
    assert payments is not None and payments.cashu is not None
    for name in re.findall(r"`mints\[\]\.(\w+)`", PAGE):
        assert name in MintEntry.model_fields


def test_codes_have_the_status_that_is_said() -> None:
    """Each row of the table; and every code of the rail has one."""
    rows = dict(re.findall(r"(?m)^\| `(\w+)` \| (\d{3}) \|", PAGE))
    assert {code: str(CODES[code].status) for code in rows} == rows
    assert {code for code in CODES if code.startswith("cashu_")} <= rows.keys()


def test_what_a_mint_needs_is_said() -> None:
    """The protocol's documents by number."""
    assert all(f"NUT-{nut:0>2}" in PAGE for nut in NEEDED)


def test_the_commands_are_those_of_the_program() -> None:
    """With their options."""
    lines = [line.strip().removeprefix("tollway ") for line in PAGE.splitlines() if line.startswith("    tollway ")]
    assert len(lines) >= 3
    for line in lines:
        words = shlex.split(line.partition(">")[0])
        shown = CliRunner().invoke(app, [*words[:2], "--help"], terminal_width=300)
        assert shown.exit_code == 0, line
        assert all(word in shown.output for word in words if word.startswith("--")), line
