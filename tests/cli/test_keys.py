"""tollway keys, run as a person or a script would."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from proxy.catalogue import Wallet
from proxy.cli import keys, opening
from proxy.config.problems import ConfigProblems, Problem
from proxy.config.schema import Generation
from proxy.keys import KeyStore
from proxy.pricing.rates import Rates
from tests.cli.conftest import Tollway
from tests.support.fakes import FakeClock, model


@pytest.fixture
def tollway(run_command: Callable[[typer.Typer], Tollway]) -> Tollway:
    return run_command(keys.app)


def created(tollway: Tollway, *options: str) -> dict[str, object]:
    result = tollway("create", "--team", "red", "--json", *options)
    assert result.exit_code == 0, result.output
    found: dict[str, object] = json.loads(result.stdout)
    return found


def test_create_shows_a_key_that_works(tollway: Tollway, configured: Generation, operator_clock: FakeClock) -> None:
    """The key printed is the key that the proxy finds, with the owner and caps that were asked for."""
    made = created(tollway, "--user", "ann", "--cap", "5/day", "--cap", "100/month:list", "--expires", "30d")
    with closing(KeyStore(opening.database_of(configured), operator_clock)) as store:
        record = store.lookup(str(made["key"]))
    assert record is not None
    assert (record.key_id, record.user, record.team, record.organisation) == (made["id"], "ann", "red", "acme")
    assert made["caps"] == ["5.00/day", "100.00/month:list"]
    assert record.expires_ms == operator_clock.ms + 30 * 86_400_000


def test_create_tells_a_person_what_to_do_next(tollway: Tollway) -> None:
    """The key, that it is shown once, and commands to paste."""
    result = tollway("create", "--team", "red")
    assert result.exit_code == 0
    key = result.stdout.split()[0]
    assert re.fullmatch(r"lld_[0-9a-f]{32}", key)
    assert "cannot be shown again" in result.stdout
    assert f"export OPENAI_BASE_URL=http://127.0.0.1:8402/v1 OPENAI_API_KEY={key}" in result.stdout
    assert f"Authorization: Bearer {key}" in result.stdout
    assert f"HTTPS_PROXY=http://{key}@127.0.0.1:8403" in result.stdout


def test_the_request_to_try_is_one_that_the_key_can_make(
    tollway: Tollway, configured: Generation, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A chat model of its tier, the cheapest, and none that wants Frontier Credits."""
    cheap = Rates(input=1, output=1)
    models = {
        "vectors": model("vectors", rates=cheap, operations=frozenset({"embeddings"})),
        "frontier": model("frontier", rates=cheap, wallet=Wallet.FRONTIER),
        "costly": model("costly", rates=Rates(input=9, output=9)),
        "for-pro": model("for-pro", rates=cheap, tiers=frozenset({"pro"})),
        "for-all": model("for-all", rates=Rates(input=2, output=2)),
    }
    monkeypatch.setattr(opening, "load_generation", lambda path: replace(configured, models=models, tiers=("pro",)))
    assert '"model": "for-all"' in tollway("create", "--team", "red").stdout
    assert '"model": "for-pro"' in tollway("create", "--team", "red", "--tier", "pro").stdout


