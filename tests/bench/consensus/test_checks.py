"""The bench's own checks, small: what does not depend on luck is met, and every finding has a verdict."""

from __future__ import annotations

import json

import pytest

from bench.consensus.__main__ import CHECKS, measure
from bench.consensus.findings import MET, MISSED, SHOWN, TINY

CERTAIN = {"hanging member", "meters", "hold", "heartbeat", "cancel", "failures", "failures, a role lost"}
"""Checks that every single run must pass."""


@pytest.mark.parametrize("name", list(CHECKS))
def test_every_check_has_findings_with_verdicts(name: str) -> None:
    """As JSON; those that no luck is in are met however few runs there are."""
    result = measure(TINY, 7, [name], lambda _: None)
    findings = json.loads(json.dumps(result))["findings"]
    assert findings
    for finding in findings:
        assert finding["verdict"] in (MET, MISSED, SHOWN)
        assert finding["verdict"] == MET or finding["check"] not in CERTAIN, finding
        assert bool(finding["limit"]) == (finding["verdict"] != SHOWN)


def test_findings_are_the_same_for_a_seed() -> None:
    """Every figure."""
    one = measure(TINY, 3, ["judges"], lambda _: None)["findings"]
    assert one == measure(TINY, 3, ["judges"], lambda _: None)["findings"]
