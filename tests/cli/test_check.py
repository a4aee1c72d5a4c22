"""tollway check."""

from __future__ import annotations

from pathlib import Path

import orjson
import pytest
from typer.testing import CliRunner

from proxy import shipped
from proxy.cli import app

RUNNER = CliRunner()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in shipped.FILES:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes((shipped.folder() / name).read_bytes())
    return tmp_path


def edit(path: Path, old: str, new: str) -> int:
    """Replace the first place of `old`; its line."""
    text = path.read_text()
    path.write_text(text.replace(old, new, 1))
    return text[: text.index(old)].count("\n") + 1


def test_the_shipped_configuration_is_in_order(folder: Path) -> None:
    """Exit 0 and one line."""
    result = RUNNER.invoke(app, ["check", "--config", str(folder / "config.yaml")])
    assert result.exit_code == 0
    assert "are in order" in result.output


def test_each_problem_is_a_line_with_its_place(folder: Path) -> None:
    """In several files at once, plugin settings included; exit 1."""
    config, models = folder / "config.yaml", folder / "policies" / "models.yaml"
    settings = edit(config, "key_prefix: lld_", "key_prefx: lld_")
    first = edit(models, "candidates: [openai]", "candidates: [opnai]")
    result = RUNNER.invoke(app, ["check", "--config", str(config)])
    assert result.exit_code == 1
    assert result.output.splitlines() == [
        f"{models}:{first}:18: models.gpt-4o.candidates[0].upstream: there is no upstream 'opnai' in config.yaml. "
        "Did you mean 'openai'?"
    ]
    edit(models, "opnai", "openai")
    result = RUNNER.invoke(app, ["check", "--config", str(config)])
    assert result.output.splitlines() == [
        f"{config}:{settings}:7: chain[4].identity.key_prefx: unknown key 'key_prefx'. Did you mean 'key_prefix'?"
    ]


def test_a_chain_in_which_nobody_provides_a_fact_is_refused(folder: Path) -> None:
    """Removing a plugin closes a priced path, and check says so before the start does."""
    config = folder / "config.yaml"
    edit(config, "  - pricing ", "  # - pricing ")
    result = RUNNER.invoke(app, ["check", "--config", str(config)])
    assert result.exit_code == 1
    assert "'quote', which no plugin" in result.output
    assert result.output.startswith(f"{config}:")


@pytest.mark.parametrize(
    ("link", "balance", "says"),
    [
        ("payment", "", "the chain needs 'payment'"),
        ("payer_api", "", "the chain needs 'payer_api'"),
        ("balance", "", "the chain needs 'balance'"),
        ("balance", "  balance: {enabled: false}\n", None),
    ],
)
def test_rails_want_who_takes_the_money_gives_it_back_and_sells_balances(
    folder: Path, link: str, balance: str, says: str | None
) -> None:
    """What a 402 or a refusal tells a payer to ask for is there."""
    config = folder / "config.yaml"
    edit(config, "backend: ${TOLLWAY_LIGHTNING:-off}", "backend: dev")
    edit(config, "development: ${TOLLWAY_DEVELOPMENT:-false}", "development: true")
    edit(config, "  # Prepaid balances, bal_...", f"{balance}  # Prepaid balances, bal_...")
    edit(config, f"  - {link} ", f"  # - {link} ")
    result = RUNNER.invoke(app, ["check", "--config", str(config)])
    assert (result.exit_code, says is None or says in result.output) == (0 if says is None else 1, True)


def test_json_holds_the_same_for_programs(folder: Path) -> None:
    """File, line, column, key, message, suggestion."""
    config = folder / "config.yaml"
    assert orjson.loads(RUNNER.invoke(app, ["check", "--json", "--config", str(config)]).output) == {
        "ok": True,
        "problems": [],
    }
    line = edit(config, "heartbeat_seconds:", "heartbeat_second:")
    result = RUNNER.invoke(app, ["check", "--json", "--config", str(config)])
    assert result.exit_code == 1
    assert orjson.loads(result.output)["problems"] == [
        {
            "file": str(config),
            "line": line,
            "column": 1,
            "key": "heartbeat_second",
            "message": "unknown key 'heartbeat_second'",
            "suggestion": "heartbeat_seconds",
        }
    ]


def test_without_a_configuration_it_says_how_to_get_one(tmp_path: Path) -> None:
    """Exit 2."""
    result = RUNNER.invoke(app, ["check", "--config", str(tmp_path / "config.yaml")])
    assert result.exit_code == 2
    assert "tollway init" in result.output


def test_content_rules_that_nobody_enforces_are_told_before_the_start(folder: Path) -> None:
    """Who they bind would be refused everything: the line of the rule, and what to add to the chain."""
    line = edit(folder / "policies/teams.yaml", "    tier: pro\n", "    tier: pro\n    content: [api_keys]\n") + 1
    assert RUNNER.invoke(app, ["check", "--config", str(folder / "config.yaml")]).exit_code == 0
    edit(folder / "config.yaml", "  - content_rules ", "  # - content_rules ")
    result = RUNNER.invoke(app, ["check", "--config", str(folder / "config.yaml")])
    assert result.exit_code == 1
    assert f"teams.yaml:{line}:1: content: no plugin of the chain reads content: add 'content_rules'" in result.output


def test_panels_that_can_be_run_are_named(folder: Path) -> None:
    """And those that wait; without the file there is no word of them."""
    result = RUNNER.invoke(app, ["check", "--config", str(folder / "config.yaml")])
    assert "Panels: demo can be run; fast, balanced, deep, auto wait for members." in result.output.splitlines()
    (folder / "policies" / "consensus.yaml").unlink()
    result = RUNNER.invoke(app, ["check", "--config", str(folder / "config.yaml")])
    assert result.exit_code == 0 and "Panels" not in result.output
