"""What an attempt's end means: for the upstream's circuit, and for whether another attempt is worth making."""

from __future__ import annotations

from enum import Enum
from typing import Final

from plugins.routing.answers import asked_seconds
from proxy.exchange import Response
from proxy.routes import Try
from proxy.upstreams.health import Verdict

OURS: Final = ("unsent", "running")
"""Outcomes of an attempt that ended on our side, refused or failed: another one would end the same way."""
HEDGE_LOST: Final = "hedge_lost"
"""Cancelled because a second candidate, or the first one after all, answered before it."""
CALLERS_FAULT: Final = frozenset({400, 413, 422})
"""Statuses about the request itself: its sender reads them, and the upstream is well."""
EITHERS_FAULT: Final = frozenset({402, 403, 404, 409})
"""Our account, its rights or what was asked for: they say nothing about health, and another candidate may serve."""
BUSY: Final = "busy"
"""Our own connections to it are all in use: a crowd must not close what serves it."""
TIMEOUTS: Final = ("first_byte_timeout", "idle_timeout", "total_timeout")


class Again(Enum):
    """Whether the last attempt left anything to gain from another."""

    NO = "no"
    ELSEWHERE = "elsewhere"
    """At another candidate, or at the same one as a last resort."""
    ONLY_ELSEWHERE = "only_elsewhere"
    ANYWHERE = "anywhere"


def verdict(tried: Try, response: Response) -> Verdict:
    """What it says about the upstream."""
    if tried.outcome in OURS or tried.outcome == BUSY:
        return Verdict.SILENT
    if tried.outcome in ("served", "too_large"):
        return Verdict.HEALTHY
    if tried.outcome != "status":
        return Verdict.FAILED
    if response.status == 429:
        return Verdict.LIMITED if asked_seconds(response) else Verdict.FAILED
    if response.status in CALLERS_FAULT:
        return Verdict.HEALTHY
    if response.status == 401 and tried.candidate.endpoint is not None:
        return Verdict.SILENT  # A customer's own key: its owner is told so, and no circuit hides it.
    return Verdict.SILENT if response.status in EITHERS_FAULT else Verdict.FAILED


def again(tried: Try, response: Response, retry_statuses: frozenset[int]) -> Again:
    """What may be tried next, health and places left aside."""
    if tried.outcome in ("served", "too_large", *OURS):
        return Again.NO
    if tried.outcome in TIMEOUTS or tried.outcome == BUSY:
        return Again.ELSEWHERE
    if tried.outcome != "status" or response.status in retry_statuses:
        return Again.ANYWHERE
    return Again.NO if response.status in CALLERS_FAULT else Again.ONLY_ELSEWHERE
