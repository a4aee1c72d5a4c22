"""What a caller reads where no candidate may be called, or none of a consortium's machines serves."""

from __future__ import annotations

from collections.abc import Sequence

from proxy.catalogue import Candidate, Model
from proxy.config.schema import Generation
from proxy.errors import Refusal
from proxy.upstreams.health import CandidateState


def all_closed_off(
    model: Model, candidates: Sequence[Candidate], states: Sequence[CandidateState], generation: Generation, now: float
) -> Refusal:
    """Every candidate's circuit is open, or its one trial is under way."""
    seconds = max(1.0, min(state.breaker.seconds_left(now) for state in states))
    if of_consortium(model, candidates):
        return no_machine(model, candidates, generation, seconds)
    if all(state.breaker.limited for state in states):
        return Refusal(
            "rate_limited",
            f"The upstream is rate limiting '{model.name}'. Wait, then try again.",
            retry_after_seconds=seconds,
        )
    lane = None if model.byo else _lane(generation, model)
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


def of_consortium(model: Model, candidates: Sequence[Candidate]) -> bool:
    """Whether partners' machines alone serve it."""
    return model.consortium or all(candidate.partner is not None for candidate in candidates)


def no_machine(model: Model, candidates: Sequence[Candidate], generation: Generation, seconds: float) -> Refusal:
    """No partner's machine is healthy; the message names what to call in its place."""
    others = [name for name in (_sibling(candidates, generation), _lane(generation, model)) if name is not None]
    instead = f"Retry with {' or '.join(repr(name) for name in others)}, or" if others else "Retry"
    return Refusal(
        "no_consortium_machine_available",
        f"No partner machine that serves '{model.name}' is healthy at the moment. {instead} in {seconds:.0f} s.",
        retry_after_seconds=seconds,
    )


def _sibling(candidates: Sequence[Candidate], generation: Generation) -> str | None:
    """The catalogue's own model of the name that the partners' machines know theirs by."""
    for candidate in candidates:
        for name in (candidate.upstream_model, candidate.upstream_model.rpartition("/")[2]):
            found = generation.models.get(name)
            if found is not None and not found.consortium:
                return name
    return None


def _lane(generation: Generation, model: Model) -> str | None:
    """A smart route to go by instead, other than the model itself."""
    lanes = (name for name, found in generation.models.items() if found.lane and not found.consortium)
    return next((name for name in lanes if name != model.name), None)
