"""tollway byo, run as a person or a script would."""

from __future__ import annotations

import dataclasses
import json
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
import typer
from click.testing import Result
from cryptography.fernet import Fernet
from typer.testing import CliRunner

from proxy import addresses
from proxy.byo import ByoStore, new_key
from proxy.cli import byo, opening
from proxy.config.schema import Byo, Generation
from tests.byo.making import OPENAI, SECRET
from tests.support.fakes import FakeClock

ADD = ("add", "--team", "red", "--alias", "byo-gpt", "--upstream", "openai", "--model", "gpt-4o")
Tollway = Callable[..., Result]


class Configuration:
    """What the commands read; tests change its encryption keys."""

    def __init__(self, generation: Generation, clock: FakeClock) -> None:
        self.clock = clock
        self.keys = (new_key(),)
        self._generation = dataclasses.replace(generation, upstreams={"openai": OPENAI})

    @property
    def generation(self) -> Generation:
        return dataclasses.replace(self._generation, byo=Byo(keys=self.keys, upstreams=("openai",)))

    def store(self) -> ByoStore:
        """The registrations, as a proxy would open them."""
        return ByoStore(opening.database_of(self.generation), self.clock, self.generation)

    def key_behind(self, team: str = "red", alias: str = "byo-gpt") -> str | None:
        """What would be sent upstream."""
        with closing(self.store()) as store:
            found = store.model(team, alias)
        endpoint = None if found is None else found.candidates[0].endpoint
        return None if endpoint is None else endpoint.key


@pytest.fixture
def configuration(configured: Generation, operator_clock: FakeClock, monkeypatch: pytest.MonkeyPatch) -> Configuration:
    made = Configuration(configured, operator_clock)
    monkeypatch.setattr(opening, "load_generation", lambda path: made.generation)
    return made


@pytest.fixture
def tollway(configuration: Configuration) -> Tollway:
    def run(*arguments: str, given: str | None = None) -> Result:
        config = str(configuration.generation.root / "config.yaml")
        return CliRunner().invoke(byo.app, [*arguments, "--config", config], input=given, terminal_width=200)

    return run


def parsed(result: Result) -> Any:
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout)


def test_new_key_prints_a_key_that_encrypts() -> None:
    """Another one each time, and nothing else on standard output."""
    first, second = (CliRunner().invoke(byo.app, ["new-key"]).stdout.strip() for _ in range(2))
    assert first != second
    assert Fernet(first).decrypt(Fernet(first).encrypt(b"x")) == b"x"


