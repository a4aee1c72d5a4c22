"""tollway models."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import orjson
import pytest
from typer.testing import CliRunner

from proxy import shipped
from proxy.cli import app
from proxy.cli.price_diff import differences
from proxy.pricing.rates import Band, Rates, parse_rate
from tests.config.test_shipped import KEYS
from tests.support.files import Files

RUNNER = CliRunner()
CONFIG = str(shipped.folder() / "config.yaml")


@pytest.fixture(autouse=True)
def no_keys(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in KEYS:
        monkeypatch.delenv(name, raising=False)


def rows() -> dict[str, dict[str, Any]]:
    result = RUNNER.invoke(app, ["models", "--json", "--config", CONFIG])
    assert result.exit_code == 0, result.output
    return {row["model"]: row for row in orjson.loads(result.output)}


def test_every_model_is_listed_once_with_its_aliases_and_exact_prices() -> None:
    """Prices are texts, so that no program makes floats of them unasked."""
    row = rows()["gpt-4o-mini"]
    assert row["aliases"] == ["gpt-4o-mini-2024-07-18"]
    assert row["price"] == {"input": "0.15", "output": "0.60", "cached_input": "0.075"}
    assert row["context"] == 128000


def test_what_is_missing_is_said_and_goes_when_it_is_set(monkeypatch: pytest.MonkeyPatch) -> None:
    """Per model and per candidate."""
    before = rows()
    assert before["demo"]["available"]
    assert before["gpt-4o"]["missing"] == "set OPENAI_API_KEY in the environment"
    monkeypatch.setenv("TOGETHER_API_KEY", "k")
    after = rows()["llama-3.3-70b"]
    assert after["available"]
    assert [(c["upstream"], c["available"], c["cost"]["output"]) for c in after["candidates"]] == [
        ("groq", False, "0.79"),
        ("together", True, "0.88"),
    ]


def test_lanes_show_whose_candidates_they_have_and_where_prices_come_from() -> None:
    """Members by their catalogue names, each with its own list cost, context and source."""
    lane = rows()["smart-route"]
    assert (lane["lane"], lane["strategy"], lane["sticky"]) == (True, "cheapest", True)
    assert {one["serves"] for one in lane["candidates"]} == {"llama-3.3-70b", "nvidia/llama-3.3-70b"}
    assert lane["price_source"] == "models.yaml"
    assert lane["candidates"][0]["cost_source"].startswith("genai-prices ")
    bands = rows()["gpt-5.5-frontier"]["price"]["bands"]
    assert bands == [{"above": 272000, "input": "10.00", "output": "45.00", "cached_input": "1.00"}]


def compared(files: Files, *options: str) -> Any:
    return RUNNER.invoke(app, ["models", "diff", "--config", str(files.root / "config.yaml"), *options])


ENTRIES = """\
models:
  gpt-4.1: {candidates: [openai], price: {input: 2, cached_input: 0.5, output: 8.5}, context: 9000}
  gpt-4o-mini: {candidates: [openai], price: {input: 0.15, cached_input: 0.075, output: 0.60}, context: 9000}
  private: {candidates: [{upstream: openai, model: ft:x}], price: {input: 1, output: 1}, context: 9000}
  free: {candidates: [openai], price: {input: 0, output: 0}, context: 9000}
  both: {lane: [gpt-4.1, private], price: {input: 9, output: 9}}
"""


def test_diff_tells_the_same_the_different_and_the_unknown(tmp_path: Path) -> None:
    """Which rate, ours and theirs; lanes and what is free are left out."""
    files = Files(tmp_path)
    files.write("policies/models.yaml", ENTRIES)
    result = compared(files, "--json")
    assert result.exit_code == 0, result.output
    found = {row["model"]: row for row in orjson.loads(result.output)}
    assert {name: row["state"] for name, row in found.items()} == {
        "gpt-4.1": "differs",
        "gpt-4o-mini": "same",
        "private": "not_found",
    }
    assert found["gpt-4.1"]["published_as"] == "openai/gpt-4.1"
    assert {"rate": "output", "ours": "8.50", "published": "8.00"} in found["gpt-4.1"]["differences"]
    text = compared(files).output
    assert "8.50" in text and "1 the same, 1 different, 1 not found" in text
    assert "private: nothing published for 'ft:x' at openai." in text


def test_diff_with_check_ends_with_1_only_where_a_price_differs(tmp_path: Path) -> None:
    """For a scheduled job; a model that nobody publishes is no difference."""
    files = Files(tmp_path)
    files.write("policies/models.yaml", ENTRIES)
    assert (compared(files).exit_code, compared(files, "--check").exit_code) == (0, 1)
    files.edit("policies/models.yaml", "output: 8.5", "output: 8")
    assert compared(files, "--check").exit_code == 0


def test_the_shipped_prices_are_the_published_ones() -> None:
    """Where a provider publishes any."""
    result = RUNNER.invoke(app, ["models", "diff", "--check", "--config", CONFIG])
    assert result.exit_code == 0, result.output


def test_differences_are_told_band_by_band() -> None:
    """Also where only one of the two has a band; what only embeds is compared by its input."""
    plain = Rates(parse_rate(1), parse_rate(2))
    banded = Rates(parse_rate(1), parse_rate(2), bands=(Band(100, Rates(parse_rate(3), parse_rate(2))),))
    found = list(differences(plain, banded, generates=True))
    assert ("input above 100", "1.00", "3.00") in found
    assert not [one for one in found if one[0].startswith("output")]
    assert list(differences(plain, Rates(parse_rate(1), 0), generates=False)) == []


def test_the_table_names_models_prices_and_what_to_set() -> None:
    """For people."""
    output = RUNNER.invoke(app, ["models", "--config", CONFIG], env={"COLUMNS": "120"}).output
    assert "gpt-4o-mini" in output
    assert "0.075" in output
    assert "openai is not available: set OPENAI_API_KEY in the environment" in output


def test_panels_show_the_price_of_a_run_and_their_members(monkeypatch: pytest.MonkeyPatch) -> None:
    """The catalogue's names of the members; what is missing for a quorum is said."""
    panel = rows()["consensus-fast"]
    assert panel["members"] == ["gpt-5.4-mini", "claude-haiku-4-5-chat", "gemini-2.5-flash"]
    assert (panel["price"]["run"], panel["price"]["credits"]) == ("0.05", "1.000")
    assert not panel["available"]
    assert panel["missing"].startswith("0 of its members can be called, and it needs 2: set OPENAI_API_KEY in the ")
    assert rows()["consensus-demo"]["available"]
    for name in ("OPENAI_API_KEY", "ANTHROPIC_API_KEY"):
        monkeypatch.setenv(name, "k")
    assert rows()["consensus-fast"]["available"]
    result = RUNNER.invoke(app, ["models", "--config", CONFIG])
    assert result.exit_code == 0 and "0.05/run" in result.output
