"""Whether an object is what `response_format` asks for."""

from __future__ import annotations

from typing import Any

import jsonschema
import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.consensus.schemas import parsed, problem, schema_of

PERSON: dict[str, Any] = {
    "type": "object",
    "properties": {
        "name": {"type": "string", "minLength": 1},
        "age": {"type": ["integer", "null"], "minimum": 0, "exclusiveMaximum": 150},
        "kind": {"enum": ["a", "b", 1, True]},
        "tags": {"type": "array", "items": {"$ref": "#/$defs/tag"}, "maxItems": 3},
        "next": {"anyOf": [{"type": "null"}, {"$ref": "#"}]},
        "fixed": {"const": {"x": [1, 2]}},
    },
    "required": ["name", "age"],
    "additionalProperties": False,
    "$defs": {"tag": {"type": "string", "maxLength": 4}},
}


@pytest.mark.parametrize(
    ("value", "said"),
    [
        ({"name": "Ada", "age": 36}, ""),
        ({"name": "Ada", "age": None, "kind": True, "tags": ["x"], "fixed": {"x": [1, 2.0]}}, ""),
        ({"name": "Ada", "age": 36, "next": {"name": "B", "age": 1, "next": None}}, ""),
        ({"age": 1}, "$: 'name' is missing"),
        ({"name": "", "age": 1}, "$.name: fewer than 1 characters"),
        ({"name": "A", "age": 1.5}, "$.age: must be integer or null"),
        ({"name": "A", "age": True}, "$.age: must be integer or null"),
        ({"name": "A", "age": -1}, "$.age: minimum is 0"),
        ({"name": "A", "age": 150}, "$.age: exclusiveMaximum is 150"),
        ({"name": "A", "age": 1, "tags": ["x", 2]}, "$.tags[1]: must be string"),
        ({"name": "A", "age": 1, "tags": ["a", "b", "c", "d"]}, "$.tags: more than 3 entries"),
        ({"name": "A", "age": 1, "other": 1}, "$: 'other' is not among its properties"),
        ({"name": "A", "age": 1, "next": {"name": "B"}}, "$.next: must be null"),
        ([], "$: must be object"),
    ],
)
def test_first_problem_is_named_with_its_place(value: Any, said: str) -> None:
    """What is wrong reads like a sentence that a model can act on."""
    assert problem(value, PERSON) == said


@given(
    st.recursive(
        st.none()
        | st.booleans()
        | st.integers(-5, 200)
        | st.floats(-5, 200)
        | st.sampled_from(["", "a", "b", "long1"]),
        lambda inner: (
            st.lists(inner, max_size=4)
            | st.dictionaries(st.sampled_from(["name", "age", "kind", "tags", "next", "fixed", "z"]), inner, max_size=5)
        ),
        max_leaves=12,
    )
)
def test_agrees_with_a_full_validator(value: Any) -> None:
    """On the part of JSON Schema that it knows, it says what jsonschema says."""
    assert (problem(value, PERSON) == "") == jsonschema.Draft202012Validator(PERSON).is_valid(value)


def test_reference_to_itself_ends() -> None:
    """A schema without an end is a problem, never a loop."""
    assert problem(1, {"$ref": "#"}) == "$: nested too deep"
    looping = {"anyOf": [{"$ref": "#"}, {"$ref": "#"}, {"$ref": "#"}]}
    assert problem(1, looping) == "$: nested too deep"


@pytest.mark.parametrize("many", [{"enum": [1] * 10_000 + [0]}, {"type": ["null"] * 10_000 + ["integer"]}])
def test_long_lists_for_many_values_end(many: dict[str, Any]) -> None:
    """Thousands of entries for each of thousands of values are given up, not gone through on the event loop."""
    schema = {"type": "array", "items": many}
    assert problem([0] * 3_000, schema).endswith("nested too deep")
    assert problem([0], schema) == ""


def test_many_values_of_a_choice_fit() -> None:
    """What people write is far from that bound."""
    schema = {"type": "array", "items": {"enum": [f"class {number}" for number in range(400)]}}
    assert problem(["class 399"] * 2_000, schema) == ""


def test_unknown_reference_allows_nothing() -> None:
    """Fail closed."""
    assert problem(1, {"$ref": "#/$defs/none"}) == "$: nothing is allowed here"
    assert problem(1, {"$ref": "https://example.com/schema"}) == "$: nothing is allowed here"


@pytest.mark.parametrize("text", ['{"a": 1}', ' {"a": 1}\n', '```json\n{"a": 1}\n```'])
def test_one_json_value_is_read(text: str) -> None:
    """A fence of Markdown is forgiven."""
    assert parsed(text, {"type": "object"}) == ({"a": 1}, "")


@pytest.mark.parametrize("text", ["", "Sure: {}", "{} {}", "{", "NaN", "[" * 5000])
def test_anything_else_is_not(text: str) -> None:
    """Words around an object are not forgiven: the caller would have to cut them off."""
    assert parsed(text, {"type": "object"})[1]


def test_what_is_nested_too_deep_to_be_written_again_does_not_fit() -> None:
    """A member's object is shown to others and merged: one that cannot be written must not end their run."""
    text = '{"a":' * 300 + "1" + "}" * 300
    assert parsed(text, {"type": "object"}) == (None, "it is nested too deep")


def test_schema_of_each_format() -> None:
    """text and nothing ask for nothing; json_object for any object."""
    assert schema_of(None) is None
    assert schema_of({"type": "text"}) is None
    assert schema_of({"type": "json_object"}) == {"type": "object"}
    assert schema_of({"type": "json_schema", "json_schema": {"name": "p", "schema": PERSON}}) == PERSON
