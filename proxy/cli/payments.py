"""tollway payments: what payers paid, and a decision where nobody else can know. Works beside running proxies."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer
from rich.console import Console
from rich.table import Table

from proxy.cli import opening
from proxy.cli.opening import DEFAULT_CONFIG, EXIT_FINDINGS, ConfigOption, JsonOption, fail
from proxy.ledger.payment_decisions import (
    Movement,
    NotUndecided,
    movements_of,
    payment_now,
    payments_now,
    refuse_now,
    settle_now,
)
from proxy.ledger.payment_states import PaymentState

if TYPE_CHECKING:
    from proxy.ledger.payment_api import Payment

COUNT: Final = 50
COUNT_MAX: Final = 10_000
REASON_CHARS_MAX: Final = 200
_PARTS: Final = ("captured", "credited", "returned", "change", "fee", "absorbed", "expired", "held")


class StateName(StrEnum):
    """As `proxy.ledger.payment_states`."""

    SEEN = "seen"
    LEASED = "leased"
    SETTLED = "settled"
    UNKNOWN = "unknown"
    BURNT = "burnt"
    REFUNDED = "refunded"
    REFUSED = "refused"


class RailName(StrEnum):
    """As `Proof.rail`: L402 and MPP share the proof of their invoice."""

    LIGHTNING = "lightning"
    X402 = "x402"
    TRANSFER = "transfer"
    CASHU = "cashu"


app = typer.Typer(help="Payments of callers who pay for each request.", no_args_is_help=True)
IdArgument = Annotated[str, typer.Argument(help="Id of the payment: pay_...", metavar="ID")]
YesOption = Annotated[bool, typer.Option("--yes", help="Do it without asking.")]
ReasonOption = Annotated[str, typer.Option(help="How you know; kept with the payment.")]


@app.command("list", epilog="Example: tollway payments list --state unknown --json")
def list_(
    state: Annotated[list[StateName] | None, typer.Option(help="Only in this state; repeatable.")] = None,
    rail: Annotated[RailName | None, typer.Option(help="Only of this one.")] = None,
    limit: Annotated[int, typer.Option(min=1, max=COUNT_MAX, help="At most so many, the newest.")] = COUNT,
    config: ConfigOption = DEFAULT_CONFIG,
    json: JsonOption = False,
) -> None:
    """List payments, the last changed first."""
    states = [PaymentState[one.name] for one in state or StateName]
    _list(config, states, rail, limit, json=json)


@app.command("stuck", epilog="Example: tollway payments stuck || echo someone should look")
def stuck(config: ConfigOption = DEFAULT_CONFIG, json: JsonOption = False) -> None:
    """List payments of which nobody knows whether the money came. Exits with 1 if there are any.

    A running proxy asks about them again and again; those that stay can be decided with settle or refuse.
    """
    if _list(config, [PaymentState.UNKNOWN], None, COUNT_MAX, json=json):
        raise typer.Exit(EXIT_FINDINGS)


@app.command("show", epilog="Example: tollway payments show pay_0123456789abcdef0123456789abcdef")
def show(id_: IdArgument, config: ConfigOption = DEFAULT_CONFIG, json: JsonOption = False) -> None:
    """Show one payment, what became of every part of it, and every movement of money."""
    generation = opening.generation_of(config)
    with opening.ledger_file(generation) as connection:
        payment = payment_now(connection, id_) or fail(
            f"There is no payment {id_}. 'tollway payments list' shows them."
        )
        moved = movements_of(connection, payment)
    if json:
        opening.print_json({**plain(payment), "movements": [_plain_movement(one) for one in moved]})
        return
    zone = opening.zone_of(generation)
    for name, value in plain(payment).items():
        if value not in (None, "", 0, False):
            typer.echo(f"{name:12} {value}")
    table = Table("at", "what", "from", "to", payment.unit.value)
    for one in moved:
        table.add_row(opening.day_text(one.at_ms, zone), one.kind, one.payer, one.payee, str(one.amount))
    Console().print(table)


@app.command("settle", epilog='Example: tollway payments settle pay_0123... --reason "seen on the explorer" --yes')
def settle(
    id_: IdArgument,
    reason: ReasonOption = "decided by the operator",
    reference: Annotated[str, typer.Option(help="Transaction hash, or what else names the money's way.")] = "",
    yes: YesOption = False,
    config: ConfigOption = DEFAULT_CONFIG,
    json: JsonOption = False,
) -> None:
    """Say that the money of an unknown payment came: its payer may use it, or have it refunded to a balance."""
    generation = opening.generation_of(config)
    _check_text(reason, reference)
    with _deciding(generation, id_, "settled: its payer can then use it or have it refunded", yes=yes) as connection:
        now = opening.CLOCK.now_ms()
        payment = settle_now(connection, id_, reference=reference, reason=reason, at_ms=now)
    _decided(payment, json=json)


@app.command("refuse", epilog='Example: tollway payments refuse pay_0123... --reason "nonce was cancelled" --yes')
def refuse(
    id_: IdArgument,
    reason: ReasonOption = "decided by the operator",
    yes: YesOption = False,
    config: ConfigOption = DEFAULT_CONFIG,
    json: JsonOption = False,
) -> None:
    """Say that the money of an unknown payment did not come and never will: its proof is then worth nothing."""
    generation = opening.generation_of(config)
    _check_text(reason)
    with _deciding(generation, id_, "refused: if its money did come, its payer has lost it", yes=yes) as connection:
        payment = refuse_now(connection, id_, reason=reason, at_ms=opening.CLOCK.now_ms())
    _decided(payment, json=json)


@contextmanager
def _deciding(generation: Any, id_: str, what: str, *, yes: bool) -> Iterator[sqlite3.Connection]:
    """The ledger, once it was confirmed. Ends the command where there is nothing to decide."""
    with opening.ledger_file(generation) as connection:
        payment = payment_now(connection, id_)
        if payment is not None and payment.state is PaymentState.UNKNOWN and not yes:
            typer.confirm(f"{id_}, {_amount(payment)} by {payment.rail}, will be {what}. Sure?", abort=True, err=True)
        try:
            yield connection
        except NotUndecided as error:
            fail(f"{error}: only what is unknown can be decided ('tollway payments stuck'). Nothing was changed.")
        except sqlite3.OperationalError as error:
            fail(f"The ledger is busy ({error}). Nothing was changed; run this again.")


def _decided(payment: Payment, *, json: bool) -> None:
    if json:
        opening.print_json(plain(payment))
    else:
        typer.echo(f"{payment.id} is {payment.state.name.lower()}.")


def _check_text(*texts: str) -> None:
    if any(len(text) > REASON_CHARS_MAX or not text.isprintable() for text in texts):
        fail(f"--reason and --reference are printable text of at most {REASON_CHARS_MAX} characters.")


def _list(config: Any, states: list[PaymentState], rail: str | None, count_max: int, *, json: bool) -> int:
    generation = opening.generation_of(config)
    with opening.ledger_file(generation) as connection:
        found = payments_now(connection, states=states, rail=rail, count_max=count_max)
    if json:
        opening.print_json([plain(one) for one in found])
    elif not found:
        typer.echo("No payments.")
    else:
        Console().print(payment_table(found, opening.CLOCK.now_ms()))
    return len(found)


def payment_table(payments: list[Payment], now_ms: int) -> Table:
    """For people: a row for each payment."""
    table = Table()
    for column in ("id", "rail", "state"):
        table.add_column(column, no_wrap=True)
    for column in ("amount", "ago"):
        table.add_column(column, justify="right", no_wrap=True)
    for one in payments:
        state = f"{one.state.name.lower()}{', under way' if one.leased else ''}"
        table.add_row(one.id, one.rail, state, _amount(one), _span(now_ms - one.changed_ms))
    return table


def _span(milliseconds: int) -> str:
    """As in 45s, 12m, 3h or 20d, rounded down."""
    seconds = max(0, milliseconds) // 1000
    for size, letter in ((86_400, "d"), (3600, "h"), (60, "m")):
        if seconds >= size:
            return f"{seconds // size}{letter}"
    return f"{seconds}s"


def plain(payment: Payment) -> dict[str, Any]:
    """For programs. Neither its proof nor what the rail keeps with it: both may be bearer money."""
    return {
        "id": payment.id,
        "rail": payment.rail,
        "state": payment.state.name.lower(),
        "under_way": payment.leased,
        "unit": payment.unit.value,
        "amount": payment.amount,
        **{part: getattr(payment, part) for part in _PARTS},
        "reference": payment.reference or None,
        "reason": payment.reason,
        "leases": payment.leases,
        "leases_max": payment.leases_max,
        "created": opening.instant_text(payment.created_ms),
        "changed": opening.instant_text(payment.changed_ms),
    }


def _plain_movement(one: Movement) -> dict[str, Any]:
    at = opening.instant_text(one.at_ms)
    return {"kind": one.kind, "from": one.payer, "to": one.payee, "amount": one.amount, "at": at}


def _amount(payment: Payment) -> str:
    from proxy.payments.client.amounts import Amount

    return str(Amount(payment.unit, payment.amount))
