"""The shape of policies/*.yaml. Unknown keys are errors; money is read as the decimal that the file spells."""

from __future__ import annotations

from decimal import Decimal
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field

from proxy.config.rules import RulesEntry
from proxy.config.schema import Port
from proxy.config.strict import Strict
from proxy.pricing.money import nano_from_usd
from proxy.pricing.rates import parse_rate


def _decimal(value: Any) -> Decimal:
    """The number as the file spells it; a quoted one is as good."""
    if isinstance(value, bool) or not isinstance(value, int | Decimal | str):
        raise ValueError("a decimal number of dollars is wanted here")
    try:
        number = Decimal(value)
    except ArithmeticError as error:
        raise ValueError("a decimal number of dollars is wanted here") from error
    if not number.is_finite():
        raise ValueError("a decimal number of dollars is wanted here")
    return number


def _rate(value: Any) -> int:
    return parse_rate(_decimal(value))


def _dollars(value: Any) -> int:
    number = _decimal(value)
    if number < 0:
        raise ValueError(f"an amount is zero or more, not {number}")
    return nano_from_usd(number)


Rate = Annotated[int, BeforeValidator(_rate, json_schema_input_type=Decimal)]
"""USD per million tokens in the file; the integer that `proxy.pricing.rates.Rates` keeps."""
Dollars = Annotated[int, BeforeValidator(_dollars, json_schema_input_type=Decimal)]
"""USD in the file; nano-dollars."""
Count = Annotated[int, Field(ge=1)]
Name = Annotated[str, Field(min_length=1, max_length=200, pattern=r"^[^\s/][^\s]*$")]

Holder = Annotated[str, Field(min_length=1, max_length=200)]
"""A user, or a key's id or name, as `tollway keys create` takes them."""


class BucketEntry(Strict):
    """Requests: `per_minute` sustained, at most `burst` within `burst_seconds`."""

    per_minute: Count = Field(description="Sustained.")
    burst: Count = Field(description="At most, within burst_seconds.")
    burst_seconds: Annotated[int, Field(ge=1, le=3600)] = Field(default=10, description="Length of a burst.")


class ScopeEntry(Strict):
    """Limits of one scope; what is absent or null is not limited there."""

    requests: BucketEntry | None = None
    tokens_per_minute: Count | None = Field(default=None, description="Input and output together, as used.")
    streams: Count | None = Field(default=None, description="Exchanges under way at once.")


class PayersEntry(Strict):
    """Limits by address for callers without a key, where payments are on; null: not limited."""

    free: BucketEntry | None = Field(
        default=BucketEntry(per_minute=60, burst=60, burst_seconds=60),
        description="Requests to endpoints of our own without a payment.",
    )
    invoice: BucketEntry | None = Field(
        default=BucketEntry(per_minute=30, burst=30, burst_seconds=60),
        description="Requests for something priced without a payment: they are answered 402.",
    )
    paid: BucketEntry | None = Field(
        default=BucketEntry(per_minute=60, burst=60, burst_seconds=60),
        description="Requests that come with a payment or from a balance.",
    )
    streams: Count | None = Field(default=5, description="Priced exchanges under way at once.")


class LimitsFile(Strict):
    """policies/limits.yaml"""

    ip: ScopeEntry = Field(default=ScopeEntry(), description="By address, before anyone is known.")
    key: ScopeEntry = Field(default=ScopeEntry(), description="By key; a tier may say otherwise.")
    user: ScopeEntry = Field(default=ScopeEntry(), description="All keys of one user.")
    team: ScopeEntry = Field(default=ScopeEntry(), description="All keys of one team.")
    payers: PayersEntry = Field(default=PayersEntry(), description="By address, for callers who pay for each request.")
    total_streams: Count = Field(description="Exchanges under way at once, all together.")


class TierEntry(ScopeEntry):
    """Limits by key for holders of this tier; what is absent comes from `key` in limits.yaml."""

    description: str = Field(default="", description="For whoever reads the file.")


