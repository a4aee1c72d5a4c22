"""The shape of `payments` in config.yaml."""

from __future__ import annotations

from decimal import Decimal
from typing import Annotated, Literal

from pydantic import Field, field_validator

from proxy.config.strict import Strict

Seconds = Annotated[float, Field(gt=0, le=3600)]
Sats = Annotated[int, Field(ge=0, le=100_000_000)]
Epoch = Annotated[int, Field(ge=0, le=10_000_000_000)]


class BitcoinPriceEntry(Strict):
    """Dollars a bitcoin. Without it no rail in sats is on offer."""

    fixed_usd: Annotated[Decimal, Field(ge=1_000, le=100_000_000, decimal_places=2)] | None = Field(
        default=None, description="A fixed price, for who hedges. Empty with the dev backend: 68000."
    )

    @field_validator("fixed_usd", mode="before")
    @classmethod
    def _unset(cls, value: object) -> object:
        return None if value == "" else value

    url: str | None = Field(default=None, description="Asked for the price every poll_seconds; https.")
    pointer: str = Field(
        default="", pattern=r"^(/[^/]*)*$", description="JSON pointer to the number in its answer, such as /USD/last."
    )
    poll_seconds: Annotated[float, Field(ge=1, le=3600)] = Field(default=60, description="How often it is asked.")
    stale_seconds: Annotated[float, Field(ge=10, le=86_400)] = Field(
        default=600, description="An older price is not used: rails in sats are then not on offer."
    )


class LightningEntry(Strict):
    """The node that makes our invoices. Its credential should allow making and reading invoices, nothing else."""

    backend: Literal["off", "lnd", "cln", "lnbits", "phoenixd", "nwc", "dev"] = Field(
        default="off", description="off; dev makes invoices that 'tollway pay' settles and nobody else can pay."
    )
    url: str = Field(default="", description="Where its REST API is; nwc: left out, the URI says.")
    credential: str = Field(
        default="", repr=False, description="lnd: macaroon in hex; cln: rune; lnbits: invoice key; phoenixd: password; "
        "nwc: nostr+walletconnect:// URI. ${NAME} or file:PATH."
    )  # fmt: skip
    ca_file: str | None = Field(default=None, description="PEM file of the only CA trusted, such as lnd's tls.cert.")
    development: bool = Field(default=False, description="Must be true for dev.")
    timeout_seconds: Seconds = Field(default=10, description="For one call to the node.")
    pending_max: Annotated[int, Field(ge=1, le=1_000_000)] = Field(
        default=10_000, description="Unpaid invoices at once; past it Lightning is not on offer."
    )
    pending_client_max: Annotated[int, Field(ge=1, le=100_000)] = Field(
        default=60, description="The same, of one client address."
    )


class L402Entry(Strict):
    """Macaroons for Lightning payments."""

    enabled: bool = Field(default=True, description="Offered where there is a Lightning node.")
    location: str = Field(default="tollway", pattern=r"^[!-~]{1,64}$", description="Location in the macaroons.")
    sats_min: Sats = Field(default=21, description="Least that one request costs.")
    seconds: Annotated[int, Field(ge=30, le=3600)] = Field(
        default=300, description="A macaroon and its invoice are good for so long."
    )
    epoch: Epoch = Field(
        default=0,
        description="Root key that new macaroons are signed with. Raise it to change the key, best to the unix time "
        "of the change: what was sold under earlier ones stays good.",
    )
    epoch_min: Epoch = Field(
        default=0,
        description="Macaroons of earlier epochs are refused, paid ones too. Raise it only to retire a key on purpose.",
    )


class MppEntry(Strict):
    """The IETF Payment scheme over the same invoices."""

    enabled: bool = Field(default=True, description="Offered where there is a Lightning node.")
    realm: str = Field(default="tollway", pattern=r"^[!#-\[\]-~]{1,64}$", description="Realm of the challenge.")


class AssetEntry(Strict):
    """An EIP-3009 token on one network."""

    network: str = Field(default="eip155:8453", pattern=r"^eip155:[1-9][0-9]{0,17}$", description="CAIP-2 name.")
    address: str = Field(
        default="0x833589fCD6eDb6E08f4c7C32D4f71b54bdA02913",
        pattern=r"^0x[0-9a-fA-F]{40}$",
        description="The token's contract.",
    )
    name: str = Field(default="USD Coin", description="Name of its EIP-712 domain.")
    version: str = Field(default="2", description="Version of its EIP-712 domain.")
    decimals: Literal[6] = Field(default=6, description="A price in it is in millionths of a dollar.")


