"""The partners that upstreams name, beside those whose share is set."""

from __future__ import annotations

from collections.abc import Mapping

from proxy.config.problems import Marks, Problem, near
from proxy.config.schema import PartnerEntry, UpstreamEntry


def check_partners(
    partners: Mapping[str, PartnerEntry],
    upstreams: Mapping[str, UpstreamEntry],
    marks: Marks,
    problems: list[Problem],
) -> None:
    """Where shares are set at all, an upstream's partner without one is most likely misspelt. `marks`: upstreams."""
    if not partners:
        return
    for name, entry in upstreams.items():
        if entry.partner is not None and entry.partner not in partners:
            problems.append(
                marks.below(name).problem(
                    ("partner",),
                    f"there is no '{entry.partner}' among 'partners', which set their shares",
                    suggestion=near(entry.partner, partners),
                )
            )
