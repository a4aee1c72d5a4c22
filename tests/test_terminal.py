"""What stands behind the last plugin."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import orjson
import pytest

from proxy.config.schema import CapturedHost
from proxy.dialects import DIALECTS
from proxy.errors import Refusal
from proxy.exchange import Exchange, ListenerKind, Response
from proxy.headers import Headers
from proxy.identities import IdentityKind
from proxy.ledger.api import Attempt, Hold, HoldRequest
from proxy.ledger.payment_api import Lease, Proof, Unit
from proxy.listeners.api import ConnectVerdict
from proxy.operations import (
    CHAT,
    LOCAL,
    MESSAGES,
    MODELS,
    ORCHESTRATE,
    PLAIN,
    PREFLIGHT,
    UNMETERED,
    WEBSOCKET,
    Operation,
)
from proxy.policy.rules import NO_RULES, ContentRule
from proxy.policy.rules import Policy as TeamPolicy
from proxy.pricing.money import ZERO
from proxy.quoting import quote
from proxy.routes import Route, Try
from proxy.terminal import Terminal
from proxy.upstreams.api import FailureKind, Upstream, UpstreamFailure
from tests.support.fakes import CHAT_BODY, KEY, Log, exchange, identity, origin
from tests.support.runs import panel

CAPTURED = CapturedHost("api.openai.com", "openai", ("authorization",), ())
AT = origin(listener="capture", kind=ListenerKind.REGULAR, captured_host="api.openai.com", captured_port=443, tls=True)


class Answer:
    """An upstream's answer."""

    def __init__(self, status: int, headers: dict[str, str], *pieces: bytes) -> None:
        self.status = status
        self.headers = Headers(headers)
        self._pieces = pieces

    async def __aiter__(self) -> AsyncIterator[bytes]:
        for piece in self._pieces:
            yield piece

    async def read(self, bytes_max: int) -> bytes:
        return b"".join(self._pieces)[: bytes_max + 1]

    async def aclose(self) -> None:
        """Nothing to give back."""


class Client:
    """Remembers what it was asked to send."""

    def __init__(self, answer: Answer | UpstreamFailure) -> None:
        self.answer = answer
        self.sent: list[dict[str, Any]] = []

    async def send(self, upstream: Upstream, **call: Any) -> Answer:
        self.sent.append({"upstream": upstream, **call})
        if isinstance(self.answer, UpstreamFailure):
            raise self.answer
        return self.answer

    async def close(self) -> None:
        """Nothing to close."""


class Policy:
    """One verdict for everybody."""

    def __init__(self, verdict: ConnectVerdict) -> None:
        self.verdict = verdict

    async def decide(self, **_: Any) -> ConnectVerdict:
        return self.verdict


async def local(_: Exchange) -> Response:
    return Response.of(200, b'"local"')


def terminal(answer: Answer | UpstreamFailure, verdict: ConnectVerdict | None = None) -> tuple[Terminal, Client]:
    client = Client(answer)
    policy = Policy(verdict or ConnectVerdict("refuse"))
    return (
        Terminal(client=client, local=local, connect_policy=policy, answer_bytes_max=1 << 20, log=Log()),
        client,
    )


def ready(
    *, own: bool = False, headers: dict[str, str] | None = None, dialect: str = "openai.chat", **fields: Any
) -> Exchange:
    """A priced exchange with every fact."""
    seen = exchange(headers=headers, **fields)
    seen.identity = identity(provider_credential=own)
    seen.our_credentials = (KEY,)
    seen.call = DIALECTS[dialect].parse(seen.request._reader._pieces[0])  # type: ignore[attr-defined]
    seen.model = seen.generation.models["gpt-4o"]
    seen.policy = NO_RULES
    seen.quote = quote(seen.model, seen.call, provider_credential=own)
    seen.hold = Hold(1, HoldRequest("x", "k", "u", "t", "o", "m", "chat", ZERO, ZERO, (), 0))
    seen.route = Route([Try(seen.model.candidates[0], Attempt(1, 1, "openai", "m"))])
    return seen


JSON = {"content-type": "application/json"}
RULED = TeamPolicy(content=(ContentRule("r", "x", "redact"),))


