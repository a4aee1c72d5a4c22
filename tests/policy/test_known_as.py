"""Names that a rule about a model holds for as well."""

from __future__ import annotations

from dataclasses import replace

from proxy.policy.known_as import meant_names
from tests.support.fakes import generation
from tests.support.panels import consensus, mode, panel_model


def test_auto_goes_by_the_names_of_the_modes_that_it_runs() -> None:
    """Who may not ask for a mode does not reach it by way of auto."""
    both = replace(consensus(mode(name="fast"), mode(name="balanced")), auto=("fast", "balanced"))
    under = replace(generation(), consensus=both)
    auto = replace(panel_model(), name="consensus-auto")
    assert meant_names(under, auto) == {"consensus-fast", "consensus-balanced"}
    assert meant_names(under, replace(auto, name="consensus-fast")) == set()
