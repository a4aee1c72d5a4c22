"""Objects in doubtful text: the last one or none, in linear time."""

from __future__ import annotations

import json
from fractions import Fraction
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from proxy.consensus.objects import NESTING_MAX, depth, last_object, merged_object, read_object, spans

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)
OBJECTS = st.dictionaries(st.text(max_size=5), VALUES, max_size=4)


@given(OBJECTS, st.text(alphabet="ab .,:\n'"), st.text(alphabet="ab .,:\n'"))
@settings(deadline=None)
def test_object_between_prose_is_found(value: dict[str, Any], before: str, behind: str) -> None:
    """Whatever is in its strings: braces and quotes there do not count."""
    assert last_object(before + json.dumps(value) + behind) == value


@given(OBJECTS, OBJECTS)
@settings(deadline=None)
def test_last_of_several_is_taken(first: dict[str, Any], last: dict[str, Any]) -> None:
    """Never an earlier one."""
    assert last_object(f"{json.dumps(first)} then {json.dumps(last)}") == last


def test_lone_braces_and_quotes_of_prose_hide_nothing() -> None:
    """A smiley, an inch sign, a set that nobody closes."""
    assert last_object('a set { of 5" things\n{"a": "}"} :)') == {"a": "}"}


@pytest.mark.parametrize(
    "text",
    [
        "",
        "none",
        '{"a": 1} {"a":',
        '{"a": 1} {"a": }',
        '{"a": 1, "a": 2}',
        '{"a": {"b": 1, "b": 2}}',
        '{"a": NaN}',
        '{"a": 1e999}',
        '{"a": ' + "[" * (NESTING_MAX + 1) + "]" * (NESTING_MAX + 1) + "}",
        '{"a": "' + "x" * 70_000 + '"}',
        '{"a": ' + "1" * 5000 + "}",
    ],
)
def test_broken_objects_are_none(text: str) -> None:
    """Truncated, duplicate keys, no JSON, too deep, too large. (A truncated one does not hide the one before it.)"""
    assert last_object(text) == ({"a": 1} if text.endswith('{"a":') else None)


@given(st.text(alphabet='{}[]"\\,:a1 \n', max_size=200))
@settings(max_examples=300, deadline=None)
def test_spans_are_outermost_and_in_order(text: str) -> None:
    """They do not overlap, and begin and end with their braces."""
    at = 0
    for start, end in spans(text).closed:
        assert at <= start < end and text[start] == "{" and text[end - 1] == "}"
        at = end
    last_object(text), read_object(text)


@given(VALUES)
@settings(deadline=None)
def test_depth_counts_arrays_and_objects(value: object) -> None:
    """As a walk down the tree does."""

    def walked(each: object) -> int:
        inner = each.values() if isinstance(each, dict) else each if isinstance(each, list) else None
        return 0 if inner is None else 1 + max(map(walked, inner), default=0)

    assert depth(value) == walked(value)


def test_fields_are_decided_one_by_one() -> None:
    """Scalars by plurality, objects within by the same rule, at a tie the earliest; what most leave out is left out."""
    voices = [
        {"name": "Ada", "born": 1815, "at": {"city": "London", "zip": 1}, "odd": 1},
        {"name": "Ada", "born": 1816, "at": {"city": "London", "zip": 2}},
        {"name": "Eva", "born": 1816.0, "at": {"city": "Paris", "zip": 3}, "tags": [1]},
    ]
    weights = [Fraction(1), Fraction(1), Fraction(1)]
    assert merged_object(voices, weights) == {"name": "Ada", "born": 1816, "at": {"city": "London", "zip": 1}}
    assert merged_object(voices, [Fraction(3), Fraction(1), Fraction(1)])["born"] == 1815


def test_true_and_one_are_not_the_same_value() -> None:
    """JSON tells them apart."""
    assert merged_object([{"a": 1}, {"a": True}, {"a": True}], [Fraction(1)] * 3) == {"a": True}
