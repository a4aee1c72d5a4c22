"""tollway bench-answers: plan, run through a real proxy, report; and what it refuses."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from click.testing import Result
from typer.testing import CliRunner

from proxy.cli import app, bench_answers, opening
from proxy.evaluation.claims import SCRIPTED
from proxy.evaluation.running import Progress
from tests.evaluation.scripted import JUDGES, question_lines, reply_to, write_questions
from tests.peers.behaviour import Behaviour
from tests.peers.provider import SeenRequest
from tests.support.fakes import FakeClock
from tests.support.gateway import ROOT
from tests.support.world import MODELS, World, world

QUALITY = {"ours": 8.0, "alpha": 5.0, "beta": 6.0}
NAMES = (*QUALITY, *(judge.partition("=")[0] for judge in JUDGES))
ALL_CALLS = 6 * (3 + 9 + 4)
"""Three answers, each graded by three; a pair, judged by two in both orders."""
ENTRY = {
    "candidates": ["openai"],
    "price": {"input": "2.50", "output": "10"},
    "context": 128_000,
    "output_default": 1000,
    "output_max": 16_384,
}


def answering(seen: SeenRequest) -> Behaviour:
    """Each model by its quality, each judge honestly."""
    return Behaviour(text=reply_to(seen.json(), QUALITY))


@pytest.fixture(scope="module")
def proxy(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """With six models behind it, all at the scripted provider."""
    models = {"models": {**MODELS, **dict.fromkeys(NAMES, ENTRY)}}
    with world(tmp_path_factory.mktemp("bench"), policies={"models": models}) as made:
        made.provider.answering = answering
        yield made


@pytest.fixture(scope="module")
def key(proxy: World) -> str:
    return proxy.gateway.make_key()


def run(*arguments: str, **environment: str | None) -> Result:
    return CliRunner().invoke(app, ["bench-answers", *arguments], env=environment, terminal_width=200)


def planned(folder: Path, *more: str, lines: list[Any] | None = None) -> list[str]:
    """A plan for six questions in `folder`; the options that run it."""
    questions = write_questions(folder, question_lines() if lines is None else lines)
    judges = [part for judge in JUDGES for part in ("--judge", judge)]
    options = ["--candidate", "ours", "--baseline", "alpha=a", "--baseline", "beta=b", "--seed", "3"]
    made = run(
        "plan",
        *options,
        *judges,
        "--questions",
        str(questions),
        "--out",
        str(folder / "plan.json"),
        "--tries",
        "1",
        *more,
    )
    assert made.exit_code == 0, made.output
    return ["--plan", str(folder / "plan.json"), "--out", str(folder / "results"), "--questions", str(questions)]


def test_a_plan_is_run_and_reported(proxy: World, key: str, tmp_path: Path) -> None:
    """Six questions through the proxy: its own rates, three reports, which claim nothing of scripted models."""
    options = planned(tmp_path)
    done = run("run", *options, "--base-url", proxy.base_url, TOLLWAY_KEY=key)
    assert done.exit_code == 0, done.output
    assert "6 won, 0 tied, 0 lost, 0 inconclusive." in done.output
    assert SCRIPTED in done.output
    results = tmp_path / "results"
    text = (results / "report.md").read_text()
    assert SCRIPTED in "\n".join(text.splitlines()[:4])
    assert SCRIPTED in (results / "report.html").read_text()
    content = json.loads((results / "report.json").read_text())
    assert content["complete"]
    assert content["picked"] == {"beta": 6}
    assert {spent["basis"] for spent in content["spending"].values()} == {"rates"}
    assert all(spent["cost"] > 0 for spent in content["spending"].values())
    assert key not in "".join(path.read_text() for path in results.iterdir())
    assert key not in done.output


def test_a_finished_run_calls_nobody(proxy: World, key: str, tmp_path: Path) -> None:
    """Nor does a report; both say the same as before."""
    options = planned(tmp_path)
    run("run", *options, "--base-url", proxy.base_url, TOLLWAY_KEY=key)
    first = (tmp_path / "results" / "report.json").read_text()
    before = len(proxy.provider.requests)
    assert run("run", *options, "--base-url", proxy.base_url, TOLLWAY_KEY=key).exit_code == 0
    assert run("report", *options, "--json").exit_code == 0
    assert len(proxy.provider.requests) == before
    assert (tmp_path / "results" / "report.json").read_text() == first


def test_an_interrupted_run_goes_on(proxy: World, key: str, tmp_path: Path) -> None:
    """Ctrl-C in the middle: the same command makes the calls that are missing."""
    options = [*planned(tmp_path), "--base-url", proxy.base_url]
    journal, before = tmp_path / "results" / "journal.jsonl", len(proxy.provider.requests)

    def until_the_twentieth(seen: SeenRequest) -> Behaviour:
        silent = len(proxy.provider.requests) - before >= 20
        return replace(answering(seen), head_delay_seconds=20.0) if silent else answering(seen)

    proxy.provider.answering = until_the_twentieth
    command = [sys.executable, "-m", "proxy", "bench-answers", "run", *options, "--concurrency", "1"]
    process = subprocess.Popen(
        command, env={**os.environ, "TOLLWAY_KEY": key}, cwd=ROOT, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL
    )
    asyncio.run(proxy.provider.until(lambda: len(proxy.provider.requests) >= before + 20, 30))
    process.send_signal(signal.SIGINT)
    _, told = process.communicate(timeout=30)
    proxy.provider.answering = answering
    assert process.returncode == 130, told
    assert b"the same command goes on" in told
    assert not (tmp_path / "results" / "report.md").exists()
    kept = len(journal.read_text().splitlines()) - 1
    assert 19 <= kept < ALL_CALLS
    assert "not complete" in run("report", *options[:6]).output
    asked = len(proxy.provider.requests)
    assert run("run", *options, TOLLWAY_KEY=key).exit_code == 0
    assert len(proxy.provider.requests) - asked == ALL_CALLS - kept


def test_a_judge_that_is_not_there_stops_the_run_before_it_begins(proxy: World, key: str, tmp_path: Path) -> None:
    """By name, and nothing was asked."""
    options = planned(tmp_path, "--judge", "judge-nobody=four")
    before = len(proxy.provider.requests)
    done = run("run", *options, "--base-url", proxy.base_url, TOLLWAY_KEY=key)
    assert done.exit_code == 1
    assert "These models cannot be asked for there: judge-nobody." in done.output
    assert len(proxy.provider.requests) == before


@pytest.mark.parametrize("key_given", ["lld_wrong", None])
def test_a_wrong_key_is_told(proxy: World, tmp_path: Path, key_given: str | None) -> None:
    """And none: nothing is held against anybody."""
    options = planned(tmp_path)
    done = run("run", *options, "--base-url", proxy.base_url, TOLLWAY_KEY=key_given)
    assert done.exit_code == 1
    assert "401" in done.output
    journal = tmp_path / "results" / "journal.jsonl"
    assert not journal.exists() or len(journal.read_text().splitlines()) == 1


def test_nobody_listens(tmp_path: Path) -> None:
    """The address is named."""
    done = run("run", *planned(tmp_path), "--base-url", "http://127.0.0.1:9/v1", TOLLWAY_KEY="x")
    assert done.exit_code == 1
    assert "http://127.0.0.1:9/v1 cannot be reached" in done.output


def test_results_of_another_plan_are_not_reported(proxy: World, key: str, tmp_path: Path) -> None:
    """Nor by a plan that was edited, nor with other questions."""
    options = planned(tmp_path)
    run("run", *options, "--base-url", proxy.base_url, TOLLWAY_KEY=key)
    other = tmp_path / "other"
    other.mkdir()
    later = planned(other, "--margin", "3")
    for command in ("run", "report"):
        done = run(command, *later[:2], *options[2:], TOLLWAY_KEY=key)
        assert done.exit_code == 1
        assert "another plan" in done.output
    write_questions(tmp_path, question_lines(5))
    assert "is for other questions" in run("report", *options).output
    path = tmp_path / "plan.json"
    path.write_text(path.read_text().replace('"margin": 0.5', '"margin": 5.0'))
    assert "was changed after it was written" in run("report", *options).output


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--judge", "judge-four=one", "--picker", "nobody"], "none of the judges"),
        (["--margin", "11"], "margin"),
        (["--candidate", "judge-one"], "cannot judge itself"),
        (["--judge", "unknown"], "Write unknown=VENDOR"),
    ],
)
def test_a_plan_that_makes_no_sense_is_refused(tmp_path: Path, options: list[str], said: str) -> None:
    """In words; nothing is written."""
    judges = [part for judge in JUDGES for part in ("--judge", judge)]
    done = run("plan", "--baseline", "alpha=a", *judges, *options, "--out", str(tmp_path / "plan.json"))
    assert done.exit_code == 2
    assert said in done.output
    assert not (tmp_path / "plan.json").exists()


def test_two_judges_are_too_few(tmp_path: Path) -> None:
    """A panel has three vendors."""
    two = ["--judge", JUDGES[0], "--judge", JUDGES[1]]
    done = run("plan", "--baseline", "alpha=a", *two, "--out", str(tmp_path / "plan.json"))
    assert done.exit_code == 2
    assert "judges" in done.output


def test_a_broken_line_of_questions_is_named(tmp_path: Path) -> None:
    """By the plan and by the check."""
    path = write_questions(tmp_path, [*question_lines(2), '{"id": '])
    assert f"{path}:3: Invalid JSON" in run("questions", str(path)).output
    judges = [part for judge in JUDGES for part in ("--judge", judge)]
    done = run("plan", "--baseline", "alpha=a", *judges, "--questions", str(path), "--out", str(tmp_path / "plan.json"))
    assert (done.exit_code, f"{path}:3: " in done.output) == (2, True)


def test_the_shipped_questions_are_checked_by_the_command() -> None:
    """Counted, with their digest."""
    done = run("questions")
    assert done.exit_code == 0
    assert "100 questions (25 financial, 25 legal, 25 medical, 25 technical), sha256 " in done.output


def test_a_report_without_a_run(tmp_path: Path) -> None:
    """Says what makes one."""
    assert "'tollway bench-answers run' makes it" in run("report", *planned(tmp_path)).output


def test_progress_is_shown_on_a_terminal_only(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """One line, written over: calls, failures, money, time left."""
    clock = FakeClock()
    monkeypatch.setattr(opening, "CLOCK", clock)
    bench_answers._progress()(Progress(100, done=10))
    assert capsys.readouterr().err == ""
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True, raising=False)
    tell = bench_answers._progress()
    clock.advance(60)
    tell(Progress(100, done=40, kept=20, failed=1, abstained=2, cost=1_234_000_000))
    shown = capsys.readouterr().err
    assert shown == "\r\x1b[K40 of 100 calls, 1 failed, 2 abstained, $1.23, about 3 min left"
