"""From a registration to the model that the chain serves."""

from __future__ import annotations

from dataclasses import replace
from typing import Final

from proxy.byo.registrations import CREDENTIALS, Invalid, Registration, is_listed, origin_of, parse_base_url
from proxy.catalogue import Candidate, Model
from proxy.config.schema import Generation
from proxy.operations import MESSAGES
from proxy.pricing.rates import Rates
from proxy.upstreams.api import CUSTOMER_PREFIX, Upstream

FREE: Final = Rates(input=0, output=0)
CONTEXT_TOKENS: Final = 2 << 20
"""Of a model that the catalogue does not know."""
OUTPUT_TOKENS_DEFAULT: Final = 4096
OUTPUT_TOKENS_MAX: Final = 1 << 20
CONNECTIONS_MAX: Final = 64
"""To a customer's own server, at a time."""

_SHARED_HEADERS: Final = frozenset({"anthropic-version", "anthropic-beta", "openai-beta"})
"""Of an upstream's configured headers, those that say how to speak; others name the operator's account."""
_ANTHROPIC_VERSION: Final = ("anthropic-version", "2023-06-01")
_VIA: Final = ("via", "1.1 tollway")
"""Tells a customer's server that is this very proxy that the request has been here before."""


class Unusable(Exception):
    """A registration cannot be served under the present configuration; the message says why."""


def model_of(registration: Registration, secret: str, generation: Generation) -> Model:
    """The alias as the chain serves it: charged 0, at list what the catalogue knows. Raises Unusable."""
    endpoint = _endpoint(registration, secret, generation)
    known = _listed(registration, generation)
    candidate = Candidate(endpoint.name, registration.model, None, endpoint=endpoint)
    model = Model(
        name=registration.alias,
        candidates=(candidate,),
        rates=FREE,
        context_tokens=CONTEXT_TOKENS,
        output_tokens_default=OUTPUT_TOKENS_DEFAULT,
        output_tokens_max=OUTPUT_TOKENS_MAX,
        operations=frozenset(registration.operations),
        created=registration.created_ms // 1000,
        tags=("byo",),
        byo=True,
    )
    if known is None:
        return model
    entry, served = known
    return replace(
        model,
        candidates=(replace(candidate, cost=entry.list_rates(served)),),
        context_tokens=entry.context_of(served),
        output_tokens_default=entry.output_tokens_default,
        output_tokens_max=served.output_tokens_max or entry.output_tokens_max,
        encoding=served.encoding or entry.encoding,
        image_tokens_max=entry.image_tokens_max if served.image_tokens_max is None else served.image_tokens_max,
        dimensions=entry.dimensions,
    )


def _listed(registration: Registration, generation: Generation) -> tuple[Model, Candidate] | None:
    """The catalogue's entry for this upstream's own model, available or not."""
    if registration.upstream is None:
        return None
    for model in generation.catalogue.values():
        if model.lane or model.panel is not None:
            continue
        for candidate in model.candidates:
            if (candidate.upstream, candidate.upstream_model) == (registration.upstream, registration.model):
                return model, candidate
    return None


def _endpoint(registration: Registration, secret: str, generation: Generation) -> Upstream:
    name = f"{CUSTOMER_PREFIX}{registration.id}"
    if registration.rotated_ms is not None:
        name += f".{registration.rotated_ms}"  # Another key begins with a closed circuit and its own connections.
    if registration.upstream is None:
        return _own(registration, name, secret, generation)
    configured = generation.upstream(registration.upstream)
    if configured is None or registration.upstream not in generation.byo.upstreams:
        raise Unusable(f"The upstream '{registration.upstream}' is no longer offered for keys of your own.")
    if origin_of(configured.base_url) != origin_of(registration.base_url):
        # The customer gave its key to one host; whatever the operator moved there, the key does not follow unasked.
        raise Unusable(f"The upstream '{registration.upstream}' has moved to another host. Register the key again.")
    return replace(
        configured,
        name=name,
        key=secret,
        headers=tuple(header for header in configured.headers if header[0] in _SHARED_HEADERS),
        partner=None,
        probe=None,
    )


def _own(registration: Registration, name: str, secret: str, generation: Generation) -> Upstream:
    rules = generation.byo
    try:
        base_url = parse_base_url(registration.base_url, rules)
    except Invalid as error:
        raise Unusable(f"Its base URL is no longer allowed: {error}") from error
    speaks_messages = MESSAGES.name in registration.operations
    return Upstream(
        name=name,
        base_url=base_url,
        key=secret,
        credential_header=registration.credential_header,
        credential_scheme=CREDENTIALS[registration.credential_header],
        headers=(_VIA, _ANTHROPIC_VERSION) if speaks_messages else (_VIA,),
        connections_max=CONNECTIONS_MAX,
        operations=frozenset(registration.operations),
        public_only=not is_listed(base_url, rules),
    )
