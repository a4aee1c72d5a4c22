"""Which call and which model."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest

from plugins.catalogue.plugin import CataloguePlugin, CatalogueSettings
from proxy.catalogue import Candidate, Model
from proxy.config.schema import CapturedHost
from proxy.errors import Refusal
from proxy.exchange import Exchange, ListenerKind
from proxy.identities import Identity, IdentityKind
from proxy.operation_table import OperationTable
from proxy.operations import EMBEDDINGS, MODELS, ORCHESTRATE
from proxy.pricing.rates import Rates
from tests.support.fakes import CHAT_BODY, Rest, exchange, generation, identity, model, origin
from tests.support.runs import consensus, mode, panel

ANONYMOUS = Identity(IdentityKind.ANONYMOUS, "anonymous", "anonymous", "anonymous", "anonymous", "anonymous")


def plugin(**settings: Any) -> CataloguePlugin:
    return CataloguePlugin(CatalogueSettings(**settings), SimpleNamespace())  # type: ignore[arg-type]


def known(**fields: Any) -> Exchange:
    """An exchange whose caller is known."""
    who = fields.pop("who", identity())
    seen = exchange(**fields)
    seen.identity = who
    return seen


async def refusal_of(seen: Exchange) -> Refusal:
    rest = Rest()
    with pytest.raises(Refusal) as refused:
        await plugin()(seen, rest)
    assert rest.seen == []
    return refused.value


async def test_alias_is_resolved_and_body_parsed_once() -> None:
    """The exchange leaves with the call and the model."""
    seen = known()
    await plugin()(seen, Rest())
    assert seen.call is not None
    assert (seen.call.model, seen.model) == ("gpt-4o", seen.generation.models["gpt-4o"])


async def test_large_body_is_parsed_off_the_loop_with_the_same_result() -> None:
    """A limit of 0 sends every body to a thread."""
    seen = known()
    await plugin(parse_on_loop_bytes_max=0)(seen, Rest())
    assert seen.model is not None


async def test_body_wins_over_path_and_path_serves_where_the_body_names_none() -> None:
    """If both name a model, the body's is taken."""
    both = known(body={**CHAT_BODY, "model": "gpt-4o"})
    both.path_model = "no-such"
    await plugin()(both, Rest())
    assert both.model is not None and both.model.name == "gpt-4o"
    path_only = known(body={"messages": CHAT_BODY["messages"]})
    path_only.path_model = "gpt-4o"
    await plugin()(path_only, Rest())
    assert path_only.model is not None and path_only.model.name == "gpt-4o"


async def test_missing_model_is_400_naming_the_member() -> None:
    """Neither body nor path names one."""
    refused = await refusal_of(known(body={"messages": CHAT_BODY["messages"]}))
    assert (refused.status, refused.param) == (400, "model")


async def test_unknown_model_is_404_with_the_near_miss() -> None:
    """model_not_available, and a suggestion."""
    refused = await refusal_of(known(body={**CHAT_BODY, "model": "gpt-4oo"}))
    assert (refused.status, refused.code) == (404, "model_not_available")
    assert "Did you mean 'gpt-4o'?" in refused.message


async def test_unavailable_model_says_what_is_missing_to_the_operator_alone() -> None:
    """The reason names a variable of the environment: it stands in the answer on loopback and nowhere else."""
    under = generation(unavailable_models={"claude": "set ANTHROPIC_API_KEY"})
    under = replace(under, catalogue={**under.catalogue, "claude": model("claude")})
    refused = await refusal_of(known(body={**CHAT_BODY, "model": "claude"}, under=under))
    assert refused.code == "model_not_available"
    assert b"ANTHROPIC_API_KEY" in refused.envelope(for_operator=True)
    assert b"ANTHROPIC_API_KEY" not in refused.envelope()


