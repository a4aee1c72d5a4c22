"""team_policy: what it lets through, what it refuses before anything is called, what it changes."""

from __future__ import annotations

import json
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest

from plugins.team_policy.plugin import PLUGIN, TeamPolicyPlugin
from proxy.catalogue import Candidate
from proxy.client_addresses import parse
from proxy.config.schema import CapturedHost, Generation
from proxy.dialects import DIALECTS
from proxy.errors import Refusal
from proxy.exchange import Exchange, ListenerKind
from proxy.identities import IdentityKind
from proxy.operations import CHAT, LOCAL, MODELS, PLAIN, UNMETERED, WEBSOCKET, Operation
from proxy.plugin import PluginSettings
from proxy.policy.rules import NO_RULES
from tests.support.fakes import CHAT_BODY, FakeClock, Rest, exchange, identity, model, origin
from tests.support.rules import hours, ruled

NOON_MS = 1_700_049_600_000
"""2023-11-15T12:00:00Z, a Wednesday."""
OPENAI = CapturedHost("api.openai.com", "openai", ("authorization",), (("/v1/chat/completions", CHAT),))


def plugin(under: Generation, clock: FakeClock | None = None) -> TeamPolicyPlugin:
    services: Any = SimpleNamespace(generation=under, clock=clock or FakeClock(NOON_MS))
    return PLUGIN(PluginSettings(), services)


def arriving(under: Generation, *, body: dict[str, Any] | None = None, **changes: Any) -> Exchange:
    """A chat completion as the catalogue leaves it: identity, call and model are known."""
    found = exchange(under=under, body=body, **changes)
    found.identity = identity()
    found.client_address = parse("10.1.2.3")
    if found.operation.priced:
        found.call = DIALECTS["openai.chat"].parse(json.dumps(CHAT_BODY if body is None else body).encode())
        found.model = under.models["gpt-4o"]
    return found


async def refused(under: Generation, seen: Exchange, clock: FakeClock | None = None) -> Refusal:
    """What the plugin refuses with; the rest of the chain was not called."""
    rest = Rest()
    with pytest.raises(Refusal) as raised:
        await plugin(under, clock)(seen, rest)
    assert rest.seen == []
    return raised.value


async def passes(under: Generation, seen: Exchange, clock: FakeClock | None = None) -> Exchange:
    """The exchange as the rest of the chain sees it."""
    rest = Rest()
    await plugin(under, clock)(seen, rest)
    assert rest.seen == [seen]
    return seen


async def test_without_rules_nothing_is_touched() -> None:
    """The very call goes on."""
    under = ruled()
    seen = arriving(under)
    call = seen.call
    assert (await passes(under, seen)).call is call
    assert seen.policy is not None
    assert (seen.policy.scopes, seen.policy.tier) == ((), "standard")


async def test_nobody_in_particular_has_no_rules() -> None:
    """An anonymous caller reaches open models only; a team's rules are about its members."""
    under = ruled(of_team={"models_denied": ("*",)})
    seen = arriving(under)
    seen.identity = identity(kind=IdentityKind.ANONYMOUS, team="anonymous")
    assert (await passes(under, seen)).policy is NO_RULES


async def test_an_exchange_without_identity_gets_no_policy() -> None:
    """So that no priced call is made of it."""
    under = ruled(of_team={"models_denied": ("*",)})
    seen = arriving(under)
    seen.identity = None
    assert (await passes(under, seen)).policy is None


async def test_outside_the_hours_nothing_is_served() -> None:
    """Judged by the clock at each request, however it jumps."""
    under = ruled(of_team={"hours": hours("08:00", "13:00")})
    clock = FakeClock(NOON_MS)
    await passes(under, arriving(under), clock)
    clock.advance(3600)
    assert (await refused(under, arriving(under), clock)).code == "policy_denied"
    clock.advance(-1)
    await passes(under, arriving(under), clock)
    clock.advance(-86_400 * 400 + 1)
    assert (await refused(under, arriving(under), clock)).details == {
        "policy": {"scope": "team", "id": "default", "rule": "hours"}
    }


async def test_an_address_outside_the_ranges_is_refused() -> None:
    """It is the one that ip_limit found; where that is not in the chain, none."""
    under = ruled(key={"ip_ranges": ("10.0.0.0/8",)})
    seen = arriving(under)
    await passes(under, seen)
    for address in (parse("192.0.2.1"), None):
        seen = arriving(under)
        seen.client_address = address
        refusal = await refused(under, seen)
        assert (refusal.status, refusal.details) == (
            403, {"policy": {"scope": "key", "id": "key_000000000001", "rule": "ip_ranges"}},
        )  # fmt: skip


@pytest.mark.parametrize("operation", [MODELS, LOCAL, UNMETERED, WEBSOCKET])
async def test_hours_addresses_and_paths_hold_for_every_endpoint(operation: Operation) -> None:
    """Ours, and a provider's other paths."""
    for rules in ({"hours": hours("00:00", "00:01")}, {"ip_ranges": ("192.0.2.0/24",)}, {"paths_denied": ("/v1/*",)}):
        under = ruled(of_team=rules)
        seen = arriving(under, operation=operation, path="/v1/models")
        assert (await refused(under, seen)).code == "policy_denied"


