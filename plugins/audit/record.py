"""One exchange as one JSON document. Amounts are decimal text, exact; what is not known is null."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any, Final

from proxy.exchange import Exchange, Finish
from proxy.ledger.api import CapState
from proxy.pricing.money import Nano, usd_text

NAME_CHARS_MAX: Final = 200
"""Of a model's name as the client wrote it."""


def record(exchange: Exchange, reason: Finish, now: float) -> dict[str, Any]:
    """All that is known at the end; `now` is in monotonic seconds."""
    return {
        "time": _time(exchange.started_ms),
        "request_id": exchange.request_id,
        **_who(exchange),
        **_what(exchange),
        **_where(exchange),
        "status": exchange.status or None,
        "error": None if exchange.refusal is None else exchange.refusal.code,
        "outcome": reason.value,
        "content_rules": exchange.content_struck,
        "dedup": exchange.repeated,
        **_usage(exchange),
        **_money(exchange),
        "latency_first_byte_ms": _ms(exchange.first_byte, exchange.started),
        "latency_ms": _ms(now, exchange.started),
        "bytes_in": _bytes_in(exchange),
        "bytes_out": exchange.bytes_out,
    }


def _time(ms: int) -> str:
    """RFC 3339 in UTC, to the millisecond."""
    seconds, rest = divmod(ms, 1000)
    return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%dT%H:%M:%S}.{rest:03d}Z"


def _ms(moment: float | None, started: float) -> float | None:
    return None if moment is None else round((moment - started) * 1000, 3)


def _who(exchange: Exchange) -> dict[str, Any]:
    origin, identity = exchange.origin, exchange.identity
    return {
        "listener": origin.listener,
        "peer": origin.peer,
        "key_id": None if identity is None else identity.key_id,
        "user": None if identity is None else identity.user,
        "team": None if identity is None else identity.team,
        "organisation": None if identity is None else identity.organisation,
        "tier": None if identity is None else identity.tier,
    }


def _what(exchange: Exchange) -> dict[str, Any]:
    call = exchange.call
    asked = (call.model if call is not None else None) or exchange.path_model
    return {
        "operation": exchange.operation.name,
        "model_asked": None if asked is None else asked[:NAME_CHARS_MAX],
        "model": None if exchange.model is None else exchange.model.name,
        "stream": None if call is None else call.stream,
    }


def _where(exchange: Exchange) -> dict[str, Any]:
    """The last attempt's upstream, and all attempts in order."""
    tries = [] if exchange.route is None else exchange.route.tries
    last = tries[-1].candidate if tries else None
    return {
        "upstream": None if last is None else last.upstream,
        "upstream_model": None if last is None else last.upstream_model,
        "attempts": [
            {
                "upstream": one.candidate.upstream,
                "model": one.candidate.upstream_model,
                "status": one.status or None,
                "outcome": one.outcome,
            }
            for one in tries
        ],
    }


def _usage(exchange: Exchange) -> dict[str, Any]:
    usage = exchange.usage
    if usage is None:
        return _NO_USAGE
    return {
        "tokens_in": usage.input_tokens,
        "tokens_out": usage.output_tokens,
        "tokens_cached": usage.cached_tokens,
        "tokens_cache_write": usage.cache_write_tokens + usage.cache_write_1h_tokens,
        "tokens_reasoning": usage.reasoning_tokens,
        "counted": usage.counted,
    }


_NO_USAGE: Final[dict[str, Any]] = {
    "tokens_in": None,
    "tokens_out": None,
    "tokens_cached": None,
    "tokens_cache_write": None,
    "tokens_reasoning": None,
    "counted": None,
}


def _money(exchange: Exchange) -> dict[str, Any]:
    settlement, hold = exchange.settlement, exchange.hold
    return {
        "charged_usd": None if settlement is None else usd_text(settlement.charged),
        "list_usd": None if settlement is None else _usd(settlement.list),
        **_payment(exchange),
        "soft_caps_crossed": [] if hold is None else [_cap(state) for state in hold.soft_crossed],
    }


def _payment(exchange: Exchange) -> dict[str, Any]:
    """How a payer paid, and the payment's public id; a balance is named by the key id."""
    presented, hold = exchange.presented, exchange.hold
    lease = None if hold is None else hold.lease
    return {
        "rail": None if presented is None else presented.credential.value,
        "payment_id": None if lease is None else lease.id,
    }


def _usd(nano: Nano | None) -> str | None:
    return None if nano is None else usd_text(nano)


def _cap(state: CapState) -> dict[str, Any]:
    cap = state.cap
    return {"scope": cap.scope, "id": cap.scope_id, "window": cap.window, "limit_usd": usd_text(cap.limit)}


def _bytes_in(exchange: Exchange) -> int | None:
    """The body's length as parsed, else as the client declared it."""
    if exchange.call is not None:
        return len(exchange.call.body)
    declared = exchange.request.headers.get("content-length", "")
    return int(declared) if declared.isascii() and declared.isdigit() and len(declared) <= 18 else None