async def test_consortium_without_a_configured_partner_is_503_naming_what_the_caller_can_call() -> None:
    """Its sibling and a lane, neither out of the caller's tier; out of its own tier it stays a 403."""
    candidates = (Candidate("partner", "llama-3.3-70b", partner="partner"),)
    alias = replace(model("consortium-llama-70b"), candidates=candidates, consortium=True)
    paid = frozenset({"pro"})
    models = {
        "best": model("best", lane=True, tiers=paid),
        "vectors": model("vectors", lane=True, operations=frozenset({"embeddings"})),
        "nvidia/llama-3.3-70b": model("nvidia/llama-3.3-70b"),
        "smart-route": model("smart-route", lane=True),
    }
    under = generation(models=models, unavailable_models={alias.name: "set PARTNER_KEY", "costly": "set PARTNER_KEY"})
    under = replace(under, catalogue={**models, alias.name: alias, "costly": replace(alias, tiers=paid)})
    refused = await refusal_of(known(body={**CHAT_BODY, "model": alias.name}, under=under))
    assert (refused.status, refused.code) == (503, "no_consortium_machine_available")
    assert refused.message.endswith("Retry with 'nvidia/llama-3.3-70b' or 'smart-route'.")
    assert refused.retry_after_seconds is None
    assert b"PARTNER_KEY" in refused.envelope(for_operator=True) and b"PARTNER_KEY" not in refused.envelope()
    refused = await refusal_of(known(body={**CHAT_BODY, "model": "costly"}, under=under))
    assert refused.code == "model_not_in_tier"


async def test_overlong_model_name_is_refused_before_any_lookup() -> None:
    """A named limit, so that error texts stay small."""
    refused = await refusal_of(known(body={**CHAT_BODY, "model": "m" * 201}))
    assert refused.status == 400


@pytest.mark.parametrize("content_type", ["text/plain", "", "application/x-www-form-urlencoded", "application/jsonx"])
async def test_wrong_content_type_is_415(content_type: str) -> None:
    """A JSON route wants JSON."""
    refused = await refusal_of(known(headers={"content-type": content_type}))
    assert (refused.status, refused.code) == (415, "unsupported_media_type")


async def test_json_with_charset_is_accepted() -> None:
    """Parameters of the content type do not matter."""
    seen = known(headers={"content-type": "Application/JSON; charset=utf-8"})
    await plugin()(seen, Rest())
    assert seen.model is not None


async def test_compressed_body_is_415_unread() -> None:
    """A compressed body is not decoded, so it cannot be a bomb."""
    seen = known(headers={"content-encoding": "gzip"})
    refused = await refusal_of(seen)
    assert refused.status == 415
    assert seen.request._reader.reads == 0  # type: ignore[attr-defined]


async def test_out_of_tier_is_403_and_in_tier_passes() -> None:
    """Tiers of a model are a list of who may."""
    under = generation(models={"gpt-4o": model(tiers=frozenset({"pro"}))})
    refused = await refusal_of(known(under=under))
    assert (refused.status, refused.code) == (403, "model_not_in_tier")
    seen = known(under=under, who=identity(tier="pro"))
    await plugin()(seen, Rest())
    assert seen.model is not None


async def test_out_of_tier_names_the_tiers_and_a_lane_that_the_caller_can_call() -> None:
    """As the public documents say it, word for word."""
    paid = frozenset({"pro", "founder", "charter"})
    models = {
        "qwen-coder": model("nvidia/qwen3-coder-480b", tiers=paid),
        "smart-route-coder": model("smart-route-coder", tiers=paid, lane=True),
        "llama-70b": model("llama-3.3-70b"),
        "smart-route": model("smart-route", lane=True),
    }
    under = replace(generation(models=models), tiers=("free-trial", "starter", "pro", "founder", "charter"))
    seen = known(under=under, who=identity(tier="starter"), body={**CHAT_BODY, "model": "qwen-coder"})
    refused = await refusal_of(seen)
    assert refused.message == ("Your tier (starter) cannot call 'qwen-coder'. Upgrade to pro+ or use smart-route.")
    del models["smart-route"]
    under = replace(under, models=models, tiers=("pro", "founder", "charter", "starter"))
    seen = known(under=under, who=identity(tier="starter"), body={**CHAT_BODY, "model": "qwen-coder"})
    refused = await refusal_of(seen)
    assert refused.message.endswith("Upgrade to pro or founder or charter or use llama-3.3-70b.")


