"""The shape of policies/models.yaml: models, lanes, and prices written out or taken from the published ones."""

from __future__ import annotations

from typing import Annotated, Any, Final, Literal, Self

from pydantic import BeforeValidator, Discriminator, Field, Tag, model_validator

from proxy.config.policies import Count, Name, Rate
from proxy.config.strict import Strict

BANDS_MAX: Final = 8
Capability = Literal["tools", "vision", "json_schema", "streaming"]


class RatesEntry(Strict):
    """USD per million tokens."""

    input: Rate = Field(description="Tokens sent.")
    output: Rate | None = Field(default=None, description="Needed but for models that only embed.")
    cached_input: Rate | None = Field(default=None, description="Read from the provider's cache; absent: as input.")
    cache_write: Rate | None = Field(default=None, description="Written to it for 5 minutes; absent: as input.")
    cache_write_1h: Rate | None = Field(default=None, description="Written to it for an hour; absent: as cache_write.")
    reasoning: Rate | None = Field(default=None, description="Reasoning tokens; absent: as output.")
    image: Rate | None = Field(default=None, description="Tokens of images sent; absent: as input.")
    audio: Rate | None = Field(default=None, description="Tokens of audio sent; absent: as input.")
    audio_output: Rate | None = Field(default=None, description="Tokens of audio generated; absent: as output.")


class BandEntry(RatesEntry):
    """Rates of long inputs. A kind that is absent here falls back within the band."""

    above: Count = Field(description="Tokens of input; past them all tokens of the call cost these rates.")


class PriceEntry(RatesEntry):
    """USD per million tokens, with other rates for long inputs where the provider has them."""

    bands: tuple[BandEntry, ...] = Field(default=(), max_length=BANDS_MAX, description="By rising 'above'.")


def _price_kind(value: Any) -> str:
    return "price-reference" if isinstance(value, str) else "price-rates"


Price = Annotated[
    Annotated[PriceEntry, Tag("price-rates")]
    | Annotated[str, Field(pattern=r"^genai:[^\s/]+/\S+$"), Tag("price-reference")],
    Discriminator(_price_kind),
]
"""Rates, or genai:PROVIDER/MODEL: what that provider publishes, looked up at load."""


class CandidateEntry(Strict):
    """One way to serve a model."""

    upstream: str = Field(description="An upstream of config.yaml.")
    model: str | None = Field(default=None, description="What the upstream calls it; absent: the name of this entry.")
    cost: Price | None = Field(default=None, description="List price there; absent: the price of this entry.")
    weight: Annotated[int, Field(ge=0, le=10_000)] = Field(default=1, description="Share of a weighted draw.")
    capabilities: tuple[Capability, ...] | None = Field(
        default=None, description="What it can do there; absent: the capabilities of this entry."
    )


class MemberEntry(Strict):
    """A member of a lane."""

    model: Name = Field(description="Another model or lane, by name or alias.")
    weight: Annotated[int, Field(ge=0, le=10_000)] = Field(default=1, description="Times its candidates' own weight.")


def _candidate(value: Any) -> Any:
    return {"upstream": value} if isinstance(value, str) else value


def _member(value: Any) -> Any:
    return {"model": value} if isinstance(value, str) else value


class ModelEntry(Strict):
    """A model that clients may name: with candidates of its own, or a lane over those of other models."""

    aliases: tuple[Name, ...] = Field(default=(), description="Other names for it: short ones, vendor/name.")
    display_name: str = Field(default="", max_length=100, description="For people; absent: the name.")
    candidates: tuple[Annotated[CandidateEntry, BeforeValidator(_candidate)], ...] = Field(
        default=(), description="Who can serve it; a bare upstream name is enough. This or lane."
    )
    lane: tuple[Annotated[MemberEntry, BeforeValidator(_member)], ...] = Field(
        default=(), description="Smart route: served by whatever serves these models; names, or model and weight."
    )
    strategy: Literal["priority", "cheapest", "latency", "weighted", "least_busy"] | None = Field(
        default=None, description="Order in which candidates are tried; absent: cheapest for lanes, else priority."
    )
    sticky: bool | None = Field(
        default=None, description="A conversation stays with its candidate while healthy; absent: true for lanes."
    )
    hedge: bool = Field(
        default=False, description="A second candidate may be called while the first is silent; both are held for."
    )
    consortium: bool = Field(default=False, description="Served by partners' machines.")
    wallet: Literal["balance", "frontier"] = Field(
        default="balance", description="Purse it is paid from, where the account pays in advance."
    )
    price: Price | None = Field(default=None, description="What callers are charged. Without it the start stops.")
    context: Count | None = Field(
        default=None, description="Most tokens of input and output together; only a lane may leave it to its members."
    )
    output_default: Count = Field(default=4096, description="Output limit where the client sets none.")
    output_max: Count = Field(
        default=4096, description="A client's larger limit is lowered to this; absent in a lane: its members' largest."
    )
    operations: tuple[str, ...] = Field(
        default=("chat.completions",), min_length=1, description="chat.completions, embeddings, messages, responses."
    )
    capabilities: tuple[Capability, ...] | None = Field(
        default=None, description="What it can do: tools, vision, json_schema, streaming; absent: all."
    )
    dimensions: Count | None = Field(default=None, description="Length of its vectors, for embeddings.")
    tiers: tuple[str, ...] = Field(default=(), description="Tiers that may call it; empty: all.")
    open: bool = Field(default=False, description="Reachable without a key, on loopback only.")
    encoding: Literal["o200k_base", "cl100k_base", "o200k_harmony"] | None = Field(
        default=None, description="Its vocabulary, if tiktoken has the exact one."
    )
    image_tokens_max: Annotated[int, Field(ge=0)] | None = Field(
        default=None, description="Most tokens one image can cost; absent: images cannot be bounded."
    )
    created: Annotated[int, Field(ge=0)] = Field(default=0, description="Unix seconds shown by GET /v1/models.")
    tags: tuple[str, ...] = Field(default=(), description="Free words for whoever reads the catalogue.")

    @model_validator(mode="after")
    def _has_a_context(self) -> Self:
        if self.context is None and not self.lane:
            raise ValueError("the key 'context' is missing")
        return self


class ModelsFile(Strict):
    """policies/models.yaml"""

    unpriced: Literal["deny"] = Field(
        default="deny", description="A model without a price stops the start; no other choice exists."
    )
    default_rate: PriceEntry | None = Field(
        default=None, description="Shown by GET /v1/cost-preview/rates for unknown models; never charged."
    )
    owned_by: str = Field(
        default="tollway", min_length=1, max_length=100, description="Whose models GET /v1/models says they are."
    )
    models: dict[Name, ModelEntry] = Field(description="By the name that clients use.")
