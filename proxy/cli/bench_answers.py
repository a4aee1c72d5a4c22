"""tollway bench-answers: how good a model's answers are beside others', judged blind, by a plan written beforehand."""

from __future__ import annotations

import asyncio
import secrets
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

import orjson
import typer

from proxy.cli import opening
from proxy.cli.opening import EXIT_FINDINGS, JsonOption, fail
from proxy.cli.pay_options import secret_of
from proxy.pricing.money import Nano, usd_text
from proxy.secrets import environment

if TYPE_CHECKING:
    from proxy.evaluation.asking import Asker
    from proxy.evaluation.journal import Journal
    from proxy.evaluation.plan import Plan
    from proxy.evaluation.questions import QuestionSet
    from proxy.evaluation.running import Progress

KEY_VARIABLE: Final = "TOLLWAY_KEY"
DEFAULT_URL: Final = "http://127.0.0.1:8402/v1"
DEFAULT_CANDIDATE: Final = "consensus-balanced"
ANSWER_SECONDS: Final = 300.0
CONCURRENCY: Final = 4
EXIT_INTERRUPTED: Final = 130
JOURNAL: Final = "journal.jsonl"
REPORTS: Final = ("report.md", "report.html", "report.json")

app = typer.Typer(
    help="Compare a model's answers with others', judged blind by a panel. Plan first, then run.",
    epilog="Example: tollway bench-answers run --plan plan.json --out results",
    no_args_is_help=True,
)
PlanOption = Annotated[Path, typer.Option("--plan", metavar="PATH", help="The plan.")]
OutOption = Annotated[Path, typer.Option("--out", metavar="FOLDER", help="Journal and reports.")]
QuestionsOption = Annotated[
    Path | None, typer.Option("--questions", metavar="PATH", help="JSON lines; unset: the 100 that ship.")
]


@app.command(
    "plan",
    epilog="Example: tollway bench-answers plan --baseline gpt-4o --judge gpt-4o --judge claude-sonnet --judge gemini",
)
def plan(
    baseline: Annotated[list[str], typer.Option(metavar="MODEL[=VENDOR]", help="Compared with; repeatable.")],
    judge: Annotated[
        list[str], typer.Option(metavar="MODEL[=VENDOR]", help="Three or more, of three vendors or more; repeatable.")
    ],
    out: Annotated[Path, typer.Option("--out", metavar="PATH", help="The plan to write.")] = Path("plan.json"),
    candidate: Annotated[str, typer.Option(metavar="MODEL[=VENDOR]", help="Judged.")] = DEFAULT_CANDIDATE,
    questions: QuestionsOption = None,
    picker: Annotated[str, typer.Option(help="The judge that picks best baselines; rotate: each in turn.")] = "rotate",
    tie_rule: Annotated[str, typer.Option(help="majority or mean of the judges.")] = "majority",
    margin: Annotated[float, typer.Option(help="Of scores from 0 to 10: less is a tie.")] = 0.5,
    rubric_margin: Annotated[float, typer.Option(help="Of rubric scores from 0 to 1: less is not worse.")] = 0.05,
    verdicts_min: Annotated[int, typer.Option(help="Fewer verdicts, and a question is inconclusive.")] = 2,
    seed: Annotated[int | None, typer.Option(min=0, help="Unset: drawn, and written down.")] = None,
    answer_tokens: Annotated[int, typer.Option(help="Longest answer.")] = 2_048,
    judge_tokens: Annotated[int, typer.Option(help="Longest verdict, reasoning included.")] = 2_048,
    limit_field: Annotated[str, typer.Option(help="max_tokens or max_completion_tokens.")] = "max_tokens",
    judge_format: Annotated[str, typer.Option(help="json_schema, json_object or none.")] = "json_schema",
    tries: Annotated[int, typer.Option(help="Of a call that fails, or a verdict that cannot be read.")] = 3,
    scripted: Annotated[bool, typer.Option("--scripted", help="No language models: claims nothing.")] = False,
) -> None:
    """Write down what is compared, by whom and by which rules, before anything is asked."""
    from proxy.evaluation.errors import EvaluationError
    from proxy.evaluation.plan import planned, write_plan
    from proxy.evaluation.questions import SHIPPED, read_questions

    try:
        made = planned(
            read_questions(questions or SHIPPED),
            written_at=str(opening.instant_text(opening.CLOCK.now_ms())),
            candidate=candidate,
            baselines=baseline,
            judges=judge,
            picker=picker,
            tie_rule=tie_rule,
            margin=margin,
            rubric_margin=rubric_margin,
            verdicts_min=verdicts_min,
            seed=secrets.randbits(32) if seed is None else seed,
            answer_tokens=answer_tokens,
            judge_tokens=judge_tokens,
            limit_field=limit_field,
            judge_format=judge_format,
            tries=tries,
            scripted=scripted,
        )
        write_plan(out, made)
    except EvaluationError as error:
        fail(str(error))
    _tell_plan(made, out)


