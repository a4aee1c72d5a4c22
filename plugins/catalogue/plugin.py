"""Which call it is and which model it asks for: the body parsed once, the alias resolved to its candidates."""

from __future__ import annotations

import asyncio
from collections.abc import Collection
from typing import ClassVar

from pydantic import Field

from proxy import model_refusals
from proxy.catalogue import BYO_PREFIX, Candidate, Model
from proxy.dialects import DIALECTS
from proxy.dialects.base import Call
from proxy.dialects.openai_embeddings import INPUTS_MAX
from proxy.errors import Refusal
from proxy.exchange import Exchange, Response
from proxy.identities import Identity, IdentityKind
from proxy.operations import EMBEDDINGS, ORCHESTRATE
from proxy.panel_calls import check_panel_asker, check_panel_call
from proxy.panels import model_name
from proxy.plugin import Next, Plugin, PluginSettings, Stage


class CatalogueSettings(PluginSettings):
    """How bodies are read."""

    parse_on_loop_bytes_max: int = Field(
        default=256 << 10, ge=0, description="Bodies larger than this are parsed in a thread, off the event loop."
    )
    model_name_chars_max: int = Field(default=200, ge=1, description="A longer model name is refused.")
    embedding_inputs_max: int = Field(
        default=128,
        ge=1,
        le=INPUTS_MAX,
        description="Inputs of one embeddings request; with the client's own provider key its provider's limit counts.",
    )


class CataloguePlugin(Plugin[CatalogueSettings]):
    """Establishes `call` and `model`. Unknown, unavailable or out-of-tier models end here."""

    name = "catalogue"
    stage = Stage.RESOLVE
    Settings: ClassVar[type[PluginSettings]] = CatalogueSettings
    provides = frozenset({"call", "model"})
    requires = frozenset({"identity"})

    async def __call__(self, exchange: Exchange, call_next: Next) -> Response:
        if exchange.operation.priced:
            exchange.call = call = await self._parse(exchange)
            self._check_inputs(exchange, call)
            name = _panel(exchange, call) if exchange.operation is ORCHESTRATE else _named(exchange, call)
            if name is None:
                raise Refusal("invalid_request", "Say which model: the member 'model' is missing.", param="model")
            if len(name) > self.settings.model_name_chars_max:
                raise Refusal("invalid_request", "The model name is too long.", param="model")
            exchange.model = self._resolve(exchange, name)
            if exchange.model.panel is not None:
                check_panel_call(call)
                check_panel_asker(exchange)
        return await call_next(exchange)

    async def _parse(self, exchange: Exchange) -> Call:
        headers = exchange.request.headers
        content_type = headers.get("content-type", "").partition(";")[0].strip().lower()
        if content_type != "application/json" and not content_type.endswith("+json"):
            raise Refusal(
                "unsupported_media_type",
                "Send the request as JSON: 'Content-Type: application/json'.",
                close=True,
            )
        if headers.get("content-encoding", "identity").strip().lower() not in ("", "identity"):
            raise Refusal("unsupported_media_type", "Send the request body without Content-Encoding.", close=True)
        body = await exchange.request.body(exchange.operation.body_bytes_max)
        dialect = DIALECTS[exchange.operation.dialect or ""]
        if len(body) > self.settings.parse_on_loop_bytes_max:
            return await asyncio.to_thread(dialect.parse, body)
        return dialect.parse(body)

    def _check_inputs(self, exchange: Exchange, call: Call) -> None:
        own = exchange.identity is not None and exchange.identity.provider_credential
        limit = self.settings.embedding_inputs_max
        if exchange.operation is EMBEDDINGS and call.input_parts > limit and not own:
            raise Refusal(
                "invalid_request",
                f"One embeddings request takes at most {limit} inputs, this one has {call.input_parts}. "
                "Send them in several requests.",
                param="input",
            )

    def _resolve(self, exchange: Exchange, name: str) -> Model:
        identity = exchange.identity
        if identity is not None and identity.provider_credential and exchange.captured is not None:
            upstream = exchange.captured.upstream
            listed = _listed(exchange.generation.catalogue, name, upstream)
            return _as_named(name, listed, upstream, exchange.operation.name)
        generation, operation = exchange.generation, exchange.operation.name
        served = generation.models.get(name) or self._own(exchange, name)
        listed = generation.catalogue.get(name) if served is None else served
        if listed is None:
            raise model_refusals.unknown(generation, name)
        if operation not in listed.operations:
            raise Refusal(
                "model_not_available",
                f"The model '{name}' does not serve {operation}. Ask for it by {_paths(listed.operations)}.",
                param="model",
            )
        if identity is None or identity.kind is IdentityKind.ANONYMOUS:
            if not (listed.open and exchange.origin.loopback):
                raise Refusal(
                    "invalid_api_key",
                    f"The model '{name}' needs a Tollway key: the operator makes one with 'tollway keys create'.",
                )
        elif listed.tiers and identity.tier not in listed.tiers and not _any_tier(identity):
            raise model_refusals.not_in_tier(generation, operation, identity.tier, name, listed)
        if served is None:
            tier = "" if identity is None else identity.tier
            raise model_refusals.unavailable(generation, operation, tier, name, listed)
        return served

    def _own(self, exchange: Exchange, name: str) -> Model | None:
        """A customer's own model, behind a key that the team registered. Raises Refusal where it cannot be served."""
        identity = exchange.identity
        if identity is None or identity.kind is not IdentityKind.KEY or not name.startswith(BYO_PREFIX):
            return None
        found: Model | None = self.services.byo.model(identity.team, name)
        return found


