"""The shape of config.yaml and policies/*.yaml, and the one typed, frozen `Generation` made of them.

The pydantic models (`...File`, `...Entry`) are what a file may say: unknown keys are errors, every field
has bounds and a sentence. `Generation` is what the rest of the house reads; `proxy.config.load` makes it.
Secrets are resolved by then, and its repr holds none.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from decimal import Decimal
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field

from proxy.catalogue import Model
from proxy.config.payment_entries import PaymentsEntry
from proxy.config.problems import Marks
from proxy.config.strict import Strict
from proxy.consensus.settings import Consensus
from proxy.identities import CapSetting
from proxy.operations import Operation
from proxy.payments.settings import Payments
from proxy.policy.rules import Policy, ScopedRules
from proxy.pricing.rates import Rates
from proxy.upstreams.api import Upstream

Seconds = Annotated[float, Field(gt=0)]
Port = Annotated[int, Field(ge=0, le=65535)]


class CertificateEntry(Strict):
    """A TLS certificate of our own for a reverse listener."""

    cert_file: str = Field(description="PEM file with the certificate and its chain.")
    key_file: str = Field(description="PEM file with the private key, mode 0600.")


class ListenerEntry(Strict):
    """One way in."""

    name: str = Field(pattern=r"^[a-z][a-z0-9_-]{0,31}$", description="Its name in logs and metrics.")
    kind: Literal["reverse", "regular", "admin"] = Field(
        description="reverse: an SDK's base_url; regular: an HTTP proxy; admin: metrics and states for the operator."
    )
    bind: str = Field(description="ADDRESS:PORT; loopback unless told otherwise.")
    tls: CertificateEntry | None = Field(default=None, description="reverse, admin: serve TLS, with HTTP/2.")
    default_team: str | None = Field(
        default=None,
        description="Team that answers for captured traffic with the client's own provider key and no key of ours.",
    )
    other_targets: Literal["tunnel", "refuse"] = Field(
        default="tunnel", description="regular: what becomes of hosts that policies/capture.yaml does not name."
    )
    token: str | None = Field(
        default=None, repr=False, description="admin: bearer token; required off loopback, of 16 characters or more."
    )
    allow_targets: tuple[str, ...] = Field(
        default=(), description="regular: private HOST:PORT, IP:PORT or CIDR targets that may be tunnelled to."
    )
    body_bytes_max: dict[str, Annotated[int, Field(ge=1024, le=256 << 20)]] = Field(
        default={},
        description="Operation -> longest request body. Absent: 262144 on reverse ones off loopback, else 33554432.",
    )


class DeadlinesEntry(Strict):
    """Seconds an upstream may take."""

    connect_seconds: Seconds = Field(default=5, description="To connect, TLS included.")
    first_byte_seconds: Seconds = Field(default=120, description="From the request to the first byte of its answer.")
    idle_seconds: Seconds = Field(default=120, description="Longest silence within an answer.")
    total_seconds: Seconds = Field(default=1800, description="For all of it.")


class ProbeEntry(Strict):
    """How an upstream is asked for its health while one of its circuits is open."""

    path: str = Field(
        default="/models", pattern=r"^/[!-~]*$", description="GET below base_url; a status under 400 is health."
    )
    interval_seconds: Annotated[float, Field(ge=0.1)] = Field(default=10, description="Between two probes.")
    timeout_seconds: Seconds = Field(default=5, description="For the head of its answer.")


class UpstreamEntry(Strict):
    """A provider endpoint."""

    base_url: str = Field(description="Where its API begins, for example https://api.openai.com/v1; builtin:demo.")
    key: str | None = Field(
        default=None, repr=False, description="${NAME} of the environment, or file:PATH; unset: unavailable."
    )
    credential_header: str = Field(default="authorization", description="Header that the key goes into.")
    credential_scheme: str = Field(default="Bearer", description='What stands before it; "": the bare key.')
    headers: dict[str, str] = Field(default={}, repr=False, description="Sent with every request that has our key.")
    output_field: Literal["max_tokens", "max_completion_tokens"] | None = Field(
        default=None, description="Field that limits the output where the client set none; unset: the dialect's own."
    )
    connect_to: str | None = Field(
        default=None, description="HOST:PORT to connect to; name and certificate stay those of base_url."
    )
    ca_file: str | None = Field(default=None, description="PEM file of the only CA trusted; unset: the public ones.")
    deadlines: DeadlinesEntry = DeadlinesEntry()
    connections_max: Annotated[int, Field(ge=1, le=10_000)] = Field(default=512, description="Calls at once.")
    retry_stale: bool = Field(
        default=True, description="Send again where a pooled connection turns out closed and nothing was answered."
    )
    reports_usage: bool = Field(default=True, description="Understands stream_options.include_usage.")
    keyless: bool = Field(default=False, description="Needs no key: Ollama, vLLM or the built-in demo.")
    operations: tuple[str, ...] = Field(
        default=("chat.completions", "embeddings"),
        description="The formats it speaks, of chat.completions, embeddings, messages, responses; none is translated.",
    )
    partner: str | None = Field(
        default=None,
        pattern=r"^[a-z0-9][a-z0-9_-]{0,63}$",
        description="Revenue-share partner who runs it; its usage is accounted to the partner.",
    )
    probe: ProbeEntry | None = Field(
        default=None, description="Ask it for its health while a circuit of it is open; unset: the next request does."
    )


class LimitsEntry(Strict):
    """What one exchange and the whole process may use."""

    head_bytes_max: Annotated[int, Field(ge=1024)] = Field(
        default=64 << 10, description="A request's line and headers."
    )
    head_count_max: Annotated[int, Field(ge=8)] = Field(default=200, description="Its header lines.")
    head_seconds: Seconds = Field(default=15, description="Time to send them.")
    body_idle_seconds: Seconds = Field(default=30, description="Longest silence within a request's body.")
    keepalive_seconds: Seconds = Field(default=75, description="An idle connection is kept this long.")
    stall_seconds: Seconds = Field(default=60, description="A client that takes nothing this long is cut.")
    body_bytes_in_flight_max: Annotated[int, Field(ge=1 << 20)] = Field(
        default=256 << 20, description="Request bodies held at once, all together."
    )
    connections_max: Annotated[int, Field(ge=1)] = Field(default=4096, description="Client connections.")
    connections_per_ip_max: Annotated[int, Field(ge=1)] = Field(default=1024, description="Of one address.")
    http2_streams_max: Annotated[int, Field(ge=1, le=1000)] = Field(
        default=100, description="At once on one HTTP/2 connection."
    )
    answer_bytes_max: Annotated[int, Field(ge=1024)] = Field(
        default=64 << 20, description="A priced answer that is not streamed."
    )


class ByoEntry(Strict):
    """Customers' own upstream keys (byo-* aliases)."""

    keys: tuple[str, ...] = Field(
        default=(),
        repr=False,
        max_length=8,
        description="Encryption keys, ${NAME} or file:PATH: the first encrypts, all decrypt; none: no registrations.",
    )
    upstreams: tuple[str, ...] | None = Field(
        default=None, description="Upstreams a customer's key may be for; unset: each https one that asks for a key."
    )
    ports: tuple[Annotated[int, Field(ge=1, le=65535)], ...] = Field(
        default=(443,), description="Ports that a customer's own base URL may name."
    )
    allow_private: tuple[str, ...] = Field(
        default=(), description="HOST:PORT, spelled as in the base URL, that need not be public, nor https."
    )
    registrations_max: Annotated[int, Field(ge=0, le=1000)] = Field(default=20, description="At a time, of one team.")