@pytest.mark.parametrize("operation", [CHAT, UNMETERED, WEBSOCKET])
async def test_content_that_rules_apply_to_and_nobody_read_goes_nowhere(operation: Operation) -> None:
    """A chain without the plugin that reads closes the path; read, it is open."""
    serve, client = terminal(Answer(200, JSON, b"{}"))
    seen = ready(own=True, at=AT, captured=CAPTURED)
    seen.operation, seen.policy = operation, RULED
    with pytest.raises(Refusal) as refused:
        await serve(seen)
    assert (refused.value.code, refused.value.status, client.sent) == ("internal_error", 500, [])
    seen.content_checked = True
    assert (await serve(seen)).status in (101, 200)


async def test_what_is_our_own_needs_no_reading() -> None:
    """Local endpoints take nobody's content."""
    serve, _ = terminal(Answer(200, JSON, b"{}"))
    seen = ready()
    seen.operation, seen.policy = LOCAL, RULED
    assert (await serve(seen)).body == b'"local"'


async def test_our_key_is_swapped_for_the_operators() -> None:
    """The client's headers stay here, but for the few that mean something to the provider."""
    end, client = terminal(Answer(200, {**JSON, "set-cookie": "a=b", "x-request-id": "up", "openai-organization": "o"}))
    sent_headers = {"authorization": f"Bearer {KEY}", "x-secret": "s", "user-agent": "sdk", "cookie": "c"}
    response = await end(ready(headers=sent_headers))
    (call,) = client.sent
    assert call["path"] == "/v1/chat/completions"
    assert dict(call["headers"]) == {
        "content-type": "application/json",
        "user-agent": "sdk",
        "authorization": "Bearer sk-operator",
        "accept-encoding": "identity",
    }
    assert dict(response.headers) == {"content-type": "application/json", "x-request-id": "up"}
    body = orjson.loads(call["body"])
    assert (body["model"], body["max_completion_tokens"]) == ("gpt-4o-upstream", 1000)


async def test_idempotency_key_is_the_callers_own() -> None:
    """Two callers who chose the same one do not share a provider's answer; one caller's retries do."""
    sent = []
    for caller in ("key_1", "key_1", "key_2"):
        end, client = terminal(Answer(200, JSON))
        seen = ready(headers={"idempotency-key": "order-7"})
        seen.identity = identity(key_id=caller)
        await end(seen)
        sent.append(client.sent[0]["headers"]["idempotency-key"])
    assert sent[0] == sent[1] != sent[2]
    assert "order-7" not in sent


async def test_idempotency_key_of_payers_is_the_payments_own() -> None:
    """All who pay for each request are one caller to policies: none of them gets what another has paid for."""
    sent = []
    for proof in ("a" * 64, "a" * 64, "b" * 64):
        end, client = terminal(Answer(200, JSON))
        seen = ready(headers={"idempotency-key": "order-7"})
        seen.identity, seen.payment_proof = identity(key_id="payer"), proof
        await end(seen)
        sent.append(client.sent[0]["headers"]["idempotency-key"])
    assert sent[0] == sent[1] != sent[2]
    assert not {"order-7", "a" * 64} & set(sent)


async def test_options_on_a_priced_path_calls_nobody() -> None:
    """Without a plugin that answers preflights it is 405."""
    end, client = terminal(Answer(200, JSON))
    with pytest.raises(Refusal) as refused:
        await end(exchange(operation=PREFLIGHT))
    assert (refused.value.status, client.sent) == (405, [])


async def test_own_provider_key_goes_to_the_captured_host_as_it_came() -> None:
    """Path, query and headers are the client's; only our own key never crosses."""
    end, client = terminal(Answer(200, {**JSON, "openai-organization": "mine"}))
    headers = {"authorization": "Bearer sk-own", "x-api-key": KEY, "openai-project": "p", "connection": "x"}
    seen = ready(own=True, headers=headers, at=AT, captured=CAPTURED)
    response = await end(seen)
    (call,) = client.sent
    assert (call["host"], call["headers"]["authorization"]) == ("api.openai.com", "Bearer sk-own")
    assert call["headers"]["openai-project"] == "p"
    assert "x-api-key" not in call["headers"] and "connection" not in call["headers"]
    assert response.headers["openai-organization"] == "mine"


async def test_own_providers_read_the_body_that_was_read_here() -> None:
    """Not in another charset, under which other members stand in it, nor as another coding or type."""
    end, client = terminal(Answer(200, JSON))
    seen = ready(own=True, headers={"authorization": "Bearer sk-own"}, at=AT, captured=CAPTURED)
    seen.request.headers["content-type"] = "application/json; charset=utf-7"
    for name, value in (("content-type", "text/plain"), ("content-encoding", "identity"), ("content-encoding", "gzip")):
        seen.request.headers.add(name, value)
    await end(seen)
    (call,) = client.sent
    assert call["headers"].getall("content-type") == ["application/json"]
    assert "content-encoding" not in call["headers"]


