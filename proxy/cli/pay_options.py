"""What the commands that pay share: who pays, how much at most, and where secrets are read. None is an argument."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable
from dataclasses import dataclass
from decimal import Decimal, InvalidOperation
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

import typer

from proxy.cli import opening
from proxy.cli.opening import fail
from proxy.secrets import SecretError, environment, read_secret_file

if TYPE_CHECKING:
    from proxy.payments.client.amounts import SpendLimits
    from proxy.payments.client.transport import Way
    from proxy.payments.client.wallets import Wallet
    from proxy.payments.lightning import dev as lightning_dev

INPUT_CHARS_MAX: Final = 65_536
KEY_VARIABLE: Final = "TOLLWAY_PAY_KEY"
TOKEN_VARIABLE: Final = "TOLLWAY_PAY_CASHU"  # noqa: S105 -- a variable's name
BALANCE_VARIABLE: Final = "TOLLWAY_PAY_BALANCE"
DEFAULT_URL: Final = "http://127.0.0.1:8402"
DEFAULT_KEPT: Final = Path("~/.local/state/tollway/payments.json")
_ASSET: Final = re.compile(r"(eip155:[1-9][0-9]{0,17})/(0x[0-9a-fA-F]{40})")
_BALANCE: Final = re.compile(r"bal_[A-Za-z0-9_-]{43}")


class RailName(StrEnum):
    """Ways to pay."""

    L402 = "l402"
    MPP = "mpp"
    X402 = "x402"
    CASHU = "cashu"
    BALANCE = "balance"


UrlOption = Annotated[str, typer.Option("--url", help="The proxy.", metavar="URL")]
RailOption = Annotated[RailName | None, typer.Option("--rail", help="Pay by this one; unset: what the wallet prefers.")]
DevOption = Annotated[
    bool, typer.Option("--dev", help="Pay invoices of a proxy with 'backend: dev', whose --config is read here.")
]
HandOption = Annotated[
    bool, typer.Option("--by-hand", help="Show the invoice and wait until you have paid it with a wallet of yours.")
]
KeyOption = Annotated[
    str | None,
    typer.Option("--evm-key", metavar="REF", help=f"Pays USDC: env:NAME or file:PATH; unset: {KEY_VARIABLE}."),
]
AssetOption = Annotated[
    list[str] | None,
    typer.Option("--asset", metavar="NETWORK/ADDRESS", help="Another token of 6 decimals to pay with; repeatable."),
]
CashuOption = Annotated[
    str | None,
    typer.Option("--cashu", metavar="TOKEN", help=f"cashuB..., env:NAME, file:PATH or - ; unset: {TOKEN_VARIABLE}."),
]
BalanceOption = Annotated[
    str | None,
    typer.Option("--balance", metavar="REF", help=f"Pays from it: env:NAME or file:PATH; unset: {BALANCE_VARIABLE}."),
]
MaxSatsOption = Annotated[int, typer.Option("--max-sats", min=0, help="Most that one payment may take, in sats.")]
MaxUsdOption = Annotated[str, typer.Option("--max-usd", metavar="USD", help="The same, in dollars.")]
KeptOption = Annotated[
    Path, typer.Option("--kept", metavar="PATH", help="Where payments are kept that have bought nothing yet.")
]
HttpOption = Annotated[bool, typer.Option("--allow-http", help="Pay over http to another machine.")]
SecondsOption = Annotated[float, typer.Option("--timeout", min=1, max=3600, help="Seconds to wait for an answer.")]


@dataclass(frozen=True, slots=True)
class Means:
    """What may pay, as it was asked for."""

    config: Path
    dev: bool = False
    by_hand: bool = False
    evm_key: str | None = None
    assets: tuple[str, ...] = ()
    cashu: str | None = None
    balance: str | None = None
    rail: RailName | None = None

    def chosen(self) -> str | None:
        """The one means that is meant: named, or there by its variable. None: none is there."""
        options = {"dev": self.dev, "by_hand": self.by_hand, "evm_key": self.evm_key, "cashu": self.cashu}
        options |= {"balance": self.balance}
        named = [name for name, value in options.items() if value]
        if len(named) > 1:
            fail(f"Say one thing that pays, not {' and '.join('--' + name.replace('_', '-') for name in named)}.")
        if named:
            return named[0]
        variables = {"evm_key": KEY_VARIABLE, "cashu": TOKEN_VARIABLE, "balance": BALANCE_VARIABLE}
        if self.rail is not None:
            wanted = {RailName.X402: "evm_key", RailName.CASHU: "cashu", RailName.BALANCE: "balance"}.get(self.rail)
            variables = {name: variable for name, variable in variables.items() if name == wanted}
        found = [name for name, variable in variables.items() if environment().get(variable)]
        if len(found) > 1:
            fail(f"{' and '.join(variables[name] for name in found)} are all set: say which with --rail.")
        return found[0] if found else None

    def token(self) -> str:
        """The balance's token. Ends the command where it is none."""
        token = secret_of(self.balance, "--balance", BALANCE_VARIABLE)
        if not _BALANCE.fullmatch(token):
            fail("--balance: what is there is no balance's token, which is bal_ and 43 letters, digits, - and _.")
        return token

    def wallet(self, way: Way, show: Callable[[str], None]) -> Wallet | None:
        """None: a balance pays, or nobody. Ends the command where what is named cannot be used."""
        from proxy.payments.client import evm
        from proxy.payments.client.errors import PayError
        from proxy.payments.client.wallets import CashuWallet, DevWallet, EvmWallet, HandWallet

        means, clock = self.chosen(), opening.CLOCK
        try:
            if means == "dev":
                return DevWallet(clock, self._dev_wallet())
            if means == "by_hand":
                return HandWallet(clock, way, show)
            if means == "evm_key":
                key = secret_of(self.evm_key, "--evm-key", KEY_VARIABLE)
                return EvmWallet(key, clock, assets=evm.KNOWN_ASSETS | {_asset(text) for text in self.assets})
            if means == "cashu":
                return CashuWallet(secret_of(self.cashu, "--cashu", TOKEN_VARIABLE, plain="cashuB"))
        except PayError as error:
            fail(str(error))
        return None

    def _dev_wallet(self) -> lightning_dev.DevWallet:
        from proxy.kept_secrets import SecretUnreadable
        from proxy.payments.keys import DerivedKeys
        from proxy.payments.lightning.dev import DevWallet
        from proxy.payments.rails import KEPT_IN, kept_secret

        generation = opening.generation_of(self.config)
        given = b"" if generation.payments is None else generation.payments.secret
        kept = generation.state / KEPT_IN
        if not given and not kept.exists():
            fail(
                f"No proxy with the configuration {self.config} has made an invoice yet, so --dev has nothing to pay "
                "with. Start one with 'payments: {lightning: {backend: dev, development: true}}'."
            )
        try:
            secret = given or kept_secret(kept)
        except (SecretUnreadable, OSError) as error:
            fail(str(error))
        return DevWallet(DerivedKeys(secret), generation.state, opening.CLOCK)