class PartnerEntry(Strict):
    """A revenue-share partner: whoever runs the upstreams that name it."""

    share_percent: Annotated[Decimal, Field(ge=0, le=100, decimal_places=6)] = Field(
        description="Its part of the month's revenue from exchanges that it served."
    )


class ConfigFile(Strict):
    """config.yaml."""

    listeners: tuple[ListenerEntry, ...] = Field(description="The ways in; at least one.")
    chain: tuple[str | dict[str, Any], ...] = Field(
        repr=False, description="Plugins in their order: a name, or a name with its settings."
    )
    upstreams: dict[str, UpstreamEntry] = Field(description="The providers, by name.")
    partners: dict[str, PartnerEntry] = Field(
        default_factory=dict, description="Revenue-share partners by name, for 'tollway partners statement'."
    )
    byo: ByoEntry = Field(default=ByoEntry(), repr=False, description="Customers' own upstream keys.")
    payments: PaymentsEntry = Field(
        default=PaymentsEntry(), repr=False, description="Getting paid for each request, without accounts."
    )
    policies: str = Field(default="policies", description="Folder of the other files.")
    state: str = Field(default="var", description="Folder of the ledger, CA and logs.")
    time_zone: str = Field(default="UTC", description="IANA name; windows of caps begin at its midnight.")
    reload_seconds: Annotated[float, Field(ge=0.1)] | None = Field(
        default=2, description="How often changed files are looked for; null: only SIGHUP and the admin API reload."
    )
    limits: LimitsEntry = LimitsEntry()
    drain_seconds: Seconds = Field(default=30, description="SIGTERM: running exchanges may take this long.")
    drain_client_gone_seconds: Seconds = Field(
        default=30, description="A client left: its answer is read on for its usage this long."
    )
    drain_client_gone_bytes: Annotated[int, Field(ge=0)] = Field(default=16 << 20, description="The same, this far.")
    heartbeat_seconds: Seconds = Field(
        default=15, description="A comment goes to a client that waits on a silent stream this long."
    )
    request_id_header: str = Field(
        default="x-tollway-request-id", description="Names each exchange in answer, log and ledger."
    )