@pytest.mark.parametrize("name", ["llama-3.3-70b", "nvidia/llama-3.3-70b"])
async def test_short_names_and_vendor_names_work_in_body_and_path(name: str) -> None:
    """The path may hold exactly a catalogued name, slash and all."""
    under = generation(
        models={"llama-3.3-70b": model("llama-3.3-70b"), "nvidia/llama-3.3-70b": model("nvidia/llama-3.3-70b")}
    )
    in_body = known(under=under, body={**CHAT_BODY, "model": name})
    await plugin()(in_body, Rest())
    assert in_body.model is under.models[name]
    path = f"/v1/chat/completions/{name}"
    resolution = OperationTable().resolve("POST", path, None, ListenerKind.REVERSE)
    in_path = known(under=under, body={"messages": CHAT_BODY["messages"]}, path=path)
    in_path.path_model = resolution.model
    await plugin()(in_path, Rest())
    assert in_path.model is under.models[name]


@pytest.mark.parametrize(
    "end", ["nvidia%2Fllama-3.3-70b", "nvidia%2fllama-3.3-70b", "nvidia/", "nvidia//llama-3.3-70b"]
)
def test_an_encoded_slash_in_the_path_is_refused(end: str) -> None:
    """Two readers may take it for different models; so is what only normalises to a name."""
    with pytest.raises(Refusal) as refused:
        OperationTable().resolve("POST", f"/v1/chat/completions/{end}", None, ListenerKind.REVERSE)
    assert refused.value.code == "invalid_path"


async def test_longer_path_than_a_catalogued_name_is_no_model() -> None:
    """No prefix of it is taken for one."""
    under = generation(models={"nvidia/llama-3.3-70b": model("nvidia/llama-3.3-70b")})
    seen = known(under=under, body={"messages": CHAT_BODY["messages"]})
    seen.path_model = "nvidia/llama-3.3-70b/x"
    assert (await refusal_of(seen)).code == "model_not_available"


class Registered:
    """Customers' models of one team."""

    def __init__(self, own: Model) -> None:
        self.own = own
        self.asked: list[tuple[str, str]] = []

    def model(self, team: str, name: str) -> Model | None:
        self.asked.append((team, name))
        return self.own if (team, name) == ("default", self.own.name) else None


async def test_names_of_customers_own_models_are_looked_up_in_their_team() -> None:
    """byo-* alone, and for holders of a key alone."""
    own = model("byo-openai-gpt-4o", byo=True)
    services = SimpleNamespace(byo=Registered(own))
    link = CataloguePlugin(CatalogueSettings(), services)  # type: ignore[arg-type]
    body = {**CHAT_BODY, "model": own.name}
    seen = known(body=body)
    await link(seen, Rest())
    assert seen.model is own
    for who in (identity(team="other"), ANONYMOUS):
        with pytest.raises(Refusal) as refused:
            await link(known(body=body, who=who), Rest())
        assert refused.value.code == "model_not_available"
    await link(known(), Rest())
    assert services.byo.asked == [("default", own.name), ("other", own.name)]


async def test_a_suggestion_looks_at_names_that_begin_alike() -> None:
    """And at a hundred of them at most, so that a slip costs a thousand models nothing."""
    models = {f"other-{number}": model(f"other-{number}") for number in range(1000)} | {"gpt-4o": model()}
    refused = await refusal_of(known(body={**CHAT_BODY, "model": "gpt-4oo"}, under=generation(models=models)))
    assert "Did you mean 'gpt-4o'?" in refused.message


async def test_anonymous_reaches_open_models_on_loopback_only() -> None:
    """`demo` without a key, and nothing else, and nowhere else."""
    under = generation(models={"gpt-4o": model(), "demo": model("demo", open=True)})
    seen = known(under=under, who=ANONYMOUS, body={**CHAT_BODY, "model": "demo"})
    await plugin()(seen, Rest())
    assert seen.model is not None
    closed = await refusal_of(known(under=under, who=ANONYMOUS))
    away = await refusal_of(
        known(under=under, who=ANONYMOUS, body={**CHAT_BODY, "model": "demo"}, at=origin(loopback=False))
    )
    assert (closed.code, away.code) == ("invalid_api_key", "invalid_api_key")


