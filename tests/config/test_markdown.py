"""The page of every key: complete, and the one in docs/."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pydantic import BaseModel

from proxy import discovery
from proxy.config.json_schema import json_schemas
from proxy.config.markdown import markdown

PAGE = Path(__file__).resolve().parents[2] / "docs" / "configuration.md"


def schemas() -> dict[str, dict[str, Any]]:
    settings: dict[str, type[BaseModel]] = {name: discovery.find(name).Settings for name in discovery.known()}
    return json_schemas(settings)


def rows() -> list[list[str]]:
    """The cells of every row of a table but its head."""
    lines = [line for line in markdown(schemas()).splitlines() if line.startswith("| `")]
    return [[cell.strip() for cell in line.replace("\\|", "/").strip("|").split("|")] for line in lines]


def test_page_in_docs_is_up_to_date() -> None:
    """`tollway schema --markdown > docs/configuration.md` makes it so."""
    assert PAGE.read_text() == markdown(schemas())


def test_every_key_is_described() -> None:
    """With a type, and a sentence."""
    assert rows()
    for cells in rows():
        assert len(cells) == 4
        assert cells[1] and cells[3], cells


def test_every_key_of_every_file_stands_there() -> None:
    """However deep."""
    keys = {cells[0].strip("`") for cells in rows()}
    for schema in schemas().values():
        for part in (schema, *schema.get("$defs", {}).values()):
            assert set(part["properties"]) <= keys


def test_bounds_and_defaults_are_named() -> None:
    """In words and as the file spells them."""
    by_key = {cells[0]: cells for cells in rows()}
    assert by_key["`connections_per_ip_max`"][1:3] == ["integer, at least 1", "`1024`"]
    assert by_key["`soft_percent`"][1:3] == ["integer, 1 to 100 or null", "`null`"]
    assert by_key["`usd`"][1:3] == ["decimal", ""]
    assert by_key["`other_targets`"][1:3] == ["`tunnel` or `refuse`", '`"tunnel"`']