@pytest.mark.parametrize("way", ["stdin", "dash", "file", "environment"])
def test_the_key_comes_from_where_no_process_list_shows_it(
    tollway: Tollway, configuration: Configuration, way: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without its line end; it is in no output."""
    file = tmp_path / "key.txt"
    file.write_text(SECRET + "\n")
    monkeypatch.setenv("PROVIDER_KEY", SECRET)
    more: dict[str, tuple[tuple[str, ...], str | None]] = {
        "stdin": ((), SECRET + "\n"),
        "dash": (("--key-file", "-"), SECRET + "\n"),
        "file": (("--key-file", str(file)), None),
        "environment": (("--key-env", "PROVIDER_KEY"), None),
    }
    options, given = more[way]
    result = tollway(*ADD, *options, given=given)
    assert result.exit_code == 0, result.output
    assert SECRET not in result.output
    assert configuration.key_behind() == SECRET


def test_no_option_takes_a_key() -> None:
    """An argument stands in the shell's history and in every process list."""
    for command in typer.main.get_command(byo.app).commands.values():  # type: ignore[attr-defined]
        names = [option for parameter in command.params for option in parameter.opts]
        assert "--key" not in names
        assert "--secret" not in names


def test_add_and_list_for_programs(tollway: Tollway, configuration: Configuration) -> None:
    """What was registered, without the key."""
    made = parsed(tollway(*ADD, "--json", given=SECRET))
    assert {key: made[key] for key in ("team", "alias", "upstream", "model", "key_hint", "state")} == {
        "team": "red", "alias": "byo-gpt", "upstream": "openai", "model": "gpt-4o", "key_hint": SECRET[-4:],
        "state": "active",
    }  # fmt: skip
    assert parsed(tollway("list", "--json")) == [made]
    assert parsed(tollway("list", "--team", "blue", "--json")) == []


def test_list_for_people(tollway: Tollway) -> None:
    """A table, or what to do."""
    assert "tollway byo add" in tollway("list").stdout
    tollway(*ADD, given=SECRET)
    shown = tollway("list").stdout
    for part in ("red", "byo-gpt", f"...{SECRET[-4:]}", "openai", "gpt-4o", "active"):
        assert part in shown
    assert SECRET not in shown


def test_rotate_and_remove(tollway: Tollway, configuration: Configuration) -> None:
    """The new key, then none."""
    tollway(*ADD, given=SECRET)
    assert tollway("rotate", "--team", "red", "--alias", "byo-gpt", given="sk-new-0123456789abcdef\n").exit_code == 0
    assert configuration.key_behind() == "sk-new-0123456789abcdef"
    assert tollway("remove", "--team", "red", "--alias", "byo-gpt").exit_code == 0
    assert configuration.key_behind() is None
    assert parsed(tollway("list", "--json")) == []
    (gone,) = parsed(tollway("list", "--all", "--json"))
    assert (gone["state"], gone["removed"] is not None) == ("removed", True)


def test_rotating_the_encryption_key_in_three_steps(tollway: Tollway, configuration: Configuration) -> None:
    """New key first, everything encrypted with it, old key away."""
    tollway(*ADD, given=SECRET)
    (old,), new = configuration.keys, new_key()
    configuration.keys = (new, old)
    assert configuration.key_behind() == SECRET
    assert parsed(tollway("rotate-key", "--json")) == {"encrypted": 1, "unreadable": []}
    configuration.keys = (new,)
    assert configuration.key_behind() == SECRET


def test_what_no_key_reads_is_named(tollway: Tollway, configuration: Configuration) -> None:
    """Exit status 1; the list says so, too."""
    tollway(*ADD, given=SECRET)
    configuration.keys = (new_key(),)
    (entry,) = parsed(tollway("list", "--json"))
    assert entry["state"] == "unusable"
    assert "cannot be read" in entry["reason"]
    result = tollway("rotate-key")
    assert result.exit_code == 1
    assert "byo-gpt of red" in result.stdout


@pytest.mark.parametrize(
    "arguments",
    [ADD, ("rotate", "--team", "red", "--alias", "byo-gpt"), ("rotate-key",)],
    ids=["add", "rotate", "rotate-key"],
)
def test_without_an_encryption_key_it_says_how_to_make_one(
    tollway: Tollway, configuration: Configuration, arguments: tuple[str, ...]
) -> None:
    """Exit status 2."""
    configuration.keys = ()
    result = tollway(*arguments, given=SECRET)
    assert result.exit_code == 2
    assert "tollway byo new-key" in result.stderr


WRONG: list[tuple[tuple[str, ...], str, str]] = [
    ((*ADD[:2], "rde", *ADD[3:]), SECRET, "Did you mean 'red'?"),
    ((*ADD[:4], "gpt", *ADD[5:]), SECRET, "--alias:"),
    ((*ADD[:6], "nobody", *ADD[7:]), SECRET, "--upstream:"),
    ((*ADD, "--base-url", "https://llm.example.com"), SECRET, "either"),
    ((*ADD[:5], "--base-url", "https://127.0.0.1", *ADD[7:]), SECRET, "--base-url:"),
    ((*ADD[:5], "--base-url", "https://llm.example.com", *ADD[7:]), SECRET, "public addresses"),
    ((*ADD, "--operation", "fine-tuning"), SECRET, "--operation:"),
    (ADD, "", "visible ASCII"),
    (ADD, "with space in it", "visible ASCII"),
    ((*ADD, "--key-env", "NO_SUCH_VARIABLE"), "", "NO_SUCH_VARIABLE is not set"),
    ((*ADD, "--key-file", "/no/such/file"), "", "cannot be read"),
    ((*ADD, "--key-file", "x", "--key-env", "Y"), "", "not both"),
    (("rotate", "--team", "red", "--alias", "byo-no"), SECRET, "tollway byo list"),
    (("remove", "--team", "red", "--alias", "byo-no"), "", "tollway byo list"),
]


@pytest.mark.parametrize(("arguments", "given", "words"), WRONG)
def test_what_is_wrong_is_said(
    tollway: Tollway,
    configuration: Configuration,
    arguments: tuple[str, ...],
    given: str,
    words: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Exit status 2 and one line, without the key; nothing is registered."""

    async def resolve(host: str, port: int, **_: Any) -> list[addresses.Address]:
        return [addresses.ipaddress.ip_address("10.0.0.1")]

    monkeypatch.setattr(addresses, "resolve", resolve)
    result = tollway(*arguments, given=given)
    assert result.exit_code == 2, result.output
    assert words in result.stderr
    assert SECRET not in result.output
    assert "Traceback" not in result.output
    with closing(configuration.store()) as store:
        assert store.registrations(revoked=True) == []


def test_a_base_url_is_registered_with_its_header(
    tollway: Tollway, configuration: Configuration, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where it leads is looked up first."""

    async def resolve(host: str, port: int, **_: Any) -> list[addresses.Address]:
        return [addresses.ipaddress.ip_address("1.1.1.1")]

    monkeypatch.setattr(addresses, "resolve", resolve)
    options = ("--model", "m", "--base-url", "https://llm.example.com/v1", "--credential-header", "x-api-key")
    result = tollway(*ADD[:3], "--alias", "byo-own", *options, "--operation", "messages", "--json", given=SECRET)
    made = parsed(result)
    assert (made["upstream"], made["base_url"]) == (None, "https://llm.example.com/v1")
    assert made["operations"] == ["messages"]


def test_the_file_holds_no_key(tollway: Tollway, configuration: Configuration) -> None:
    """Neither the customer's nor the encryption key."""
    tollway(*ADD, given=SECRET)
    path = opening.database_of(configuration.generation)
    with closing(sqlite3.connect(path)) as connection:
        dump = "\n".join(connection.iterdump())
    assert "byo-gpt" in dump
    assert SECRET not in dump
    assert configuration.keys[0] not in dump


def test_each_command_shows_an_example() -> None:
    """--help of every one."""
    for name, command in typer.main.get_command(byo.app).commands.items():  # type: ignore[attr-defined]
        assert f"tollway byo {name}" in (command.epilog or ""), name
