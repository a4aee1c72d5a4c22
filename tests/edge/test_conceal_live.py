"""Concealment through a whole proxy: a canary in everything that is the provider's own, none in what a client gets.

Every byte that came is searched, also for names, hosts, keys and variables of upstreams, and their names of models.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import orjson
import pytest

from tests.edge.kinds import (
    CHAT,
    CHAT_STREAM,
    EMBEDDINGS,
    KINDS,
    MESSAGES,
    RESPONSES,
    RESPONSES_STREAM,
    SERVED_NANO,
    STREAMS,
    WHOLE,
    Kind,
    check_envelope,
    data_of,
    ended,
    events,
)
from tests.peers.behaviour import Behaviour, Fault
from tests.peers.canaries import MARK
from tests.peers.provider import ANTHROPIC_KEY, OPENAI_KEY
from tests.support.raw import Answer, Raw, request
from tests.support.world import CHAIN, DEADLINES, MODELS, World, world

PREFIXES = {"/v1/messages": "msg_", "/v1/chat/completions": "chatcmpl-", "/v1/responses": "resp_"}
SERVER = "llmdeal-gateway/1.0"
TEXT = Behaviour().text
DRESSED: list[Any] = []
for link in CHAIN:
    DRESSED += [link, {"conceal": {"server": SERVER}}] if link == "cors" else [link]
    DRESSED += ["dedup"] if link == "key_limit" and "dedup" not in CHAIN else []
RENAMED: dict[str, Any] = {
    **MODELS,
    "gpt-4o": {**MODELS["gpt-4o"], "candidates": [{"upstream": "openai", "model": "vendor-chat"}]},
    "gpt-5": {**MODELS["gpt-5"], "candidates": [{"upstream": "openai", "model": "vendor-answers"}]},
    "text-embedding-3-small": {
        **MODELS["text-embedding-3-small"],
        "candidates": [{"upstream": "openai", "model": "vendor-vectors"}],
    },
    "llama-3.3-70b": {
        "candidates": [{"upstream": "openai", "model": "vendor-llama"}],
        "price": {"input": "1", "output": "1"},
        "context": 128_000,
    },
    "smart-route": {"lane": ["llama-3.3-70b", "gpt-4o"], "sticky": False, "price": {"input": "2.5", "output": "10"}},
    "keyless": {**MODELS["gpt-4o"], "candidates": ["groq"]},
}
PROVIDERS = re.compile(
    "|".join(
        (
            MARK, "openai", "anthropic", "groq", "openrouter", "cloudflare", "google", "vendor-", "claude-sonnet-4",
            "0{12}", "fp_scripted", "org-", "proj_", "__cf_bm", "cf-ray", "elsewhere", "preload",
            "api\\.", ":9/", re.escape(OPENAI_KEY), re.escape(ANTHROPIC_KEY),
        )
    ).encode(),
    re.IGNORECASE,
)  # fmt: skip
"""What only a provider or the operator's own files would say. Twelve zeros in a row are an id of the peer's."""
RULE = {"name": "words", "pattern": "counts", "on": ["answers"], "replacement": "***"}
TEAMS: dict[str, Any] = {
    "organisations": {"acme": {}},
    "teams": {
        "default": {"organisation": "acme", "tier": "standard"},
        "redacted": {"organisation": "acme", "tier": "standard", "content": [{**RULE, "action": "redact"}]},
        "refused": {"organisation": "acme", "tier": "standard", "content": [{**RULE, "action": "refuse"}]},
    },
}
STATUSES = (400, 401, 403, 404, 408, 409, 413, 422, 429, 500, 502, 503, 529)
HTML = b"<html><title>cnry 502</title><body>cloudflare: api.openai.com cnry</body></html>"


@pytest.fixture(scope="module")
def edge(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """A running proxy that conceals."""
    deadlines = {**DEADLINES, "first_byte_seconds": 0.6, "idle_seconds": 0.6}
    with world(
        tmp_path_factory.mktemp("conceal"),
        config={"chain": DRESSED},
        policies={"models": {"models": RENAMED}, "teams": TEAMS},
        listeners={"capture": {"default_team": "default"}},
        deadlines=deadlines,
        more_upstreams={"groq": {"base_url": "https://api.groq.com/openai/v1", "key": "${GROQ_API_KEY}"}},
        environment={"GROQ_API_KEY": ""},
    ) as running:
        yield running
        running.gateway.cli("ledger", "audit")


@pytest.fixture(scope="module")
def key(edge: World) -> str:
    """A key of ours without caps."""
    return edge.gateway.make_key()


def get(edge: World, data: bytes) -> Answer:
    """One answer, every byte of which was searched; its Server is ours."""
    with Raw(edge.gateway.address("api")) as raw:
        raw.send(data)
        answer = raw.answer()
        assert PROVIDERS.search(bytes(raw.received)) is None, bytes(raw.received)
    assert answer.headers["server"] == SERVER
    return answer


def ask(edge: World, key: str, kind: Kind, *, fresh: bool = True, **changes: Any) -> Answer:
    """The same, of a priced request; `fresh`: not from memory."""
    data = kind.data(key, **changes)
    answer = get(edge, data.replace(b"\r\n", b"\r\nX-No-Cache: 1\r\n", 1) if fresh else data)
    name = "request-id" if kind.anthropic else "x-request-id"
    assert answer.headers[name] == answer.headers["x-tollway-request-id"]
    assert "x-route-model" not in answer.headers
    return answer


def all_kinds(edge: World, key: str) -> list[tuple[Kind, Answer]]:
    """Every kind at the same time, for what only a deadline ends."""
    with ThreadPoolExecutor(len(KINDS)) as pool:
        return list(zip(KINDS, pool.map(lambda kind: ask(edge, key, kind), KINDS), strict=True))


def documents(kind: Kind, answer: Answer) -> list[dict[str, Any]]:
    """The JSON in an answer: one document, or that of each event."""
    if not kind.stream:
        return [answer.json()]
    return [data_of(event) for event in events(answer.body) if not event.endswith(b"[DONE]")]


def text_of(kind: Kind, answer: Answer) -> str:
    """What the model wrote."""
    said = ""
    for document in documents(kind, answer):
        if document.get("error"):
            continue
        if kind in (RESPONSES, RESPONSES_STREAM):
            parts = [part for item in document.get("output", []) for part in item.get("content", [])]
            said += "".join([part["text"] for part in parts])
            said += document["delta"] if document.get("type") == "response.output_text.delta" else ""
        elif kind.anthropic:
            blocks = [document.get("delta", {})] if kind.stream else document["content"]
            said += "".join(block.get("text", "") for block in blocks)
        else:
            member = "delta" if kind.stream else "message"
            said += "".join(choice[member].get("content") or "" for choice in document["choices"])
    return said


def check_named_ours(kind: Kind, answer: Answer) -> None:
    """One id throughout, made from the request's; the model as the catalogue calls it."""
    own = answer.headers["x-tollway-request-id"].removeprefix("req_")
    served = [one for one in documents(kind, answer) if not one.get("error")]
    named = [one.get("message") or one.get("response") or one for one in served]
    assert {one["model"] for one in named if "model" in one} == {kind.body["model"]}
    ids = {one["id"] for one in named if "id" in one}
    assert ids == (set() if kind is EMBEDDINGS else {PREFIXES[kind.path] + own})


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)
def test_served_answer_keeps_the_text_and_the_bill_and_no_name(edge: World, key: str, kind: Kind) -> None:
    """With canaries in every id, header, member and comment: the same words, the same charge."""
    edge.provider.default = Behaviour(canaries=True)
    answer = ask(edge, key, kind)

    assert answer.status == 200
    check_named_ours(kind, answer)
    assert answer.headers["content-type"] in ("application/json", "text/event-stream; charset=utf-8")
    if kind is not EMBEDDINGS:
        assert text_of(kind, answer) == TEXT
    assert ended(edge, answer).charged == SERVED_NANO[kind.name]


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind is not EMBEDDINGS], ids=lambda kind: kind.name)
def test_tool_calls_and_thinking_keep_what_the_model_wrote(edge: World, key: str, kind: Kind) -> None:
    """Name and arguments of a call, and the signature of a thought, which the next turn needs."""
    edge.provider.default = Behaviour(canaries=True, tool=("weather", '{"city":"Oslo"}'), reasoning_tokens=3)
    thinking = {"thinking": {"type": "enabled", "budget_tokens": 10}} if kind.anthropic else {}
    answer = ask(edge, key, kind, **thinking)

    assert b"weather" in answer.body
    if kind.anthropic:
        assert b"c2lnbmF0dXJlIG9mIHRoZSBzY3JpcHRlZCBwcm92aWRlcg==" in answer.body
    assert re.search(rb'"(call_)?id":"(toolu_[0-9A-Za-z]{24}|[0-9A-Za-z]{9})"', answer.body)


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)
def test_answer_without_usage_is_concealed_too(edge: World, key: str, kind: Kind) -> None:
    """And counted by ourselves."""
    edge.provider.default = Behaviour(canaries=True, usage=None)
    assert ask(edge, key, kind).status == 200