def _paths(operations: Collection[str]) -> str:
    """Where these are asked for: each has the name of its path."""
    return " or ".join([f"POST /v1/{name.replace('.', '/')}" for name in sorted(operations)])


def _any_tier(identity: Identity) -> bool:
    """A payer whom the operator gave no tier may call all that has a price."""
    return identity.kind is IdentityKind.PAYER and not identity.tier


def _named(exchange: Exchange, call: Call) -> str | None:
    """The body's model wins, save where the request goes out under the client's own path, which the provider reads."""
    own = exchange.captured is not None and exchange.identity is not None and exchange.identity.provider_credential
    return (exchange.path_model or call.model) if own else (call.model or exchange.path_model)


def _panel(exchange: Exchange, call: Call) -> str:
    """The model of the mode that is asked for. Raises Refusal where there is no such mode."""
    consensus = exchange.generation.consensus
    if consensus is None:
        raise model_refusals.no_panels()
    mode = call.model or consensus.default_mode
    name = model_name(consensus, mode)
    if name not in exchange.generation.models and name not in exchange.generation.catalogue:
        raise model_refusals.unknown_mode(consensus, mode)
    return name


def _listed(catalogue: dict[str, Model], name: str, upstream: str) -> Model | None:
    """The entry that prices a provider's own model: of that name, or an alias for it; never a lane or a panel."""
    named = catalogue.get(name)
    if named is not None and (named.lane or named.panel is not None):
        named = None
    if named is not None and any(candidate.upstream == upstream for candidate in named.candidates):
        return named
    for model in catalogue.values():
        if not model.lane and model.panel is None and _candidate_of(model, name, upstream) is not None:
            return model
    return named


def _candidate_of(model: Model, name: str, upstream: str) -> Candidate | None:
    """The candidate at `upstream` that it knows by `name`."""
    for candidate in model.candidates:
        if candidate.upstream_model == name and candidate.upstream == upstream:
            return candidate
    return None


def _as_named(name: str, known: Model | None, upstream: str, operation: str) -> Model:
    """The provider's own model under the client's own key: the name stays; prices are ours where we know them."""
    if known is None:
        return Model(name, (Candidate(upstream, name),), None, 0, 4096, 1 << 20, frozenset({operation}))
    there = [listed for listed in known.candidates if listed.upstream == upstream]
    listed = _candidate_of(known, name, upstream) or next(iter(there), None)
    candidate = Candidate(upstream, name, None if listed is None else listed.cost)
    return Model(
        name,
        (candidate,),
        known.rates,
        known.context_tokens,
        known.output_tokens_default,
        known.output_tokens_max,
        frozenset({operation}),
        encoding=known.encoding,
        image_tokens_max=known.image_tokens_max,
    )


PLUGIN = CataloguePlugin
