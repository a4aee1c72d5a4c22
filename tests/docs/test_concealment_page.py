"""docs/concealment.md: its example is a chain, and what it says of headers and members is so."""

from __future__ import annotations

import re
from pathlib import Path

import yaml

from plugins.conceal.formats import FORMATS
from plugins.conceal.plugin import ROUTE_MODEL, ConcealPlugin
from proxy import discovery

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs" / "concealment.md").read_text()


def test_the_example_stands_at_its_place_in_the_chain() -> None:
    """Behind audit, cors and webhooks, before everything else, in the page and in the shipped file."""
    (block,) = re.findall(r"```yaml\n(.*?)```", PAGE, re.DOTALL)
    chain = yaml.safe_load(block)["chain"]
    assert chain == ["audit", "cors", "webhooks", "conceal", "ip_limit"]
    assert discovery.find("conceal") is ConcealPlugin
    offered = re.findall(r"(?m)^  #? ?- ([a-z_]+)", (ROOT / "config.yaml").read_text().partition("\nchain:\n")[2])
    assert offered[: len(chain)] == chain


def test_settings_ids_and_headers_are_named() -> None:
    """As the plugin has them."""
    named = [*ConcealPlugin.Settings.model_fields, ROUTE_MODEL]
    named += [part for one in FORMATS.values() for part in (one.id_prefix, one.request_id_header)]
    assert [name for name in named if name.lower() not in PAGE.lower()] == []