@pytest.mark.parametrize("kind", STREAMS, ids=lambda kind: kind.name)
def test_content_rules_act_on_the_answer_before_it_is_concealed(edge: World, kind: Kind) -> None:
    """What they redact is redacted; where they refuse, the client reads their words."""
    redacted = ask(edge, edge.gateway.make_key(team="redacted"), kind)
    assert text_of(kind, redacted) == TEXT.replace("counts", "***")
    refused = ask(edge, edge.gateway.make_key(team="refused"), kind)
    error = data_of(events(refused.body)[-1])["error"]
    assert (error["code"], "'words'" in error["message"]) == ("content_refused", True)


def test_answer_kept_for_a_twin_is_concealed_under_its_own_id(edge: World, key: str) -> None:
    """The same request twice: one call, two ids."""
    edge.provider.default = Behaviour(canaries=True)
    first, second = (ask(edge, key, CHAT, fresh=False, seed=4711) for _ in range(2))
    assert (first.headers["x-dedup"], second.headers["x-dedup"]) == ("miss", "hit")
    for answer in (first, second):
        check_named_ours(CHAT, answer)
    assert first.json()["id"] != second.json()["id"]


@pytest.mark.parametrize("kind", [CHAT, CHAT_STREAM], ids=lambda kind: kind.name)
def test_lane_says_what_served_in_the_answer_alone(edge: World, key: str, kind: Kind) -> None:
    """As the catalogue calls it, fresh and from memory; the provider's own name for it is neither asked nor told."""
    edge.provider.script(Behaviour(canaries=True), model="vendor-llama")
    for fresh in (True, False, False):
        answer = ask(edge, key, kind, model="smart-route", seed=7, fresh=fresh)
        (model,) = {one["model"] for one in documents(kind, answer)}
        assert (answer.status, model) == (200, "llama-3.3-70b")


