"""Models the client may name, and who can serve them: the typed form of policies/models.yaml."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum
from math import gcd

from proxy.consensus.settings import Mode
from proxy.pricing.rates import Rates
from proxy.upstreams.api import Upstream

TOOLS = "tools"
VISION = "vision"
JSON_SCHEMA = "json_schema"
STREAMING = "streaming"
BYO_PREFIX = "byo-"
"""Names of customers' own models begin like this; no entry of models.yaml may."""
CAPABILITIES = frozenset({TOOLS, VISION, JSON_SCHEMA, STREAMING})
"""What a call may need of the model that serves it."""


class Strategy(Enum):
    """In which order the admissible candidates of a model are tried."""

    PRIORITY = "priority"
    """As the file lists them."""
    CHEAPEST = "cheapest"
    """By what this very call costs at their list prices."""
    LATENCY = "latency"
    """The better of two drawn at random, by a moving peak of their latency and what they have under way."""
    WEIGHTED = "weighted"
    """Drawn at random, each by its weight."""
    LEAST_BUSY = "least_busy"
    """Fewest calls under way."""


class Wallet(Enum):
    """Which prepaid purse of an account a model is paid from, where the account pays in advance."""

    BALANCE = "balance"
    FRONTIER = "frontier"
    """Frontier Credits: a USD purse of their own, for models that are passed through at retail."""


@dataclass(frozen=True, slots=True)
class Candidate:
    """One way to serve a model: an upstream and the name it knows the model by."""

    upstream: str
    upstream_model: str
    cost: Rates | None = None
    """What it costs at list; None: the model's own rates."""
    model: str = ""
    """Catalogue name of what serves: the member of a lane; "": the model's own name."""
    context_tokens: int = 0
    """Most tokens of input and output together; 0: the model's own."""
    output_tokens_max: int = 0
    """0: the model's own."""
    image_tokens_max: int | None = None
    """Of a lane's member; None: the model's own."""
    encoding: str | None = None
    """Of a lane's member; None: the model's own."""
    capabilities: frozenset[str] = CAPABILITIES
    weight: int = 1
    """Share of a weighted draw."""
    partner: str | None = None
    """The revenue-share partner whose machine it is; its usage is accounted to the partner."""
    endpoint: Upstream | None = None
    """A customer's own upstream with the customer's key; None: the one that `upstream` names in the configuration."""


@dataclass(frozen=True, slots=True)
class Common:
    """What holds of all of a model's candidates, so that a call that asks no more need not look at each."""

    capabilities: frozenset[str]
    """That each of them has."""
    context_tokens: int
    """That each of them takes."""
    output_tokens_max: int
    """That each of them takes."""
    prices: tuple[tuple[int, int], ...] | None
    """What a token of input and one of output cost at most at each, in a unit of their own: small integers, exact.

    None where one candidate has no list price, or one that depends on the length.
    """


@dataclass(frozen=True, slots=True)
class Model:
    """An alias. `rates` is what a caller is charged; a model without rates is never served on our account."""

    name: str
    candidates: tuple[Candidate, ...]
    rates: Rates | None
    context_tokens: int
    output_tokens_default: int
    output_tokens_max: int
    operations: frozenset[str]
    """Operation names it serves: chat.completions, embeddings, messages, responses."""
    tiers: frozenset[str] = frozenset()
    """Tiers that may call it; empty: all."""
    open: bool = False
    """Reachable without a key, on loopback only."""
    encoding: str | None = None
    """tiktoken encoding of its vocabulary; None where no exact one is known."""
    image_tokens_max: int | None = None
    """Most tokens one image can cost; None: images cannot be bounded."""
    created: int = 0
    tags: tuple[str, ...] = ()
    display_name: str = ""
    """For people; "": the name."""
    dimensions: int | None = None
    """Length of its vectors, for embeddings."""
    strategy: Strategy = Strategy.PRIORITY
    lane: bool = False
    """A smart route: its candidates are those of other models of the catalogue."""
    sticky: bool = False
    """One conversation stays with one candidate while that is healthy, for the provider's prompt cache."""
    hedge: bool = False
    """A second candidate may be called while the first is silent; the list cost of both is held."""
    consortium: bool = False
    """Served by partners' machines; without a healthy one: 503 no_consortium_machine_available."""
    wallet: Wallet = Wallet.BALANCE
    byo: bool = False
    """Served by a customer's own upstream key: charged 0, its list cost recorded where it is known."""
    panel: Mode | None = None
    """Several models answer together, at the mode's price; candidates are those of all its seats, spares and
    synthesisers, each with its own list price. It has no rates."""
    common: Common = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "common", _common(self))

    def list_rates(self, candidate: Candidate) -> Rates | None:
        """What `candidate` costs at list; None where nobody knows."""
        if candidate.cost is not None or self.byo:
            return candidate.cost
        return self.rates

    def context_of(self, candidate: Candidate) -> int:
        """Most tokens `candidate` takes, input and output together; 0: not known."""
        return candidate.context_tokens or self.context_tokens

    def output_max_of(self, candidate: Candidate) -> int:
        """The largest output limit that `candidate` takes."""
        return candidate.output_tokens_max or self.output_tokens_max

    def encoding_of(self, candidate: Candidate) -> str | None:
        """The vocabulary of what `candidate` serves, where it is known."""
        return candidate.encoding or self.encoding

    def image_tokens_max_of(self, candidate: Candidate) -> int | None:
        """Most tokens of one image at `candidate`; None: not known."""
        return self.image_tokens_max if candidate.image_tokens_max is None else candidate.image_tokens_max

    def served_as(self, candidate: Candidate) -> str:
        """Catalogue name of what `candidate` serves."""
        return candidate.model or self.name


def _common(model: Model) -> Common:
    some = model.candidates
    return Common(
        capabilities=CAPABILITIES.intersection(*[candidate.capabilities for candidate in some]),
        context_tokens=min([model.context_of(candidate) for candidate in some], default=0),
        output_tokens_max=min([model.output_max_of(candidate) for candidate in some], default=0),
        prices=_common_prices(model) if len(some) > 1 else None,
    )


def _common_prices(model: Model) -> tuple[tuple[int, int], ...] | None:
    prices = []
    for candidate in model.candidates:
        rates = model.list_rates(candidate)
        if rates is None or rates.bands:
            return None
        prices.append(rates.dearest_rates(cache_write=False, images=False, audio=False))
    unit = gcd(*[rate for price in prices for rate in price]) or 1
    return tuple([(into // unit, output // unit) for into, output in prices])


def tiers_text(tiers: frozenset[str], known: tuple[str, ...]) -> str:
    """Tiers for people, in the order of tiers.yaml: "pro+" where every later one is among them, "all" for none."""
    if not tiers:
        return "all"
    named = [tier for tier in known if tier in tiers]
    if len(named) > 1 and tuple(named) == known[-len(named) :]:
        return f"{named[0]}+"
    return " or ".join(named)