async def test_model_of_another_operation_is_not_available() -> None:
    """An embedding model answers no chat."""
    under = generation(models={"gpt-4o": model(operations=frozenset({"embeddings"}))})
    refused = await refusal_of(known(under=under))
    assert refused.code == "model_not_available"


async def test_own_provider_key_keeps_the_models_name_and_provider() -> None:
    """Bring your own: any model of that provider, priced where the catalogue knows it."""
    captured = CapturedHost("api.openai.com", "openai", ("authorization",), ())
    at = origin(listener="capture", kind=ListenerKind.REGULAR, captured_host="api.openai.com")
    own = identity(provider_credential=True)
    listed = known(at=at, captured=captured, who=own)
    await plugin()(listed, Rest())
    assert listed.model is not None
    assert (listed.model.candidates[0].upstream_model, listed.model.rates is None) == ("gpt-4o", False)
    unlisted = known(at=at, captured=captured, who=own, body={**CHAT_BODY, "model": "gpt-next"})
    await plugin()(unlisted, Rest())
    assert unlisted.model is not None
    assert (unlisted.model.candidates[0].upstream_model, unlisted.model.rates) == ("gpt-next", None)


async def test_own_provider_key_is_priced_by_the_alias_that_stands_for_the_model() -> None:
    """The client names what the provider knows, the catalogue what our callers know; another provider's is no match."""
    captured = CapturedHost("api.openai.com", "openai", ("authorization",), ())
    at = origin(listener="capture", kind=ListenerKind.REGULAR, captured_host="api.openai.com")
    under = generation(models={"theirs": model(upstreams=("other",), rates=None), "mine": model()})
    name, own = under.models["mine"].candidates[0].upstream_model, identity(provider_credential=True)
    body = {**CHAT_BODY, "model": name}
    seen = known(at=at, captured=captured, who=own, body=body, under=under)
    await plugin()(seen, Rest())
    assert seen.model is not None
    assert (seen.model.name, seen.model.rates) == (name, under.models["mine"].rates)
    elsewhere = CapturedHost("api.third.com", "third", ("authorization",), ())
    other = known(at=at, captured=elsewhere, who=own, body=body, under=under)
    await plugin()(other, Rest())
    assert other.model is not None and other.model.rates is None


async def test_own_provider_key_is_priced_by_what_is_called_not_by_a_lane_over_it() -> None:
    """A lane has a price of its own, and of two candidates at one provider each has its cost."""
    captured = CapturedHost("api.openai.com", "openai", ("authorization",), ())
    at = origin(listener="capture", kind=ListenerKind.REGULAR, captured_host="api.openai.com")
    small, large = Candidate("openai", "gpt-s", Rates(1, 2)), Candidate("openai", "gpt-l", Rates(30, 40))
    models = {
        "route": model("route", lane=True, candidates=(large, small)),
        "both": model("both", candidates=(small, large)),
    }
    under = generation(models=models)
    for name, cost in (("gpt-s", Rates(1, 2)), ("gpt-l", Rates(30, 40))):
        who, body = identity(provider_credential=True), {**CHAT_BODY, "model": name}
        seen = known(at=at, captured=captured, who=who, body=body, under=under)
        await plugin()(seen, Rest())
        assert seen.model is not None and seen.model.list_rates(seen.model.candidates[0]) == cost
    who = identity(provider_credential=True)
    lane = known(at=at, captured=captured, who=who, body={**CHAT_BODY, "model": "route"}, under=under)
    await plugin()(lane, Rest())
    assert lane.model is not None and lane.model.rates is None


async def test_unpriced_operations_pass_unread() -> None:
    """GET /v1/models has no body to parse."""
    seen, rest = known(operation=MODELS), Rest()
    await plugin()(seen, rest)
    assert (seen.call, len(rest.seen)) == (None, 1)


async def test_under_the_clients_own_path_the_path_names_the_model() -> None:
    """The provider serves what its path says: a cheaper name in the body must not lower what a cap counts."""
    azure = CapturedHost("*.openai.azure.com", "azure", ("api-key",), ())
    at = origin(listener="capture", kind=ListenerKind.REGULAR, captured_host="x.openai.azure.com", captured_port=443)
    seen = known(at=at, captured=azure, who=identity(provider_credential=True))
    seen.path_model = "dear"
    await plugin()(seen, Rest())
    assert seen.model is not None and seen.model.name == "dear"
    swapped = known(at=at, captured=azure)
    swapped.path_model = "dear"
    await plugin()(swapped, Rest())
    assert swapped.model is swapped.generation.models["gpt-4o"]