@dataclass(frozen=True, slots=True)
class Listener:
    """A listener as configured, addresses parsed."""

    name: str
    kind: str
    host: str
    port: int
    loopback: bool
    cert_file: Path | None = None
    key_file: Path | None = None
    default_team: str | None = None
    other_targets: str = "tunnel"
    token: str | None = field(default=None, repr=False)
    allow_targets: tuple[str, ...] = ()
    body_bytes_max: dict[str, int] = field(default_factory=dict)
    """Operation -> longest request body, where it is not the operation's own."""


@dataclass(frozen=True, slots=True)
class CapturedHost:
    """A provider host of policies/capture.yaml."""

    pattern: str
    """Exact host name, or "*.suffix" for one label or more."""
    upstream: str
    """The upstream whose settings (connect_to, ca_file, deadlines) calls to this host use."""
    credential_headers: tuple[str, ...]
    """Where this provider's clients put their key, for example authorization, x-api-key, api-key."""
    paths: tuple[tuple[str, Operation], ...]
    """Path templates, {model} standing for one or more segments, and what they mean."""
    ports: tuple[int, ...] = (443,)
    scheme: str = "https"
    base_path: str = ""
    """Prefix under which the provider's own paths stand, for example /openai for Groq; `paths` include it."""


@dataclass(frozen=True, slots=True)
class Bucket:
    """A token bucket: `per_minute` sustained, `burst` within `burst_seconds`."""

    per_minute: int
    burst: int
    burst_seconds: int = 10


@dataclass(frozen=True, slots=True)
class ScopeLimits:
    """Limits of one scope; None: not limited there."""

    requests: Bucket | None = None
    tokens_per_minute: int | None = None
    streams: int | None = None


@dataclass(frozen=True, slots=True)
class PayerLimits:
    """Limits by address for callers without a key of ours, where payments are on; None: not limited."""

    free: Bucket | None = Bucket(60, 60, 60)
    """Endpoints of ours without a payment."""
    invoice: Bucket | None = Bucket(30, 30, 60)
    """Priced requests without a payment: answered 402."""
    paid: Bucket | None = Bucket(60, 60, 60)
    """Whatever comes with a payment, or a balance."""
    streams: int | None = 5
    """Priced exchanges under way at once."""


@dataclass(frozen=True, slots=True)
class Limits:
    """policies/limits.yaml, and by tier policies/tiers.yaml."""

    ip: ScopeLimits
    key: ScopeLimits
    user: ScopeLimits
    team: ScopeLimits
    total_streams: int
    tiers: dict[str, ScopeLimits] = field(default_factory=dict)
    """A tier's own limits by key, in place of `key`."""
    payers: PayerLimits = PayerLimits()


