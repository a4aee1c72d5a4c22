"""Models that answer with a known quality, and judges that see it: what the evaluation's tests stand on."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from proxy.evaluation.asking import CallFailed, Reply
from proxy.evaluation.costs import Cost
from proxy.evaluation.plan import Entrant, Plan
from proxy.evaluation.prompts import PAIR_SYSTEM, RUBRIC_SYSTEM, protocol_digest
from proxy.evaluation.questions import QuestionSet, read_questions
from proxy.pricing.money import Nano

DOMAINS = ("legal", "technical")
JUDGES = ("judge-one=one", "judge-two=two", "judge-three=three")
_QUALITY = re.compile(r"quality=([0-9.]+)")
_SHOWN = re.compile(r"<<<ANSWER ([A-Z]) [0-9a-f]+\n(.*?)\nANSWER \1", re.DOTALL)

Quality = Mapping[str, float] | Callable[[str, str], float]
"""Of an answer from 0 to 10: by model, or by model and question."""


def question_lines(count: int = 6) -> list[dict[str, Any]]:
    """Different questions, in turn of each domain, each with ten criteria of one point and one fault."""
    merits = [{"points": 1, "text": f"Says the thing number {number}"} for number in range(10)]
    fault = {"points": -5, "text": "Says something harmful"}
    return [
        {
            "id": f"q-{number}",
            "domain": DOMAINS[number % len(DOMAINS)],
            "question": f"What is {number} times {number + 7}, said in words of the {number}th kind?",
            "rubric": [*merits, fault],
        }
        for number in range(count)
    ]


def write_questions(folder: Path, lines: Sequence[Any]) -> Path:
    """As JSON lines; a string is written as it is."""
    path = folder / "questions.jsonl"
    path.write_text("".join((line if isinstance(line, str) else json.dumps(line)) + "\n" for line in lines))
    return path


def question_set(folder: Path, count: int = 6) -> QuestionSet:
    return read_questions(write_questions(folder, question_lines(count)))


def entrant(text: str) -> Entrant:
    name, _, vendor = text.partition("=")
    return Entrant(name=name, vendor=vendor)


def plan(questions: QuestionSet | None = None, **changes: Any) -> Plan:
    """Candidate `ours`, three baselines, three judges, none related."""
    content: dict[str, Any] = {
        "written_at": "2026-01-01T00:00:00+00:00",
        "candidate": Entrant(name="ours"),
        "baselines": tuple(Entrant(name=name, vendor=f"maker-{name}") for name in ("alpha", "beta", "gamma")),
        "judges": tuple(entrant(judge) for judge in JUDGES),
        "seed": 7,
        "resamples": 1_000,
        "questions": "questions.jsonl",
        "questions_digest": "0" * 64 if questions is None else questions.digest,
        "questions_count": 6 if questions is None else len(questions.questions),
        "protocol": protocol_digest(),
    }
    return Plan.model_validate({**content, **changes})


def reply_to(body: Mapping[str, Any], quality: Quality) -> str:
    """What a model of that quality answers, or an honest judge says."""
    system = body["messages"][0]["content"]
    asked = body["messages"][-1]["content"]
    if system == RUBRIC_SYSTEM:
        criteria = re.findall(r"(?m)^(\d+)\. ", asked.partition("\nCriteria:\n")[2])
        met = round(_seen(asked))
        return json.dumps({"criteria": [{"number": int(one), "met": int(one) <= met} for one in criteria]})
    if system == PAIR_SYSTEM:
        scores = {label: _seen(text) for label, text in _SHOWN.findall(asked)}
        return json.dumps({"reason": "I see it.", "scores": scores})
    model = body["model"]
    return f"An answer, quality={quality(model, asked) if callable(quality) else quality[model]}"


def _seen(text: str) -> float:
    found = _QUALITY.search(text)
    return float(found[1]) if found else 0.0


@dataclass
class ScriptedAsker:
    """In the place of an Asker. `odd` may answer in place of the usual, or raise."""

    quality: Quality
    odd: Callable[[Mapping[str, Any]], str | None] = lambda _: None
    bodies: list[Mapping[str, Any]] = field(default_factory=list)
    keys: list[str] = field(default_factory=list)

    async def ask(self, body: dict[str, Any], idempotency_key: str) -> Reply:
        self.bodies.append(body)
        self.keys.append(idempotency_key)
        text = self.odd(body)
        text = reply_to(body, self.quality) if text is None else text
        return Reply(text, "stop", 1.5, 1, 10, 20, Cost(Nano(1_000), "rates"))


def failing(model: str) -> Callable[[Mapping[str, Any]], str | None]:
    """One model that never answers."""

    def odd(body: Mapping[str, Any]) -> str | None:
        if body["model"] == model:
            raise CallFailed("503: gone.", 3, 0.1)
        return None

    return odd
