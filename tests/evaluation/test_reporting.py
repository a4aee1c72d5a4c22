"""Reports: what may be claimed comes first and follows from the numbers; HTML stands alone."""

from __future__ import annotations

import dataclasses
import json
import re
from html.parser import HTMLParser
from pathlib import Path
from xml.etree import ElementTree

import pytest

from proxy.evaluation import plots
from proxy.evaluation.analysis import findings_of
from proxy.evaluation.blocks import Bullets, Figure, Heading, Paragraph, Table, markdown
from proxy.evaluation.claims import INCOMPLETE, SCRIPTED, claims_of
from proxy.evaluation.findings import Findings, tally
from proxy.evaluation.html import html
from proxy.evaluation.journal import Journal
from proxy.evaluation.judging import Outcome
from proxy.evaluation.machine import plain
from proxy.evaluation.report import blocks_of, title_of
from proxy.evaluation.running import Run
from proxy.evaluation.statistics import Interval
from tests.evaluation.scripted import ScriptedAsker, failing, plan, question_set

QUALITY = {"ours": 9.0, "alpha": 4.0, "beta": 6.0, "gamma": 2.0}


@pytest.fixture
async def findings(tmp_path: Path) -> Findings:
    """Six questions, all won."""
    questions = question_set(tmp_path)
    made = plan(questions)
    with Journal(tmp_path / "journal.jsonl", made.digest) as journal:
        await Run(made, questions, journal, ScriptedAsker(QUALITY), concurrency=8).go()
    return findings_of(made, questions, journal.entries)


def with_outcomes(findings: Findings, wins: int, ties: int, losses: int, inconclusive: int = 0) -> Findings:
    """As if so many had come of it, without each judge, too."""
    came = [Outcome.WIN] * wins + [Outcome.TIE] * ties + [Outcome.LOSS] * losses
    made = tally(came + [Outcome.INCONCLUSIVE] * inconclusive)
    judges = tuple(dataclasses.replace(one, without=made) for one in findings.judges)
    return dataclasses.replace(findings, tally=made, judges=judges)


def test_no_loss_is_no_promise(findings: Findings) -> None:
    """35 won, 43 tied, none lost of 78: at most 3.8 %."""
    claims = claims_of(with_outcomes(findings, 35, 43, 0))
    assert any("loses at most 3.8 %" in one for one in claims.may)
    assert any("never loses" in one and "3.8 %" in one for one in claims.may_not)
    assert any("wins more often than it loses" in one for one in claims.may)


def test_inconclusive_questions_may_all_be_losses(findings: Findings) -> None:
    """The same run with the 22 that were left out."""
    claims = claims_of(with_outcomes(findings, 35, 43, 0, 22))
    assert any("3.0 %" in one and "29.9 % if all inconclusive ones were lost" in one for one in claims.may)


def test_better_needs_more_than_chance_and_more_than_one_judge(findings: Findings) -> None:
    """Ten to five is neither; and what one judge decides is not settled."""
    assert any("is better than" in one for one in claims_of(with_outcomes(findings, 10, 0, 5)).may_not)
    won = with_outcomes(findings, 30, 0, 5)
    assert any("wins more often" in one for one in claims_of(won).may)
    lone = dataclasses.replace(won.judges[0], without=tally([Outcome.LOSS]))
    decided = dataclasses.replace(won, judges=(lone, *won.judges[1:]))
    assert any("is better than" in one for one in claims_of(decided).may_not)


def test_better_is_not_claimed_against_the_rubric(findings: Findings) -> None:
    """Preferred in comparison, surely lower by points: one of the two is wrong."""
    found = dataclasses.replace(with_outcomes(findings, 30, 0, 5), difference=Interval(-0.1, -0.2, -0.01))
    assert any("is better than" in one and "contradict each other" in one for one in claims_of(found).may_not)


@pytest.mark.parametrize(("low", "allowed"), [(-0.049, True), (-0.051, False)])
def test_not_worse_is_by_the_margin_of_the_plan(findings: Findings, low: float, allowed: bool) -> None:
    """0.05: the interval's lower end decides."""
    found = dataclasses.replace(findings, difference=Interval(0.0, low, 0.1))
    assert any("scores no more than" in one for one in claims_of(found).may) is allowed
    assert any("is not worse" in one for one in claims_of(found).may_not) is not allowed


def test_judges_that_agree_too_little_are_named(findings: Findings) -> None:
    """All verdicts alike: alpha is not defined, which settles nothing either."""
    assert any("not defined" in one for one in claims_of(findings).may_not)
    assert any("0.40" in one for one in claims_of(dataclasses.replace(findings, alpha_verdicts=0.4)).may_not)
    assert not any("alpha" in one for one in claims_of(dataclasses.replace(findings, alpha_verdicts=0.9)).may_not)


