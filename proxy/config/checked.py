"""The configuration as a whole: the files, every plugin's settings, and the order of the chain."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pydantic import BaseModel

from proxy import discovery
from proxy.chain import ChainError
from proxy.chain import check as check_chain
from proxy.config.load import load_generation, settings_problems
from proxy.config.problems import ConfigProblems, Problem
from proxy.config.schema import Generation


def checked(config: Path) -> Generation:
    """The configuration at `config`, ready to be run. Raises ConfigProblems with everything that is wrong."""
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
    return _unpaid(generation, links) or _unenforced(generation, links)


def _unpaid(generation: Generation, links: list[Any]) -> list[Problem]:
    """Rails that are on, and no plugin that asks for the money, takes it, gives it back, or sells what is on offer."""
    names = [link.name for link in links]
    if generation.payments is None or not generation.chain_marks:
        return []
    wanted = ("challenge", "spend_caps", "payment")
    top = generation.chain_marks[0].top()
    endpoints = ("payer_api",) if generation.payments.balance is None else ("payer_api", "balance")
    if missing := [name for name in (*wanted, *endpoints) if name not in names]:
        text = " and ".join(f"'{name}'" for name in missing)
        return [top.problem(("chain",), f"rails are on under 'payments': the chain needs {text}", key=True)]
    if [name for name in names if name in wanted] != list(wanted):
        return [top.problem(("chain",), "must have 'challenge', 'spend_caps' and 'payment' in this order", key=True)]
    return []


def _unenforced(generation: Generation, links: list[Any]) -> list[Problem]:
    """Rules that no plugin of the chain enforces: who they bind would be refused everything."""
    if any("content" in link.enforces for link in links):
        return []
    teams = generation.teams.values()
    scopes = [*generation.organisation_rules.values(), *(team.rules for team in teams if team.rules is not None)]
    for team in teams:
        scopes += [*team.user_rules.values(), *team.key_rules.values()]
    return [
        _at(
            scoped.place_of("content"), "no plugin of the chain reads content: add 'content_rules' behind 'team_policy'"
        )
        for scoped in scopes
        if scoped.rules.content
    ]


def _at(place: str, message: str) -> Problem:
    file, _, line = place.rpartition(":")
    return Problem(file or place, int(line) if line.isdigit() else 1, 1, "content", message)