@dataclass(frozen=True, slots=True)
class Team:
    """policies/teams.yaml: a team, its organisation and its caps."""

    name: str
    organisation: str
    tier: str
    caps: tuple[CapSetting, ...] = ()
    user_caps: tuple[CapSetting, ...] = ()
    """For every user of the team who has none of their own."""
    key_caps: tuple[CapSetting, ...] = ()
    """For every key of the team that was made without caps."""
    users: dict[str, tuple[CapSetting, ...]] = field(default_factory=dict)
    rules: ScopedRules | None = None
    user_rules: dict[str, ScopedRules] = field(default_factory=dict)
    key_rules: dict[str, ScopedRules] = field(default_factory=dict)
    """By key id, or by the name that a key was made with."""
    key_own_caps: dict[str, tuple[CapSetting, ...]] = field(default_factory=dict)
    """By key id or name: in place of `key_caps` and of what the key was made with."""
    prepaid: str | None = None
    """Whose purse pays in advance: organisation | team | user | key; None: nobody's, caps alone count."""


@dataclass(frozen=True, slots=True)
class Byo:
    """What customers may register, and the keys that their secrets are encrypted with."""

    keys: tuple[str, ...] = field(default=(), repr=False)
    """URL-safe base64 of 32 bytes each; the first encrypts. Empty: nothing can be registered or used."""
    upstreams: tuple[str, ...] = ()
    ports: frozenset[int] = frozenset({443})
    allow_private: frozenset[str] = frozenset()
    """host:port in lower case."""
    registrations_max: int = 20
    """Of one team, at a time."""


@dataclass(frozen=True, slots=True)
class Generation:
    """One immutable configuration; an exchange keeps the one it began with."""

    listeners: tuple[Listener, ...]
    chain: tuple[tuple[str, dict[str, Any]], ...] = field(repr=False)
    upstreams: dict[str, Upstream]
    """Available ones only: their key is set, or they need none."""
    keyless_upstreams: dict[str, Upstream]
    """Configured but without a key of the operator's: they serve callers' own keys on captured traffic only."""
    unavailable: dict[str, str]
    """Upstream -> why it is unavailable, in words for an operator."""
    models: dict[str, Model]
    """By every name a client may use. Candidates name available upstreams only."""
    unavailable_models: dict[str, str]
    """Model -> what would make it available."""
    organisations: dict[str, tuple[CapSetting, ...]]
    teams: dict[str, Team]
    tiers: tuple[str, ...]
    limits: Limits
    capture: tuple[CapturedHost, ...]
    file: ConfigFile
    root: Path
    """Folder of config.yaml; relative paths start here."""
    catalogue: dict[str, Model] = field(default_factory=dict)
    """Every model by every name with all its candidates, available or not: list prices for callers' own keys."""
    organisation_rules: dict[str, ScopedRules] = field(default_factory=dict)
    byo: Byo = field(default_factory=Byo)
    payments: Payments | None = field(default=None, repr=False)
    """None: no rail is on, and nobody is asked to pay."""
    owner: str = "tollway"
    """`owned_by` of the models that we list."""
    consensus: Consensus | None = None
    """Panels; None: there is no policies/consensus.yaml."""
    default_rate: Rates | None = None
    """Shown by /v1/cost-preview/rates, never charged."""
    policies: dict[tuple[str, ...], Policy] = field(default_factory=dict, init=False, repr=False, compare=False)
    """Callers' policies as `proxy.policy.callers.resolve` worked them out under this very configuration."""
    chain_marks: tuple[Marks, ...] = field(default=(), repr=False, compare=False)
    """Where each plugin's settings stand in config.yaml, beside `chain`; see `proxy.config.problems.problems_of`."""

    def listener(self, name: str) -> Listener:
        """A listener by name. Raises KeyError."""
        for listener in self.listeners:
            if listener.name == name:
                return listener
        raise KeyError(name)

    def upstream(self, name: str) -> Upstream | None:
        """An upstream by name, with the operator's key or without."""
        return self.upstreams.get(name) or self.keyless_upstreams.get(name)

    @property
    def state(self) -> Path:
        """Folder of everything that is written."""
        return self.root / self.file.state

    @property
    def ca_folder(self) -> Path:
        """Folder of our CA: its key, and the certificates made from it."""
        return self.state / "ca"

    @property
    def ca_certificate(self) -> Path:
        """The CA's certificate, which clients of regular listeners trust. The engine writes it at its first start."""
        return self.ca_folder / "mitmproxy-ca-cert.pem"
