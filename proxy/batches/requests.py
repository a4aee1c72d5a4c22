"""A batch as it comes, checked to the last prompt before anything of it is kept."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Final

import orjson

from proxy import model_refusals
from proxy.config.schema import Generation
from proxy.consensus.settings import Consensus
from proxy.dialects import DIALECTS
from proxy.dialects.json_scan import scan
from proxy.errors import Refusal
from proxy.operations import ORCHESTRATE
from proxy.panels import model_name

BODY_BYTES_MAX: Final = 8 << 20
"""Of a whole batch."""
_MEMBERS: Final = ("prompts", "mode", "domain", "webhook_url")
_SHARED: Final = ("mode", "domain")
"""What a prompt takes from its batch where it says nothing itself."""
_NOT_IN_A_PROMPT: Final = {
    "stream": "nobody reads along: leave it out",
    "webhook_url": "the whole batch has one: put it beside 'prompts'",
}


@dataclass(frozen=True, slots=True)
class Wanted:
    """What is asked for."""

    prompts: tuple[bytes, ...] = field(repr=False)
    """Bodies of `POST /v1/orchestrate`, each of them good."""
    models: tuple[str, ...]
    """The consensus models that they name, each once."""
    webhook_url: str | None = field(repr=False)
    """Not looked into yet."""


def parse(body: bytes, generation: Generation) -> Wanted:
    """Raises Refusal: the first thing that is wrong, with its place."""
    consensus = generation.consensus
    if consensus is None:
        raise model_refusals.no_panels()
    document = scan(body).document
    unknown = next((name for name in document if name not in _MEMBERS), None)
    if unknown is not None:
        shown = unknown[:64]
        raise Refusal(
            "invalid_request",
            f"There is no member '{shown}' in a batch. Known are {', '.join(_MEMBERS)}; what concerns one prompt goes "
            "into it, as an object in the place of the text.",
            param=shown,
        )
    given = document.get("prompts")
    most = consensus.batch_prompts_max
    if not isinstance(given, list) or not 1 <= len(given) <= most:
        has = f"this one has {len(given)}" if isinstance(given, list) else "send a list of them"
        raise Refusal("invalid_request", f"A batch takes 1 to {most} prompts; {has}.", param="prompts")
    shared = {name: document[name] for name in _SHARED if document.get(name) is not None}
    prompts, models = [], []
    for index, one in enumerate(given):
        prompt, model = _prompt(one, f"prompts[{index}]", shared, consensus, generation)
        prompts.append(prompt)
        models.append(model)
    url = document.get("webhook_url")
    if url is not None and not isinstance(url, str):
        raise Refusal("invalid_request", "'webhook_url' must be a string.", param="webhook_url")
    return Wanted(tuple(prompts), tuple(dict.fromkeys(models)), url)


def _prompt(
    one: Any, place: str, shared: dict[str, Any], consensus: Consensus, generation: Generation
) -> tuple[bytes, str]:
    """The prompt as a request of its own, and its model. Raises Refusal."""
    if not isinstance(one, (str, dict)):
        raise Refusal("invalid_request", f"'{place}' must be a string or an object.", param=place)
    members = {"prompt": one} if isinstance(one, str) else one
    for name, why in _NOT_IN_A_PROMPT.items():
        if members.get(name) is not None and members[name] is not False:
            raise Refusal("invalid_request", f"There is no '{name}' in a prompt of a batch: {why}.", param=place)
    own = {name: value for name, value in members.items() if name not in _NOT_IN_A_PROMPT}
    body = orjson.dumps({**shared, **own})
    try:
        call = DIALECTS[ORCHESTRATE.dialect or ""].parse(body)
        mode = call.model or consensus.default_mode
        name = model_name(consensus, mode)
        if name not in generation.models:
            listed = generation.catalogue.get(name)
            if listed is None:
                raise model_refusals.unknown_mode(consensus, mode)
            raise model_refusals.unavailable(generation, ORCHESTRATE.name, "", name, listed)
    except Refusal as refusal:
        param = place if refusal.param is None else f"{place}.{refusal.param}"
        raise Refusal(
            refusal.code,
            f"{place}: {refusal.message}",
            param=param,
            retry_after_seconds=refusal.retry_after_seconds,
            operator_note=refusal.operator_note,
        ) from refusal
    return body, name