class X402Entry(Strict):
    """USDC by signed authorization (x402 version 2, scheme exact)."""

    pay_to: str = Field(
        default="",
        pattern=r"^(0x[0-9a-fA-F]{40})?$",
        description="Your address, which is paid; empty: the rail is off.",
    )
    assets: tuple[AssetEntry, ...] = Field(
        default=(AssetEntry(),), min_length=1, max_length=16, description="What is taken; USDC on Base."
    )
    facilitator: str = Field(
        default="", description="Base URL of a facilitator that settles; unset: settled here, by signer_key over rpc."
    )
    facilitator_headers: dict[str, str] = Field(default={}, repr=False, description="Sent with every call to it.")
    rpc: dict[str, str] = Field(
        default={},
        repr=False,
        description="Network -> JSON-RPC URL: to settle here, for contract wallets, to reconcile.",
    )
    signer_key: str = Field(default="", repr=False, description="Private key that pays the gas. ${NAME} or file:PATH.")
    gas_max: Annotated[int, Field(ge=50_000, le=10_000_000)] = Field(
        default=500_000, description="Gas that one transaction of the signer may use."
    )
    fee_gwei_max: Annotated[Decimal, Field(gt=0, le=100_000, decimal_places=9)] = Field(
        default=Decimal(10), description="Most that the signer pays for one gas; a dearer network is not settled on."
    )
    confirmations: Annotated[int, Field(ge=1, le=64)] = Field(default=1, description="Blocks, the payment's included.")
    usd_min: Annotated[Decimal, Field(ge=0, le=1, decimal_places=6)] = Field(
        default=Decimal("0.001"), description="Least that one request costs, in dollars."
    )
    settle_seconds: Seconds = Field(default=30, description="A settlement is waited for so long, then it is unknown.")
    factories: tuple[Annotated[str, Field(pattern=r"^0x[0-9a-fA-F]{40}$")], ...] = Field(
        default=(), description="ERC-6492: factories that may deploy a payer's wallet; none: such payers are refused."
    )
    v1: bool = Field(default=True, description="Take X-PAYMENT of version 1, too.")
    transfers: bool = Field(
        default=False, description="Take X-Payment {txHash, from, signature}: paid before, by hash."
    )
    transfer_seconds_max: Annotated[int, Field(ge=30, le=86_400)] = Field(
        default=600, description="Oldest such transfer."
    )
    development: bool = Field(default=False, description="rpc and facilitator may be http, on private addresses.")


class MintEntry(Strict):
    """A mint whose ecash is taken."""

    url: str = Field(description="Its URL exactly as tokens name it.")
    development: bool = Field(default=False, description="It may be http and on loopback.")


class CashuEntry(Strict):
    """Ecash in sats."""

    mints: tuple[MintEntry, ...] = Field(default=(), max_length=32, description="None: the rail is off.")
    sats_min: Sats = Field(default=21, description="Least that one request costs.")
    timeout_seconds: Seconds = Field(default=15, description="For one call to a mint.")


class BalanceEntry(Strict):
    """Prepaid balances: `Authorization: Bearer bal_...`."""

    enabled: bool = Field(default=True, description="Sold where a rail can fund them.")
    sats_min: Sats = Field(default=100, description="Least that is put on one; refunds are exempt.")
    sats_max: Sats = Field(default=50_000, description="Most that may be on one.")
    idle_days: Annotated[int, Field(ge=1, le=3650)] = Field(
        default=30, description="It ends so long after its last use."
    )
    days: Annotated[int, Field(ge=1, le=3650)] = Field(default=90, description="It ends so long after it was opened.")
    charge_sats_min: Sats = Field(default=21, description="Least that one answer costs.")
    poll: Literal["secret", "hash_only"] = Field(
        default="secret",
        description="What polling for a paid balance wants: the secret given with the invoice, or its payment hash "
        "alone, which every node on the payment's way has seen.",
    )


class PaymentsEntry(Strict):
    """Getting paid for each request, without accounts. Without a rail that is on, nobody is asked to pay."""

    secret: str = Field(
        default="",
        repr=False,
        description="32 bytes in hex or base64 from which credentials are derived; ${NAME} or file:PATH; "
        "empty: made once, in the state folder. Processes that share a ledger share it.",
    )
    public_url: str = Field(default="", pattern=r"^(https?://[^\s?#]+)?$", description="The address clients know.")
    team: str = Field(
        default="payers", pattern=r"^[a-z0-9][a-z0-9_-]{0,63}$", description="Payers count as this team in teams.yaml."
    )
    tier: str | None = Field(
        default=None, description="Payers may call what this tier may; unset: all that has a price."
    )
    description: str = Field(
        default="", max_length=200, description="Said in the 402; empty: made of the model's name."
    )
    surcharge_percent: Annotated[Decimal, Field(ge=0, le=1000, decimal_places=4)] = Field(
        default=Decimal(0), description="On top of the catalogue's price."
    )
    surcharge_usd: Annotated[Decimal, Field(ge=0, le=100, decimal_places=9)] = Field(
        default=Decimal(0), description="On top of every request."
    )
    credit_usd: Annotated[Decimal, Field(gt=0, le=1000, decimal_places=9)] | None = Field(
        default=None, description="What one credit is worth; estimates then tell the price in credits, too."
    )
    leases_max: Annotated[int, Field(ge=1, le=100)] = Field(
        default=5, description="One payment may be tried with so often while upstreams fail; then it is refunded."
    )
    answer_seconds: Annotated[int, Field(ge=0, le=86_400)] = Field(
        default=600, description="A paid answer is kept so long for who shows the same payment again."
    )
    bitcoin: BitcoinPriceEntry = Field(default=BitcoinPriceEntry(), description="Dollars a bitcoin.")
    lightning: LightningEntry = Field(default=LightningEntry(), repr=False, description="The node that makes invoices.")
    l402: L402Entry = Field(default=L402Entry(), description="L402 macaroons.")
    mpp: MppEntry = Field(default=MppEntry(), description="The IETF Payment scheme.")
    x402: X402Entry = Field(default=X402Entry(), repr=False, description="USDC by signed authorization.")
    cashu: CashuEntry = Field(default=CashuEntry(), description="Ecash.")
    balance: BalanceEntry = Field(default=BalanceEntry(), description="Prepaid balances.")
