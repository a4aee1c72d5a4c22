"""The shape of policies/consensus.yaml: modes, who sits in them, what a run costs, and what everybody is told."""

from __future__ import annotations

from decimal import Decimal
from fractions import Fraction
from typing import Annotated, Any, Final

from pydantic import BeforeValidator, Field

from proxy.config.policies import Count, Dollars, Name
from proxy.config.strict import Strict

SEATS_MAX: Final = 9
ROUNDS_MAX: Final = 4
WEIGHT_MAX: Final = 100
CREDIT_DECIMALS: Final = 3
PROMPT_CHARS_MAX: Final = 20_000
_OF_ONE: Final = "a share from 0 to 1 is wanted here: 0.35, or 2/3"

Seconds = Annotated[float, Field(gt=0, le=3600)]
Percent = Annotated[int, Field(ge=0, le=100)]
ModeName = Annotated[str, Field(min_length=1, max_length=40, pattern=r"^[a-z0-9][a-z0-9_-]*$")]
Template = Annotated[str, Field(min_length=1, max_length=PROMPT_CHARS_MAX)]


def _share(value: Any) -> Fraction:
    """A part of one, exact."""
    if isinstance(value, bool) or not isinstance(value, int | Decimal | str | Fraction):
        raise ValueError(_OF_ONE)
    try:
        share = Fraction(value)
    except (ValueError, ZeroDivisionError) as error:
        raise ValueError(_OF_ONE) from error
    if not 0 <= share <= 1:
        raise ValueError(f"a share is from 0 to 1, not {value}")
    return share


def _weight(value: Any) -> Fraction:
    if isinstance(value, bool) or not isinstance(value, int | Decimal | Fraction) or not 0 < value <= WEIGHT_MAX:
        raise ValueError(f"a weight is more than 0 and at most {WEIGHT_MAX}")
    return Fraction(value)


def _milli(value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, int | Decimal) or value < 0:
        raise ValueError("a number of credits, 0 or more, is wanted here")
    scaled = Decimal(value) * 10**CREDIT_DECIMALS
    if scaled != scaled.to_integral_value():
        raise ValueError(f"{value} credits have more than {CREDIT_DECIMALS} decimals")
    return int(scaled)


Share = Annotated[Fraction, BeforeValidator(_share, json_schema_input_type=Decimal)]
Weight = Annotated[Fraction, BeforeValidator(_weight, json_schema_input_type=Decimal)]
Credits = Annotated[int, BeforeValidator(_milli, json_schema_input_type=Decimal)]
"""Credits in the file; thousandths of one."""


class SeatEntry(Strict):
    """A member, a spare or a synthesiser; a bare model name is enough."""

    model: Name = Field(description="A model of models.yaml that serves chat.completions, by name or alias; no lane.")
    vendor: str | None = Field(
        default=None, min_length=1, max_length=40, description="Whose model it is; absent: its first upstream's name."
    )
    family: str | None = Field(
        default=None, min_length=1, max_length=200, description="Seats of one family are one voice; absent: the model."
    )
    weight: Weight = Field(default=Fraction(1), description="Of its vote.")


def _seat(value: Any) -> Any:
    return {"model": value} if isinstance(value, str) else value


SeatOrName = Annotated[SeatEntry, BeforeValidator(_seat)]


class RunPriceEntry(Strict):
    """What one run costs whoever asks for it, whatever its calls cost."""

    usd: Dollars = Field(description="Dollars.")
    credits: Credits = Field(description="Credits, at most three decimals.")
    sats: Annotated[int, Field(ge=0)] | None = Field(
        default=None, description="A fixed price for rails in sats; absent: from usd at the bitcoin price."
    )


class RunDeadlinesEntry(Strict):
    """Seconds that a run and its calls may take."""

    total_seconds: Seconds = Field(description="From the first call to the last token of the answer.")
    call_seconds: Seconds = Field(description="One call.")
    first_byte_seconds: Seconds = Field(description="Silence of a call before its first token.")
    idle_seconds: Seconds = Field(description="Longest silence within an answer.")


class TokensEntry(Strict):
    """Output limits of each kind of call."""

    member: Count = Field(description="A member's answer, and its refinement.")
    evaluation: Count = Field(description="A member's judgement of the others.")
    check: Count = Field(description="A check of contested claims.")
    final: Count = Field(description="The final answer, where the caller sets no limit.")
    final_max: Count = Field(description="A caller's larger limit is lowered to this.")


class ModeEntry(Strict):
    """One way to run a panel: the model <prefix><name>."""

    display_name: str = Field(default="", max_length=100, description="For people; absent: the model's name.")
    members: Annotated[tuple[SeatOrName, ...], Field(min_length=1, max_length=SEATS_MAX)] = Field(
        description="Who answers. A model may sit here several times."
    )
    spares: Annotated[tuple[SeatOrName, ...], Field(max_length=SEATS_MAX)] = Field(
        default=(), description="In the place of a member that fails, is silent, or cannot be served at all."
    )
    synthesisers: Annotated[tuple[SeatOrName, ...], Field(min_length=1, max_length=SEATS_MAX)] = Field(
        description="Who writes the final answer, in this order."
    )
    quorum: Count = Field(description="Answers that are enough.")
    vendors_min: Count = Field(default=2, description="Different vendors that must be seated.")
    evaluate: bool = Field(default=False, description="Members judge each other's answers.")
    refine_rounds_max: Annotated[int, Field(ge=0, le=ROUNDS_MAX)] = Field(
        default=0, description="Rounds in which members look at their answers again."
    )
    reevaluate: bool = Field(default=False, description="Refined answers are judged again.")
    check_claims: bool = Field(default=False, description="Contested claims are checked without sight of the draft.")
    early_exit: bool = Field(default=True, description="Typed answers that agree end the run.")
    deadlines: RunDeadlinesEntry
    tokens: TokensEntry
    input_tokens_max: Count = Field(description="The price holds up to here; a longer question is refused.")
    budget_usd: Dollars = Field(description="All calls of a run cost at most this at list; held beside the price.")
    price: RunPriceEntry
    degraded_percent: Percent = Field(
        default=50, description="Of the price, for an answer from fewer members than the quorum."
    )
    hedge: bool = Field(default=True, description="A spare may be called beside a silent member.")
    tiers: tuple[str, ...] = Field(default=(), description="Tiers that may call it; empty: all.")
    open: bool = Field(default=False, description="Reachable without a key, on loopback only.")
    created: Annotated[int, Field(ge=0)] = Field(default=0, description="Unix seconds shown by GET /v1/models.")


