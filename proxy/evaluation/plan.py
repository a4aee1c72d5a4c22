"""A plan: what is compared, by whom it is judged and by which rules, written down before anything is asked.

Its digest covers every line of it, the file of questions and the wording of the prompts. What was made by one plan is
never reported by another.
"""

from __future__ import annotations

import hashlib
import re
from pathlib import Path
from typing import Annotated, Final, Literal, Self

import orjson
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from proxy.evaluation.errors import BadPlan
from proxy.evaluation.prompts import protocol_digest
from proxy.evaluation.questions import QuestionSet

PLAN_BYTES_MAX: Final = 1 << 20
JUDGES_MIN: Final = 3
ROTATE: Final = "rotate"
_VENDORS: Final = {
    r"gpt-|chatgpt|o[134](-|$)": "openai",
    r"claude": "anthropic",
    r"gemini|gemma": "google",
    r"(open-)?mi[sx]tral|ministral|codestral|magistral": "mistral",
    r"llama": "meta",
    r"deepseek": "deepseek",
    r"qwen|qwq": "alibaba",
    r"grok": "xai",
    r"command": "cohere",
    r"kimi": "moonshot",
    r"glm": "zhipu",
}
_NAME = Annotated[str, Field(pattern=r"^[\w.:/@+-]{1,128}$")]


