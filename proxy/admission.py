"""Which candidates of a model can serve a call: by what it needs, by what its caller may use, by its length."""

from __future__ import annotations

from typing import Any, Final

from proxy.catalogue import JSON_SCHEMA, STREAMING, TOOLS, VISION, Candidate, Model
from proxy.dialects.base import Call
from proxy.errors import Refusal
from proxy.policy.rules import Policy, denied_model

Candidates = tuple[Candidate, ...]

_NEEDS_NOTHING: Final[frozenset[str]] = frozenset()
_FORMATS: Final = ("response_format", "output_config", "text")
"""Where a call asks for a form of the answer: chat completions; messages and responses, there under `format`."""
_PARAMS: Final = {TOOLS: "tools", VISION: "messages", JSON_SCHEMA: "response_format", STREAMING: "stream"}
_WORDS: Final = {
    TOOLS: "call tools",
    VISION: "read images",
    JSON_SCHEMA: "answer by a JSON schema",
    STREAMING: "stream",
}


def needs(call: Call) -> frozenset[str]:
    """The capabilities that a model must have for this call."""
    document = call.document
    found = []
    if call.stream:
        found.append(STREAMING)
    if document.get("tools") or document.get("functions"):
        found.append(TOOLS)
    if call.images:
        found.append(VISION)
    if any(_wants_schema(document, member) for member in _FORMATS):
        found.append(JSON_SCHEMA)
    return frozenset(found) if found else _NEEDS_NOTHING


def capable(model: Model, call: Call) -> Candidates:
    """The candidates that can do what the call needs. Raises Refusal `invalid_request`, naming what none can."""
    needed = needs(call)
    if needed <= model.common.capabilities:
        return model.candidates
    found = tuple([candidate for candidate in model.candidates if needed <= candidate.capabilities])
    if found or not model.candidates:
        return found
    # Where each need alone has a candidate, it is all of them together that has none.
    lacking = [need for need in needed if not any(need in candidate.capabilities for candidate in model.candidates)]
    shown = sorted(lacking or needed)
    raise Refusal(
        "invalid_request",
        f"'{model.name}' cannot {' and '.join(_WORDS[need] for need in shown)}"
        f"{'' if lacking else ' in one call'}. Use a model that can, or leave it out of the request.",
        param=_PARAMS[shown[0]],
    )


def permitted(candidates: Candidates, model: Model, policy: Policy) -> Candidates:
    """Those whose own model no rule keeps from the caller. Raises Refusal `model_not_allowed` where none is left."""
    if not policy.restricts_models:
        return candidates
    found = tuple([one for one in candidates if denied_model(policy, model.name, member=model.served_as(one)) is None])
    if not found:
        raise Refusal(
            "model_not_allowed",
            f"The policy of your organisation or team allows none of the models behind '{model.name}'.",
            param="model",
        )
    return found


def with_room(candidates: Candidates, model: Model, input_tokens: int, output_tokens: int) -> Candidates:
    """Those that take this input (a bound or a count); empty where none does.

    Of these, the ones that take the output limit, or as much of it as any does; and of these the ones that have
    room for both within their context, if there are any: past it a provider refuses, or stops short.
    """
    common = model.common
    if output_tokens <= common.output_tokens_max and input_tokens + output_tokens <= common.context_tokens:
        return candidates
    found = [one for one in candidates if input_tokens <= model.context_of(one)]
    if found:
        limit = min(output_tokens, max([model.output_max_of(one) for one in found]))
        found = [one for one in found if model.output_max_of(one) >= limit]
        found = [one for one in found if input_tokens + limit <= model.context_of(one)] or found
    return candidates if len(found) == len(candidates) else tuple(found)


def _wants_schema(document: dict[str, Any], member: str) -> bool:
    form = document.get(member)
    if form is None:
        return False
    if isinstance(form, dict) and member != "response_format":
        form = form.get("format")
    return isinstance(form, dict) and form.get("type") == "json_schema"