async def test_plain_http_to_other_hosts_has_no_paths_of_ours() -> None:
    """As tunnels have none; hours and addresses hold for it."""
    under = ruled(of_team={"paths_allowed": ("/v1/chat/completions",)})
    await passes(under, arriving(under, operation=PLAIN, path="/anything"))
    under = ruled(of_team={"ip_ranges": ("192.0.2.0/24",)})
    await refused(under, arriving(under, operation=PLAIN, path="/anything"))


async def test_a_denied_operation_is_denied_with_the_model_in_its_path() -> None:
    """As the operation table took it apart."""
    under = ruled(of_team={"paths_denied": ("/v1/chat/completions",)})
    seen = arriving(under, path="/v1/chat/completions/gpt-4o")
    seen.path_model = "gpt-4o"
    assert (await refused(under, seen)).details == {
        "policy": {"scope": "team", "id": "default", "rule": "paths.deny /v1/chat/completions"}
    }


async def test_an_odd_spelling_of_an_unmetered_path_is_no_way_round() -> None:
    """A provider might decode it."""
    under = ruled(of_team={"paths_denied": ("/v1/files",)})
    seen = arriving(under, operation=UNMETERED, path="/v1/%66iles", captured=OPENAI)
    assert (await refused(under, seen)).code == "policy_denied"


async def test_a_denied_model_is_refused_whoever_pays() -> None:
    """With the operator's key and with the client's own on captured traffic."""
    under = ruled(organisation={"models_denied": ("gpt-4o",)})
    assert (await refused(under, arriving(under))).code == "model_not_allowed"
    seen = arriving(under, captured=OPENAI, at=origin(kind=ListenerKind.REGULAR, captured_host="api.openai.com"))
    seen.identity = identity(kind=IdentityKind.OWN_KEY, key_id="own", provider_credential=True)
    assert (await refused(under, seen)).code == "model_not_allowed"


@pytest.mark.parametrize("name", ["gpt-4o-upstream", "GPT-4o-Upstream"])
async def test_a_providers_own_name_for_a_model_is_no_way_round(name: str) -> None:
    """The catalogue knows what the provider calls it, and some providers ignore case."""
    under = ruled(organisation={"models_denied": ("gpt-4o",)})
    seen = arriving(under, captured=OPENAI)
    seen.identity = identity(provider_credential=True)
    seen.model = model(name, candidates=(Candidate("openai", name),))
    assert (await refused(under, seen)).details == {
        "policy": {"scope": "organisation", "id": "acme", "rule": "models.deny gpt-4o"}
    }
    elsewhere = arriving(under, captured=replace(OPENAI, upstream="groq"))
    elsewhere.identity = identity(provider_credential=True)
    elsewhere.model = seen.model
    await passes(under, elsewhere)


async def test_after_a_reload_the_new_catalogue_and_the_new_rules_count() -> None:
    """Each exchange is judged under its own configuration."""
    old = ruled(organisation={"models_denied": ("gpt-4o",)})
    new = ruled(organisation={"models_denied": ("mini",)}, models={"gpt-4o": model(), "mini": model("mini")})
    link, rest = plugin(old), Rest()
    for name, under, served in (
        ("gpt-4o-upstream", old, False),
        ("mini-upstream", old, True),
        ("mini-upstream", new, False),
        ("gpt-4o-upstream", new, True),
    ):
        seen = arriving(under, captured=OPENAI)
        seen.identity = identity(provider_credential=True)
        seen.model = model(name)
        rest.seen.clear()
        if served:
            await link(seen, rest)
        else:
            with pytest.raises(Refusal):
                await link(seen, rest)
        assert bool(rest.seen) is served


async def test_the_call_that_goes_on_is_the_amended_one() -> None:
    """Forced members, the ceiling and the prefix, the rest as it was."""
    under = ruled(
        organisation={"parameters": {"temperature": 0.0}, "system_prefix": "A"},
        of_team={"output_tokens_max": 50, "system_prefix": "B"},
    )
    body = {"model": "gpt-4o", "messages": [{"role": "user", "content": "hi"}], "max_tokens": 900, "user": "x"}
    seen = await passes(under, arriving(under, body=body))
    assert seen.call is not None
    assert json.loads(seen.call.body) == {
        **body,
        "temperature": 0.0,
        "max_tokens": 50,
        "messages": [{"role": "system", "content": "A\n\nB"}, *body["messages"]],
    }
    assert (seen.call.output_tokens_max, seen.call.input_parts) == (50, 2)


async def test_the_default_of_the_model_is_lowered_too() -> None:
    """Where the client set no limit; below the ceiling it stays."""
    low, high = ruled(of_team={"output_tokens_max": 50}), ruled(of_team={"output_tokens_max": 5000})
    lowered, kept = await passes(low, arriving(low)), await passes(high, arriving(high))
    assert lowered.call is not None and kept.call is not None
    assert (lowered.call.output_tokens_max, kept.call.output_tokens_max) == (50, None)


