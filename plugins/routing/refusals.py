"""What a caller reads where no candidate may be called, or none of a consortium's machines serves."""

from __future__ import annotations

from collections.abc import Sequence

from proxy import model_refusals
from proxy.catalogue import Candidate, Model
from proxy.errors import Refusal
from proxy.exchange import Exchange
from proxy.model_refusals import of_consortium, other_lane
from proxy.upstreams.health import CandidateState


def all_closed_off(
    exchange: Exchange, model: Model, candidates: Sequence[Candidate], states: Sequence[CandidateState], now: float
) -> Refusal:
    """Every candidate's circuit is open, or its one trial is under way."""
    seconds = max(1.0, min(state.breaker.seconds_left(now) for state in states))
    if of_consortium(model, candidates):
        return no_machine(exchange, model, candidates, seconds)
    if all(state.breaker.limited for state in states):
        return Refusal(
            "rate_limited",
            f"The upstream is rate limiting '{model.name}'. Wait, then try again.",
            retry_after_seconds=seconds,
        )
    lane = None if model.byo else other_lane(exchange.generation, exchange.operation.name, _tier(exchange), model)
    instead = "" if lane is None else f"Use '{lane}', which picks a different upstream, or wait. "
    return Refusal(
        "upstream_circuit_open",
        f"What serves '{model.name}' failed repeatedly and is left alone for now. {instead}"
        f"It is tried again in {seconds:.0f} s.",
        retry_after_seconds=seconds,
    )


def own_key_refused(model: Model, candidate: Candidate, status: int) -> Refusal | None:
    """What only the owner of a registered upstream key can mend; None for any other status."""
    if status in (401, 403):
        problem = (
            f"The provider refused the key that your team registered for '{model.name}'. Put a working one in its "
            "place: POST /v1/byo/keys/rotate."
        )
    elif status == 402:
        problem = f"The provider behind '{model.name}' wants your account there paid before it goes on."
    elif status == 404:
        problem = (
            f"The provider behind '{model.name}' knows no model '{candidate.upstream_model}', or not under this key. "
            "Remove the alias and register it again with the provider's name of the model."
        )
    else:
        return None
    return Refusal("upstream_error", problem, param="model", details={"upstream_status": status})


def no_machine(exchange: Exchange, model: Model, candidates: Sequence[Candidate], seconds: float) -> Refusal:
    """No partner's machine is healthy; the message names what the caller can call in its place."""
    return model_refusals.no_machine(
        exchange.generation, exchange.operation.name, _tier(exchange), model, candidates, seconds=seconds
    )


def _tier(exchange: Exchange) -> str:
    return "" if exchange.identity is None else exchange.identity.tier
