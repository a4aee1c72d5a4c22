"""OpenAI's Python SDK, by base_url and through HTTPS_PROXY, over real sockets."""

from __future__ import annotations

import ssl
from contextlib import ExitStack

import httpx
import openai
import pytest

from tests.peers.behaviour import Behaviour
from tests.peers.provider import OPENAI_KEY
from tests.support.world import World

HELLO = [{"role": "user", "content": "Say hello."}]
TEXT = Behaviour().text


def by_base_url(opened: ExitStack, edge: World, key: str, **options: object) -> openai.OpenAI:
    client = openai.OpenAI(api_key=key, base_url=edge.base_url, max_retries=0, **options)  # type: ignore[arg-type]
    return opened.enter_context(client)


def by_proxy(opened: ExitStack, edge: World, api_key: str, *, proxy_key: str | None = None) -> openai.OpenAI:
    """The application believes to talk to api.openai.com."""
    proxy = edge.gateway.url("capture")
    if proxy_key is not None:
        proxy = proxy.replace("://", f"://{proxy_key}:@")
    client = httpx.Client(proxy=proxy, verify=ssl.create_default_context(cafile=edge.proxy_ca))
    return opened.enter_context(openai.OpenAI(api_key=api_key, max_retries=0, http_client=client))


def test_whole_answer_by_base_url(edge: World, key: str, opened: ExitStack) -> None:
    """The operator's key goes upstream, the answer and its usage come back."""
    answer = by_base_url(opened, edge, key).chat.completions.create(model="gpt-4o", messages=HELLO)  # type: ignore[arg-type]
    assert answer.choices[0].message.content == TEXT
    assert answer.usage is not None and answer.usage.total_tokens > 0
    seen = edge.provider.requests[-1]
    assert seen.header("authorization") == f"Bearer {OPENAI_KEY}"
    assert key.encode() not in seen.body and all(key.encode() not in value for _, value in seen.headers)


def test_stream_by_base_url_holds_no_usage_nobody_asked_for(edge: World, key: str, opened: ExitStack) -> None:
    """We ask for the usage; the client that did not never sees the chunk."""
    stream = by_base_url(opened, edge, key).chat.completions.create(model="gpt-4o", messages=HELLO, stream=True)  # type: ignore[arg-type,call-overload]
    chunks = list(stream)
    assert "".join(c.choices[0].delta.content or "" for c in chunks) == TEXT
    assert all(chunk.usage is None for chunk in chunks)
    assert edge.provider.requests[-1].json()["stream_options"] == {"include_usage": True}


def test_stream_with_usage_by_base_url(edge: World, key: str, opened: ExitStack) -> None:
    """A client that asked gets it, once, last."""
    stream = by_base_url(opened, edge, key).chat.completions.create(
        model="gpt-4o",
        messages=HELLO,
        stream=True,
        stream_options={"include_usage": True},  # type: ignore[arg-type]
    )
    usages = [chunk.usage for chunk in stream]
    assert usages[-1] is not None and all(usage is None for usage in usages[:-1])


def test_model_in_the_path_serves_where_the_body_names_none(edge: World, key: str, opened: ExitStack) -> None:
    """/v1/chat/completions/gpt-4o"""
    answer = httpx.post(
        f"{edge.base_url}/chat/completions/gpt-4o",
        json={"messages": HELLO},
        headers={"authorization": f"Bearer {key}"},
    )
    assert answer.status_code == 200
    assert edge.provider.requests[-1].json()["model"] == "gpt-4o"


def test_embeddings(edge: World, key: str, opened: ExitStack) -> None:
    """A batch, by the SDK's own base64 encoding."""
    answer = by_base_url(opened, edge, key).embeddings.create(model="text-embedding-3-small", input=["one", "two"])
    assert len(answer.data) == 2 and len(answer.data[0].embedding) > 0


def test_models_lists_what_the_tier_can_call(edge: World, key: str, opened: ExitStack) -> None:
    """OpenAI's shape, owned by us, without what another tier may call."""
    models = {model.id: model for model in by_base_url(opened, edge, key).models.list()}
    assert "gpt-4o" in models and "pro-only" not in models
    assert models["gpt-4o"].owned_by == "tollway"
    assert by_base_url(opened, edge, key).models.retrieve("gpt-4o").id == "gpt-4o"


def test_cost_preview_and_its_rates(edge: World, key: str, opened: ExitStack) -> None:
    """Asked with the SDK's own client: what the call that follows may cost, without one."""
    client = by_base_url(opened, edge, key)
    seen = len(edge.provider.requests)
    body = {"model": "gpt-4o", "messages": HELLO, "max_tokens": 100}
    answer = client.post("/cost-preview", cast_to=httpx.Response, body=body).json()
    assert answer["est_output_tokens"] == {"low": 20, "expected": 60, "high": 100}
    assert answer["est_cost_usd"]["high"] == 0.00101
    table = client.get("/cost-preview/rates", cast_to=httpx.Response)
    assert table.headers["cache-control"] == "private, max-age=60"
    assert table.json()["caller_tier"] == "standard"
    assert "pro-only" not in table.json()["accessible_to_caller"]
    assert len(edge.provider.requests) == seen
    with pytest.raises(openai.NotFoundError) as unknown:
        client.post("/cost-preview", cast_to=httpx.Response, body={**body, "model": "no-such"})
    assert unknown.value.code == "model_not_available"
    with pytest.raises(openai.APIStatusError) as large:
        client.post("/cost-preview", cast_to=httpx.Response, body={**body, "padding": "x" * (16 << 10)})
    assert large.value.status_code == 413


