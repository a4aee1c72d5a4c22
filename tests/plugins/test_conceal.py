"""What conceal does with an answer as a whole: whom it leaves alone, what becomes of headers, bodies and streams."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from plugins.conceal.formats import FORMATS
from plugins.conceal.names import Names, served_model
from plugins.conceal.plugin import ConcealPlugin, ConcealSettings
from plugins.conceal.stream import Concealer
from proxy.catalogue import Candidate
from proxy.chain import compose
from proxy.dialects import DIALECTS
from proxy.dialects.sse import EVENT_BYTES_MAX
from proxy.errors import Refusal
from proxy.exchange import Exchange, Response
from proxy.forwarding import ANSWER_ALLOWED
from proxy.headers import Headers
from proxy.ledger.api import Attempt
from proxy.operations import CHAT, LOCAL, MESSAGES, PLAIN, UNMETERED, Operation, Target
from proxy.routes import Route, Try
from tests.support.fakes import CHAT_BODY, Chunks, Log, Rest, exchange, identity, model

ANSWER = {
    "id": "chatcmpl-theirs",
    "object": "chat.completion",
    "created": 1_790_000_000,
    "model": "vendor/llama",
    "choices": [{"index": 0, "message": {"role": "assistant", "content": "Hello."}, "finish_reason": "stop"}],
    "usage": {"prompt_tokens": 2, "completion_tokens": 1, "total_tokens": 3, "cost": 0.1},
    "provider": "Vendor",
}
FIRST = b'data: {"id":"theirs","model":"vendor/llama","choices":[{"index":0,"delta":{"content":"Hel"}}]}\n\n'
SECOND = b'data: {"id":"theirs","model":"vendor/llama","choices":[{"index":0,"delta":{"content":"lo."}}]}\n\n'
DONE = b"data: [DONE]\n\n"


LOG = Log()


def plugin(**settings: Any) -> ConcealPlugin:
    services: Any = SimpleNamespace(log=LOG)
    return ConcealPlugin(ConcealSettings(**settings), services)


def asked(operation: Operation = CHAT, **changes: Any) -> Exchange:
    """A priced exchange that an upstream served."""
    seen = exchange(operation=operation)
    seen.identity = identity(**changes)
    seen.model = model("llama", upstreams=("vendor",))
    seen.call = DIALECTS[operation.dialect or "openai.chat"].parse(orjson.dumps(CHAT_BODY))
    seen.route = Route([Try(seen.model.candidates[0], Attempt(1, 1, "vendor", "vendor/llama"), 200, "served")])
    return seen


def answered(body: Any = ANSWER, status: int = 200, **headers: str) -> Rest:
    raw = body if isinstance(body, bytes) else orjson.dumps(body)
    return Rest([Response(status, Headers({"content-type": "application/json", **headers}), raw)])


def concealer(operation: Operation = CHAT) -> Concealer:
    dialect = operation.dialect or ""
    seen = asked(operation)
    return Concealer(seen, FORMATS[dialect], DIALECTS[dialect], Names(seen, FORMATS[dialect].id_prefix))


async def test_whole_answer_is_written_anew() -> None:
    """Our id and model; text, created and the documented usage stay; the rest is gone."""
    seen = asked()
    response = await plugin()(seen, answered())
    assert orjson.loads(response.body) == {
        "id": "chatcmpl-req_test".replace("req_", ""),
        "object": "chat.completion",
        "created": 1_790_000_000,
        "model": "llama",
        "choices": ANSWER["choices"],
        "usage": {"prompt_tokens": 2, "completion_tokens": 1, "total_tokens": 3},
    }
    assert response.headers["server"] == "tollway"
    assert response.headers["x-request-id"] == "req_test"


async def test_no_header_that_can_come_from_an_upstream_stays() -> None:
    """But how long to wait, where it is a number; headers that plugins of ours set are kept."""
    theirs = dict.fromkeys((*ANSWER_ALLOWED, "x-route-model"), "theirs")
    response = await plugin()(asked(), answered(**{**theirs, "x-dedup": "hit"}))
    assert "theirs" not in response.headers.values()
    assert set(response.headers) == {"content-type", "server", "x-request-id", "x-dedup"}
    kept = await plugin()(asked(), answered(**{"retry-after": "7"}))
    assert kept.headers["retry-after"] == "7"


@pytest.mark.parametrize("operation", [CHAT, UNMETERED, PLAIN])
async def test_callers_own_provider_key_passes_untouched(operation: Operation) -> None:
    """Body, ids and headers byte for byte."""
    seen = asked(operation, provider_credential=True)
    response = await plugin()(seen, answered(**{"server": "theirs", "x-request-id": "theirs"}))
    assert (response.body, response.headers["server"]) == (orjson.dumps(ANSWER), "theirs")
    assert response.headers["x-request-id"] == "theirs"


@pytest.mark.parametrize("operation", [UNMETERED, PLAIN])
async def test_what_is_only_carried_through_passes_untouched(operation: Operation) -> None:
    """Whoever asks."""
    response = await plugin()(asked(operation), answered(server="theirs"))
    assert response.headers["server"] == "theirs"


async def test_own_endpoint_gets_the_server_header_alone() -> None:
    """Its body is ours already."""
    response = await plugin(server="llmdeal-gateway/1.0")(asked(LOCAL), answered(b'{"status":"ok"}'))
    assert (response.body, response.headers["server"]) == (b'{"status":"ok"}', "llmdeal-gateway/1.0")


@pytest.mark.parametrize("server", ["", " x", "a\nb", "é", "x" * 101])
def test_server_header_that_could_not_be_sent_is_refused(server: str) -> None:
    """At start."""
    with pytest.raises(ValidationError):
        ConcealSettings(server=server)


async def test_refusal_leaves_without_its_note_to_the_operator() -> None:
    """On loopback, too: behind a proxy on the same machine everybody is local."""

    async def refuse(_: Exchange) -> Response:
        raise Refusal("model_not_available", "Not here.", operator_note="Set VENDOR_API_KEY.")

    seen = asked()
    response = await compose([plugin()], refuse, Log())(seen)
    assert response.status == 404
    assert orjson.loads(response.body)["error"]["message"] == "Not here."
    assert response.headers["server"] == "tollway"


async def test_problem_document_stays_one() -> None:
    """What a payer by the Payment scheme is told is said in the type that it reads."""

    async def refuse(_: Exchange) -> Response:
        problem = {"content-type": "application/problem+json", "cache-control": "no-store"}
        raise Refusal("invalid_payment", "No.", body=b'{"type":"about:blank"}', headers=problem)

    response = await compose([plugin()], refuse, Log())(asked())
    assert (response.status, response.body) == (401, b'{"type":"about:blank"}')
    assert response.headers["content-type"] == "application/problem+json"
    assert response.headers["cache-control"] == "no-store"


async def test_answer_beside_a_refusal_is_the_refusal() -> None:
    """Whatever bytes of an upstream's stand in its place."""
    seen = asked()
    seen.refusal = Refusal("upstream_error", "Ours.")
    response = await plugin()(seen, answered(b'{"error":"theirs"}', 502))
    assert orjson.loads(response.body)["error"]["message"] == "Ours."


