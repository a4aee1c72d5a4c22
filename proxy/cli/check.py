"""tollway check: everything that is wrong with the configuration, each at its place."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any

import typer
from pydantic import BaseModel

from proxy import discovery
from proxy.chain import ChainError
from proxy.chain import check as check_chain
from proxy.cli.opening import DEFAULT_CONFIG, EXIT_FINDINGS, ConfigOption, JsonOption, fail, print_json
from proxy.config.load import load_generation, settings_problems
from proxy.config.problems import ConfigProblems, Problem
from proxy.config.schema import Generation


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


def checked(config: Path) -> Generation:
    """The configuration with its plugins' settings and the order of the chain validated. Raises ConfigProblems."""
    generation = load_generation(config, known_plugins=discovery.known())
    problems = settings_problems(generation, _settings) or _chain_problems(generation, config)
    if problems:
        raise ConfigProblems(problems)
    return generation


def _settings(name: str) -> type[BaseModel]:
    try:
        return discovery.find(name).Settings
    except discovery.UnknownPlugin as error:
        raise LookupError(str(error)) from error


def _chain_problems(generation: Generation, config: Path) -> list[Problem]:
    """What keeps the chain from being built: a fact that nobody provides. Classes tell as much as instances."""
    links: list[Any] = [discovery.find(name) for name, _ in generation.chain]
    try:
        check_chain(links)
    except ChainError as error:
        if generation.chain_marks:
            return [generation.chain_marks[0].top().problem(("chain",), str(error), key=True)]
        return [Problem(str(config), 1, 1, "chain", str(error))]
    return []


def _summary(config: Path, generation: Generation) -> str:
    names = len(generation.models) + len(generation.unavailable_models)
    waiting = f"; {len(generation.unavailable)} upstreams wait for a key" if generation.unavailable else ""
    return (
        f"{config} and {generation.file.policies}/ are in order: {len(generation.models)} of {names} model names "
        f"can be served{waiting} ('tollway models' tells which)."
    )