def test_lane_that_went_on_to_another_member_names_that(edge: World, key: str) -> None:
    """After the first one failed."""
    edge.provider.script(Behaviour(canaries=True, status=500), model="vendor-llama")
    edge.provider.script(Behaviour(canaries=True), model="vendor-chat")
    answer = ask(edge, key, CHAT, model="smart-route")
    assert (answer.status, answer.json()["model"]) == (200, "gpt-4o")


@pytest.mark.parametrize("fault", list(Fault), ids=lambda fault: fault.name)
def test_no_failure_of_a_provider_names_it(edge: World, key: str, fault: Fault) -> None:
    """Every way to misbehave, every endpoint: an answer, or an error of ours in the dialect's own shape."""
    edge.provider.default = Behaviour(canaries=True, fault=fault, after_chunks=4)
    for kind, answer in all_kinds(edge, key):
        if answer.status != 200:
            check_envelope(kind, answer, answer.status, answer.code)
        elif kind.stream:
            *_, last = [event for event in events(answer.body) if not event.endswith(b"[DONE]")]
            whole = text_of(kind, answer) == TEXT
            assert whole or data_of(last)["error"]["code"] == "upstream_error", answer.body
            check_named_ours(kind, answer)
        else:
            check_named_ours(kind, answer)


@pytest.mark.parametrize("kind", STREAMS, ids=lambda kind: kind.name)
def test_error_within_a_stream_is_told_in_our_words(edge: World, key: str, kind: Kind) -> None:
    """In the dialect's format, after what came before it."""
    edge.provider.script(Behaviour(canaries=True, fault=Fault.ERROR_EVENT_MID, after_chunks=4))
    answer = ask(edge, key, kind)
    *before, last = events(answer.body)
    error = data_of(last)

    assert len(before) == 4
    named = kind is not CHAT_STREAM
    assert last.startswith(b"event: error\n") == named
    assert error.get("type") == ("error" if named else None)
    assert (error["error"]["type"], error["error"]["code"]) == ("api_error", "upstream_error")
    assert answer.headers["x-tollway-request-id"] in error["error"]["message"]


