"""tollway check: everything that is wrong with the configuration, each at its place."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path

import typer

from proxy.cli.opening import DEFAULT_CONFIG, EXIT_FINDINGS, ConfigOption, JsonOption, fail, print_json
from proxy.config.checked import checked
from proxy.config.problems import ConfigProblems, Problem
from proxy.config.schema import Generation
from proxy.consensus.settings import AUTO
from proxy.panels import model_name


def check(config: ConfigOption = DEFAULT_CONFIG, json: JsonOption = False) -> None:
    """Validate config.yaml, the policies and every plugin's settings."""
    if not config.exists():
        fail(f"There is no {config}. Run 'tollway init' here, or say where it is with --config PATH.")
    try:
        generation: Generation | None = checked(config)
        problems: tuple[Problem, ...] = ()
    except ConfigProblems as error:
        generation, problems = None, error.problems
    if json:
        print_json({"ok": not problems, "problems": [asdict(problem) for problem in problems]})
    for problem in () if json else problems:
        typer.echo(str(problem))
    if problems:
        raise typer.Exit(EXIT_FINDINGS)
    if generation is not None and not json:
        typer.echo(_summary(config, generation))


def _summary(config: Path, generation: Generation) -> str:
    return "\n".join([_whole(config, generation), *_panels(generation)])


def _panels(generation: Generation) -> Iterator[str]:
    """A line for panels: which modes can be run."""
    consensus = generation.consensus
    if consensus is None:
        return
    modes = {mode: model_name(consensus, mode) for mode in (*consensus.modes, *([AUTO] if consensus.auto else []))}
    ready = [mode for mode, name in modes.items() if name in generation.models]
    waiting = [mode for mode in modes if mode not in ready]
    rest = f"; {', '.join(waiting)} wait for members" if waiting else ""
    yield f"Panels: {', '.join(ready) or 'none'} can be run{rest}."


def _whole(config: Path, generation: Generation) -> str:
    names = len(generation.models) + len(generation.unavailable_models)
    waiting = f"; {len(generation.unavailable)} upstreams wait for a key" if generation.unavailable else ""
    return (
        f"{config} and {generation.file.policies}/ are in order: {len(generation.models)} of {names} model names "
        f"can be served{waiting} ('tollway models' tells which)."
    )
