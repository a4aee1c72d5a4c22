"""The words of a run: the question, the calls that it makes, the events that it tells, and its result."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from enum import Enum
from typing import Any, Protocol

from proxy.consensus.settings import AUTO, Seat
from proxy.errors import Refusal
from proxy.pricing.money import ZERO, Nano

Message = dict[str, Any]
"""One message of OpenAI's chat completions."""


class Role(Enum):
    """What a call is for; the ledger keeps it with the call."""

    MEMBER = "member"
    JUDGE = "judge"
    REFINE = "refine"
    CHECK = "check"
    SYNTHESIS = "synthesis"
    REPAIR = "repair"


@dataclass(frozen=True, slots=True)
class Question:
    """What is asked. `messages` are the conversation as every member sees it."""

    messages: tuple[Message, ...]
    output_tokens: int
    """Limit of the final answer, set or clamped before it gets here."""
    domain: str = AUTO
    tools: tuple[dict[str, Any], ...] = ()
    """Held by the synthesiser alone; members advise in text."""
    tool_choice: Any = None
    parallel_tool_calls: bool | None = None
    response_format: dict[str, Any] | None = None
    """OpenAI's: json_object or json_schema. Members get it, too."""
    images: int = 0
    sampling: dict[str, Any] = field(default_factory=dict)
    """temperature, top_p, stop, seed and the like as the caller set them: for the synthesiser."""
    verified: bool = False
    """Hold the final answer back until it has passed the gate; the default streams it as it comes."""


@dataclass(frozen=True, slots=True)
class CallSpec:
    """One call to one model."""

    seat: Seat
    role: Role
    round: int
    messages: tuple[Message, ...]
    output_tokens: int
    tools: tuple[dict[str, Any], ...] = ()
    tool_choice: Any = None
    parallel_tool_calls: bool | None = None
    response_format: dict[str, Any] | None = None
    sampling: dict[str, Any] = field(default_factory=dict)
    hedge: bool = False
    """A spare beside a silent member."""
    about: Any = None
    """Structured form of what the prompt says, for a scripted upstream; a real one never sees it."""


@dataclass(frozen=True, slots=True)
class Delta:
    """A piece of an answer under way."""

    text: str = ""
    tool_calls: tuple[dict[str, Any], ...] = ()
    """As OpenAI streams them: each with `index`."""


Deltas = Callable[[Delta], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class Answer:
    """A call that came to its regular end."""

    text: str
    finish_reason: str
    """stop | length | tool_calls | content_filter"""
    tool_calls: tuple[dict[str, Any], ...] = ()
    """Whole ones, OpenAI's shape."""
    output_tokens: int = 0


class CallFailed(Exception):
    """A call without a usable answer. What it cost is in its record all the same."""

    def __init__(self, kind: str, *, partial: str = "", retry_after_seconds: float | None = None) -> None:
        super().__init__(kind)
        self.kind = kind
        """unavailable | rate_limited | refused | timeout | broken | garbage | empty | content_filter; for people and
        machines, without names of providers."""
        self.partial = partial
        """Text that came before it broke."""
        self.retry_after_seconds = retry_after_seconds


@dataclass(slots=True, eq=False)
class CallRecord:
    """What one call did, cancelled or not. Written by `Calls`."""

    seat: Seat
    role: Role
    round: int
    hedge: bool = False
    status: str = "running"
    """running | served | cancelled | a CallFailed's kind"""
    input_tokens: int = 0
    output_tokens: int = 0
    cached_tokens: int = 0
    cost: Nano = ZERO
    """At list. Of a running call: what it can cost at most."""
    estimated: bool = False
    """Counted by us: the upstream reported nothing, or was cancelled before it could."""
    first_seconds: float | None = None
    seconds: float | None = None


class Calls(Protocol):
    """Where the calls of one run go. One instance a run."""

    @property
    def records(self) -> Sequence[CallRecord]:
        """Every call so far, in the order in which they were begun."""
        ...

    def cost_max(self, spec: CallSpec) -> Nano:
        """The most that the call can cost at list: a proven bound."""
        ...

    async def call(self, spec: CallSpec, deltas: Deltas | None = None) -> Answer:
        """Call, and wait for the whole answer; `deltas` is awaited for each piece of it as it comes.

        Raises CallFailed. Cancelled, it closes the upstream at once and books what the call had cost by then; by the
        time that it returns or raises, its record is final.
        """
        ...


class Severity(Enum):
    """How sure the panel is."""

    LOW = "low"
    MEDIUM = "medium"
    HIGH = "high"


@dataclass(frozen=True, slots=True)
class Event:
    """Something that happened, for whoever watches. `name`: accepted, detected, member.started, member.completed,
    member.failed, quorum, evaluation, round, claim.checked, synthesis.started, token, quality, usage, done, error."""

    name: str
    data: dict[str, Any] = field(default_factory=dict)
    """JSON values only. `token` has `text`, and `tool_calls` where the delta has them."""


Emit = Callable[[Event], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class Quality:
    """How good the panel takes its answer to be."""

    score: float
    """0 to 100."""
    basis: str
    """judges | agreement"""
    dimensions: dict[str, float] = field(default_factory=dict)
    """0 to 10, the median over judges; empty where nobody judged."""
    calibrated: bool = False


@dataclass(frozen=True, slots=True)
class Dissent:
    """A position that the final answer does not take."""

    position: str
    members: int


@dataclass(frozen=True, slots=True)
class MemberReport:
    """What became of one seat."""

    label: str
    """A, B, ...: what is shown where the names of models are not."""
    model: str
    vendor: str
    status: str
    """answered | late | failed | replaced"""
    reason: str = ""
    """A CallFailed's kind, or empty."""
    seconds: float | None = None


@dataclass(frozen=True, slots=True)
class Result:
    """What a run came to."""

    text: str
    finish_reason: str
    tool_calls: tuple[dict[str, Any], ...]
    mode: str
    """That answered; in `auto` the one that it ended in."""
    domain: str
    language: str
    """ISO 639-1, or und."""
    source: str
    """synthesis | typed_agreement | best_member | sole_survivor | member_object"""
    quality: Quality
    agreement: float
    """0 to 1: share of votes for the answer's position, or of claims that nobody contests."""
    confidence: Severity
    effective_votes: float
    dissent: tuple[Dissent, ...] = ()
    unverified_claims: tuple[str, ...] = ()
    rounds: int = 0
    degraded: bool = False
    escalated: bool = False
    """`auto` went on with its second mode."""
    skipped: tuple[str, ...] = ()
    """Stages left out, each with its reason: `claim checks: budget`."""
    flags: tuple[str, ...] = ()
    """What is odd about answers: instructions to judges, verdicts in them."""
    gate: str = "passed"
    """passed | failed (streamed already) | replaced (verified: the best member's answer stands in its place)"""
    members: tuple[MemberReport, ...] = ()


class RunFailed(Exception):
    """A run without an answer: the charge is returned. `refusal` is what the caller is told."""

    def __init__(self, refusal: Refusal, *, members: tuple[MemberReport, ...] = (), partial: str = "") -> None:
        super().__init__(refusal.code)
        self.refusal = refusal
        self.members = members
        self.partial = partial
        """What of the final answer was sent before it broke."""