class _Strict(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Entrant(_Strict):
    """A model, as it is asked for, and who makes it."""

    name: _NAME
    vendor: Annotated[str, Field(pattern=r"^[a-z0-9._-]{0,64}$")] = ""
    """Empty: of several, or none that judges."""


class Plan(_Strict):
    """Everything that could be turned to please after the results are seen."""

    version: Literal[1] = 1
    written_at: str
    candidate: Entrant
    baselines: tuple[Entrant, ...] = Field(min_length=1, max_length=8)
    judges: tuple[Entrant, ...] = Field(min_length=JUDGES_MIN, max_length=9)
    picker: str = ROTATE
    """The judge that picks each question's best baseline and does not judge that question's pair; `rotate`: each in
    its turn."""
    tie_rule: Literal["majority", "mean"] = "majority"
    """majority: more than half of the judges say so. mean: the mean of their differences reaches the margin."""
    margin: float = Field(default=0.5, ge=0, le=10)
    """Of two scores from 0 to 10; a smaller difference is a tie."""
    rubric_margin: float = Field(default=0.05, gt=0, lt=1)
    """Of rubric scores from 0 to 1; the candidate is not worse if it surely loses less than this."""
    verdicts_min: int = Field(default=2, ge=1, le=8)
    """Fewer judges, and the question is inconclusive."""
    seed: int = Field(ge=0, lt=1 << 63)
    resamples: int = Field(default=10_000, ge=1_000, le=1_000_000)
    answer_tokens: int = Field(default=2_048, ge=16, le=1 << 20)
    judge_tokens: int = Field(default=2_048, ge=64, le=1 << 20)
    limit_field: Literal["max_tokens", "max_completion_tokens"] = "max_tokens"
    judge_format: Literal["json_schema", "json_object", "none"] = "json_schema"
    """`response_format` of judges' calls; whatever it is, what they say is validated here."""
    tries: int = Field(default=3, ge=1, le=10)
    """Of one call; and of a judge whose verdict cannot be read."""
    scripted: bool = False
    """No language models: the report says that it claims nothing about quality."""
    questions: str
    questions_digest: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
    questions_count: int = Field(ge=1)
    protocol: str
    """Digest of the prompts."""

    @model_validator(mode="after")
    def _coherent(self) -> Self:
        names = [one.name for one in (self.candidate, *self.baselines)]
        judges = [judge.name for judge in self.judges]
        if len(set(names)) < len(names) or len(set(judges)) < len(judges):
            raise ValueError("a model is named twice among candidate and baselines, or among judges")
        if self.candidate.name in judges:
            raise ValueError(f"{self.candidate.name} cannot judge itself")
        if len({judge.vendor for judge in self.judges}) < JUDGES_MIN:
            raise ValueError(f"judges are of at least {JUDGES_MIN} vendors")
        if self.picker not in (ROTATE, *judges):
            raise ValueError(f"picker: {self.picker} is none of the judges")
        if self.verdicts_min >= len(self.judges):
            raise ValueError("verdicts_min: one judge of each question picks its baseline, and the others judge it")
        return self

    @property
    def entrants(self) -> tuple[Entrant, ...]:
        """Who answers: the candidate first."""
        return (self.candidate, *self.baselines)

    @property
    def digest(self) -> str:
        """Over everything that it says."""
        plain = orjson.dumps(self.model_dump(), option=orjson.OPT_SORT_KEYS)
        return hashlib.sha256(plain).hexdigest()


def entrant(text: str) -> Entrant:
    """From `MODEL=VENDOR`, or a model whose vendor its name tells. Raises BadPlan."""
    name, _, vendor = text.partition("=")
    vendor = vendor or vendor_of(name)
    if not vendor:
        raise BadPlan(f"{text}: it is not known who makes it. Write {text}=VENDOR.")
    try:
        return Entrant(name=name, vendor=vendor.lower())
    except ValidationError as error:
        raise BadPlan(f"{text}: write MODEL or MODEL=VENDOR, a vendor in letters, digits, '.', '_' and '-'.") from error


def vendor_of(name: str) -> str:
    """By what the name begins with, a gateway's own `vendor/` left aside; empty: not known."""
    last = name.rpartition("/")[2].lower()
    found = next((vendor for pattern, vendor in _VENDORS.items() if re.match(pattern, last)), "")
    return found or (name.partition("/")[0].lower() if "/" in name else "")


def planned(
    questions: QuestionSet, *, written_at: str, candidate: str, baselines: list[str], judges: list[str], **rules: object
) -> Plan:
    """A plan for these questions; `rules` are the other fields of Plan. Raises BadPlan."""
    known = "=" in candidate or vendor_of(candidate)
    content = {
        "written_at": written_at,
        "candidate": entrant(candidate).model_dump() if known else {"name": candidate},
        "baselines": [entrant(one).model_dump() for one in baselines],
        "judges": [entrant(one).model_dump() for one in judges],
        "questions": questions.name,
        "questions_digest": questions.digest,
        "questions_count": len(questions.questions),
        "protocol": protocol_digest(),
    }
    return checked({**content, **rules}, "the plan")


def write_plan(path: Path, plan: Plan) -> None:
    """A plan is written once. Raises BadPlan where there is a file already."""
    content = {**plan.model_dump(), "digest": plan.digest}
    try:
        with path.open("xb") as file:
            file.write(orjson.dumps(content, option=orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE))
    except FileExistsError:
        raise BadPlan(f"{path} is there already, and a plan is not changed once written: name another file.") from None
    except OSError as error:
        raise BadPlan(f"{path} cannot be written: {error.strerror}.") from error


def read_plan(path: Path) -> Plan:
    """Raises BadPlan: it cannot be read, or was changed after it was written."""
    try:
        with path.open("rb") as file:
            content = orjson.loads(file.read(PLAN_BYTES_MAX))
    except OSError as error:
        hint = "Write one with 'tollway bench-answers plan'."
        raise BadPlan(f"{path} cannot be read: {error.strerror}. {hint}") from error
    except orjson.JSONDecodeError as error:
        raise BadPlan(f"{path} is no plan: {error}.") from error
    digest = content.pop("digest", None) if isinstance(content, dict) else None
    plan = checked(content, str(path))
    if digest != plan.digest:
        raise BadPlan(f"{path} was changed after it was written. Write another plan, and run that one from its start.")
    return plan


def checked(content: object, where: str) -> Plan:
    """Raises BadPlan with the first thing that is wrong."""
    try:
        return Plan.model_validate(content)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False, include_context=False)[0]
        place = ".".join(str(part) for part in first["loc"])
        said = first["msg"].removeprefix("Value error, ")
        raise BadPlan(f"{where}: {place + ': ' if place else ''}{said}.") from error
