"""One run of a plan: every question is answered, every answer graded, every pair compared; each call once.

What the journal has is not asked again, so a run that was interrupted goes on with the same command.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from typing import Any, Final, Protocol

from proxy.evaluation import prompts
from proxy.evaluation.asking import CallFailed, Reply
from proxy.evaluation.errors import Stopped
from proxy.evaluation.journal import ABSTAINED, FAILED, OK, Entry, Journal, key_of
from proxy.evaluation.judging import pick, pickers, scorers
from proxy.evaluation.plan import Entrant, Plan
from proxy.evaluation.prompts import Exchange, Unreadable
from proxy.evaluation.questions import Question, QuestionSet

ANSWER: Final = "answer"
RUBRIC: Final = "rubric"
PAIR: Final = "pair"
OURS_FIRST: Final = "ours-first"
THEIRS_FIRST: Final = "theirs-first"
ORDERS: Final = (OURS_FIRST, THEIRS_FIRST)

Read = Callable[[str], list[bool] | list[float]]


class Asks(Protocol):
    """Where calls go: `proxy.evaluation.asking.Asker`, or a test's own."""

    async def ask(self, body: dict[str, Any], idempotency_key: str) -> Reply:
        """Raises CallFailed and Stopped."""
        ...


@dataclass(slots=True)
class Progress:
    """Where a run stands."""

    calls_max: int
    """If every call is made."""
    done: int = 0
    kept: int = 0
    """Of those done, from an earlier run."""
    failed: int = 0
    abstained: int = 0
    cost: int = 0
    """Nano-dollars, as far as known."""


class Run:
    """`await Run(...).go()`; the journal has everything then."""

    def __init__(
        self,
        plan: Plan,
        questions: QuestionSet,
        journal: Journal,
        asker: Asks,
        *,
        concurrency: int,
        tell: Callable[[Progress], None] = lambda _: None,
    ) -> None:
        self.progress = Progress(calls_max(plan))
        self._plan = plan
        self._questions = questions
        self._journal = journal
        self._asker = asker
        self._free: AbstractAsyncContextManager[Any] = asyncio.Semaphore(concurrency)
        self._tell = tell

    async def go(self) -> None:
        """Raises Stopped where going on makes no sense; what was answered until then is kept."""
        try:
            async with asyncio.TaskGroup() as group:
                for question in self._questions.questions:
                    group.create_task(self._question(question), name=f"evaluate {question.id}")
        except BaseExceptionGroup as group:
            stopped, others = group.split(Stopped)
            if others is not None or stopped is None:
                raise
            raise _first(stopped) from None

    async def _question(self, question: Question) -> None:
        entrants = self._plan.entrants
        await _together(*(self._answer(question, entrant) for entrant in entrants))
        answers = {
            entrant.name: entry.text
            for entrant in entrants
            if (entry := self._journal.entries[key_of(ANSWER, question.id, entrant.name)]).status == OK
        }
        await _together(
            *(
                self._rubric(question, name, text, judge)
                for name, text in answers.items()
                for judge in self._plan.judges
            )
        )
        picked = picked_of(self._plan, question, self._journal.entries)
        if picked is None or self._plan.candidate.name not in answers:
            return
        picker, baseline = picked
        ours, theirs = answers[self._plan.candidate.name], answers[baseline.name]
        judges = scorers(self._plan, picker, baseline)
        await _together(
            *(self._pair(question, baseline, judge, order, ours, theirs) for judge in judges for order in ORDERS)
        )

    async def _answer(self, question: Question, entrant: Entrant) -> None:
        key = key_of(ANSWER, question.id, entrant.name)
        messages = [{"role": "user", "content": question.question}]
        await self._once(key, entrant.name, messages, self._plan.answer_tokens, None, lambda _: [])

    async def _rubric(self, question: Question, author: str, answer: str, judge: Entrant) -> None:
        exchange = prompts.rubric_exchange(question, answer, self._plan.seed, judge.name)
        key = key_of(RUBRIC, question.id, author, judge.name)
        await self._judge(key, judge, exchange, lambda reply: prompts.read_rubric(reply, question))

    async def _pair(
        self, question: Question, baseline: Entrant, judge: Entrant, order: str, ours: str, theirs: str
    ) -> None:
        seed, about = self._plan.seed, (question.id, baseline.name, judge.name, order)
        labels = prompts.labels_of(seed, *about)
        fence = prompts.drawn(seed, "fence", *about).hex()[:12]
        first, second = (ours, theirs) if order == OURS_FIRST else (theirs, ours)
        exchange = prompts.pair_exchange(question, first, second, labels, fence)
        await self._judge(key_of(PAIR, *about), judge, exchange, lambda reply: list(prompts.read_pair(reply, labels)))

    async def _judge(self, key: str, judge: Entrant, exchange: Exchange, read: Read) -> None:
        shape = {"json_schema": exchange.schema, "json_object": {"type": "json_object"}, "none": None}
        schema = shape[self._plan.judge_format]
        await self._once(key, judge.name, exchange.messages, self._plan.judge_tokens, schema, read)

    async def _once(
        self,
        key: str,
        model: str,
        messages: list[dict[str, str]],
        tokens: int,
        schema: dict[str, Any] | None,
        read: Read,
    ) -> None:
        entry = self._journal.entries.get(key)
        if entry is not None:
            self.progress.kept += 1
        else:
            body: dict[str, Any] = {"model": model, "messages": messages, self._plan.limit_field: tokens}
            body |= {} if schema is None else {"response_format": schema}
            async with self._free:
                entry = await self._call(key, body, read)
            self._journal.add(entry)
        self._note(entry)

    async def _call(self, key: str, body: dict[str, Any], read: Read) -> Entry:
        """As often as the plan says, until the reply can be read."""
        cost, reason = 0, ""
        for number in range(1, self._plan.tries + 1):
            try:
                reply = await self._asker.ask(body, _idempotency_key(self._plan, key, number))
            except CallFailed as failed:
                return Entry(key, FAILED, reason=failed.reason, tries=failed.tries, seconds=failed.seconds)
            cost += reply.cost.nano or 0
            told: dict[str, Any] = {
                "text": reply.text,
                "finish_reason": reply.finish_reason,
                "tries": number,
                "seconds": round(reply.seconds, 3),
                "input_tokens": reply.input_tokens,
                "output_tokens": reply.output_tokens,
                "cost": None if reply.cost.nano is None else cost,
                "cost_basis": reply.cost.basis,
                "extra": reply.extra,
            }
            try:
                return Entry(key, OK, verdict=read(reply.text), **told)
            except Unreadable as unreadable:
                reason = str(unreadable)
        return Entry(key, ABSTAINED, reason=reason, **told)

    def _note(self, entry: Entry) -> None:
        self.progress.done += 1
        self.progress.failed += entry.status == FAILED
        self.progress.abstained += entry.status == ABSTAINED
        self.progress.cost += entry.cost or 0
        self._tell(self.progress)