async def test_refusal_of_an_upstream_is_named_in_the_log_alone() -> None:
    """Who, and its type, code and param; not its words, which may quote a prompt."""
    LOG.events.clear()
    error = {"message": "theirs", "type": "invalid_request_error", "code": "bad_value", "param": "messages[0]"}
    response = await plugin()(asked(), answered({"error": error}, 400))
    assert b"theirs" not in response.body and b"bad_value" not in response.body
    ((level, event, fields),) = LOG.events
    assert (level, event, fields["upstream"], fields["status"]) == ("info", "refusal_concealed", "vendor", 400)
    assert fields["said"] == "invalid_request_error, bad_value, messages[0]"
    assert "theirs" not in str(fields)


@pytest.mark.parametrize("body", [b"", b"<html>theirs</html>", b"[]", b'{"error":{"message":"theirs"}}', b'{"id":1}'])
async def test_body_that_is_no_answer_becomes_502(body: bytes) -> None:
    """And the exchange says so to log and audit."""
    seen = asked()
    response = await plugin()(seen, answered(body))
    assert (response.status, seen.refusal is not None and seen.refusal.code) == (502, "upstream_error")
    assert b"theirs" not in response.body


async def test_dialect_without_a_list_of_members_is_closed() -> None:
    """Nothing passes because nobody has said what may."""
    seen = asked()
    seen.operation = Operation("strange", Target.UPSTREAM, "strange.dialect")
    response = await plugin()(seen, answered(**{"x-request-id": "theirs"}))
    assert response.status == 500
    assert b"vendor" not in response.body and "theirs" not in response.headers.values()


