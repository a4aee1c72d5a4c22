"""Team policy through a whole proxy: what an SDK is refused, and what really reaches the provider."""

from __future__ import annotations

import json
import ssl
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from datetime import UTC, datetime
from typing import Any

import anthropic
import httpx
import openai
import pytest

from proxy.clock import SystemClock
from proxy.keys import KeyStore
from proxy.ledger.schema import DATABASE_NAME
from tests.peers.provider import OPENAI_KEY
from tests.support.world import CHAIN, World, world

DAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
ANOTHER_DAY = DAYS[(datetime.now(UTC).weekday() + 3) % 7]
"""Neither today nor, should midnight come, tomorrow."""
Client = Callable[..., openai.OpenAI]
TEAM = {"organisation": "acme", "tier": "standard"}
TEAMS: dict[str, Any] = {
    "organisations": {"acme": {"models": {"deny": ["fallback"]}, "parameters": {"temperature": 0.2}}},
    "teams": {
        "default": {
            **TEAM,
            "max_tokens": 40,
            "system_prefix": "You work for Acme.",
            "parameters": {"temperature": 1.5, "user": "acme"},
            "models": {"allow": ["*"]},
            "users": {"ann": {"models": {"allow": ["claude-*"]}, "tier": "pro"}},
        },
        "closed": {**TEAM, "hours": [{"days": [ANOTHER_DAY]}]},
        "open": {**TEAM, "hours": [{"days": ["mon-sun"], "time_zone": "Asia/Kathmandu"}]},
        "office": {**TEAM, "ip_ranges": ["10.0.0.0/8"], "paths": {"deny": ["/v1/embeddings", "/v1/files*"]}},
    },
}


