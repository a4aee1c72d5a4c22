"""tollway init: commented configuration files to start from."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Annotated

import typer

from proxy.cli.opening import fail
from proxy.cli.program import program
from proxy.shipped import FILES, folder


def init(
    directory: Annotated[Path, typer.Argument(metavar="[DIR]", help="Where to write them.")] = Path(),
    force: Annotated[bool, typer.Option("--force", help="Overwrite files that are there.")] = False,
) -> None:
    """Write config.yaml and policies/ with comments that explain every key."""
    taken = [name for name in FILES if (directory / name).exists()]
    if taken and not force:
        fail(f"Already there: {', '.join(str(directory / name) for name in taken)}. Use --force to overwrite.")
    try:
        source = folder()
        texts = {name: (source / name).read_bytes() for name in FILES}
        for name, text in texts.items():
            (directory / name).parent.mkdir(parents=True, exist_ok=True)
            (directory / name).write_bytes(text)
    except OSError as error:
        fail(f"The files cannot be written: {error}")
    for name in FILES:
        typer.echo(f"wrote {directory / name}")
    option = "" if directory == Path() else f" --config {shlex.quote(str(directory / 'config.yaml'))}"
    typer.echo("\nNext:")
    for step in ("check", "serve", "keys create --user me"):
        typer.echo(f"  {program()} {step}{option}")
