"""tollway schema: every key of every file, as JSON Schema or as a page to read."""

from __future__ import annotations

from typing import Annotated

import typer
from pydantic import BaseModel

from proxy import discovery
from proxy.cli.opening import fail, print_json
from proxy.config.json_schema import json_schemas
from proxy.config.markdown import markdown
from proxy.config.problems import near


def schema(
    file: Annotated[
        str | None, typer.Argument(metavar="[FILE]", help="config.yaml, models.yaml, ...; all of them if not given.")
    ] = None,
    as_markdown: Annotated[bool, typer.Option("--markdown", help="A page to read.")] = False,
) -> None:
    """Print the JSON Schema of the configuration files, the settings of all known plugins included."""
    schemas = json_schemas(_plugin_settings())
    if file is not None:
        name = file.removeprefix("policies/")
        if name not in schemas:
            hint = near(name, schemas)
            known = f" Did you mean '{hint}'?" if hint else f" Known: {', '.join(schemas)}."
            fail(f"There is no file '{file}'.{known}")
        schemas = {name: schemas[name]}
    if as_markdown:
        typer.echo(markdown(schemas), nl=False)
    else:
        print_json(schemas if file is None else schemas[name])


def _plugin_settings() -> dict[str, type[BaseModel]]:
    return {name: discovery.find(name).Settings for name in discovery.known()}
