"""tollway ca: the certificate that clients of the regular listener must trust."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from proxy.cli.opening import DEFAULT_CONFIG, ConfigOption, fail, generation_of

app = typer.Typer(help="The CA certificate that clients of HTTPS_PROXY must trust.", no_args_is_help=True)


@app.command("path", epilog='Example: SSL_CERT_FILE="$(tollway ca path)" python app.py')
def path(config: ConfigOption = DEFAULT_CONFIG) -> None:
    """Print where the certificate is."""
    typer.echo(str(_certificate(config)))


@app.command("export", epilog="Example: tollway ca export --output tollway-ca.pem")
def export(
    output: Annotated[Path | None, typer.Option(help="File to write; standard output if not given.")] = None,
    config: ConfigOption = DEFAULT_CONFIG,
) -> None:
    """Print the certificate, or write it to a file. It holds no private key."""
    try:
        text = _certificate(config).read_text()
        if output is not None:
            output.write_text(text)
    except OSError as error:
        fail(f"The certificate cannot be copied: {error}")
    typer.echo(text if output is None else f"wrote {output}", nl=output is not None)


def _certificate(config: Path) -> Path:
    certificate = generation_of(config).ca_certificate
    if not certificate.is_file():
        fail(f"There is no {certificate} yet: the first 'tollway serve' makes it.")
    return certificate
