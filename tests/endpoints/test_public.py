"""The list of models, as each caller sees it."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

from proxy.config.schema import Generation
from proxy.endpoints import bridge
from proxy.endpoints.public import application, router
from proxy.exchange import Exchange
from proxy.identities import IdentityKind
from proxy.operations import MODELS
from proxy.policy.rules import Policy, Rules, ScopedRules
from tests.support.fakes import exchange, generation, identity, model
from tests.support.panels import panel_model

UNDER = replace(
    generation(
        models={
            "llama-70b": model("llama-70b", created=1747353600, tags=("chat", "fast"), display_name="Llama 3.3 70B"),
            "codestral": model("codestral", tiers=frozenset({"pro"})),
            "bge-m3": model("bge-m3", operations=frozenset({"embeddings"}), dimensions=1024),
        }
    ),
    owner="llmdeal",
)


async def asked(path: str = "/v1/models", under: Generation = UNDER, **facts: Any) -> tuple[int, Any]:
    """Status and document."""
    seen: Exchange = exchange(operation=MODELS, path=path, body=b"", under=under)
    seen.request.method = "GET"
    seen.identity = identity(tier="starter")
    for fact, value in facts.items():
        setattr(seen, fact, value)
    answer = await bridge.call(application("test", [router(lambda: True)]), seen)
    return answer.status, json.loads(answer.body)


async def test_entry_has_the_public_apis_members_and_our_owner() -> None:
    """`owned_by` never names a provider."""
    status, entry = await asked("/v1/models/llama-70b")
    assert status == 200
    assert entry == {
        "id": "llama-70b",
        "object": "model",
        "created": 1747353600,
        "owned_by": "llmdeal",
        "context_window": 128_000,
        "tags": ["chat", "fast"],
        "display_name": "Llama 3.3 70B",
    }


async def test_embeddings_tell_the_length_of_their_vectors() -> None:
    """Chat models have no such member; without a name for people the id is one."""
    _, entry = await asked("/v1/models/bge-m3")
    assert (entry["dimensions"], entry["display_name"]) == (1024, "bge-m3")


async def test_a_key_sees_what_its_tier_and_rules_let_it_call() -> None:
    """What is kept from it is not even there by name."""
    _, listed = await asked()
    assert [one["id"] for one in listed["data"]] == ["llama-70b", "bge-m3"]
    denied = Policy((ScopedRules("team", "default", Rules(models_denied=("bge-*",))),), restricts_models=True)
    _, listed = await asked(policy=denied)
    assert [one["id"] for one in listed["data"]] == ["llama-70b"]
    status, error = await asked("/v1/models/codestral")
    assert (status, error["error"]["code"]) == (404, "model_not_available")


async def test_the_public_catalogue_needs_no_key() -> None:
    """Everything is listed to nobody in particular."""
    _, listed = await asked(identity=identity(kind=IdentityKind.ANONYMOUS, tier="anonymous"))
    assert [one["id"] for one in listed["data"]] == ["llama-70b", "codestral", "bge-m3"]


async def test_a_panel_tells_what_a_run_costs_and_who_answers() -> None:
    """No other model has these members."""
    _, entry = await asked("/v1/models/consensus-fast", generation(models={"consensus-fast": panel_model()}))
    assert entry["price_per_run"] == {"usd": 0.05, "credits": 1, "input_tokens_max": 500}
    assert entry["members"] == ["a", "b", "c"]
    assert (entry["context_window"], entry["tags"]) == (900, ["consensus"])
