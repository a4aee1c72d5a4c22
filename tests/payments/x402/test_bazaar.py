"""What the Bazaar is told about each endpoint is valid by itself and for the x402 SDK."""

from __future__ import annotations

import json
from typing import Any

import pytest

from proxy.payments.x402.bazaar import Bazaar
from tests.support.x402 import ask, decoded, till

OPERATIONS = ["chat.completions", "embeddings", "messages", "orchestrate", "responses"]


def check(value: Any, schema: dict[str, Any]) -> None:
    """JSON Schema 2020-12, as far as it is used here; what is not known here fails."""
    kinds = {"object": dict, "array": list, "string": str, "integer": int, "boolean": bool}
    for word, rule in schema.items():
        match word:
            case "$schema":
                assert rule == "https://json-schema.org/draft/2020-12/schema"
            case "type":
                assert isinstance(value, kinds[rule])
            case "const":
                assert value == rule
            case "enum":
                assert value in rule
            case "required":
                assert set(rule) <= set(value)
            case "minimum":
                assert value >= rule
            case "minItems":
                assert len(value) >= rule
            case "items":
                for item in value:
                    check(item, rule)
            case "properties":
                for name, inner in rule.items():
                    if name in value:
                        check(value[name], inner)
            case "additionalProperties":
                assert rule is False
                assert set(value) <= set(schema["properties"])
            case "anyOf":
                assert any(isinstance(value, kinds[option["type"]]) for option in rule)
            case _:
                pytest.fail(f"{word} is not known")


def bazaar(operation: str, form: str = "full") -> dict[str, Any]:
    return json.loads(getattr(Bazaar(), form)(operation, "deepseek-v3.2"))["bazaar"]


@pytest.mark.parametrize("operation", OPERATIONS)
@pytest.mark.parametrize("form", ["full", "short"])
def test_schema_validates_info(operation, form):
    """With examples and without."""
    extension = bazaar(operation, form)
    check(extension["info"], extension["schema"])
    assert extension["info"]["input"]["type"] == "http"
    assert extension["info"]["input"]["method"] == "POST"
    assert extension["info"]["input"]["bodyType"] == "json"


@pytest.mark.parametrize("operation", OPERATIONS)
def test_schema_refuses_other_calls(operation):
    """It says something: another method or a body without a model is no call of ours."""
    extension = bazaar(operation)
    for change in ({"method": "GET"}, {"body": {}}, {"more": 1}):
        info = {**extension["info"], "input": {**extension["info"]["input"], **change}}
        with pytest.raises(AssertionError):
            check(info, extension["schema"])


@pytest.mark.parametrize("operation", OPERATIONS)
@pytest.mark.parametrize("form", ["full", "short"])
def test_sdk_validates_it(operation, form):
    """By the functions that facilitators call before they catalogue."""
    from x402.extensions.bazaar import validate_discovery_extension
    from x402.extensions.bazaar.facilitator import validate_discovery_extension_spec

    extension = bazaar(operation, form)
    assert validate_discovery_extension(extension).errors == []
    assert validate_discovery_extension_spec(extension).errors == []


def test_unknown_operation_has_no_extension():
    """Nothing is made up."""
    offer = till().rail.offer(ask(operation="images"), None)
    assert "extensions" not in decoded(offer.headers[0][1])