@pytest.mark.parametrize("inputs", [["x"] * 128, [[1, 2]] * 128, "x", list(range(5000))])
async def test_128_inputs_are_embedded_at_once(inputs: Any) -> None:
    """Texts or lists of token ids; one list of ids is one input, however long."""
    seen = known(operation=EMBEDDINGS, body={"model": "gpt-4o", "input": inputs})
    await plugin()(seen, Rest())
    assert seen.model is not None


@pytest.mark.parametrize("inputs", [["x"] * 129, [[1, 2]] * 129])
async def test_the_129th_input_is_refused_with_what_to_do(inputs: Any) -> None:
    """400 naming the member. The client's own provider key has its provider's limit."""
    body = {"model": "gpt-4o", "input": inputs}
    refused = await refusal_of(known(operation=EMBEDDINGS, body=body))
    assert (refused.status, refused.param) == (400, "input")
    assert "at most 128 inputs" in refused.message and "several requests" in refused.message
    own = known(operation=EMBEDDINGS, body=body)
    own.identity = identity(provider_credential=True)
    await plugin()(own, Rest())
    assert own.model is not None


async def test_streamed_embeddings_are_refused() -> None:
    """There is nothing to stream."""
    refused = await refusal_of(known(operation=EMBEDDINGS, body={"model": "gpt-4o", "input": "x", "stream": True}))
    assert (refused.status, refused.param) == (400, "stream")


# -- panels

PROMPT = {"prompt": "Why?"}


def orchestrated(body: dict[str, Any], *, modes: tuple[str, ...] = ("fast", "balanced"), **settings: Any) -> Exchange:
    """An exchange of /v1/orchestrate where these modes are served."""
    made = [mode(name) for name in modes]
    under = replace(
        generation(models={f"consensus-{one.name}": panel(one) for one in made}), consensus=consensus(*made, **settings)
    )
    return known(operation=ORCHESTRATE, body=body, under=under, path="/v1/orchestrate")


@pytest.mark.parametrize(
    ("asked", "found"), [({}, "balanced"), ({"mode": "fast"}, "fast"), ({"mode": None}, "balanced")]
)
async def test_a_mode_is_a_model_of_the_catalogue(asked: dict[str, Any], found: str) -> None:
    """The operator's default where none is asked for."""
    seen = orchestrated({**PROMPT, **asked})
    await plugin()(seen, Rest())
    assert seen.model is seen.generation.models[f"consensus-{found}"]


async def test_an_unknown_mode_is_404_with_those_there_are() -> None:
    """`auto` among them where it is configured."""
    refused = await refusal_of(orchestrated({**PROMPT, "mode": "deep"}))
    assert (refused.status, refused.param) == (404, "mode")
    assert refused.message.endswith("Modes here are fast, balanced.")
    refused = await refusal_of(orchestrated({**PROMPT, "mode": "deep"}, auto=("fast", "balanced")))
    assert refused.message.endswith("Modes here are fast, balanced, auto.")


async def test_without_panels_an_orchestration_is_404() -> None:
    """How to have some is told to the operator alone."""
    refused = await refusal_of(known(operation=ORCHESTRATE, body=PROMPT))
    assert (refused.status, refused.code) == (404, "model_not_available")
    assert "consensus.yaml" in refused.operator_note
    assert "consensus.yaml" not in refused.message


async def test_a_panel_is_not_asked_what_it_cannot_answer() -> None:
    """Refused before there is a price; a single model is."""
    under = generation(models={"consensus-balanced": panel(), "gpt-4o": model()})
    body = {"messages": CHAT_BODY["messages"], "n": 2}
    refused = await refusal_of(known(body={**body, "model": "consensus-balanced"}, under=under))
    assert (refused.status, refused.param) == (400, "n")
    await plugin()(known(body={**body, "model": "gpt-4o"}, under=under), Rest())