def secret_of(reference: str | None, option: str, variable: str, *, plain: str | None = None) -> str:
    """From `env:NAME`, `file:PATH` or `-`, else from the variable. Never from the command line, which everybody on
    this machine can read, but for what begins with `plain`.
    """
    if reference is None or reference.startswith("env:"):
        name = variable if reference is None else reference.removeprefix("env:")
        found = environment().get(name, "").strip()
        return found or fail(f"{option}: the environment variable {name} is not set.")
    if reference.startswith("file:"):
        try:
            return read_secret_file(Path(reference.removeprefix("file:")).expanduser()).strip()
        except SecretError as error:
            fail(f"{option}: {error}")
    if reference == "-":
        return sys.stdin.read(INPUT_CHARS_MAX).strip() or fail(f"{option}: nothing came on standard input.")
    if plain is not None and reference.startswith(plain):
        return reference
    return fail(f"{option}: name where the secret is, env:NAME or file:PATH: a command line can be read by others.")


def limits_of(max_sats: int, max_usd: str) -> SpendLimits:
    """Ends the command for what is no amount."""
    from proxy.payments.client.amounts import USDC_PER_USD, SpendLimits
    from proxy.pricing.money import MSAT_PER_SAT

    try:
        usd = Decimal(max_usd)
        if not usd.is_finite() or usd < 0:
            raise InvalidOperation
    except InvalidOperation:
        fail(f"--max-usd {max_usd}: write dollars, as in 0.25.")
    return SpendLimits(max_sats * MSAT_PER_SAT, int(usd * USDC_PER_USD))


def way_to(url: str, seconds: float, *, allow_http: bool) -> Way:
    """Ends the command for a URL that money must not be sent to."""
    from proxy.payments.client.transport import Way

    try:
        return Way(url, timeout_seconds=seconds, allow_http=allow_http)
    except ValueError as error:
        fail(f"--url: {error}.")


def _asset(text: str) -> tuple[str, str]:
    found = _ASSET.fullmatch(text)
    if found is None:
        fail(f"--asset {text}: write it as eip155:8453/0x...")
    return found[1], found[2].lower()