class TiersFile(Strict):
    """policies/tiers.yaml"""

    tiers: dict[str, TierEntry] = Field(min_length=1, description="By name.")


class CapEntry(Strict):
    """The most that may be spent in a window."""

    usd: Dollars = Field(description="Dollars.")
    window: Literal["hour", "day", "month", "total"] = Field(description="Begins at midnight of time_zone.")
    basis: Literal["charged", "list"] = Field(
        default="charged", description="charged: what the caller is charged; list: list cost, whoever pays."
    )
    soft_percent: Annotated[int, Field(ge=1, le=100)] | None = Field(
        default=None, description="Past this part of it a log line and a metric warn."
    )
    clamp: bool = Field(default=False, description="Lower the output limit to what is left, in place of refusing.")


class KeyEntry(RulesEntry):
    """Rules and caps of one key, by its id or by the name it was made with."""

    tier: str | None = Field(default=None, description="In place of the tier it was made with.")
    caps: tuple[CapEntry, ...] | None = Field(
        default=None, description="In place of the caps it was made with and of the team's key_caps; []: none."
    )


class UserEntry(RulesEntry):
    """A user with rules or caps of its own."""

    tier: str | None = Field(default=None, description="In place of the team's.")
    caps: tuple[CapEntry, ...] | None = Field(
        default=None, description="In place of the team's user_caps; []: none; absent: the team's."
    )


class TeamEntry(RulesEntry):
    """A team."""

    organisation: str = Field(description="One of the organisations above.")
    tier: str | None = Field(default=None, description="One of tiers.yaml; absent: the organisation's.")
    prepaid: Literal["organisation", "team", "user", "key"] | None = Field(
        default=None, description="Whose purse pays in advance ('tollway credit'); absent: nobody's, caps alone count."
    )
    caps: tuple[CapEntry, ...] = Field(default=(), description="For the team as a whole.")
    user_caps: tuple[CapEntry, ...] = Field(default=(), description="For each user without caps of their own.")
    key_caps: tuple[CapEntry, ...] = Field(default=(), description="For each key made without caps.")
    users: dict[Holder, UserEntry] = Field(default_factory=dict, description="Users with rules or caps of their own.")
    keys: dict[Holder, KeyEntry] = Field(
        default_factory=dict, description="Keys with rules or caps of their own, by key id or name."
    )


class OrganisationEntry(RulesEntry):
    """An organisation: rules and caps over all its teams."""

    tier: str | None = Field(default=None, description="Of its teams that set none.")
    caps: tuple[CapEntry, ...] = Field(default=(), description="Over all its teams together.")


class TeamsFile(Strict):
    """policies/teams.yaml"""

    organisations: dict[Name, OrganisationEntry] = Field(min_length=1, description="By name.")
    teams: dict[Name, TeamEntry] = Field(min_length=1, description="By name.")


class CaptureEntry(Strict):
    """Provider hosts that are decrypted (or, for http, read), and which of their paths cost money."""

    hosts: tuple[str, ...] = Field(min_length=1, description="Exact names, or *.suffix for one label or more.")
    upstream: str = Field(description="The upstream whose key and settings calls to these hosts use.")
    credential_headers: tuple[str, ...] = Field(
        default=("authorization",), min_length=1, description="Where this provider's clients put their key."
    )
    ports: tuple[Port, ...] = Field(default=(443,), min_length=1, description="On which they are captured.")
    scheme: Literal["https", "http"] = Field(default="https", description="http: for servers that speak it plain.")
    base_path: str = Field(default="", description="Put before each path below.")
    paths: dict[str, str] = Field(
        min_length=1, description="Path template -> operation; {model} stands for one segment or more."
    )


class CaptureFile(Strict):
    """policies/capture.yaml"""

    capture: dict[str, CaptureEntry] = Field(description="Providers by name.")
