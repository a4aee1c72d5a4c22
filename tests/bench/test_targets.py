"""The verdicts of the bench: honest about what was missed and what was not measured."""

from __future__ import annotations

from typing import Any

import pytest

from bench.figures import percentile
from bench.targets import judge


def requests(**gateways: tuple[float, float, int]) -> dict[str, Any]:
    """A part with CPU per request, throughput and errors of each gateway."""
    return {
        "requests": {
            "gateways": {
                name: {"cpu_ms_per_request": cpu, "requests_per_second": rate, "errors": errors}
                for name, (cpu, rate, errors) in gateways.items()
            }
        }
    }


def verdicts(sections: dict[str, Any]) -> dict[str, str]:
    """Target -> verdict."""
    return {row["what"]: row["verdict"] for row in judge(sections)}


def test_a_figure_at_its_limit_is_met_and_one_past_it_missed() -> None:
    """0.7 of mitmdump's CPU is met, more is MISSED."""
    met = verdicts(requests(tollway=(0.7, 1000, 0), mitmdump=(1.0, 800, 0)))
    missed = verdicts(requests(tollway=(0.71, 1000, 0), mitmdump=(1.0, 800, 0)))
    assert met["CPU per request against mitmdump"] == "met"
    assert missed["CPU per request against mitmdump"] == "MISSED"


def test_a_peer_that_was_left_out_leaves_its_targets_unmeasured() -> None:
    """Without LiteLLM there is no throughput against LiteLLM."""
    rows = verdicts(requests(tollway=(0.5, 1000, 0), portkey=(1.0, 900, 0)))
    assert rows["throughput against LiteLLM"] == "not measured"
    assert rows["throughput against Portkey"] == "met"


@pytest.mark.parametrize("failing", ["tollway", "portkey"])
def test_errors_void_the_figures(failing: str) -> None:
    """Fast wrong answers count for nobody."""
    figures = {"tollway": (0.5, 1000.0, 0), "portkey": (1.0, 900.0, 0)}
    cpu, rate, _ = figures[failing]
    rows = verdicts(requests(**{**figures, failing: (cpu, rate, 3)}))
    assert rows["CPU per request against Portkey"] == "not measured"
    assert rows["answers that are errors"] == ("MISSED" if failing == "tollway" else "met")


def test_percentile_is_the_nearest_rank() -> None:
    """Of 1..100, p99 is 99, p100 is 100, p0 is 1."""
    samples = list(range(100, 0, -1))
    assert [percentile(samples, percent) for percent in (0, 50, 99, 100)] == [1, 50, 99, 100]
