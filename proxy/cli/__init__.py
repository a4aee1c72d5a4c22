"""The command line: `tollway`. One module a command or group; what is heavy is imported when a command needs it."""

from __future__ import annotations

from typing import Annotated

import typer

from proxy import __version__
from proxy.cli import (
    bench_answers,
    byo,
    ca,
    check,
    credit,
    init,
    keys,
    ledger,
    models,
    partners,
    pay,
    payments,
    policy,
    schema,
    serve,
    spend,
    teams,
    wallet,
)

app = typer.Typer(
    name="tollway",
    help="An edge proxy for LLM APIs: identify, cap, route, meter, forward.",
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)

app.command("init", epilog="Example: tollway init /etc/tollway")(init.init)
app.command("check", epilog="Example: tollway check --json")(check.check)
app.command("serve", epilog="Example: tollway serve --config /etc/tollway/config.yaml")(serve.serve)
app.add_typer(models.app, name="models")
app.command("schema", epilog="Example: tollway schema config.yaml > config.schema.json")(schema.schema)
app.add_typer(keys.app, name="keys")
app.add_typer(teams.app, name="teams")
app.add_typer(policy.app, name="policy")
app.add_typer(spend.app, name="spend")
app.add_typer(credit.app, name="credit")
app.add_typer(partners.app, name="partners")
app.add_typer(ledger.app, name="ledger")
app.add_typer(payments.app, name="payments")
app.add_typer(wallet.app, name="wallet")
app.add_typer(pay.app, name="pay")
app.add_typer(byo.app, name="byo")
app.add_typer(bench_answers.app, name="bench-answers")
app.add_typer(ca.app, name="ca")


def _version(asked: bool) -> None:
    if asked:
        typer.echo(f"tollway {__version__}")
        raise typer.Exit


@app.callback()
def _options(
    _: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version and leave.")
    ] = False,
) -> None:
    """An edge proxy for LLM APIs: identify, cap, route, meter, forward."""


def main() -> None:
    """The entry point."""
    app()
