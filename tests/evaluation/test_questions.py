"""Files of questions: what is wrong with one is said with its line; the shipped one is right."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from proxy.evaluation.errors import BadQuestions
from proxy.evaluation.questions import SHIPPED, Criterion, Question, near_duplicates, read_questions
from tests.evaluation.scripted import question_lines, write_questions

FIRST, SECOND = question_lines(2)


@pytest.mark.parametrize(
    ("second", "said"),
    [
        ('{"id": "q-1", "domain"', ":2: Invalid JSON"),
        ({**SECOND, "id": FIRST["id"]}, ":2: the id 'q-0' is that of line 1"),
        ({**SECOND, "question": FIRST["question"].upper()}, ":2: the same question as in line 1"),
        ({**SECOND, "answer": 42}, ":2: answer: Extra inputs"),
        ({**SECOND, "rubric": SECOND["rubric"][:1]}, ":2: rubric: List should have at least 2"),
        ({**SECOND, "rubric": [{"points": -3, "text": "a fault of it"}] * 2}, ":2: rubric: points are above zero"),
        ({**SECOND, "rubric": [{"points": 0, "text": "worth nothing"}, *SECOND["rubric"]]}, ":2: rubric: points are"),
        ({**SECOND, "rubric": [{"points": "4", "text": "a number in text"}] * 2}, ":2: rubric.0.points"),
        ({**SECOND, "id": "Q 1"}, ":2: id: String should match"),
        ({**SECOND, "question": "?" * 300_000}, ":2: a line has at most"),
        ("[" * 100_000, ":2: Invalid JSON"),
    ],
)
def test_a_wrong_line_is_named(tmp_path: Path, second: Any, said: str) -> None:
    """With its number and what is wrong."""
    with pytest.raises(BadQuestions) as caught:
        read_questions(write_questions(tmp_path, [FIRST, second]))
    assert said in str(caught.value)


def test_empty_lines_count_as_lines(tmp_path: Path) -> None:
    """So that an editor finds the wrong one."""
    with pytest.raises(BadQuestions, match=":3:"):
        read_questions(write_questions(tmp_path, [FIRST, "", "{}"]))


def test_no_file_and_no_question(tmp_path: Path) -> None:
    """Each is said."""
    with pytest.raises(BadQuestions, match="cannot be read"):
        read_questions(tmp_path / "missing.jsonl")
    with pytest.raises(BadQuestions, match="0 questions"):
        read_questions(write_questions(tmp_path, []))


def test_a_score_is_points_less_penalties() -> None:
    """From 0 to 1, whatever the penalties."""
    rubric = [Criterion(points=6, text="a merit of it"), Criterion(points=2, text="another merit")]
    fault = Criterion(points=-5, text="a fault of it")
    question = Question(id="q", domain="legal", question="What is it?", rubric=[*rubric, fault])
    assert question.score([True, True, False]) == 1
    assert question.score([True, False, True]) == pytest.approx(1 / 8)
    assert question.score([False, True, True]) == 0


def test_near_duplicates_are_found() -> None:
    """Two wordings of one question."""
    one, other = (Question.model_validate(line) for line in question_lines(2))
    text = "A fund advertises an average return of 12 % a year over two years; is the claim false"
    pair = [one.model_copy(update={"question": text}), other.model_copy(update={"question": text + " or misleading?"})]
    assert near_duplicates(pair) == [("q-0", "q-1")]


def test_the_shipped_questions_are_a_hundred_of_four_domains() -> None:
    """25 each, several forms and degrees, none twice in other words."""
    found = read_questions(SHIPPED).questions
    assert Counter(one.domain for one in found) == {"financial": 25, "legal": 25, "medical": 25, "technical": 25}
    assert near_duplicates(found) == []
    assert len({one.form for one in found}) >= 7
    for domain in ("financial", "legal", "medical", "technical"):
        assert {one.difficulty for one in found if one.domain == domain} == {"easy", "medium", "hard"}


def test_the_shipped_rubrics_are_sane() -> None:
    """Three merits or more, none of them most of the points; a fault that costs a good part of them."""
    for question in read_questions(SHIPPED).questions:
        merits = [one.points for one in question.rubric if one.points > 0]
        faults = [-one.points for one in question.rubric if one.points < 0]
        assert len(merits) >= 3, question.id
        assert 10 <= sum(merits) <= 18, question.id
        assert max(merits) <= sum(merits) / 2, question.id
        assert 2 <= len(faults) <= 3, question.id
        assert sum(merits) / 5 <= max(faults) <= 8, question.id
        texts = [one.text for one in question.rubric]
        assert len(set(texts)) == len(texts), question.id