@app.command("run", epilog="Example: tollway bench-answers run --plan plan.json --out results")
def run(
    plan: PlanOption = Path("plan.json"),
    out: OutOption = Path("results"),
    questions: QuestionsOption = None,
    base_url: Annotated[str, typer.Option("--base-url", metavar="URL", help="OpenAI-compatible.")] = DEFAULT_URL,
    key: Annotated[
        str | None, typer.Option("--key", metavar="REF", help=f"env:NAME or file:PATH; unset: {KEY_VARIABLE}, if set.")
    ] = None,
    concurrency: Annotated[int, typer.Option(min=1, max=64, help="Calls at once.")] = CONCURRENCY,
    timeout: Annotated[float, typer.Option(min=1, max=3600, help="Seconds to wait for an answer.")] = ANSWER_SECONDS,
    allow_http: Annotated[bool, typer.Option("--allow-http", help="Send the key over http elsewhere.")] = False,
    json: JsonOption = False,
) -> None:
    """Make the calls of the plan that were not made yet, then report. Ctrl-C is safe: the same command goes on."""
    from proxy.evaluation.asking import Asker
    from proxy.evaluation.errors import EvaluationError
    from proxy.evaluation.journal import Journal

    given = secret_of(key, "--key", KEY_VARIABLE) if key or environment().get(KEY_VARIABLE) else None
    try:
        made, asked = _planned(plan, questions)
        asker = Asker(base_url, given, opening.CLOCK, timeout_seconds=timeout, tries=made.tries, allow_http=allow_http)
        out.mkdir(parents=True, exist_ok=True)
        journal = Journal(out / JOURNAL, made.digest).read()
        asyncio.run(_run(made, asked, asker, journal, concurrency))
    except ValueError as error:
        fail(f"--base-url {base_url}: {error}.")
    except EvaluationError as error:
        fail(str(error), EXIT_FINDINGS)
    except OSError as error:
        fail(f"{out}: {error.strerror}. Name another folder with --out.")
    except KeyboardInterrupt:
        fail(f"\nInterrupted. What was answered is in {out / JOURNAL}; the same command goes on.", EXIT_INTERRUPTED)
    _report(made, asked, out, json=json)


@app.command("report", epilog="Example: tollway bench-answers report --plan plan.json --out results")
def report(
    plan: PlanOption = Path("plan.json"),
    out: OutOption = Path("results"),
    questions: QuestionsOption = None,
    json: JsonOption = False,
) -> None:
    """Write the reports anew from the journal. Nobody is called."""
    from proxy.evaluation.errors import EvaluationError

    try:
        made, asked = _planned(plan, questions)
    except EvaluationError as error:
        fail(str(error), EXIT_FINDINGS)
    if not (out / JOURNAL).exists():
        fail(f"There is no {out / JOURNAL}: 'tollway bench-answers run' makes it.")
    _report(made, asked, out, json=json)


@app.command("questions", epilog="Example: tollway bench-answers questions my-questions.jsonl")
def questions_(
    path: Annotated[Path | None, typer.Argument(help="JSON lines; left out: the 100 that ship.")] = None,
) -> None:
    """Check a file of questions, and count them."""
    from collections import Counter

    from proxy.evaluation.errors import BadQuestions
    from proxy.evaluation.questions import SHIPPED, near_duplicates, read_questions

    try:
        found = read_questions(path or SHIPPED)
    except BadQuestions as error:
        fail(str(error), EXIT_FINDINGS)
    counted = Counter(question.domain for question in found.questions)
    said = ", ".join(f"{count} {domain}" for domain, count in counted.items())
    typer.echo(f"{len(found.questions)} questions ({said}), sha256 {found.digest}")
    alike = near_duplicates(found.questions)
    for first, second in alike:
        typer.echo(f"{first} and {second} say nearly the same.", err=True)
    if alike:
        raise typer.Exit(EXIT_FINDINGS)


