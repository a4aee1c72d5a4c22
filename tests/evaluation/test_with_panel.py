"""tollway bench-answers with a real panel as its candidate: its price and its cost are in the report."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path

from typer.testing import CliRunner

from proxy.cli import app
from proxy.evaluation.prompts import PAIR_SYSTEM, RUBRIC_SYSTEM
from tests.evaluation.scripted import question_lines, reply_to, write_questions
from tests.peers.behaviour import Behaviour
from tests.peers.provider import SeenRequest
from tests.support.panel_world import Cast, Member, panel_world

ROLES = (RUBRIC_SYSTEM, PAIR_SYSTEM)
QUALITY = {"two": 5.0, "three": 6.0}


@dataclass
class JudgesToo(Cast):
    """Plays a panel's members, judges of the comparison, and models that are asked by themselves."""

    members: dict[str, Member] = field(default_factory=dict)
    asked: list[tuple[str, str]] = field(default_factory=list)

    def __call__(self, seen: SeenRequest) -> Behaviour:
        messages = seen.json()["messages"]
        first = str(messages[0]["content"])
        if first in ROLES or (len(messages) == 1 and not first.startswith("[[")):
            return Behaviour(text=reply_to(seen.json(), QUALITY))
        return super().__call__(seen)


def test_a_panel_is_compared_with_its_members(tmp_path: Path) -> None:
    """Six questions; consensus-balanced writes the better answer, at its own price."""
    members = {name: Member(text="It is so, quality=5", kind="open", final="so") for name in ("one", "two", "three")}
    members["one"].written = "It is so, quality=9.0"
    questions = write_questions(tmp_path, question_lines())
    runner = CliRunner()
    with panel_world(tmp_path) as panel:
        panel.world.provider.answering = JudgesToo(members)
        judges = [part for name in ("four", "five", "spare") for part in ("--judge", f"{name}={name}-inc")]
        plan, out = str(tmp_path / "plan.json"), tmp_path / "results"
        asked = ["--baseline", "two=two-inc", "--baseline", "three=three-inc", *judges, "--questions", str(questions)]
        made = runner.invoke(app, ["bench-answers", "plan", *asked, "--out", plan, "--seed", "1"])
        assert made.exit_code == 0, made.output
        command = ["--plan", plan, "--out", str(out), "--questions", str(questions), "--base-url", panel.url + "/v1"]
        key = {"TOLLWAY_KEY": panel.world.gateway.make_key()}
        done = runner.invoke(app, ["bench-answers", "run", *command], env=key)
        assert done.exit_code == 0, done.output
    content = json.loads((out / "report.json").read_text())
    assert content["result"]["wins"] == 6
    assert content["picked"] == {"three": 6}
    panel_spent, member_spent = content["spending"]["consensus-balanced"], content["spending"]["two"]
    assert (panel_spent["basis"], panel_spent["cost"]) == ("reported", 6 * 350_000_000)
    assert member_spent["basis"] == "rates"
    assert panel_spent["output_tokens_mean"] > member_spent["output_tokens_mean"]