def test_demo_answers_a_placeholder_key_on_loopback(edge: World, opened: ExitStack) -> None:
    """The README's first request, whole and streamed."""
    client = by_base_url(opened, edge, "sk-placeholder")
    whole = client.chat.completions.create(model="demo", messages=HELLO)  # type: ignore[arg-type]
    stream = client.chat.completions.create(model="demo", messages=HELLO, stream=True)  # type: ignore[arg-type,call-overload]
    streamed = "".join(chunk.choices[0].delta.content or "" for chunk in stream if chunk.choices)
    assert "demo" in (whole.choices[0].message.content or "").lower()
    assert "demo" in streamed.lower()


def test_errors_are_the_sdks_own_classes(edge: World, key: str, opened: ExitStack) -> None:
    """Status and code as the public tables say."""
    with pytest.raises(openai.NotFoundError) as unknown:
        by_base_url(opened, edge, key).chat.completions.create(model="no-such", messages=HELLO)  # type: ignore[arg-type]
    assert unknown.value.code == "model_not_available"
    with pytest.raises(openai.AuthenticationError) as wrong:
        by_base_url(opened, edge, "lld_" + "0" * 32).chat.completions.create(model="gpt-4o", messages=HELLO)  # type: ignore[arg-type]
    assert wrong.value.code == "invalid_api_key"
    with pytest.raises(openai.PermissionDeniedError) as tier:
        by_base_url(opened, edge, key).chat.completions.create(model="pro-only", messages=HELLO)  # type: ignore[arg-type]
    assert tier.value.code == "model_not_in_tier"
    assert tier.value.response.headers["x-tollway-request-id"].startswith("req_")


def test_own_provider_key_through_the_proxy(edge: World, opened: ExitStack) -> None:
    """HTTPS_PROXY and our CA, nothing else changed: the client's key reaches the provider, byte for byte its body."""
    client = by_proxy(opened, edge, OPENAI_KEY)
    answer = client.chat.completions.create(model="gpt-4o", messages=HELLO)  # type: ignore[arg-type]
    assert answer.choices[0].message.content == TEXT
    seen = edge.provider.requests[-1]
    assert seen.header("host") == "api.openai.com"
    assert "max_completion_tokens" not in seen.json()
    streamed = client.chat.completions.create(model="gpt-4o", messages=HELLO, stream=True)  # type: ignore[arg-type,call-overload]
    assert "".join(c.choices[0].delta.content or "" for c in streamed if c.choices) == TEXT


def test_environment_alone_leads_through_the_proxy(
    edge: World, opened: ExitStack, monkeypatch: pytest.MonkeyPatch
) -> None:
    """HTTPS_PROXY, SSL_CERT_FILE and OPENAI_API_KEY as an operator sets them; no line of the application changes."""
    monkeypatch.setenv("HTTPS_PROXY", edge.gateway.url("capture"))
    monkeypatch.setenv("SSL_CERT_FILE", str(edge.proxy_ca))
    monkeypatch.setenv("OPENAI_API_KEY", OPENAI_KEY)
    answer = opened.enter_context(openai.OpenAI()).chat.completions.create(model="gpt-4o", messages=HELLO)  # type: ignore[arg-type]
    assert answer.choices[0].message.content == TEXT


def test_our_key_through_the_proxy_is_swapped(edge: World, key: str, opened: ExitStack) -> None:
    """A key of ours in the provider's own header, on captured traffic."""
    answer = by_proxy(opened, edge, key).chat.completions.create(model="gpt-4o", messages=HELLO)  # type: ignore[arg-type]
    assert answer.choices[0].message.content == TEXT
    assert edge.provider.requests[-1].header("authorization") == f"Bearer {OPENAI_KEY}"


def test_proxy_credentials_identify_and_the_own_key_pays(edge: World, key: str, opened: ExitStack) -> None:
    """http://KEY@proxy beside the client's provider key."""
    by_proxy(opened, edge, OPENAI_KEY, proxy_key=key).chat.completions.create(model="gpt-4o", messages=HELLO)  # type: ignore[arg-type]
    seen = edge.provider.requests[-1]
    assert seen.header("proxy-authorization") is None
    assert all(key.encode() not in value for _, value in seen.headers)


def test_other_path_of_a_captured_host(edge: World, key: str, opened: ExitStack) -> None:
    """Streamed through with the client's own key, refused with ours."""
    echoed = by_proxy(opened, edge, OPENAI_KEY).post("/files", cast_to=httpx.Response, body={"purpose": "x"})
    assert "/v1/files" in echoed.text
    with pytest.raises(openai.PermissionDeniedError) as refused:
        by_proxy(opened, edge, key).post("/files", cast_to=httpx.Response, body={"purpose": "x"})
    assert refused.value.code == "path_not_allowed"


async def test_async_client(edge: World, key: str) -> None:
    """The same over the SDK's asynchronous side."""
    async with openai.AsyncOpenAI(api_key=key, base_url=edge.base_url, max_retries=0) as client:
        answer = await client.chat.completions.create(model="gpt-4o", messages=HELLO)  # type: ignore[arg-type]
        assert answer.choices[0].message.content == TEXT


def test_tool_call_passes_unchanged(edge: World, key: str, opened: ExitStack) -> None:
    """Tools go up, the call comes back."""
    edge.provider.script(Behaviour(tool=("weather", '{"city": "Oslo"}')))
    tools = [{"type": "function", "function": {"name": "weather", "parameters": {"type": "object"}}}]
    answer = by_base_url(opened, edge, key).chat.completions.create(model="gpt-4o", messages=HELLO, tools=tools)  # type: ignore[arg-type]
    (call,) = answer.choices[0].message.tool_calls or []
    assert (call.type, call.function.name) == ("function", "weather")  # type: ignore[union-attr]
    assert edge.provider.requests[-1].json()["tools"] == tools