async def test_on_the_clients_own_account_the_ceiling_is_set_as_its_provider_knows_it() -> None:
    """Nobody else would limit such a call."""
    under = ruled(of_team={"output_tokens_max": 5000})
    openai = replace(under.upstreams["openai"], output_field="max_tokens")
    under = replace(under, upstreams={"openai": openai})
    seen = arriving(under, captured=OPENAI)
    seen.identity = identity(provider_credential=True)
    await passes(under, seen)
    assert seen.call is not None
    assert json.loads(seen.call.body)["max_tokens"] == 5000


async def test_a_large_body_is_amended_as_a_small_one() -> None:
    """In a thread."""
    under = ruled(of_team={"parameters": {"temperature": 0.5}})
    body = {"model": "gpt-4o", "messages": [{"role": "user", "content": "a" * 300_000}]}
    seen = await passes(under, arriving(under, body=body))
    assert seen.call is not None
    assert seen.call.body.startswith(b'{"temperature":0.5,')
    assert json.loads(seen.call.body)["messages"] == body["messages"]


@pytest.mark.parametrize("name", ["models/gpt-4o", "Models/GPT-4o", "gpt-4o:floor", "gpt-4o-upstream:nitro", "GPT-4o"])
async def test_a_denied_model_is_denied_in_every_spelling_that_a_provider_takes(name: str) -> None:
    """Resource names, variants and case; no list of allowed ones is any wider for it."""
    under = ruled(organisation={"models_denied": ("gpt-4o",)})
    seen = arriving(under, captured=OPENAI)
    seen.identity = identity(provider_credential=True)
    seen.model = model(name)
    assert (await refused(under, seen)).code == "model_not_allowed"
    under = ruled(organisation={"models_allowed": ("gpt-4o",)})
    seen = arriving(under, captured=OPENAI)
    seen.identity = identity(provider_credential=True)
    seen.model = model(f"{name}-2:free")
    assert (await refused(under, seen)).code == "model_not_allowed"


async def test_a_variant_that_the_catalogue_knows_is_a_model_of_its_own() -> None:
    """llama3 denied, llama3:70b not."""
    models = {name: model(name, candidates=(Candidate("openai", name),)) for name in ("llama3", "llama3:70b")}
    under = ruled(organisation={"models_denied": ("llama3",)}, models={"gpt-4o": model(), **models})
    for name, served in (("llama3:70b", True), ("llama3:8b", False)):
        seen = arriving(under, captured=OPENAI)
        seen.identity = identity(provider_credential=True)
        seen.model = model(name)
        assert ((await passes(under, seen)) is seen) if served else await refused(under, seen)


@pytest.mark.parametrize("served", ["gpt-4o", "gpt-4o-upstream", "GPT-4O", "models/gpt-4o"])
async def test_an_alias_of_a_customers_own_is_no_way_round(served: str) -> None:
    """Whatever it is called, what it stands for is denied; a list of allowed models means the alias."""
    own = model("byo-x", candidates=(Candidate("byo:1", served),), byo=True)
    for denied in (("gpt-4o",), ("gpt-4*",), ("byo-*",)):
        under = ruled(organisation={"models_denied": denied})
        seen = arriving(under)
        seen.model = own
        assert (await refused(under, seen)).code == "model_not_allowed"
    for allowed, is_served in ((("gpt-4o",), False), (("byo-x",), True)):
        under = ruled(organisation={"models_allowed": allowed})
        seen = arriving(under)
        seen.model = own
        assert ((await passes(under, seen)) is seen) if is_served else await refused(under, seen)


UNREAD: list[dict[str, Any]] = [
    {"models_allowed": ("gpt-4o",)},
    {"models_denied": ("gpt-4o",)},
    {"output_tokens_max": 50},
    {"parameters": {"temperature": 0.0}},
    {"system_prefix": "Be brief."},
]


@pytest.mark.parametrize("rules", UNREAD, ids=lambda rules: next(iter(rules)))
async def test_what_is_not_read_is_closed_to_rules_about_what_is_said(rules: dict[str, Any]) -> None:
    """The same model is there under /v1/completions, batches and websockets. Looking things up is no call."""
    under = ruled(of_team=rules)
    for operation, method in ((UNMETERED, "POST"), (UNMETERED, "PATCH"), (WEBSOCKET, "GET")):
        seen = arriving(under, operation=operation, path="/v1/completions", method=method, captured=OPENAI)
        assert (await refused(under, seen)).code == "policy_denied"
    await passes(under, arriving(under, operation=UNMETERED, path="/v1/files", method="GET", captured=OPENAI))


async def test_an_operator_can_open_unread_paths_by_name() -> None:
    """Whoever lists the paths that are allowed has decided about this one."""
    under = ruled(organisation={"models_denied": ("gpt-4o",)}, of_team={"paths_allowed": ("/v1/files",)})
    for path, served in (("/v1/files", True), ("/v1/completions", False)):
        seen = arriving(under, operation=UNMETERED, path=path, captured=OPENAI)
        assert ((await passes(under, seen)) is seen) if served else await refused(under, seen)
