"""JSON objects within text of doubtful quality, found and read in linear time; and several of them made one."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from typing import Any


def last_object(text: str) -> dict[str, Any] | None:
    """The last outermost JSON object of the text. None where there is none or it is broken, has duplicate keys, is
    nested too deep or too large: an earlier one is never taken in its place."""
    raise NotImplementedError


def read_object(text: str) -> dict[str, Any] | None:
    """A text that is one JSON object, perhaps within a Markdown code fence; None otherwise."""
    raise NotImplementedError


def merged_object(objects: Sequence[dict[str, Any]], weights: Sequence[Fraction]) -> dict[str, Any]:
    """Field by field the value with most weight behind it, at a tie the earliest's; objects field by field, lists
    whole. Validate it against the schema: fields of different members need not go together."""
    raise NotImplementedError
