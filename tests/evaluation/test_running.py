"""A run: every call once, in any order, through failures and interruptions."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from proxy.evaluation.analysis import NO_ANSWER, NO_BASELINE, SPLIT, TOO_FEW, findings_of
from proxy.evaluation.asking import CallFailed
from proxy.evaluation.errors import Stopped
from proxy.evaluation.findings import Findings
from proxy.evaluation.journal import ABSTAINED, FAILED, Journal
from proxy.evaluation.judging import Outcome
from proxy.evaluation.plan import Plan
from proxy.evaluation.prompts import PAIR_SYSTEM, RUBRIC_SYSTEM
from proxy.evaluation.questions import QuestionSet
from proxy.evaluation.running import Progress, Run, calls_max, missing
from tests.evaluation.scripted import ScriptedAsker, entrant, failing, plan, question_set

WEAK = {"ours": 9.0, "alpha": 4.0, "beta": 6.0, "gamma": 2.0}


async def ran(folder: Path, asker: ScriptedAsker, questions: QuestionSet, made: Plan) -> Findings:
    with Journal(folder / "journal.jsonl", made.digest).read() as journal:
        await Run(made, questions, journal, asker, concurrency=3).go()
        return findings_of(made, questions, journal.entries)


async def test_the_better_answers_win(tmp_path: Path) -> None:
    """Against the best baseline, in every question; each call was made once."""
    questions = question_set(tmp_path)
    asker = ScriptedAsker(WEAK)
    found = await ran(tmp_path, asker, questions, plan(questions))
    assert (found.tally.wins, found.tally.count, found.complete) == (6, 6, True)
    assert found.picked == {"beta": 6}
    assert found.difference.estimate == pytest.approx(0.3)
    assert found.against["gamma"].estimate == pytest.approx(0.7)
    assert found.scores["ours"] == pytest.approx(0.9)
    assert (found.consistent, found.first_preferred) == (1, 0.5)
    assert found.alpha_criteria == 1
    assert len(asker.bodies) == calls_max(plan(questions)) == len(set(asker.keys)) == 6 * 20
    assert found.spending["ours"].cost == 6_000
    assert found.judging_cost == 6 * 16 * 1_000


async def test_no_judge_of_a_pair_picked_its_baseline(tmp_path: Path) -> None:
    """And each was judged by the two others."""
    questions = question_set(tmp_path)
    found = await ran(tmp_path, ScriptedAsker(WEAK), questions, plan(questions))
    for one in found.questions:
        assert one.picker not in one.scorers
        assert len(one.scorers) == len(one.verdicts) == 2


async def test_a_judge_that_prefers_the_first_makes_ties(tmp_path: Path) -> None:
    """Its preference is seen, and says nothing of the answers."""
    questions = question_set(tmp_path)

    def biased(body: Mapping[str, Any]) -> str | None:
        if body["messages"][0]["content"] != PAIR_SYSTEM:
            return None
        asked = body["messages"][1]["content"]
        first, second = [part[0] for part in asked.split("<<<ANSWER ")[1:]]
        return json.dumps({"reason": "", "scores": {first: 9, second: 1}})

    found = await ran(tmp_path, ScriptedAsker(WEAK, biased), questions, plan(questions))
    assert found.tally.ties == 6
    assert (found.consistent, found.first_preferred) == (0, 1)


async def test_a_judge_that_never_answers_json_abstains(tmp_path: Path) -> None:
    """It is asked as often as the plan says, and reported; too few verdicts are inconclusive, not dropped."""
    questions = question_set(tmp_path)

    def talkative(body: Mapping[str, Any]) -> str | None:
        return "I would rather not." if body["model"] == "judge-two" else None

    asker = ScriptedAsker(WEAK, talkative)
    found = await ran(tmp_path, asker, questions, plan(questions, tries=2))
    (judge,) = [one for one in found.judges if one.judge.name == "judge-two"]
    assert (judge.rubrics, judge.pairs) == (0, 0)
    assert judge.abstained == sum(body["model"] == "judge-two" for body in asker.bodies) // 2
    assert found.tally.count == 6
    lacking = [one for one in found.questions if "judge-two" in one.scorers]
    assert lacking
    assert all((one.outcome, one.reason) == (Outcome.INCONCLUSIVE, TOO_FEW) for one in lacking)
    assert all(one.picker != "judge-two" for one in found.questions)


async def test_a_candidate_that_does_not_answer_loses(tmp_path: Path) -> None:
    """Every such question; nothing is judged then."""
    questions = question_set(tmp_path)
    found = await ran(tmp_path, ScriptedAsker(WEAK, failing("ours")), questions, plan(questions))
    assert found.tally.losses == 6
    assert {one.reason for one in found.questions} == {NO_ANSWER}
    assert found.failed_answers["ours"] == 6
    assert found.complete


async def test_a_baseline_that_does_not_answer_is_not_picked(tmp_path: Path) -> None:
    """And where none does, the question is inconclusive."""
    questions = question_set(tmp_path)
    found = await ran(tmp_path, ScriptedAsker(WEAK, failing("beta")), questions, plan(questions))
    assert found.picked == {"alpha": 6}
    one = plan(questions, baselines=[{"name": "beta", "vendor": "x"}])
    (tmp_path / "other").mkdir()
    found = await ran(tmp_path / "other", ScriptedAsker(WEAK, failing("beta")), questions, one)
    assert found.tally.inconclusive == 6
    assert {one.reason for one in found.questions} == {NO_BASELINE}


async def test_judges_that_contradict_each_other_are_inconclusive(tmp_path: Path) -> None:
    """One says so, the other the contrary."""
    questions = question_set(tmp_path)

    def contrary(body: Mapping[str, Any]) -> str | None:
        if body["model"] != "judge-one" or body["messages"][0]["content"] != PAIR_SYSTEM:
            return None
        parts = body["messages"][1]["content"].split("<<<ANSWER ")[1:]
        return json.dumps({"reason": "", "scores": {part[0]: 1 if "quality=9" in part else 9 for part in parts}})

    made = plan(questions, picker="judge-three")
    found = await ran(tmp_path, ScriptedAsker(WEAK, contrary), questions, made)
    assert {(one.outcome, one.reason) for one in found.questions} == {(Outcome.INCONCLUSIVE, SPLIT)}
    (without,) = [one.without for one in found.judges if one.judge.name == "judge-one"]
    assert without.wins == 6
    assert found.alpha_verdicts is not None
    assert found.alpha_verdicts < 0


async def test_a_judge_of_the_vendor_does_not_count_for_it(tmp_path: Path) -> None:
    """It is marked, and its grades of its own are shown apart."""
    questions = question_set(tmp_path)
    partial = {**WEAK, "alpha": 8.0}

    def partisan(body: Mapping[str, Any]) -> str | None:
        own = body["model"] == "judge-one" and body["messages"][0]["content"] == RUBRIC_SYSTEM
        if own and "quality=8.0" in body["messages"][1]["content"]:
            return json.dumps({"criteria": [{"number": number + 1, "met": number < 10} for number in range(11)]})
        return None

    made = plan(questions, baselines=[entrant("alpha=one"), entrant("beta=else")], picker="judge-two", verdicts_min=1)
    found = await ran(tmp_path, ScriptedAsker(partial, partisan), questions, made)
    assert found.scores["alpha"] == pytest.approx(0.8)
    assert {one.scorers for one in found.questions} == {("judge-three",)}
    assert {one.related_scorers for one in found.questions} == {()}
    assert [one.related for one in found.judges] == [6, 0, 0]
    assert found.questions[0].points("alpha") == (True,) * 8 + (False,) * 3


async def test_a_stopped_run_goes_on_where_it_stopped(tmp_path: Path) -> None:
    """Nothing is asked twice, and the result is that of a run in one piece."""
    questions = question_set(tmp_path)
    made = plan(questions)
    (tmp_path / "whole").mkdir()
    whole = await ran(tmp_path / "whole", ScriptedAsker(WEAK), questions, made)

    def going(body: Mapping[str, Any]) -> str | None:
        if len(first.bodies) > 50:
            raise Stopped("gone")
        return None

    first, second = ScriptedAsker(WEAK, going), ScriptedAsker(WEAK)
    with pytest.raises(Stopped, match="gone"):
        await ran(tmp_path, first, questions, made)
    entries = Journal(tmp_path / "journal.jsonl", made.digest).read().entries
    assert len(entries) == 50
    assert not findings_of(made, questions, entries).complete
    assert missing(made, questions, entries) > 0
    assert await ran(tmp_path, second, questions, made) == whole
    assert len(second.bodies) == 120 - 50
    assert not set(second.keys) & set(first.keys[:50])
    assert set(first.keys[50:]) <= set(second.keys)


async def test_a_cancelled_run_keeps_what_was_answered(tmp_path: Path) -> None:
    """Ctrl-C cancels; the journal has whole lines only."""
    questions = question_set(tmp_path)
    made = plan(questions)
    halfway = asyncio.Event()

    class Slow(ScriptedAsker):
        async def ask(self, body: dict[str, Any], idempotency_key: str) -> Any:
            if len(self.bodies) >= 30:
                halfway.set()
                await asyncio.Event().wait()
            return await super().ask(body, idempotency_key)

    work = asyncio.get_running_loop().create_task(ran(tmp_path, Slow(WEAK), questions, made))
    await halfway.wait()
    work.cancel()
    with pytest.raises(asyncio.CancelledError):
        await work
    kept = Journal(tmp_path / "journal.jsonl", made.digest).read().entries
    assert len(kept) == 30
    assert (await ran(tmp_path, ScriptedAsker(WEAK), questions, made)).complete


async def test_calls_at_once_are_bounded(tmp_path: Path) -> None:
    """And progress is told after each."""
    questions = question_set(tmp_path)
    made = plan(questions)
    running, most, told = 0, 0, []

    class Counting(ScriptedAsker):
        async def ask(self, body: dict[str, Any], idempotency_key: str) -> Any:
            nonlocal running, most
            running += 1
            most = max(most, running)
            await asyncio.sleep(0)
            running -= 1
            return await super().ask(body, idempotency_key)

    def tell(progress: Progress) -> None:
        told.append((progress.done, progress.cost))

    with Journal(tmp_path / "journal.jsonl", made.digest) as journal:
        await Run(made, questions, journal, Counting(WEAK), concurrency=5, tell=tell).go()
    assert most == 5
    assert told[-1] == (120, 120_000)
    assert [done for done, _ in told] == list(range(1, 121))


async def test_failures_are_written_down(tmp_path: Path) -> None:
    """A judge that fails is not one that abstains."""
    questions = question_set(tmp_path)

    def odd(body: Mapping[str, Any]) -> str | None:
        if body["model"] == "judge-one":
            raise CallFailed("500: gone.", 3, 0.1)
        return "no" if body["model"] == "judge-two" else None

    made = plan(questions, verdicts_min=1)
    found = await ran(tmp_path, ScriptedAsker(WEAK, odd), questions, made)
    entries = Journal(tmp_path / "journal.jsonl", made.digest).read().entries.values()
    assert {entry.status for entry in entries if entry.key.endswith("judge-one")} == {FAILED}
    assert {entry.status for entry in entries if entry.key.endswith("judge-two")} == {ABSTAINED}
    assert [(one.abstained > 0, one.failed > 0) for one in found.judges] == [
        (False, True),
        (True, False),
        (False, False),
    ]
    assert {one.picker for one in found.questions} == {"judge-three"}
    assert found.tally.inconclusive == 6


async def test_answers_that_name_their_maker_are_counted(tmp_path: Path) -> None:
    """Blindness is only as good as the answers."""
    questions = question_set(tmp_path)

    def boasting(body: Mapping[str, Any]) -> str | None:
        return "As ChatGPT, quality=6.0" if body["model"] == "beta" else None

    found = await ran(tmp_path, ScriptedAsker(WEAK, boasting), questions, plan(questions))
    assert found.unblinded == 6
