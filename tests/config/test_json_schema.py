"""JSON Schema of the files."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict

from proxy.config.json_schema import json_schemas
from proxy.config.load import POLICIES


class _Settings(BaseModel):
    model_config = ConfigDict(extra="forbid")
    header: str = "x"


def test_every_file_has_a_schema_that_refuses_unknown_keys() -> None:
    """config.yaml and each policy."""
    schemas = json_schemas({})
    assert set(schemas) == {"config.yaml", *POLICIES}
    assert all(schema["additionalProperties"] is False for schema in schemas.values())


def test_plugin_settings_stand_where_the_chain_names_them() -> None:
    """So that an editor completes them."""
    link = json_schemas({"example": _Settings})["config.yaml"]["properties"]["chain"]["items"]["anyOf"][1]
    assert "header" in link["properties"]["example"]["anyOf"][0]["properties"]


def test_money_is_a_number_or_a_text_of_one_in_the_schema() -> None:
    """Not the integer that it becomes."""
    rate = json_schemas({})["models.yaml"]["$defs"]["PriceEntry"]["properties"]["input"]
    assert {kind["type"] for kind in rate["anyOf"]} == {"number", "string"}
