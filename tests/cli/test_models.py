"""tollway models."""

from __future__ import annotations

from typing import Any

import orjson
import pytest
from typer.testing import CliRunner

from proxy import shipped
from proxy.cli import app
from tests.config.test_shipped import KEYS

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


def test_the_table_names_models_prices_and_what_to_set() -> None:
    """For people."""
    output = RUNNER.invoke(app, ["models", "--config", CONFIG], env={"COLUMNS": "120"}).output
    assert "gpt-4o-mini" in output
    assert "0.075" in output
    assert "openai is not available: set OPENAI_API_KEY in the environment" in output