def test_every_dialect_can_be_concealed() -> None:
    """A new one cannot be forgotten."""
    assert FORMATS.keys() == DIALECTS.keys()


async def test_stream_is_concealed_behind_every_other_transform() -> None:
    """What plugins further in do to it, they do to the upstream's own events."""
    rest = Rest([Response(200, Headers({"content-type": "text/event-stream"}), stream=Chunks(FIRST), sse=True)])
    rest.answers[0].transforms.append(bytes)
    response = await plugin()(asked(), rest)
    assert [type(transform) for transform in response.transforms] == [type, Concealer]
    assert response.headers["content-type"] == "text/event-stream; charset=utf-8"


def test_model_is_what_served_under_the_catalogues_own_name() -> None:
    """A lane's member; of several attempts the one that served; without any, what was asked for."""
    seen = asked()
    assert seen.route is not None
    first, second = (Candidate("vendor", "vendor/x", model=name) for name in ("llama-3.3-70b", "qwen"))
    seen.route.tries = [Try(one, Attempt(1, 1, "vendor", "x"), 200, "served") for one in (first, second)]
    seen.route.tries[1].outcome = "broken"
    assert served_model(seen) == "llama-3.3-70b"
    seen.route = None
    assert served_model(seen) == "llama"


async def test_answer_kept_from_an_earlier_exchange_names_what_served_then() -> None:
    """Nobody was called for it; a lane's own name is not what answered."""
    seen = asked()
    seen.route = None
    response = await plugin()(seen, answered(**{"x-route-model": "llama-3.3-70b"}))
    assert orjson.loads(response.body)["model"] == "llama-3.3-70b"
    assert "x-route-model" not in response.headers


def test_ids_are_the_same_within_an_answer_and_unlike_across_answers() -> None:
    """So both ends of a tool call meet, and nobody can compare with what a provider is known to send."""
    first, second = Names(asked(), ""), Names(asked(), "")
    second.request_id = "req_other"
    assert first.hidden("call_0", 9) == first.hidden("call_0", 9) != second.hidden("call_0", 9)
    assert first.hidden("call_0", 9) != first.hidden("call_1", 9)
    assert first.hidden("call_0", 9).isalnum() and len(first.hidden("\ud83d", 24)) == 24


def test_stream_keeps_one_id_and_loses_comments_ids_and_unknown_events() -> None:
    """Chunk by chunk."""
    conceal = concealer()
    theirs = (
        b": OPENROUTER PROCESSING\n\nid: 7\nretry: 1\nevent: theirs\n" + FIRST + b'data: {"theirs":1}\n\ndata: no\n\n'
    )
    said = conceal(theirs) + conceal(SECOND) + conceal(DONE) + conceal(b"")
    assert (
        said
        == b"".join(
            b'data: {"id":"chatcmpl-test","object":"chat.completion.chunk","created":1700000000,"model":"llama",'
            b'"choices":[{"index":0,"delta":{"content":"%b"}}]}\n\n' % text
            for text in (b"Hel", b"lo.")
        )
        + DONE
    )