class WeightsEntry(Strict):
    """How answers are scored."""

    dimensions: dict[str, dict[str, Share]] = Field(
        default_factory=dict, description="Domain -> dimension -> share; what a domain lacks is as in general."
    )
    judges: Share = Field(default=Fraction(55, 100), description="Of the score: what judges say.")
    claims: Share = Field(default=Fraction(30, 100), description="Of the score: claims that are supported.")
    agreement: Share = Field(default=Fraction(15, 100), description="Of the score: agreement of the members.")
    unjudged_agreement: Share = Field(
        default=Fraction(70, 100), description="The same where nobody judges; the rest is claims."
    )
    contradiction_cap: Percent = Field(default=70, description="Highest score with an unresolved contradiction.")
    correlation: Share = Field(default=Fraction(40, 100), description="Of members' errors.")
    calibration: tuple[tuple[Share, Share], ...] = Field(
        default=(), max_length=1000, description="[score, share that was right], both rising; empty: not calibrated."
    )


class RulesOfRunEntry(Strict):
    """Thresholds of the algorithm, the same for every mode."""

    plurality_small: Share = Field(default=Fraction(2, 3), description="Share of up to four families that agree.")
    plurality_large: Share = Field(default=Fraction(4, 5), description="The same of five and more.")
    contested_share_max: Share = Field(default=Fraction(1, 10), description="Of claims, for convergence.")
    stall_change_min: Share = Field(default=Fraction(1, 10), description="Of answers that a round must change ...")
    stall_gain_min: Share = Field(default=Fraction(2, 100), description="... or gain of score, or refinement ends.")
    grace_share: Share = Field(default=Fraction(1, 4), description="Of the time to the quorum, for stragglers ...")
    grace_seconds_min: Annotated[float, Field(ge=0, le=60)] = Field(default=0.5, description="... at least ...")
    grace_seconds_max: Annotated[float, Field(ge=0, le=60)] = Field(default=10.0, description="... and at most.")
    hedge_percent_max: Percent = Field(default=5, description="Of runs, that may call a spare for a silent member.")
    answer_chars_max: Annotated[int, Field(ge=1000, le=1_000_000)] = Field(
        default=64_000, description="Of a member's answer as others read it; the rest is cut."
    )
    claims_max: Annotated[int, Field(ge=1, le=20)] = Field(
        default=6, description="Of one answer, and of those checked."
    )
    repairs_max: Annotated[int, Field(ge=0, le=3)] = Field(
        default=1, description="Of a final object that does not fit its schema."
    )


class PromptsEntry(Strict):
    """What each role is told. Placeholders stand in braces; a brace of the text itself is doubled."""

    member: Template = Field(description="To each member, before the conversation.")
    evaluate: Template = Field(description="To a member that judges the others.")
    refine: Template = Field(description="To a member that looks at its own answer again.")
    check: Template = Field(description="To a member that checks claims.")
    synthesise: Template = Field(description="To whoever writes the final answer.")
    repair: Template = Field(description="To whoever mends a final object that does not fit its schema.")


class HistoryEntry(Strict):
    """Conversations of POST /v1/orchestrate."""

    hours: Annotated[int, Field(ge=1, le=24 * 30)] = Field(default=24, description="Kept this long.")
    turns_max: Annotated[int, Field(ge=1, le=1000)] = Field(default=50, description="Of one; the oldest are dropped.")


class BatchEntry(Strict):
    """POST /v1/batch."""

    prompts_max: Annotated[int, Field(ge=1, le=100)] = Field(default=20, description="Of one batch.")
    at_once_max: Annotated[int, Field(ge=1, le=100)] = Field(
        default=4, description="Items of batches that one process runs at once."
    )


class IdempotencyEntry(Strict):
    """The header Idempotency-Key."""

    hours: Annotated[int, Field(ge=1, le=24 * 30)] = Field(default=24, description="A result is kept this long.")


class ConsensusFile(Strict):
    """policies/consensus.yaml; without the file there are no consensus models."""

    prefix: Annotated[str, Field(min_length=1, max_length=40, pattern=r"^[a-z0-9][a-z0-9._-]*$")] = Field(
        default="consensus-", description="A mode's model is called <prefix><mode>."
    )
    default: str = Field(default="balanced", description="Mode of POST /v1/orchestrate where the request names none.")
    auto: tuple[str, str] | None = Field(
        default=None, description="Two modes: the first is run, and where it does not agree the second; null: no auto."
    )
    auto_domain: bool = Field(default=True, description="A question's domain is found out where it is not named.")
    modes: dict[ModeName, ModeEntry] = Field(min_length=1, description="By name.")
    weights: WeightsEntry = WeightsEntry()
    rules: RulesOfRunEntry = RulesOfRunEntry()
    history: HistoryEntry = HistoryEntry()
    batch: BatchEntry = BatchEntry()
    idempotency: IdempotencyEntry = IdempotencyEntry()
    prompts: PromptsEntry