def test_a_scripted_or_partial_run_claims_nothing(findings: Findings) -> None:
    """It says so before anything else, in every format."""
    scripted = dataclasses.replace(findings, plan=findings.plan.model_copy(update={"scripted": True}))
    marked = dataclasses.replace(findings, fingerprints=("fp_scripted",))
    partial = dataclasses.replace(findings, complete=False)
    for found, notice in ((scripted, SCRIPTED), (marked, SCRIPTED), (partial, INCOMPLETE)):
        assert claims_of(found).may == ()
        text = markdown(blocks_of(found))
        assert notice in "\n".join(text.splitlines()[:4])
        assert text.index(notice) < text.index("won")
        assert plain(found)["notice"] == notice
        assert next(iter(plain(found))) == "notice"


def test_the_report_has_every_question_and_the_plan(findings: Findings) -> None:
    """n, margin, digest, judges, seed."""
    text = markdown(blocks_of(findings))
    for one in findings.questions:
        assert f"| {one.question.id} | win | beta (by " in text
    assert "n = 6 questions" in text
    assert "margin 0.05" in text
    assert findings.plan.digest in text
    assert "judge-one (one)" in text
    assert "9 of 10" in text


def test_the_json_is_json(findings: Findings) -> None:
    """With every verdict; nothing in it is infinite."""
    content = json.loads(json.dumps(plain(findings), allow_nan=False))
    assert content["result"]["wins"] == 6
    assert len(content["questions"]) == 6
    assert content["questions"][0]["rubrics"]["ours"]["by_majority"] == [True] * 9 + [False] * 2


class Elements(HTMLParser):
    """Tags, balanced, and what they refer to."""

    VOID = frozenset({"meta", "!doctype"})

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.seen: list[str] = []
        self.outside: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.seen.append(tag)
        self.outside += [str(value) for name, value in attrs if name in ("src", "href")]
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.seen.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def test_the_html_stands_alone(findings: Findings) -> None:
    """No script, nothing loaded, light and dark, plots with title and description, tables with headings."""
    page = html(title_of(findings.plan), blocks_of(findings))
    elements = Elements()
    elements.feed(page)
    assert elements.open == []
    assert elements.outside == []
    assert not {"script", "link", "img", "iframe"} & set(elements.seen)
    assert "default-src 'none'" in page
    assert "prefers-color-scheme: dark" in page
    assert elements.seen.count("svg") == 3
    assert page.count('role="img"') == 3
    for svg in re.findall(r"<svg.*?</svg>", page, re.DOTALL):
        root = ElementTree.fromstring(svg)
        name, description = list(root)[:2]
        assert (name.tag.endswith("title"), description.tag.endswith("desc")) == (True, True)
        assert name.text and description.text
    assert elements.seen.count("caption") == elements.seen.count("table")


def test_text_of_others_is_no_markup() -> None:
    """In either format."""
    evil = '<script>alert("1")</script> | *bold* `code`'
    blocks = [
        Heading(evil),
        Paragraph(evil),
        Bullets((evil,)),
        Table(evil, ("a", evil), ((evil, evil),)),
        Figure("<svg></svg>", evil),
    ]
    assert "<script" not in html(evil, blocks)
    text = markdown(blocks)
    assert "\\<script" in text
    assert " <script" not in text
    (row,) = [line for line in text.splitlines() if line.startswith("| \\<script")]
    assert len(re.findall(r"(?<!\\)\|", row)) == 3


async def test_a_run_in_which_nothing_succeeded_can_be_reported(tmp_path: Path) -> None:
    """No point in any plot, no mean of anything."""
    questions = question_set(tmp_path, 2)
    made = plan(questions, baselines=[{"name": "beta", "vendor": "x"}])
    with Journal(tmp_path / "journal.jsonl", made.digest) as journal:
        await Run(made, questions, journal, ScriptedAsker(QUALITY, failing("beta")), concurrency=8).go()
        found = findings_of(made, questions, journal.entries)
    text = markdown(blocks_of(found))
    assert "not known" in text
    assert "2 | 100 %" in text
    json.dumps(plain(found), allow_nan=False)
    ElementTree.fromstring(plots.differences(found))
    empty = findings_of(made, questions, {})
    assert markdown(blocks_of(empty)).count(INCOMPLETE) == 1
    assert plots.cost_and_latency(empty) == ""
    assert "<html" in html("nothing", blocks_of(empty))
