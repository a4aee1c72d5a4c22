"""docs/bench-answers.md: its commands and figures are those of the program."""

from __future__ import annotations

import json
import re
import shlex
from pathlib import Path

from typer.testing import CliRunner

from proxy.cli import app
from proxy.cli.bench_answers import DEFAULT_CANDIDATE, KEY_VARIABLE
from proxy.evaluation.plan import vendor_of
from proxy.evaluation.questions import Question
from proxy.evaluation.running import calls_max
from proxy.evaluation.statistics import upper_bound
from tests.evaluation.scripted import plan

PAGE = (Path(__file__).resolve().parents[2] / "docs" / "bench-answers.md").read_text()


def test_the_commands_are_those_of_the_program() -> None:
    """With their options; the vendors of its models are known."""
    lines = [line.strip() for line in PAGE.splitlines() if line.startswith("    ")]
    assert len(lines) == 3
    for line in lines:
        words = shlex.split(line.partition("tollway ")[2])
        shown = CliRunner().invoke(app, [*words[:2], "--help"], terminal_width=300)
        assert shown.exit_code == 0, line
        assert all(word in shown.output for word in words if word.startswith("--")), line
    assert all(vendor_of(name) for name in re.findall(r"--(?:judge|baseline) (\S+)", lines[0]))
    for option in re.findall(r"--[a-z][a-z-]+", PAGE):
        helps = [CliRunner().invoke(app, ["bench-answers", name, "--help"]).output for name in ("plan", "run")]
        assert any(option in text for text in helps), option
    assert KEY_VARIABLE in PAGE
    assert f"`{DEFAULT_CANDIDATE}`" in PAGE


def test_the_figures_are_right() -> None:
    """20 calls a question with three baselines and three judges; bounds as computed."""
    assert calls_max(plan()) == 6 * 20
    assert "20 calls a question, 2,000" in PAGE
    assert (round(100 * upper_bound(0, 100), 1), round(100 * upper_bound(5, 100), 1)) == (3.0, 10.2)
    assert "0 of 100 still allows for 3.0 %, 5 of 100 for 10.2 %" in PAGE


def test_the_example_of_a_question_is_one() -> None:
    """As far as its dots allow."""
    (shown,) = re.findall(r"```json\n(.*?)```", PAGE, re.DOTALL)
    line = json.loads(shown)
    assert Question.model_validate({**line, "question": "What is it, then?"}).points_max == 4