def _planned(path: Path, questions: Path | None) -> tuple[Plan, QuestionSet]:
    """The plan and its questions. Raises EvaluationError where they do not belong together, or to this program."""
    from proxy.evaluation.errors import BadPlan
    from proxy.evaluation.plan import read_plan
    from proxy.evaluation.prompts import protocol_digest
    from proxy.evaluation.questions import SHIPPED, read_questions

    made = read_plan(path)
    asked = read_questions(questions or SHIPPED)
    if asked.digest != made.questions_digest:
        raise BadPlan(f"{path} is for other questions ({made.questions}) than {questions or SHIPPED}: see --questions.")
    if made.protocol != protocol_digest():
        raise BadPlan(f"{path} was written by a version that words its prompts differently. Write another plan.")
    return made, asked


async def _run(plan: Plan, questions: QuestionSet, asker: Asker, journal: Journal, concurrency: int) -> None:
    from proxy.evaluation.errors import BadPlan
    from proxy.evaluation.running import Run

    async with asker:
        there = await asker.names()
        wanted = {one.name for one in (*plan.entrants, *plan.judges)}
        if there is not None and not wanted <= there:
            lacking = ", ".join(sorted(wanted - there))
            raise BadPlan(f"These models cannot be asked for there: {lacking}. Nothing was asked.")
        await asker.learn_rates()
        with journal:
            work = Run(plan, questions, journal, asker, concurrency=concurrency, tell=_progress())
            try:
                await work.go()
            finally:
                _end_progress()


def _report(plan: Plan, questions: QuestionSet, out: Path, *, json: bool) -> None:
    from proxy.evaluation.analysis import findings_of
    from proxy.evaluation.blocks import markdown
    from proxy.evaluation.errors import EvaluationError
    from proxy.evaluation.html import html
    from proxy.evaluation.journal import Journal
    from proxy.evaluation.machine import plain
    from proxy.evaluation.report import blocks_of, title_of

    try:
        entries = Journal(out / JOURNAL, plan.digest).read().entries
    except EvaluationError as error:
        fail(str(error), EXIT_FINDINGS)
    findings = findings_of(plan, questions, entries)
    blocks = blocks_of(findings)
    content = plain(findings)
    texts = (markdown(blocks), html(title_of(plan), blocks), orjson.dumps(content, option=orjson.OPT_INDENT_2).decode())
    for name, text in zip(REPORTS, texts, strict=True):
        (out / name).write_text(text, encoding="utf-8")
    if json:
        opening.print_json(content)
        return
    tally = findings.tally
    typer.echo(f"{tally.wins} won, {tally.ties} tied, {tally.losses} lost, {tally.inconclusive} inconclusive.")
    for claim in content["may_claim"]:
        typer.echo(claim)
    if content["notice"]:
        typer.echo(content["notice"])
    typer.echo(f"Reports: {', '.join(str(out / name) for name in REPORTS)}")


def _tell_plan(plan: Plan, path: Path) -> None:
    from proxy.evaluation.running import calls_max

    typer.echo(f"{path}: {plan.questions_count} questions, at most {calls_max(plan)} calls.")
    typer.echo(f"Digest {plan.digest}: publish it before you run, and nobody can doubt the plan.")
    related = sorted({judge.vendor for judge in plan.judges} & {one.vendor for one in plan.entrants})
    if related:
        typer.echo(f"Judges of {', '.join(related)} do not count for their own vendor's answers while others remain.")


def _progress() -> Callable[[Progress], None]:
    """A line that is written over, on a terminal; elsewhere nothing."""
    if not sys.stderr.isatty():
        return lambda _: None
    began = opening.CLOCK.monotonic()

    def tell(progress: Progress) -> None:
        fresh = progress.done - progress.kept
        left = progress.calls_max - progress.done
        seconds = (opening.CLOCK.monotonic() - began) / fresh * left if fresh else 0
        money = f", ${usd_text(Nano(progress.cost), places=2)}" if progress.cost else ""
        bad = f", {progress.failed} failed" if progress.failed else ""
        bad += f", {progress.abstained} abstained" if progress.abstained else ""
        text = f"{progress.done} of {progress.calls_max} calls{bad}{money}, about {seconds / 60:.0f} min left"
        typer.echo(f"\r\x1b[K{text}", err=True, nl=False)

    return tell


def _end_progress() -> None:
    if sys.stderr.isatty():
        typer.echo("", err=True)
