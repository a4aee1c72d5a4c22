"""tollway pay: a client that pays for each request, with the wallet that is at hand, and shows every step."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Coroutine
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer
from typer.core import TyperGroup

from proxy.cli import opening
from proxy.cli.opening import DEFAULT_CONFIG, EXIT_FINDINGS, ConfigOption, JsonOption, fail
from proxy.cli.pay_options import (
    DEFAULT_KEPT,
    DEFAULT_URL,
    AssetOption,
    BalanceOption,
    CashuOption,
    DevOption,
    HandOption,
    HttpOption,
    KeptOption,
    KeyOption,
    MaxSatsOption,
    MaxUsdOption,
    Means,
    RailName,
    RailOption,
    SecondsOption,
    UrlOption,
    limits_of,
    way_to,
)
from proxy.cli.pay_showing import Shown, printable

if TYPE_CHECKING:
    from proxy.payments.client.amounts import SpendLimits
    from proxy.payments.client.balances import Balances
    from proxy.payments.client.kept import Kept, KeptFile
    from proxy.payments.client.payer import Payer
    from proxy.payments.client.transport import Way
    from proxy.payments.client.wallets import HandWallet

MAX_SATS: Final = 500
MAX_USD: Final = "0.25"
ANSWER_SECONDS: Final = 120.0
PROMPT_CHARS_MAX: Final = 1 << 20
_REQUEST: Final = "request"


class PayGroup(TyperGroup):
    """`tollway pay --model M "prompt"` is `tollway pay request --model M "prompt"`."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """What begins with no command is a request."""
        known = args and (args[0] in self.commands or args[0] == "--help")
        return super().parse_args(ctx, args if known or not args else [_REQUEST, *args])


app = typer.Typer(
    cls=PayGroup,
    help='Pay for requests, without an account: tollway pay --model M "prompt" (options: tollway pay request --help).',
    epilog='Example: tollway pay --model demo-paid --dev "What is a toll?"',
    no_args_is_help=True,
)
NumberArgument = Annotated[int | None, typer.Argument(help="Number of the kept payment (tollway pay status).")]


@app.command(_REQUEST, epilog='Example: tollway pay --model gpt-4o --dev "Say hello."')
def request(
    prompt: Annotated[str | None, typer.Argument(help="What to ask; left out: standard input.")] = None,
    model: Annotated[str, typer.Option(help="Which model.")] = "auto",
    max_tokens: Annotated[int | None, typer.Option(min=1, help="Longest answer, which is what is paid for.")] = None,
    stream: Annotated[bool, typer.Option("--stream", help="Show the answer as it comes.")] = False,
    estimate: Annotated[bool, typer.Option("--estimate", help="Only ask what it would cost.")] = False,
    url: UrlOption = DEFAULT_URL,
    rail: RailOption = None,
    dev: DevOption = False,
    by_hand: HandOption = False,
    evm_key: KeyOption = None,
    asset: AssetOption = None,
    cashu: CashuOption = None,
    balance: BalanceOption = None,
    max_sats: MaxSatsOption = MAX_SATS,
    max_usd: MaxUsdOption = MAX_USD,
    kept: KeptOption = DEFAULT_KEPT,
    allow_http: HttpOption = False,
    timeout: SecondsOption = ANSWER_SECONDS,
    config: ConfigOption = DEFAULT_CONFIG,
    json: JsonOption = False,
) -> None:
    """Ask, be told the price, pay it, have the answer. Without a wallet: show what is offered."""
    from proxy.payments.client.payer import Order

    body: dict[str, Any] = {"model": model, "messages": [{"role": "user", "content": _prompt(prompt)}]}
    body |= {"max_tokens": max_tokens} if max_tokens is not None else {}
    body |= {"stream": True} if stream else {}
    order = Order(body)
    means = Means(config, dev, by_hand, evm_key, tuple(asset or ()), cashu, balance, rail)
    desk = Desk(url, means, limits_of(max_sats, max_usd), kept, timeout, allow_http=allow_http, json=json)
    if estimate:
        desk.run(desk.estimate(order.body))
    elif means.chosen() == "balance":
        desk.run(desk.from_balance(order.body, means.token()))
    elif means.chosen() is None:
        desk.run(desk.look(order.body))
    else:
        desk.run(desk.ask(order.body))


@app.command("balance", epilog="Example: tollway pay balance --sats 1000 --dev")
def balance_(
    sats: Annotated[int, typer.Option(min=1, help="How much to put on it.")],
    top_up: Annotated[bool, typer.Option("--top-up", help="Onto the balance in TOLLWAY_PAY_BALANCE.")] = False,
    url: UrlOption = DEFAULT_URL,
    rail: RailOption = None,
    dev: DevOption = False,
    by_hand: HandOption = False,
    evm_key: KeyOption = None,
    asset: AssetOption = None,
    cashu: CashuOption = None,
    max_sats: Annotated[
        int | None, typer.Option("--max-sats", min=1, help="Most that a token given away may be worth; unset: --sats.")
    ] = None,
    max_usd: MaxUsdOption = "10",
    kept: KeptOption = DEFAULT_KEPT,
    allow_http: HttpOption = False,
    timeout: SecondsOption = ANSWER_SECONDS,
    config: ConfigOption = DEFAULT_CONFIG,
    json: JsonOption = False,
) -> None:
    """Buy a balance, which pays for many requests as an API key does, and print its token."""
    if rail is RailName.BALANCE:
        fail("A balance is not bought with a balance.")
    token = Means(config).token() if top_up else None
    means = Means(config, dev, by_hand, evm_key, tuple(asset or ()), cashu, None, rail)
    if means.chosen() in (None, "balance"):
        fail("Say what pays for it: --dev, --by-hand, --evm-key REF or --cashu TOKEN.")
    limits = limits_of(max(sats, max_sats or sats), max_usd)
    desk = Desk(url, means, limits, kept, timeout, allow_http=allow_http, json=json)
    desk.run(desk.buy(sats, token))


@app.command("status", epilog="Example: TOLLWAY_PAY_BALANCE=bal_... tollway pay status")
def status(
    url: UrlOption = DEFAULT_URL,
    balance: BalanceOption = None,
    kept: KeptOption = DEFAULT_KEPT,
    allow_http: HttpOption = False,
    timeout: SecondsOption = ANSWER_SECONDS,
    config: ConfigOption = DEFAULT_CONFIG,
    json: JsonOption = False,
) -> None:
    """Show where the balance stands, and the payments that have bought nothing yet."""
    means = Means(config, balance=balance, rail=RailName.BALANCE)
    desk = Desk(url, means, limits_of(0, "0"), kept, timeout, allow_http=allow_http, json=json)
    desk.run(desk.status(means.token() if means.chosen() == "balance" else None))


@app.command("retry", epilog="Example: tollway pay retry 1")
def retry(
    number: NumberArgument = None,
    kept: KeptOption = DEFAULT_KEPT,
    allow_http: HttpOption = False,
    timeout: SecondsOption = ANSWER_SECONDS,
    json: JsonOption = False,
) -> None:
    """Show a kept payment again, with the very request that it is for. Nothing is paid again."""
    one = _kept(kept, number)
    desk = Desk(one.url, Means(DEFAULT_CONFIG), limits_of(0, "0"), kept, timeout, allow_http=allow_http, json=json)
    desk.run(desk.retry(one))


@app.command("refund", epilog="Example: tollway pay refund 1")
def refund(
    number: NumberArgument = None,
    kept: KeptOption = DEFAULT_KEPT,
    allow_http: HttpOption = False,
    timeout: SecondsOption = ANSWER_SECONDS,
    json: JsonOption = False,
) -> None:
    """Turn a kept payment into a balance, and print its token."""
    one = _kept(kept, number)
    desk = Desk(one.url, Means(DEFAULT_CONFIG), limits_of(0, "0"), kept, timeout, allow_http=allow_http, json=json)
    desk.run(desk.refund(one))


class Desk:
    """One command: the way to the proxy, the payer, and how it is shown."""

    def __init__(
        self,
        url: str,
        means: Means,
        limits: SpendLimits,
        kept: Path,
        seconds: float,
        *,
        allow_http: bool,
        json: bool,
    ) -> None:
        from proxy.payments.client.kept import KeptFile

        self._url, self._seconds, self._allow_http = url, seconds, allow_http
        self._means = means
        self._limits = limits
        self._kept: KeptFile = KeptFile(kept.expanduser())
        self._shown = Shown(json=json)

    def run(self, work: Coroutine[Any, Any, None]) -> None:
        """To its end; an error is told, and is exit code 1."""
        from proxy.payments.client.errors import PayError

        try:
            asyncio.run(work)
        except PayError as error:
            if self._shown.json:
                opening.print_json({"error": str(error), "steps": self._shown.steps})
            typer.echo(printable(str(error)), err=True)
            raise typer.Exit(EXIT_FINDINGS) from error

    async def ask(self, body: dict[str, Any]) -> None:
        """With a wallet."""
        from proxy.payments.client.payer import Order

        async with self._way() as way:
            wallet = self._means.wallet(way, self._shown.invoice)
            if wallet is None:
                fail("Say what pays: --dev, --by-hand, --evm-key REF, --cashu TOKEN or --balance REF.")
            rail = None if self._means.rail is None else self._means.rail.value
            answer = await self._payer(way).ask(Order(body), wallet, rail)
            self._shown.answer(answer, None)

    async def look(self, body: dict[str, Any]) -> None:
        """Without anything that pays."""
        from proxy.payments.client.payer import Order

        async with self._way() as way:
            await self._payer(way).look(Order(body))
        if self._shown.json:
            opening.print_json({"steps": self._shown.steps})
        typer.echo("Say what pays: --dev, --by-hand, --evm-key REF, --cashu TOKEN or --balance REF.", err=True)
        raise typer.Exit(EXIT_FINDINGS)

    async def estimate(self, body: dict[str, Any]) -> None:
        """What it would cost."""
        from proxy.payments.client.payer import Order, price_of

        async with self._way() as way:
            told = await self._payer(way).estimate(Order(body))
        if self._shown.json:
            opening.print_json(told)
            return
        usd = f", ${told['costUsd']}" if told.get("costUsd") is not None else ""
        typer.echo(f"{told.get('model')}: at most {price_of(told)}{usd}")

    async def from_balance(self, body: dict[str, Any], token: str) -> None:
        """A balance pays."""
        from proxy.payments.client.errors import PayError
        from proxy.payments.client.payer import Order

        async with self._way() as way:
            answer = await self._payer(way).from_balance(Order(body), token)
            try:
                left: str | None = standing_text(await self._balances(way).status(token))
            except PayError:
                left = "it is not known how much is"
            self._shown.answer(answer, left)

    async def buy(self, sats: int, top_up: str | None) -> None:
        """A balance."""
        async with self._way() as way:
            wallet = self._means.wallet(way, self._shown.invoice)
            if wallet is None:
                fail("Say what pays for it: --dev, --by-hand, --evm-key REF or --cashu TOKEN.")
            rail = None if self._means.rail is None else self._means.rail.value
            bought = await self._balances(way).buy(sats, wallet, rail=rail, top_up=top_up)
            self._shown.bought(bought, way.url)

    async def status(self, token: str | None) -> None:
        """Of the balance, and of what is kept."""
        entries = self._kept.all()
        standing = None
        if token is not None:
            async with self._way() as way:
                standing = await self._balances(way).status(token)
        if self._shown.json:
            plain = [{"id": one.id, "rail": one.rail, "amount": one.amount, "url": one.url} for one in entries]
            opening.print_json({"balance": standing, "kept": plain})
            return
        typer.echo("No balance is named (--balance)." if standing is None else f"{standing_text(standing)} left.")
        for one in entries:
            at = opening.instant_text(one.at_ms)
            typer.echo(f"{one.id}: {one.amount} by {one.rail} to {one.url}{one.path}, {at}, bought nothing yet")

    async def retry(self, kept: Kept) -> None:
        """What was paid for."""
        from proxy.payments.client.balances import PATH

        async with self._way() as way:
            if kept.path == PATH:
                self._shown.bought(await self._balances(way).resume(kept), way.url)
            else:
                payer = self._payer(way)
                self._shown.answer(await payer.show_again(await payer.found(kept, self._by_hand(way))), None)

    async def refund(self, kept: Kept) -> None:
        """What bought nothing."""
        async with self._way() as way:
            found = await self._payer(way).found(kept, self._by_hand(way))
            self._shown.bought(await self._balances(way).refund(found), way.url)

    def _way(self) -> Way:
        return way_to(self._url, self._seconds, allow_http=self._allow_http)

    def _payer(self, way: Way) -> Payer:
        from proxy.payments.client.payer import Payer

        return Payer(way, opening.CLOCK, self._kept, self._limits, tell=self._shown.step, show=self._shown.text)

    def _by_hand(self, way: Way) -> HandWallet:
        from proxy.payments.client.wallets import HandWallet

        return HandWallet(opening.CLOCK, way, self._shown.invoice)

    def _balances(self, way: Way) -> Balances:
        from proxy.payments.client.balances import Balances

        return Balances(self._payer(way), self._kept, opening.CLOCK)


def standing_text(standing: dict[str, Any]) -> str:
    """What is left of a balance, in its own unit."""
    if standing.get("usd") is not None:
        return f"${standing['usd']}"
    return f"{standing.get('sats')} sats"


def _prompt(text: str | None) -> str:
    if text is None and not sys.stdin.isatty():
        text = sys.stdin.read(PROMPT_CHARS_MAX)
    return text or fail('Say what to ask: tollway pay --model M "prompt"')


def _kept(path: Path, number: int | None) -> Kept:
    from proxy.payments.client.errors import PayError
    from proxy.payments.client.kept import KeptFile

    try:
        entries = KeptFile(path.expanduser()).all()
    except PayError as error:
        fail(str(error))
    found = [one for one in entries if number in (None, one.id)]
    if len(found) == 1:
        return found[0]
    if found:
        return fail(f"Say which with its number: {', '.join(str(one.id) for one in found)}.")
    return fail("No such payment is kept; 'tollway pay status' shows those that are.")