@given(st.lists(st.integers(0, len(FIRST + SECOND + DONE)), max_size=12))
def test_stream_is_concealed_alike_however_it_is_cut(cuts: list[int]) -> None:
    """Where a packet ends is chance."""
    whole, places = FIRST + SECOND + DONE, sorted(cuts)
    pieces = [whole[start:end] for start, end in zip([0, *places], [*places, len(whole)], strict=True)]
    cut, uncut = concealer(), concealer()
    said = b"".join(cut(piece) for piece in pieces if piece) + cut(b"")
    assert said == uncut(whole) + uncut(b"")


def test_stream_that_ends_without_a_blank_line_keeps_its_last_event() -> None:
    """A torn one is left out."""
    conceal = concealer()
    assert conceal(FIRST.rstrip()) == b""
    assert b'"Hel"' in conceal(b"")
    torn = concealer()
    torn(FIRST[:-20])
    assert torn(b"") == b""


@pytest.mark.parametrize(
    "event",
    [
        b'data: {"error":{"message":"theirs","code":"theirs"}}\n\n',
        b'data: {"object":"error","message":"theirs"}\n\n',
        b"event: error\ndata: theirs\n\n",
        b'data: {"error":"theirs \\ud83d"}\n\n',
        b'data: {"id":"theirs","error":{"code":502},"choices":[{"delta":{"content":""},"finish_reason":"error"}]}\n\n',
    ],
)
def test_error_event_is_ours(event: bytes) -> None:
    """OpenAI's way and that of others."""
    said = concealer()(event)
    assert b"theirs" not in said
    assert orjson.loads(said[6:])["error"]["code"] == "upstream_error"


def test_error_event_is_in_the_dialects_own_form() -> None:
    """Anthropic's has a name."""
    said = concealer(MESSAGES)(b'event: error\ndata: {"type":"error","error":{"type":"overloaded_error"}}\n\n')
    assert said.startswith(b'event: error\ndata: {"type":"error","error":{"message":"The model\'s server failed')


def test_refusal_of_what_the_model_answered_keeps_its_own_words() -> None:
    """A plugin further in ended the stream with an error event: that is ours already."""
    seen = asked()
    conceal = Concealer(seen, FORMATS["openai.chat"], DIALECTS["openai.chat"], Names(seen, ""))
    seen.refusal = Refusal("content_refused", "The content rule 'cards' refuses what the model answered.")
    said = conceal(DIALECTS["openai.chat"].error_event(seen.refusal.envelope()))
    assert orjson.loads(said[6:])["error"]["code"] == "content_refused"


def test_event_beyond_the_limit_ends_the_answer_with_an_error() -> None:
    """It cannot be read, so neither it nor anything behind it is passed on."""
    conceal = concealer()
    said = conceal(FIRST + b"data: " + b"x" * (EVENT_BYTES_MAX + 1))
    first, error = said.split(b"\n\n")[:2]
    assert b'"Hel"' in first
    assert orjson.loads(error[6:])["error"]["code"] == "upstream_error"
    assert conceal(b"\n\n" + SECOND) + conceal(b"") == b""


def test_text_cut_within_a_character_is_kept() -> None:
    """Half a surrogate pair in each of two chunks: the client joins them."""
    conceal = concealer()
    event = b'data: {"choices":[{"index":0,"delta":{"content":"\\u%b"}}]}\n\n'
    said = [conceal(event % half) for half in (b"d83d", b"de00")]
    assert [b'"content":"\\ud83d"' in said[0], b'"content":"\\ude00"' in said[1]] == [True, True]


@pytest.mark.parametrize("depth", [200, 300, 1000])
def test_deep_json_of_a_model_is_kept_or_is_an_error_and_never_raises(depth: int) -> None:
    """Nesting is the writer's limit."""
    deep = b"[" * depth + b"]" * depth
    event = (
        b'data: {"type":"content_block_start","index":0,"content_block":{"type":"tool_use","id":"t","input":%b}}\n\n'
    )
    said = concealer(MESSAGES)(event % deep)
    assert said == b"" or deep in said.replace(b" ", b"")
