"""What docs/models.md shows loads, and means what the page says."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import yaml

from proxy.catalogue import Strategy
from proxy.config.schema import Generation
from proxy.pricing.rates import parse_rate
from tests.support.files import Files

PAGE = (Path(__file__).parents[2] / "docs" / "models.md").read_text()
TIERS = "tiers: {standard: {}, pro: {}, founder: {}, charter: {}}\n"


@pytest.fixture
def shown(tmp_path: Path) -> Generation:
    """All models of the page in one file."""
    files = Files(tmp_path)
    models = {}
    for block in re.findall(r"```yaml\n(.*?)```", PAGE, re.DOTALL):
        models |= yaml.load(block, Loader=yaml.BaseLoader)["models"]
    files.write("policies/models.yaml", yaml.safe_dump({"models": models}))
    files.write("policies/tiers.yaml", TIERS)
    files.append("config.yaml", "  together: {base_url: 'https://api.together.xyz/v1', key: k}\n")
    return files.load({"OPENAI_API_KEY": "k", "GROQ_API_KEY": "k"})


def test_every_model_of_the_page_is_served(shown: Generation) -> None:
    """By its name and its aliases."""
    assert shown.models["meta/llama-3.3-70b"] is shown.models["llama-70b"]
    assert set(shown.models) >= {"llama-3.3-70b", "written-out", "looked-up", "small", "large", "route"}


def test_prices_are_those_of_the_page(shown: Generation) -> None:
    """The band past its length; the published price from its source."""
    written, looked_up = shown.models["written-out"].rates, shown.models["looked-up"].rates
    assert written is not None and looked_up is not None
    assert (written.at(272_000).output, written.at(272_001).output) == (parse_rate(10), parse_rate(15))
    assert looked_up.source.startswith("genai-prices ") and "openai/gpt-4.1" in looked_up.source


def test_the_lane_is_as_the_page_says(shown: Generation) -> None:
    """Its members' candidates, its own price, the largest context."""
    lane = shown.models["route"]
    assert [(one.model, one.weight) for one in lane.candidates] == [("small", 1), ("large", 2)]
    assert (lane.context_tokens, lane.strategy, lane.sticky) == (1_000_000, Strategy.CHEAPEST, True)
    assert lane.rates is not None and lane.rates.input == parse_rate("0.30")