def calls_max(plan: Plan) -> int:
    """Calls of a run, retries apart."""
    judges, entrants = len(plan.judges), len(plan.entrants)
    return plan.questions_count * (entrants + entrants * judges + 2 * (judges - 1))


def picked_of(plan: Plan, question: Question, entries: dict[str, Entry]) -> tuple[str, Entrant] | None:
    """The judge that picks and the baseline that it picks. None: there is nothing to pick, or nobody who does."""
    for picker in pickers(plan, question.id):
        scores = {}
        for baseline in plan.baselines:
            entry = entries.get(key_of(RUBRIC, question.id, baseline.name, picker.name))
            if entry is not None and entry.status == OK:
                scores[baseline.name] = {picker.name: question.score([bool(met) for met in entry.verdict or ()])}
        found = pick(scores, [picker.name], plan.seed, question.id)
        if found is not None:
            return picker.name, next(one for one in plan.baselines if one.name == found)
    return None


def missing(plan: Plan, questions: QuestionSet, entries: dict[str, Entry]) -> int:
    """Calls that a run of the plan would make next: 0 where it came to its end."""
    return sum(key not in entries for question in questions.questions for key in _next_keys(plan, question, entries))


def _next_keys(plan: Plan, question: Question, entries: dict[str, Entry]) -> list[str]:
    keys = [key_of(ANSWER, question.id, entrant.name) for entrant in plan.entrants]
    answered = {entrant.name for entrant, key in zip(plan.entrants, keys, strict=True) if _is_ok(entries.get(key))}
    keys += [key_of(RUBRIC, question.id, name, judge.name) for name in answered for judge in plan.judges]
    picked = picked_of(plan, question, entries)
    if picked is not None and plan.candidate.name in answered:
        picker, baseline = picked
        judges = [judge.name for judge in scorers(plan, picker, baseline)]
        keys += [key_of(PAIR, question.id, baseline.name, judge, order) for judge in judges for order in ORDERS]
    return keys


def _is_ok(entry: Entry | None) -> bool:
    return entry is not None and entry.status == OK


def _idempotency_key(plan: Plan, key: str, number: int) -> str:
    """The same in a resumed run, so that a gateway which has the answer gives it once more without a charge."""
    return prompts.drawn(plan.seed, plan.digest, key, str(number)).hex()[:40]


async def _together(*work: Any) -> None:
    async with asyncio.TaskGroup() as group:
        for one in work:
            group.create_task(one)


def _first(errors: BaseExceptionGroup[Stopped]) -> Stopped:
    inner: BaseException = errors
    while isinstance(inner, BaseExceptionGroup):
        inner = inner.exceptions[0]
    return inner if isinstance(inner, Stopped) else Stopped(str(inner))