@pytest.mark.parametrize("kind", STREAMS, ids=lambda kind: kind.name)
def test_event_too_large_to_be_read_ends_the_answer(edge: World, key: str, kind: Kind) -> None:
    """Nothing passes unread: what came before, then an error of ours, and nothing after it."""
    edge.provider.default = Behaviour(canaries=True, fault=Fault.HUGE_LINE)
    answer = ask(edge, key, kind)
    if kind is not CHAT_STREAM:  # It comes before any content: there, it is no answer at all.
        check_envelope(kind, answer, 502, "upstream_error")
        return
    assert len(answer.body) < 1 << 20
    assert data_of(events(answer.body)[-1])["error"]["code"] == "upstream_error"


@pytest.mark.parametrize("status", STATUSES)
def test_no_refusal_of_a_provider_names_it(edge: World, key: str, status: int) -> None:
    """Status kept where it is about the request; code, message and param are ours."""
    edge.provider.default = Behaviour(canaries=True, status=status, headers=(("retry-after", "7"),))
    for kind, answer in all_kinds(edge, key):
        if status in (400, 413, 422):
            assert answer.status == status
            assert answer.headers["retry-after"] == "7"
            assert answer.json()["error"]["param"] is None
        else:
            assert answer.status in (429, 502, 503)
            check_envelope(kind, answer, answer.status, answer.code)


@pytest.mark.parametrize("status", [200, 307, 400, 413, 422, 429, 500, 502, 503])
def test_page_of_html_is_never_passed_on(edge: World, key: str, status: int) -> None:
    """Of a load balancer before the provider, mostly."""
    headers = (("retry-after", "cnry"), ("location", "https://cnry.invalid/"))
    edge.provider.default = Behaviour(
        canaries=True, status=status, body=HTML, content_type="text/html; charset=cnry", headers=headers
    )
    for kind, answer in all_kinds(edge, key):
        assert answer.headers["content-type"] == "application/json"
        assert {"message", "type", "code", "param"} == answer.json()["error"].keys()
        assert answer.status in ((status,) if status in (400, 413, 422) else (429, 502, 503))
        assert answer.headers.get("retry-after", "5").isdigit(), kind


@pytest.mark.parametrize("body", [b'{"error":{"message":"cnry","code":"cnry"}}', b'{"cnry":"cnry"}', b"{}"])
def test_whole_answer_that_is_none_is_502(edge: World, key: str, body: bytes) -> None:
    """An error under the status of success, or JSON of another kind."""
    edge.provider.default = Behaviour(canaries=True, body=body)
    for kind in WHOLE:
        check_envelope(kind, ask(edge, key, kind), 502, "upstream_error")


