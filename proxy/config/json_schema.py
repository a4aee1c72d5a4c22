"""The files' shapes as JSON Schema, for editors and for `tollway schema`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from pydantic import BaseModel

from proxy.config.load import POLICIES
from proxy.config.schema import ConfigFile

DRAFT: Final = "https://json-schema.org/draft/2020-12/schema"


def json_schemas(plugins: Mapping[str, type[BaseModel]]) -> dict[str, dict[str, Any]]:
    """File name -> its schema. `plugins` are the settings classes by short name, put where the chain names them."""
    config = _schema(ConfigFile, "config.yaml")
    config["properties"]["chain"]["items"] = _links(plugins, config.setdefault("$defs", {}))
    return {"config.yaml": config, **{name: _schema(model, f"policies/{name}") for name, model in POLICIES.items()}}


def _schema(model: type[BaseModel], title: str) -> dict[str, Any]:
    return {"$schema": DRAFT, **model.model_json_schema(mode="validation"), "title": title}


def _links(plugins: Mapping[str, type[BaseModel]], definitions: dict[str, Any]) -> dict[str, Any]:
    """A link of the chain: a plugin's name, or one plugin with its settings."""
    settings: dict[str, Any] = {}
    for name, model in plugins.items():
        found = model.model_json_schema(mode="validation", ref_template="#/$defs/{model}")
        definitions.update(found.pop("$defs", {}))
        settings[name] = {"anyOf": [found, {"type": "null"}]}
    return {
        "anyOf": [
            {"type": "string"},
            {
                "type": "object",
                "properties": settings,
                "additionalProperties": {"type": ["object", "null"]},
                "minProperties": 1,
                "maxProperties": 1,
            },
        ]
    }