@pytest.mark.parametrize("fact", ["identity", "call", "model", "quote", "hold", "route"])
async def test_priced_call_without_a_fact_is_closed(fact: str) -> None:
    """Whatever the chain was: no fact, no call."""
    end, client = terminal(Answer(200, JSON))
    seen = ready()
    setattr(seen, fact, None)
    with pytest.raises(Refusal) as refused:
        await end(seen)
    assert (refused.value.code, client.sent) == ("internal_error", [])


@pytest.mark.parametrize("operation", [CHAT, ORCHESTRATE])
async def test_no_single_model_answers_for_a_panel(operation: Operation) -> None:
    """A chain without the plugin that asks panels closes their path; what a panel itself calls is open."""
    end, client = terminal(Answer(200, JSON, b"{}"))
    seen = ready()
    seen.operation, seen.model = operation, panel()
    with pytest.raises(Refusal) as refused:
        await end(seen)
    assert (refused.value.code, refused.value.status, client.sent) == ("internal_error", 500, [])
    seen.operation, seen.role = CHAT, "member/0/gpt-5.4"
    assert (await end(seen)).status == 200


async def test_an_orchestration_is_never_forwarded() -> None:
    """No provider speaks the format, whatever the model and the role."""
    end, client = terminal(Answer(200, JSON, b"{}"))
    seen = ready()
    seen.operation, seen.role = ORCHESTRATE, "member/0/gpt-5.4"
    with pytest.raises(Refusal) as refused:
        await end(seen)
    assert (refused.value.code, client.sent) == ("internal_error", [])


async def test_payment_that_nobody_burns_buys_nothing() -> None:
    """A chain without `payment` would leave a proof, settled by itself, to be used again and again."""
    end, client = terminal(Answer(200, JSON, b"{}"))
    seen = ready()
    seen.identity = identity(kind=IdentityKind.PAYER)
    proof = Proof("lightning", "hash", Unit.MSAT, 1000, settled=True)
    assert seen.hold is not None
    seen.hold.lease = Lease("pay_1", 1, 1, proof, True)
    with pytest.raises(Refusal) as refused:
        await end(seen)
    assert (refused.value.code, client.sent) == ("internal_error", [])
    seen.collected = True
    assert (await end(seen)).status == 200


@pytest.mark.parametrize("kind", list(FailureKind))
async def test_failure_is_marked_on_the_try_and_answered_without_its_detail(kind: FailureKind) -> None:
    """Routing reads the mark."""
    end, _ = terminal(UpstreamFailure(kind, "10.0.0.1 refused", sent=False))
    seen = ready()
    response = await end(seen)
    assert seen.route is not None
    assert (seen.route.current.outcome, seen.route.current.detail) == (kind.value, "10.0.0.1 refused")
    assert response.status in (502, 503, 504) and b"10.0.0.1" not in response.body


async def test_event_stream_is_handed_on_unread() -> None:
    """The driver pulls it."""
    end, _ = terminal(Answer(200, {"content-type": "text/event-stream; charset=utf-8"}, b"data: 1\n\n"))
    response = await end(ready())
    assert response.sse and await response.pull() == b"data: 1\n\n"


@pytest.mark.parametrize("operation", [UNMETERED, WEBSOCKET])
async def test_unmetered_path_with_our_key_is_refused(operation: Any) -> None:
    """It would slip past every cap."""
    end, client = terminal(Answer(200, {}))
    seen = exchange(operation=operation, at=AT, captured=CAPTURED)
    seen.identity = identity()
    with pytest.raises(Refusal) as refused:
        await end(seen)
    assert (refused.value.status, refused.value.code, client.sent) == (403, "path_not_allowed", [])


async def test_unmetered_path_with_own_key_streams_both_ways() -> None:
    """The body is handed on as a stream, the answer too."""
    end, client = terminal(Answer(201, {"content-length": "3", "openai-version": "v"}, b"a", b"bc"))
    seen = exchange(
        operation=UNMETERED,
        at=AT,
        captured=CAPTURED,
        path="/v1/files",
        body=b"upload",
        headers={"authorization": "Bearer sk-own", "content-length": "6"},
    )
    seen.identity = identity(provider_credential=True)
    response = await end(seen)
    (call,) = client.sent
    assert (call["method"], call["path"], call["host"]) == ("POST", "/v1/files", "api.openai.com")
    assert [piece async for piece in call["body"]] == [b"upload"]
    assert (response.status, response.headers["content-length"]) == (201, "3")
    assert [await response.pull(), await response.pull(), await response.pull()] == [b"a", b"bc", b""]


