"""Header fields, on both sides of the house."""

from __future__ import annotations

from multidict import CIMultiDict

Headers = CIMultiDict[str]
"""Case-insensitive, order kept, repeats kept. Names and values are `str` (UTF-8)."""
