"""docs/byo.md says what is so: endpoints, members, commands, limits."""

from __future__ import annotations

import re
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import typer
from fastapi.routing import APIRoute

from plugins.byo import api
from plugins.byo.plugin import ByoSettings
from proxy.byo import registrations, store
from proxy.byo.models import _SHARED_HEADERS
from proxy.cli import byo
from proxy.config.schema import ByoEntry

PAGE = (Path(__file__).resolve().parents[2] / "docs" / "byo.md").read_text()


def test_every_endpoint_is_there_and_no_other() -> None:
    """Method and path."""
    services: Any = SimpleNamespace()
    routes = [route for route in api.router(services, (), services).routes if isinstance(route, APIRoute)]
    served = {f"{method} {route.path}" for route in routes for method in route.methods}
    assert set(re.findall(r"\| `((?:GET|POST|DELETE) [^ `]+)` \|", PAGE)) == served


def test_every_member_is_there() -> None:
    """Of a registration."""
    named = set(re.findall(r"^\| `([a-z_]+)` \|", PAGE, re.MULTILINE))
    assert named == set(api.NewKey.model_fields)


def test_every_command_and_option_is_real() -> None:
    """As they are written."""
    commands = typer.main.get_command(byo.app).commands  # type: ignore[attr-defined]
    assert set(re.findall(r"tollway byo ([a-z-]+)", PAGE)) == set(commands)
    for name, rest in re.findall(r"tollway byo ([a-z-]+)([^\n`]*)", PAGE):
        options = {option for parameter in commands[name].params for option in parameter.opts}
        assert set(re.findall(r"--[a-z-]+", rest)) <= options, name


@pytest.mark.parametrize("key", sorted(set(ByoEntry.model_fields) - {"registrations_max"}))
def test_keys_of_the_section_are_explained(key: str) -> None:
    """By name."""
    assert re.search(rf"`?byo\.{key}`?|^ +{key}:", PAGE, re.MULTILINE), key


def test_figures_are_those_of_the_code() -> None:
    """Lengths, counts, headers."""
    assert f"{registrations.ALIAS_CHARS_MAX} characters at most" in PAGE
    assert f"{registrations.SECRET_CHARS_MIN} to {registrations.SECRET_CHARS_MAX} visible ASCII" in PAGE
    assert f"shorter than {registrations.HINTED_CHARS_MIN})" in PAGE
    assert f"the last {store.REVOKED_KEPT_MAX} removed" in PAGE
    for header in _SHARED_HEADERS:
        assert f"`{header}`" in PAGE
    for header in registrations.CREDENTIALS:
        assert f"`{header}`" in PAGE
    for operation in registrations.OPERATIONS:
        assert f"`{operation}`" in PAGE
    assert set(ByoSettings.model_fields) == {"tiers"}