@pytest.mark.parametrize(
    ("query", "headers"),
    [
        ("$httpMethod=POST", {}),
        ("alt=sse&%24httpMethod=POST", {}),
        ("%24HTTPMETHOD=POST", {}),
        ("a=b;_method=POST", {}),
        ("", {"x-http-method-override": "POST"}),
        ("", {"X-HTTP-Method": "POST"}),
    ],
)
@pytest.mark.parametrize("operation", [UNMETERED, MODELS])
async def test_a_look_that_the_provider_takes_for_a_call_is_refused(
    operation: Operation, query: str, headers: dict[str, str]
) -> None:
    """GET on a priced path is not metered, so it must be a GET to everybody."""
    end, client = terminal(Answer(200, JSON, b"{}"))
    seen = exchange(operation=operation, at=AT, captured=CAPTURED, method="GET", headers=headers)
    seen.request.query = query
    seen.identity = identity(provider_credential=True)
    with pytest.raises(Refusal) as refused:
        await end(seen)
    assert (refused.value.code, client.sent) == ("invalid_request", [])


async def test_models_are_ours_with_our_key_and_the_providers_with_its_own() -> None:
    """GET /v1/models of a captured host."""
    end, client = terminal(Answer(200, JSON, b"theirs"))
    ours = exchange(operation=MODELS, at=AT, captured=CAPTURED)
    ours.identity = identity()
    assert (await end(ours)).body == b'"local"'
    theirs = exchange(operation=MODELS, at=AT, captured=CAPTURED)
    theirs.identity = identity(provider_credential=True)
    assert await (await end(theirs)).pull() == b"theirs"
    assert len(client.sent) == 1


async def test_local_operation_is_answered_here() -> None:
    """No upstream is called."""
    end, client = terminal(Answer(200, JSON))
    assert ((await end(exchange(operation=LOCAL))).body, client.sent) == (b'"local"', [])


async def test_plain_http_goes_to_the_pinned_address_or_nowhere() -> None:
    """The policy is asked again, and its address is the one connected to."""
    at = origin(listener="capture", kind=ListenerKind.REGULAR, captured_host="example.test", captured_port=80)
    end, client = terminal(Answer(200, {}), ConnectVerdict("tunnel", address=("203.0.113.9", 80)))
    await end(exchange(operation=PLAIN, at=at))
    assert client.sent[0]["upstream"].connect_to == ("203.0.113.9", 80)
    end, client = terminal(Answer(200, {}), ConnectVerdict("refuse", refusal=Refusal("target_not_allowed", "no")))
    with pytest.raises(Refusal):
        await end(exchange(operation=PLAIN, at=at))
    assert client.sent == []


async def test_request_refused_before_it_is_sent_is_marked_so() -> None:
    """What never left us can have cost nothing."""
    body = {**CHAT_BODY, "model": "m", "max_tokens": 30_000, "thinking": {"type": "enabled", "budget_tokens": 20_000}}
    seen = ready(operation=MESSAGES, dialect="anthropic.messages", body=body)
    end, client = terminal(Answer(200, JSON, b"{}"))
    with pytest.raises(Refusal) as refused:
        await end(seen)
    assert refused.value.param == "thinking.budget_tokens"
    assert seen.route is not None and seen.route.current.outcome == "unsent"
    assert client.sent == []


async def test_every_answer_begun_is_kept_for_the_end() -> None:
    """The driver closes it, whatever becomes of the response."""
    answer = Answer(200, {"content-type": "Text/Event-Stream; charset=utf-8"}, b"data: x\n\n")
    end, _ = terminal(answer)
    seen = ready()
    response = await end(seen)
    assert (response.sse, response.stream) == (True, answer)
    assert seen.streams == [answer]


async def test_body_goes_out_as_what_it_was_priced_as() -> None:
    """One content type, ours: a charset of the client's could make another request of the same bytes."""
    end, client = terminal(Answer(200, JSON, b"{}"))
    seen = ready(headers={"content-type": "application/json; charset=utf-7"})
    seen.request.headers.add("content-type", "text/plain")
    await end(seen)
    assert client.sent[0]["headers"].getall("content-type") == ["application/json"]
