"""What policies/consensus.yaml says, typed: who sits on a panel, what it does, how long it may take, what it costs."""

from __future__ import annotations

from dataclasses import dataclass, field
from fractions import Fraction
from typing import Final

from proxy.consensus import words
from proxy.pricing.money import Nano

DIMENSIONS: Final = ("accuracy", "completeness", "evidence", "clarity", "instructions")
"""What a judge scores from 0 to 10; in creative writing `evidence` is originality."""
DOMAINS: Final = words.DOMAINS
AUTO: Final = words.AUTO


@dataclass(frozen=True, slots=True)
class Seat:
    """One member of a panel. A model may have several seats; votes count its family once."""

    name: str
    """Unique in its mode: the model's name, `#2`, `#3` behind it where it sits there again."""
    model: str
    """Catalogue name."""
    vendor: str
    family: str
    """Seats of one family are one voice in votes: the model's catalogue name unless the file says otherwise."""
    weight: Fraction = Fraction(1)
    """Of its vote, from what is known of its reliability; 1 unless the file says otherwise."""
    vision: bool = False
    tools: bool = False
    json_schema: bool = False
    context_tokens: int = 0
    """Most tokens of input and output together; 0: not known."""


@dataclass(frozen=True, slots=True)
class Price:
    """What a run costs whoever asks for it, whatever its calls cost."""

    usd: Nano
    credits_milli: int
    """Thousandths of a credit."""
    msat: int | None = None
    """None: from `usd` at the bitcoin price of the moment."""


@dataclass(frozen=True, slots=True)
class Deadlines:
    """In seconds. `total` is from the first call to the last token of the answer."""

    total: float
    call: float
    first_byte: float
    """Silence before a first token: a longer one of a member may be hedged, a synthesiser is replaced by the next."""
    idle: float
    """Longest silence within an answer."""


@dataclass(frozen=True, slots=True)
class Tokens:
    """Output limits of each kind of call."""

    member: int
    evaluation: int
    check: int
    final: int
    """Of the final answer where the caller sets none; a larger one of the caller's is lowered to `final_max`."""
    final_max: int


@dataclass(frozen=True, slots=True)
class Mode:
    """One way to run a panel: `fast`, `balanced`, `deep`, or whatever the file calls it."""

    name: str
    seats: tuple[Seat, ...]
    spares: tuple[Seat, ...]
    """Take the place of a member that fails or is silent, in this order, those of another vendor first."""
    synthesisers: tuple[Seat, ...]
    """Who writes the final answer, in this order of preference."""
    quorum: int
    vendors_min: int
    """Vendors that must be among the answers for a quorum, as far as so many are seated at all."""
    evaluate: bool
    """Members judge each other's answers."""
    refine_rounds_max: int
    reevaluate: bool
    """Refined answers are judged again, and replace the old ones only where they do not fall."""
    check_claims: bool
    """Contested claims are checked by members who do not see the draft."""
    early_exit: bool
    """Typed answers that agree end the run: the leading answer is the final one."""
    deadlines: Deadlines
    tokens: Tokens
    input_tokens_max: int
    """The price holds up to here; a longer question is refused."""
    budget: Nano
    """All calls of one run together cost at most this at list: what is held beside the price."""
    price: Price
    degraded_percent: int = 50
    """Of the price, charged for an answer from fewer members than the quorum. 0: nothing."""
    hedge: bool = True
    display_name: str = ""
    open: bool = False
    """Reachable without a key, on loopback only."""
    tiers: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class Weights:
    """How answers are scored. Shares are exact and add up to 1."""

    dimensions: dict[str, dict[str, Fraction]]
    """Domain -> dimension -> share. `general` is there, and what another domain lacks is taken from it."""
    judges: Fraction = Fraction(55, 100)
    claims: Fraction = Fraction(30, 100)
    agreement: Fraction = Fraction(15, 100)
    unjudged_agreement: Fraction = Fraction(70, 100)
    """Where nobody judges; the rest is claims."""
    contradiction_cap: int = 70
    """A score above it is lowered to it while a contradiction is not resolved."""
    correlation: Fraction = Fraction(40, 100)
    """Of members' errors; n votes count as n / (1 + (n - 1) * correlation)."""
    calibration: tuple[tuple[Fraction, Fraction], ...] = ()
    """Raw score from 0 to 1 -> share that was right, both rising (isotonic, from labelled answers). Empty: a score is
    no probability, and is not called one."""


@dataclass(frozen=True, slots=True)
class Rules:
    """Thresholds of the algorithm, the same for every mode."""

    plurality_small: Fraction = Fraction(2, 3)
    """Share of families that must give the same typed answer, of up to four."""
    plurality_large: Fraction = Fraction(4, 5)
    """The same of five and more."""
    contested_share_max: Fraction = Fraction(1, 10)
    """Open answers have converged where no larger share of claims is contested and the leader stays."""
    stall_change_min: Fraction = Fraction(1, 10)
    """A round that changes a smaller share of answers ends refinement ..."""
    stall_gain_min: Fraction = Fraction(2, 100)
    """... and so does one whose score gains less, of 1."""
    grace_share: Fraction = Fraction(1, 4)
    """Of the time to the quorum: how long stragglers are waited for after it ..."""
    grace_seconds_min: float = 0.5
    grace_seconds_max: float = 10.0
    """... within these bounds; the upper one must not exceed the share where latency is promised."""
    hedge_percent_max: int = 5
    """Of runs, that may call a spare for a silent member."""
    answer_chars_max: int = 64_000
    """Of one member's answer as others read it; the rest is cut and said to be."""
    claims_max: int = 6
    """Of one answer, and of those checked."""
    repairs_max: int = 1
    """Of a final object that does not fit its schema."""


@dataclass(frozen=True, slots=True)
class Prompts:
    """What each role is told, templates for `str.format_map`. Placeholders are listed with each in consensus.yaml."""

    member: str
    evaluate: str
    refine: str
    check: str
    synthesise: str
    repair: str


def _placeholders(needed: str, optional: str = "") -> tuple[frozenset[str], frozenset[str]]:
    return frozenset(needed.split()), frozenset((needed + " " + optional).split())


PLACEHOLDERS: Final = {
    "member": _placeholders("ending", "language domain"),
    "evaluate": _placeholders("shape", "language domain dimensions"),
    "refine": _placeholders("ending", "language domain"),
    "check": _placeholders("shape", "language domain"),
    "synthesise": _placeholders("form", "language domain"),
    "repair": _placeholders("schema", "problem"),
}
"""Template -> those that it needs, and all that it may have. `ending`, `shape` and `form` are what the answers of these
roles are read by."""


@dataclass(frozen=True, slots=True)
class Consensus:
    """The whole of policies/consensus.yaml."""

    modes: dict[str, Mode]
    prompts: Prompts
    weights: Weights
    rules: Rules = field(default_factory=Rules)
    prefix: str = "consensus-"
    """A mode's model is called `<prefix><mode>`."""
    default_mode: str = "balanced"
    auto: tuple[str, str] | None = None
    """Modes that `auto` runs: the first, and where it does not agree, the second. None: there is no `auto`."""
    auto_domain: bool = True
    history_hours: int = 24
    conversation_turns_max: int = 50
    batch_prompts_max: int = 20
    batch_at_once_max: int = 4
    """Items of batches that one process runs at once."""
    idempotency_hours: int = 24