REFUSED: list[tuple[Kind, int, dict[str, Any], str, str | None]] = [
    (CHAT, 400, {"message": "cnry", "code": "context_length_exceeded", "param": "messages"},
     "context_length_exceeded", "messages"),
    (MESSAGES, 400, {"message": "messages.0.content: cnry"}, "invalid_request", "messages[0].content"),
    (CHAT, 422, {"message": "cnry", "param": "max_completion_tokens"}, "invalid_request", None),
]  # fmt: skip


@pytest.mark.parametrize(("kind", "status", "error", "code", "param"), REFUSED, ids=str)
def test_refusal_of_a_request_says_what_kind_it_is_and_where(
    edge: World, key: str, kind: Kind, status: int, error: dict[str, Any], code: str, param: str | None
) -> None:
    """By what the provider said, none of which is repeated; `param` only where it is the client's own."""
    edge.provider.script(Behaviour(status=status, body=orjson.dumps({"error": error})))
    answer = ask(edge, key, kind)
    told = answer.json()["error"]
    assert (answer.status, told["code"], told["param"]) == (status, code, param)


@pytest.mark.parametrize("model", ["fallback", "dead-end", "keyless", "pro-only", "no-such"])
def test_our_own_refusals_name_no_provider(edge: World, key: str, model: str) -> None:
    """Dead, without a key, not for this tier, not known."""
    answer = ask(edge, key, CHAT, model=model)
    assert answer.status == {"fallback": 200, "dead-end": 503, "pro-only": 403}.get(model, 404)


LOCAL: list[tuple[bytes, int]] = [
    (request(method="GET", path="/v1/models"), 200),
    (request(method="GET", path="/v1/models/gpt-4o"), 200),
    (request(method="GET", path="/v1/models/no-such"), 404),
    (request(method="GET", path="/health"), 200),
    (request(method="GET", path="/v1/cost-preview/rates"), 200),
    (request(CHAT.body, path="/v1/cost-preview"), 200),
    (request(method="GET", path="/no-such"), 404),
    (request(method="GET"), 405),
    (request(method="OPTIONS"), 405),
    (request(b"{", key="lld_" + "0" * 32), 401),
    (request(headers=("Content-Type: text/plain",)), 415),
    (request(path="/v1//chat/completions"), 400),
    (request(length=1 << 30), 413),
]


@pytest.mark.parametrize(("data", "status"), LOCAL, ids=lambda one: str(one)[:40])
def test_what_we_answer_ourselves_names_no_provider(edge: World, key: str, data: bytes, status: int) -> None:
    """Endpoints of ours and refusals before any provider was asked."""
    data = data if b"Authorization" in data else data.replace(b"\r\n\r\n", f"\r\nX-API-Key: {key}\r\n\r\n".encode(), 1)
    assert get(edge, data).status == status


HEADLESS: list[bytes] = [
    b"not HTTP at all\r\n\r\n",
    b"GET / HTTP/1.1\r\nHost: a\r\n" + b"x: y\r\n" * 5000 + b"\r\n",
    b"GET / HTTP/1.1\r\nHost: a\r\nx: " + b"y" * (1 << 20) + b"\r\n\r\n",
]


@pytest.mark.parametrize("data", HEADLESS, ids=lambda data: str(data[:20]))
def test_refusal_of_what_is_no_request_has_no_server_but_ours(edge: World, data: bytes) -> None:
    """Made by the engine before there is an exchange."""
    with Raw(edge.gateway.address("api")) as raw:
        raw.send(data)
        answer = raw.answer()
        assert PROVIDERS.search(bytes(raw.received)) is None
    assert answer.status in (400, 431)
    assert answer.headers.get("server", SERVER) == SERVER


def test_preflight_has_no_server_but_ours(edge: World) -> None:
    """Its list of allowed headers is that of the public SDKs, the same whoever serves."""
    lines = ("Origin: https://app.example", "Access-Control-Request-Method: POST")
    with Raw(edge.gateway.address("api")) as raw:
        raw.send(request(method="OPTIONS", headers=lines))
        answer = raw.answer()
    assert answer.status == 204
    assert answer.headers.get("server", SERVER) == SERVER
