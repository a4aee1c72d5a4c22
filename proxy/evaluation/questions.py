"""Questions with rubrics, read from JSON lines.

    {"id": "legal-07", "domain": "legal", "difficulty": "hard", "form": "case", "question": "...",
     "rubric": [{"points": 4, "text": "Says that ..."}, {"points": -5, "text": "Claims that ..."}]}

Points above zero are for what an answer should do, points below zero for a fault that it must not commit.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from typing import Annotated, Final

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from proxy.evaluation.errors import BadQuestions

SHIPPED: Final = Path(__file__).parent / "data" / "questions.jsonl"
FILE_BYTES_MAX: Final = 16 << 20
LINE_BYTES_MAX: Final = 256 << 10
QUESTIONS_MAX: Final = 2_000
NEAR_DUPLICATE_SHARE: Final = 0.5
"""Of the word triples of two questions, that both have: more, and they are one question in two wordings."""

_WORD: Final = re.compile(r"\w+")


class _Strict(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)


class Criterion(_Strict):
    """One line of a rubric."""

    points: int = Field(ge=-20, le=20)
    text: Annotated[str, Field(min_length=8, max_length=1_000)]


class Question(_Strict):
    """One question."""

    id: Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9_.-]{0,63}$")]
    domain: Annotated[str, Field(pattern=r"^[a-z][a-z0-9_-]{0,31}$")]
    difficulty: Annotated[str, Field(max_length=32)] = ""
    form: Annotated[str, Field(max_length=32)] = ""
    question: Annotated[str, Field(min_length=10, max_length=64_000)]
    rubric: Annotated[list[Criterion], Field(min_length=2, max_length=30)]

    @property
    def points_max(self) -> int:
        """Of an answer that does everything and commits no fault."""
        return sum(criterion.points for criterion in self.rubric if criterion.points > 0)

    def score(self, met: Sequence[bool]) -> float:
        """From 0 to 1: points of the criteria met, penalties taken off, by the most that there are."""
        points = sum(one.points for one, is_met in zip(self.rubric, met, strict=True) if is_met)
        return min(1.0, max(0.0, points / self.points_max))


@dataclass(frozen=True, slots=True)
class QuestionSet:
    """A file of questions."""

    name: str
    digest: str
    """SHA-256 of the file as it is."""
    questions: tuple[Question, ...]

    @property
    def domains(self) -> tuple[str, ...]:
        """In the order in which they first appear."""
        return tuple(dict.fromkeys(question.domain for question in self.questions))


def read_questions(path: Path) -> QuestionSet:
    """Raises BadQuestions with the line, or lines, that are wrong."""
    try:
        with path.open("rb") as file:
            raw = file.read(FILE_BYTES_MAX + 1)
    except OSError as error:
        raise BadQuestions(f"{path} cannot be read: {error.strerror}. Say where the questions are.") from error
    if len(raw) > FILE_BYTES_MAX:
        raise BadQuestions(f"{path} is larger than {FILE_BYTES_MAX} bytes.")
    found: dict[int, Question] = {}
    for number, line in enumerate(raw.splitlines(), 1):
        if line.strip():
            found[number] = _question(line, f"{path}:{number}")
    if not 0 < len(found) <= QUESTIONS_MAX:
        raise BadQuestions(f"{path} has {len(found)} questions; 1 to {QUESTIONS_MAX} can be asked.")
    _refuse_duplicates(path, found)
    return QuestionSet(path.name, hashlib.sha256(raw).hexdigest(), tuple(found.values()))


def near_duplicates(questions: Iterable[Question]) -> list[tuple[str, str]]:
    """Ids of questions that say nearly the same."""
    triples = [(one.id, _triples(one.question)) for one in questions]
    return [
        (first, second)
        for (first, ours), (second, theirs) in combinations(triples, 2)
        if len(ours & theirs) > NEAR_DUPLICATE_SHARE * min(len(ours), len(theirs))
    ]


def _question(line: bytes, where: str) -> Question:
    if len(line) > LINE_BYTES_MAX:
        raise BadQuestions(f"{where}: a line has at most {LINE_BYTES_MAX} bytes.")
    try:
        question = Question.model_validate_json(line)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False, include_context=False)[0]
        place = ".".join(str(part) for part in first["loc"])
        raise BadQuestions(f"{where}: {place + ': ' if place else ''}{first['msg']}.") from error
    points = [criterion.points for criterion in question.rubric]
    if 0 in points or max(points) < 0:
        raise BadQuestions(f"{where}: rubric: points are above zero for merits, at least once, or below for faults.")
    return question


def _refuse_duplicates(path: Path, found: dict[int, Question]) -> None:
    ids: dict[str, int] = {}
    texts: dict[str, int] = {}
    for number, question in found.items():
        text = " ".join(_WORD.findall(question.question.casefold()))
        earlier = ids.setdefault(question.id, number)
        if earlier != number:
            raise BadQuestions(f"{path}:{number}: the id '{question.id}' is that of line {earlier}, too.")
        earlier = texts.setdefault(text, number)
        if earlier != number:
            raise BadQuestions(f"{path}:{number}: the same question as in line {earlier}.")


def _triples(text: str) -> set[tuple[str, ...]]:
    words = _WORD.findall(text.casefold())
    return set(zip(words, words[1:], words[2:], strict=False)) or {tuple(words)}
