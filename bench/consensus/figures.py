"""Distributions in a few words."""

from __future__ import annotations

from collections.abc import Sequence

from bench.figures import percentile


def spread(values: Sequence[float], digits: int = 1) -> str:
    """Median, 95th and 99th percentile."""
    return "/".join(f"{percentile(values, share):.{digits}f}" for share in (50, 95, 99))