@pytest.fixture(scope="module")
def ruled(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """A proxy behind a front on loopback that it believes about addresses."""
    chain = [{"ip_limit": {"trusted_proxies": ["127.0.0.1"]}} if link == "ip_limit" else link for link in CHAIN]
    with world(
        tmp_path_factory.mktemp("ruled"),
        config={"chain": chain},
        policies={"teams": TEAMS},
        listeners={"capture": {"default_team": "default"}},
    ) as running:
        yield running
        running.gateway.cli("ledger", "audit")


@pytest.fixture(scope="module")
def keys(ruled: World) -> dict[str, str]:
    """Keys by team, and ann's."""
    store = KeyStore(ruled.gateway.folder / "var" / DATABASE_NAME, SystemClock())
    holders = {**{team: (team, "tester") for team in TEAMS["teams"]}, "ann": ("default", "ann")}
    made = {name: store.create(user=user, team=team, organisation="acme")[0] for name, (team, user) in holders.items()}
    store.close()
    return made


@pytest.fixture(autouse=True)
def forgetful(ruled: World) -> Iterator[None]:
    """The provider remembers one test."""
    yield
    ruled.provider.reset()


@pytest.fixture
def client(ruled: World) -> Iterator[Client]:
    """OpenAI's SDK with a key, and closed afterwards."""
    with ExitStack() as stack:

        def make(key: str, **headers: str) -> openai.OpenAI:
            one = openai.OpenAI(base_url=ruled.base_url, api_key=key, max_retries=0, default_headers=headers)
            return stack.enter_context(one)

        yield make


def ask(one: openai.OpenAI, model: str = "gpt-4o", **more: Any) -> Any:
    return one.chat.completions.create(model=model, messages=[{"role": "user", "content": "Say hello."}], **more)


def post(ruled: World, key: str, path: str, body: bytes, **headers: str) -> httpx.Response:
    sent = {"authorization": f"Bearer {key}", "content-type": "application/json", **headers}
    return httpx.post(f"{ruled.gateway.url('api')}{path}", content=body, headers=sent, trust_env=False)


def test_a_denied_model_is_403_and_nothing_is_called(ruled: World, client: Client, keys: dict[str, str]) -> None:
    """With the scope that says so; the SDK's own exception."""
    with pytest.raises(openai.PermissionDeniedError) as refused:
        ask(client(keys["default"]), "fallback")
    body: Any = refused.value.body
    assert (body["code"], body["param"]) == ("model_not_allowed", "model")
    assert body["policy"] == {"scope": "organisation", "id": "acme", "rule": "models.deny fallback"}
    with pytest.raises(openai.PermissionDeniedError, match="User 'default/ann'"):
        ask(client(keys["ann"]))
    assert ruled.provider.requests == []


def test_what_is_forced_reaches_the_provider_and_all_else_byte_for_byte(ruled: World, keys: dict[str, str]) -> None:
    """The organisation's temperature, not the team's; the prefix; the lowered limit in the client's own field."""
    body = (
        b'{ "model":"gpt-4o",\n "max_completion_tokens" : 900, "temperature":1.9,"x_own": [1 , {"a":"\\u00e9"}],'
        b' "messages": [ {"content":"Answer in \\u0043zech.", "role":"system"} , {"role":"user","content":"Hi"} ] }'
    )
    answer = post(ruled, keys["default"], "/v1/chat/completions", body)
    assert answer.status_code == 200, answer.text
    assert ruled.provider.requests[-1].body == (
        b'{"user":"acme", "model":"gpt-4o",\n "max_completion_tokens" : 40, "temperature":0.2,'
        b'"x_own": [1 , {"a":"\\u00e9"}],'
        b' "messages": [ {"content":"You work for Acme.\\n\\nAnswer in \\u0043zech.", "role":"system"} , '
        b'{"role":"user","content":"Hi"} ] }'
    )


@pytest.mark.parametrize("stream", [False, True])
def test_a_client_without_limit_and_system_prompt_gets_both(
    ruled: World, client: Client, keys: dict[str, str], *, stream: bool
) -> None:
    """The model's default is above the ceiling; streamed or not."""
    answer = ask(client(keys["default"]), stream=stream)
    assert list(answer) if stream else answer.choices
    sent = ruled.provider.requests[-1].json()
    limits = {name: value for name, value in sent.items() if name.startswith("max_")}
    assert list(limits.values()) == [40]
    assert sent["messages"] == [
        {"role": "system", "content": "You work for Acme."},
        {"role": "user", "content": "Say hello."},
    ]
    assert (sent["temperature"], sent["user"]) == (0.2, "acme")


def test_what_is_held_is_what_is_sent(ruled: World, client: Client, keys: dict[str, str]) -> None:
    """The quote knows the ceiling: the audit tells the limit's own price, not the client's wish."""
    ask(client(keys["default"]), max_tokens=9000)
    assert ruled.provider.requests[-1].json()["max_tokens"] == 40


def test_messages_get_prefix_and_ceiling_in_their_own_form(ruled: World, keys: dict[str, str]) -> None:
    """Blocks stay blocks, with their cache marks."""
    mark = {"type": "text", "text": "Long.", "cache_control": {"type": "ephemeral"}}
    with anthropic.Anthropic(base_url=ruled.gateway.url("api"), api_key=keys["ann"], max_retries=0) as one:
        one.messages.create(
            model="claude-sonnet",
            max_tokens=500,
            system=[mark],  # type: ignore[list-item]
            messages=[{"role": "user", "content": "Hi"}],
        )
    sent = ruled.provider.requests[-1].json()
    assert sent["system"] == [{"type": "text", "text": "You work for Acme."}, mark]
    assert (sent["max_tokens"], sent["temperature"], sent.get("user")) == (40, 0.2, None)


def test_embeddings_have_neither_prefix_nor_limit(ruled: World, client: Client, keys: dict[str, str]) -> None:
    """Only the member that they know."""
    client(keys["default"]).embeddings.create(model="text-embedding-3-small", input="a", encoding_format="float")
    sent = ruled.provider.requests[-1].json()
    assert set(sent) == {"model", "input", "encoding_format", "user"}


def test_outside_the_hours_nothing_is_served_inside_them_all_is(
    ruled: World, client: Client, keys: dict[str, str]
) -> None:
    """Chat and our own endpoints alike; inside them all is."""
    closed = client(keys["closed"])
    for call in (lambda: ask(closed), closed.models.list):
        with pytest.raises(openai.PermissionDeniedError) as refused:
            call()
        body: Any = refused.value.body
        assert (body["code"], body["policy"]["rule"]) == ("policy_denied", "hours")
    assert ruled.provider.requests == []
    assert ask(client(keys["open"])).choices
    assert list(client(keys["open"]).models.list())


def test_the_address_is_the_one_that_the_trusted_front_names(
    ruled: World, client: Client, keys: dict[str, str]
) -> None:
    """Whatever the client itself wrote before it."""
    inside = {"x-forwarded-for": "192.0.2.9, 10.4.5.6"}
    outside = {"x-forwarded-for": "10.4.5.6, 192.0.2.9"}
    assert ask(client(keys["office"], **inside)).choices
    for headers in (outside, {}):
        with pytest.raises(openai.PermissionDeniedError) as refused:
            ask(client(keys["office"], **headers))
        body: Any = refused.value.body
        assert body["policy"] == {"scope": "team", "id": "office", "rule": "ip_ranges"}


@pytest.mark.parametrize("path", ["/v1/embeddings", "/v1/embeddings/text-embedding-3-small"])
def test_a_denied_path_is_denied_with_and_without_a_model_in_it(ruled: World, keys: dict[str, str], path: str) -> None:
    """One operation, one rule."""
    body = b'{"model":"text-embedding-3-small","input":"a"}'
    answer = post(ruled, keys["office"], path, body, **{"x-forwarded-for": "10.4.5.6"})
    assert (answer.status_code, answer.json()["error"]["policy"]["rule"]) == (403, "paths.deny /v1/embeddings")
    assert ruled.provider.requests == []


def test_a_clients_own_provider_key_is_under_the_same_rules(ruled: World) -> None:
    """Captured traffic: the denied model by the provider's name, the ceiling, the prefix, the temperature."""
    trust = ssl.create_default_context(cafile=str(ruled.proxy_ca))
    with httpx.Client(proxy=ruled.gateway.url("capture"), verify=trust, trust_env=False) as http:

        def own(model: str) -> httpx.Response:
            return http.post(
                "https://api.openai.com/v1/chat/completions",
                headers={"authorization": f"Bearer {OPENAI_KEY}"},
                json={"model": model, "messages": [{"role": "user", "content": "Hi"}]},
            )

        refused = own("gpt-4o")
        served = own("gpt-4.1-unlisted")
    # The organisation denies 'fallback', which is this very model at this very provider.
    assert (refused.status_code, refused.json()["error"]["code"]) == (403, "model_not_allowed")
    assert served.status_code == 200, served.text
    sent = ruled.provider.requests[-1].json()
    assert (sent["temperature"], sent["max_completion_tokens"]) == (0.2, 40)
    assert sent["messages"][0] == {"role": "system", "content": "You work for Acme."}
    assert len(ruled.provider.requests) == 1


def test_explain_says_what_the_proxy_does(ruled: World, client: Client, keys: dict[str, str]) -> None:
    """The command and the chain ask one engine."""
    listed = json.loads(ruled.gateway.cli("keys", "list", "--json").stdout)
    (key,) = [one["id"] for one in listed if one["user"] == "ann"]
    found = json.loads(ruled.gateway.cli("policy", "explain", "--key", key, "--model", "gpt-4o", "--json").stdout)
    with pytest.raises(openai.PermissionDeniedError) as refused:
        ask(client(keys["ann"]))
    body: Any = refused.value.body
    judgement = found["judgement"]
    assert (judgement["verdict"], judgement["message"]) == (body["code"], body["message"])
    assert (judgement["scope"], judgement["scope_id"], judgement["rule"]) == tuple(body["policy"].values())