def test_the_prefix_is_that_of_the_identity_plugin(
    tollway: Tollway, configured: Generation, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Keys are made with the prefix that the chain looks for."""
    object.__setattr__(configured, "chain", (("cors", {}), ("identity", {"key_prefix": "acme_"})))
    assert str(created(tollway)["key"]).startswith("acme_")


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ((), "There are: blue, red"),
        (("--team", "rde"), "Did you mean 'red'?"),
        (("--team", "red", "--tier", "gold"), "There are: standard"),
        (("--team", "red", "--cap", "5/week"), "hour, day, month, total"),
        (("--team", "red", "--expires", "soon"), "30d"),
        (("--team", "red", "--user", ""), "--user"),
        (("--team", "red", "--user", "a\nb"), "--user"),
        (("--team", "red", "--name", "x" * 200), "--name"),
    ],
)
def test_a_wrong_create_makes_no_key_and_says_why(tollway: Tollway, options: tuple[str, ...], says: str) -> None:
    """Exit 2, a message that says what to write, and nothing changed."""
    result = tollway("create", *options)
    assert result.exit_code == 2
    assert says in result.stderr
    assert json.loads(tollway("list", "--all", "--json").stdout) == []


def test_list_shows_working_keys_and_all_on_demand(tollway: Tollway) -> None:
    """Revoked ones only with --all; never a key itself."""
    kept, gone = created(tollway, "--name", "kept"), created(tollway)
    tollway("revoke", str(gone["id"]))
    assert [one["id"] for one in json.loads(tollway("list", "--json").stdout)] == [kept["id"]]
    states = {one["id"]: one["state"] for one in json.loads(tollway("list", "--all", "--json").stdout)}
    assert states == {kept["id"]: "active", gone["id"]: "revoked"}
    shown = tollway("list").stdout
    assert str(kept["id"]) in shown
    assert str(kept["key"]) not in shown


def test_list_of_nothing_says_how_to_make_one(tollway: Tollway) -> None:
    """An empty table would say less."""
    assert "tollway keys create" in tollway("list").stdout


def test_revoke_takes_an_id_or_the_key_itself(tollway: Tollway) -> None:
    """Both end the key; a second time is no error."""
    for name in ("id", "key"):
        made = created(tollway)
        assert json.loads(tollway("revoke", str(made[name]), "--json").stdout) == {
            "id": made["id"],
            "revoked": True,
            "worked_before": True,
        }
        again = tollway("revoke", str(made[name]))
        assert (again.exit_code, "stays revoked" in again.stdout) == (0, True)


@pytest.mark.parametrize("command", ["revoke", "rotate"])
def test_an_unknown_key_is_an_error(tollway: Tollway, command: str) -> None:
    """Exit 2 and where to look."""
    result = tollway(command, "key_000000000000")
    assert result.exit_code == 2
    assert "tollway keys list" in result.stderr


def test_rotate_gives_a_new_key_under_the_same_id(
    tollway: Tollway, configured: Generation, operator_clock: FakeClock
) -> None:
    """The old one works for the grace, the new one from now on."""
    old = created(tollway, "--cap", "5/day")
    new = json.loads(tollway("rotate", str(old["id"]), "--grace", "1h", "--json").stdout)
    assert (new["id"], new["caps"]) == (old["id"], old["caps"])
    with closing(KeyStore(opening.database_of(configured), operator_clock)) as store:
        assert store.lookup(str(old["key"])) is not None
        operator_clock.ms += 3_600_000
        assert store.lookup(str(old["key"])) is None
        assert store.lookup(new["key"]) is not None


def test_a_revoked_key_cannot_be_rotated(tollway: Tollway) -> None:
    """Exit 2, and what to do instead."""
    made = created(tollway)
    tollway("revoke", str(made["id"]))
    result = tollway("rotate", str(made["id"]))
    assert result.exit_code == 2
    assert "tollway keys create" in result.stderr


def test_without_a_configuration_the_next_command_is_named(tmp_path: Path) -> None:
    """A newcomer in an empty folder is told of init."""
    result = CliRunner().invoke(keys.app, ["list", "--config", str(tmp_path / "config.yaml")])
    assert result.exit_code == 2
    assert "tollway init" in result.stderr


def test_a_broken_configuration_is_shown_with_its_places(tollway: Tollway, monkeypatch: pytest.MonkeyPatch) -> None:
    """File, line and key of each mistake, and the command that checks all."""

    def broken(path: Path) -> Generation:
        raise ConfigProblems([Problem("policies/teams.yaml", 3, 5, "teams.red", "unknown key 'cap'", "caps")])

    monkeypatch.setattr(opening, "load_generation", broken)
    result = tollway("list")
    assert result.exit_code == 2
    assert "policies/teams.yaml:3:5" in result.stderr
    assert "tollway check" in result.stderr


@pytest.mark.parametrize("command", ["create", "list", "revoke", "rotate"])
def test_help_has_an_example(command: str) -> None:
    """Every command shows how it is used."""
    result = CliRunner().invoke(keys.app, [command, "--help"])
    assert f"Example: tollway keys {command}" in result.stdout
