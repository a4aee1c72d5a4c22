"""Why a call of a panel has no answer, in words that name no provider."""

from __future__ import annotations

from typing import Final

from proxy.consensus.api import CallFailed
from proxy.exchange import Exchange, Response
from proxy.upstreams.api import FailureKind

_TIMEOUTS: Final = frozenset({FailureKind.FIRST_BYTE, FailureKind.IDLE, FailureKind.TOTAL})
_BY_CODE: Final = {
    "upstream_timeout": "timeout",
    "upstream_unavailable": "unavailable",
    "upstream_circuit_open": "unavailable",
    "no_consortium_machine_available": "unavailable",
    "model_not_available": "unavailable",
    "rate_limited": "rate_limited",
    "overloaded": "unavailable",
    "draining": "unavailable",
}
_REFUSED: Final = frozenset({400, 401, 403, 404, 413, 415, 422})


def kind_of(kind: FailureKind) -> str:
    """A CallFailed's kind for an upstream that broke off."""
    if kind in _TIMEOUTS:
        return "timeout"
    if kind in (FailureKind.CONNECT, FailureKind.BUSY):
        return "unavailable"
    return "garbage" if kind in (FailureKind.GARBAGE, FailureKind.TOO_LARGE) else "broken"


def failure_of(branch: Exchange, response: Response) -> CallFailed:
    """For an answer that is none: a refusal of ours on the way, or the provider's own."""
    seconds = response.headers.get("retry-after", "")
    again = float(seconds) if seconds.isdigit() else None
    tried = branch.route.current if branch.route is not None and branch.route.tries else None
    if tried is not None and tried.outcome == "status" and tried.status:
        if tried.status == 429:
            return CallFailed("rate_limited", retry_after_seconds=again)
        return CallFailed("refused" if tried.status in _REFUSED else "unavailable", retry_after_seconds=again)
    if tried is not None and tried.outcome in ("garbage", "too_large"):
        return CallFailed("garbage")
    if tried is not None and tried.outcome in ("broken", "error_event"):
        return CallFailed("broken")
    code = "" if branch.refusal is None else branch.refusal.code
    return CallFailed(_BY_CODE.get(code, "unavailable"), retry_after_seconds=again)
