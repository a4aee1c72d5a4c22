"""The operator's choice of rails, as the rest of the house reads it: the typed form of `payments` in config.yaml."""

from __future__ import annotations

from dataclasses import dataclass, field
from decimal import Decimal
from pathlib import Path

from proxy.pricing.money import ZERO, Nano


@dataclass(frozen=True, slots=True)
class BitcoinPrice:
    """Where dollars a bitcoin come from: one of the two is set."""

    fixed: Decimal | None = None
    url: str | None = None
    pointer: str = ""
    """JSON pointer (RFC 6901) to the number or decimal text in the answer of `url`."""
    poll_seconds: float = 60
    stale_seconds: float = 600
    """Past it no rail in sats is on offer."""


@dataclass(frozen=True, slots=True)
class Lightning:
    """The node that makes invoices."""

    backend: str
    """lnd | cln | lnbits | phoenixd | nwc | dev"""
    url: str = ""
    credential: str = field(default="", repr=False)
    """Macaroon in hex, rune, key, password or connection URI, as the backend has it."""
    ca_file: Path | None = None
    development: bool = False
    timeout_seconds: float = 10
    invoice_seconds: int = 300
    pending_max: int = 10_000
    pending_client_max: int = 60
    private: bool = True
    """The node may be on a private address: it is the operator's own."""


@dataclass(frozen=True, slots=True)
class L402:
    """Macaroons for Lightning payments."""

    location: str = "tollway"
    sats_min: int = 21
    seconds: int = 300
    """A macaroon and its invoice are good for so long."""
    epoch: int = 0
    """Of the root key that new macaroons are signed with; their `NotBefore`."""
    epoch_min: int = 0
    """Macaroons of earlier root keys are refused."""


@dataclass(frozen=True, slots=True)
class Mpp:
    """The IETF `Payment` scheme over the same invoices."""

    realm: str = "tollway"


@dataclass(frozen=True, slots=True)
class Asset:
    """An EIP-3009 token on one network."""

    network: str
    """CAIP-2: eip155:8453"""
    address: str
    """Checksummed."""
    name: str = "USD Coin"
    """Of its EIP-712 domain."""
    version: str = "2"
    decimals: int = 6

    @property
    def chain_id(self) -> int:
        """The number behind `eip155:`."""
        return int(self.network.partition(":")[2])


@dataclass(frozen=True, slots=True)
class X402:
    """USDC by signed authorization."""

    pay_to: str
    """Checksummed address that is paid."""
    assets: tuple[Asset, ...]
    """The first is the one that is offered first."""
    facilitator: str | None = None
    """Base URL; None: settled in process by `signer_key` over `rpc`."""
    facilitator_headers: tuple[tuple[str, str], ...] = field(default=(), repr=False)
    rpc: dict[str, str] = field(default_factory=dict, repr=False)
    """Network -> JSON-RPC URL: needed to settle in process, for contract wallets and to reconcile."""
    signer_key: str = field(default="", repr=False)
    """Private key that pays the gas, hex."""
    gas_max: int = 500_000
    """Of one transaction of the signer's."""
    fee_wei_max: int = 10 * 10**9
    """Most that the signer pays for one gas."""
    confirmations: int = 1
    usdc_min: int = 1000
    """Floor of a price."""
    tolerance: int = 5
    """A signed amount may be so much below the price."""
    timeout_seconds: int = 120
    """`maxTimeoutSeconds` of the offer."""
    settle_seconds: float = 30
    """So long a settlement is waited for; past it, it is unknown."""
    factories: frozenset[str] = frozenset()
    """ERC-6492: factories that may deploy a payer's wallet; none: undeployed wallets are refused."""
    v1: bool = True
    transfers: bool = False
    """`X-Payment {txHash, from}`: pay first, prove by hash and signature."""
    transfer_seconds_max: int = 600
    development: bool = False
    """rpc and facilitator may be http and on private addresses."""


@dataclass(frozen=True, slots=True)
class Mint:
    """A mint whose ecash is taken."""

    url: str
    """Exact, without a trailing slash."""
    development: bool = False
    """May be http and on loopback."""


@dataclass(frozen=True, slots=True)
class Cashu:
    """Ecash in sats."""

    mints: tuple[Mint, ...]
    sats_min: int = 21
    proofs_max: int = 20
    change_sats_min: int = 2
    change_bytes_max: int = 8192
    timeout_seconds: float = 15


@dataclass(frozen=True, slots=True)
class Balance:
    """Prepaid balances behind `bal_` tokens."""

    sats_min: int = 100
    sats_max: int = 50_000
    idle_days: int = 30
    days: int = 90
    charge_sats_min: int = 21
    """Least that one answer costs."""
    poll: str = "secret"
    """secret | hash_only: what polling for a new balance wants."""
    invoice_seconds: int = 600


@dataclass(frozen=True, slots=True)
class Payments:
    """Everything about getting paid. A rail that is None is off."""

    secret: bytes = field(default=b"", repr=False)
    """32 bytes from which root keys and balance tokens are derived; made in the state folder where none is given."""
    url: str = ""
    """The public address clients know, `https://host[/path]`; "": what their request names."""
    team: str = "payers"
    """What payers count as in policies and caps; it need not stand in teams.yaml."""
    tier: str | None = None
    """Payers may call what this tier may; None: every model that has a price."""
    description: str = ""
    surcharge_percent: Decimal = Decimal(0)
    surcharge: Nano = ZERO
    """On every request, beside the percentage."""
    credit: Nano | None = None
    """What one credit is worth, for prices in credits."""
    leases_max: int = 5
    """So often one payment may be tried with while upstreams fail."""
    answer_seconds: int = 600
    """A paid answer that is not streamed is kept so long for who shows the same payment again."""
    answer_bytes_max: int = 1 << 20
    refund_days: int = 365
    bitcoin: BitcoinPrice | None = None
    lightning: Lightning | None = None
    l402: L402 | None = None
    mpp: Mpp | None = None
    x402: X402 | None = None
    cashu: Cashu | None = None
    balance: Balance | None = None
