"""Rules on requests and answers: nothing that matches goes through, and nothing else is touched."""

from __future__ import annotations

import asyncio
import json
import threading
from dataclasses import replace
from itertools import pairwise
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from plugins.content_rules.documents import TEXT_CHARS_MAX, Texts
from plugins.content_rules.plugin import ContentRulesPlugin, ContentRulesSettings
from plugins.content_rules.streams import EVENT_BYTES_MAX
from proxy.dialects import DIALECTS
from proxy.dialects.sse import event_data, split_events
from proxy.errors import Refusal
from proxy.exchange import Exchange, Response
from proxy.headers import Headers
from proxy.operations import CHAT, EMBEDDINGS, MESSAGES, RESPONSES, UNMETERED, Operation
from proxy.policy.content_patterns import PATTERNS
from proxy.policy.rules import NO_RULES, ContentRule, Policy
from proxy.text.filters import redacted
from proxy.text.matching import Matcher
from tests.support.fakes import Chunks, Log, Rest, exchange, identity, model

KEY = "sk-proj-" + "Ab3_" * 8
CARD = "4111 1111 1111 1111"
MAIL = "bob@example.org"
STOP = ContentRule("plans", "(?i)project apollo", "refuse")
SHIPPED = tuple(PATTERNS.values())
GONE = {KEY: "[key removed]", CARD: "[card number removed]", MAIL: "[mail address removed]"}
DONE = b"data: [DONE]\n\n"


class Counted:
    """Remembers what was counted."""

    def __init__(self) -> None:
        self.matches: list[tuple[str, str]] = []

    def content_struck(self, rule: str, action: str) -> None:
        self.matches.append((rule, action))


class Bench:
    """The plugin with some rules, and one exchange through it."""

    def __init__(self, *rules: ContentRule, operation: Operation = CHAT, **settings: Any) -> None:
        self.metrics = Counted()
        services: Any = SimpleNamespace(metrics=self.metrics, log=Log())
        self.plugin = ContentRulesPlugin(ContentRulesSettings(**settings), services)
        self.policy = Policy(content=rules)
        self.operation = operation
        self.seen: Exchange | None = None

    def exchange(self, body: dict[str, Any] | bytes) -> Exchange:
        raw = body if isinstance(body, bytes) else json.dumps(body).encode()
        seen = exchange(operation=self.operation, body=raw)
        seen.identity, seen.model, seen.policy = identity(), model(), self.policy
        if self.operation is RESPONSES:
            seen.call = replace(DIALECTS["openai.chat"].parse(raw), dialect="openai.responses")
        elif self.operation.dialect is not None:
            seen.call = DIALECTS[self.operation.dialect].parse(raw)
        self.seen = seen
        return seen

    async def sent(self, body: dict[str, Any] | bytes) -> bytes:
        """The body of the call as the plugins further in see it."""
        rest = Rest([Response.of(200, b'{"choices":[]}')])
        seen = self.exchange(body)
        await self.plugin(seen, rest)
        assert rest.seen == [seen]
        assert seen.content_checked is True
        assert seen.call is not None
        return seen.call.body

    async def answered(self, body: dict[str, Any] | bytes) -> Response:
        """A whole answer as it goes on to the client."""
        raw = body if isinstance(body, bytes) else json.dumps(body).encode()
        return await self.plugin(self.exchange(HELLO), Rest([Response.of(200, raw)]))

    async def streamed(self, *chunks: bytes) -> list[bytes]:
        """What goes out for each chunk, and at the end."""
        answer = Response(200, Headers(), stream=Chunks(*chunks), sse=True)
        response = await self.plugin(self.exchange({**HELLO, "stream": True}), Rest([answer]))
        out: list[bytes] = []
        while chunk := await response.pull():
            out.append(transformed(response, chunk))
        return [*out, transformed(response, b"")]


def transformed(response: Response, chunk: bytes) -> bytes:
    for transform in response.transforms:
        chunk = transform(chunk)
    return chunk


HELLO: dict[str, Any] = {"model": "gpt-4o", "max_tokens": 9, "messages": [{"role": "user", "content": "Say hello."}]}


# -- requests


async def test_without_rules_nothing_is_read() -> None:
    """One look at the policy, and the rest of the chain."""
    bench = Bench()
    bench.policy = NO_RULES
    seen = bench.exchange(HELLO)
    answer = Response.of(200, b"not even JSON")
    assert await bench.plugin(seen, Rest([answer])) is answer
    assert (seen.content_checked, answer.body) == (False, b"not even JSON")


async def test_only_members_that_change_are_written_anew() -> None:
    """Spelling and order of everything else are the client's own, and the price is that of what is sent."""
    raw = (
        b'{ "model" : "gpt-4o",\n "temperature": 0.50, '
        b'"messages": [{"role":"user","content":"to \\u0062ob@example.org"}]'
        b',  "x": 1e2 }'
    )
    bench = Bench(*SHIPPED)
    sent = await bench.sent(raw)
    assert sent == raw[: raw.index(b'[{"role')] + (
        b'[{"role":"user","content":"to [mail address removed]"}],  "x": 1e2 }'
    )
    assert bench.seen is not None
    assert bench.seen.call is not None
    assert bench.seen.call.document["messages"][0]["content"] == "to [mail address removed]"
    assert bench.seen.content_struck == ["mail_addresses"]
    assert bench.metrics.matches == [("mail_addresses", "redact")]


async def test_a_request_without_a_match_is_the_client_s_own_bytes() -> None:
    """Not one of them moves."""
    raw = b'{"model" :"gpt-4o","messages":[ {"role":"user","content":"h\\u00e9llo, risk-free"} ]}'
    assert await Bench(*SHIPPED).sent(raw) == raw


def message(**members: Any) -> dict[str, Any]:
    return {"messages": [{"role": "user", "content": "", **members}]}


def function(**members: Any) -> dict[str, Any]:
    return {"type": "function", "function": {"name": "f", **members}}


SCHEMA = {"properties": {"id": {"description": "X"}}}
FORMAT = {"type": "json_schema", "json_schema": {"name": "n", "schema": {"description": "X"}}}
RESULT = {"type": "tool_result", "tool_use_id": "t", "content": [{"type": "text", "text": "X"}]}
DOCUMENT = {"type": "document", "source": {"type": "text", "media_type": "text/plain", "data": "X"}}
OPENAI_PLACES: list[tuple[str, dict[str, Any]]] = [
    ("messages[0].content", message(role="system", content="X")),
    ("messages[0].content[1].text", message(content=[{"type": "text", "text": ""}, {"type": "text", "text": "X"}])),
    ("messages[0].name", message(name="X")),
    ("messages[0].content", message(role="tool", tool_call_id="c", content="X")),
    ("messages[0].tool_calls[0].function.arguments", message(tool_calls=[function(arguments='{"a": "X"}')])),
    ("messages[0].tool_calls[0].custom.input", message(tool_calls=[{"type": "custom", "custom": {"input": "X"}}])),
    ("tools[0].function.description", {"tools": [function(description="X")]}),
    ("tools[0].function.parameters.properties.id.description", {"tools": [function(parameters=SCHEMA)]}),
    ("user", {"user": "X"}),
    ("metadata.id", {"metadata": {"id": "X"}}),
    ("response_format.json_schema.schema.description", {"response_format": FORMAT}),
]
ANTHROPIC_PLACES: list[tuple[str, dict[str, Any]]] = [
    ("system", {"system": "X"}),
    ("system[0].text", {"system": [{"type": "text", "text": "X"}]}),
    ("messages[0].content[0].content[0].text", message(content=[RESULT])),
    ("messages[0].content[0].input.id", message(content=[{"type": "tool_use", "name": "f", "input": {"id": "X"}}])),
    ("messages[0].content[0].source.data", message(content=[DOCUMENT])),
    ("tools[0].description", {"tools": [{"name": "f", "description": "X", "input_schema": {}}]}),
]


@pytest.mark.parametrize(
    ("operation", "place", "body"),
    [(CHAT, *one) for one in OPENAI_PLACES]
    + [(MESSAGES, *one) for one in ANTHROPIC_PLACES]
    + [(EMBEDDINGS, "input", {"input": "X"}), (EMBEDDINGS, "input[1]", {"input": ["a", "X"]})],
)
async def test_every_text_of_a_request_is_read(operation: Operation, place: str, body: dict[str, Any]) -> None:
    """Redacted where the rule says so; refused by name and place, without the text."""
    whole = {**HELLO, "input": "-", **body}
    whole = json.loads(json.dumps(whole).replace('"X"', f'"ask {MAIL}"').replace('\\"X\\"', f'\\"ask {MAIL}\\"'))
    sent = json.loads(await Bench(*SHIPPED, operation=operation).sent(whole))
    assert json.dumps(sent) == json.dumps(whole).replace(MAIL, GONE[MAIL])

    rule = ContentRule("mails", PATTERNS["mail_addresses"].pattern, "refuse")
    refusing = Bench(rule, operation=operation)
    rest = Rest()
    with pytest.raises(Refusal) as refused:
        await refusing.plugin(refusing.exchange(whole), rest)
    assert (refused.value.code, refused.value.status, refused.value.param) == ("content_refused", 403, place)
    assert "'mails'" in refused.value.message
    assert MAIL not in refused.value.message
    assert rest.seen == []
    assert refusing.metrics.matches == [("mails", "refuse")]
    assert refusing.seen is not None
    assert (refusing.seen.content_struck, refusing.seen.content_checked) == (["mails"], False)


async def test_a_number_in_a_tool_s_input_is_text() -> None:
    """A card number need not be a string to be one."""
    block = {"type": "tool_use", "id": "t", "name": "pay", "input": {"card": 4111111111111111, "cents": 4111}}
    body = {**HELLO, "messages": [{"role": "assistant", "content": [block]}]}
    sent = json.loads(await Bench(*SHIPPED, operation=MESSAGES).sent(body))
    assert sent["messages"][0]["content"][0]["input"] == {"card": GONE[CARD], "cents": 4111}


@pytest.mark.parametrize(
    "part",
    [
        {"type": "image_url", "image_url": {"url": "data:image/png;base64,X"}},
        {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "X"}},
        {"type": "thinking", "thinking": "", "signature": "X"},
        {"type": "redacted_thinking", "data": "X"},
        {"type": "tool_use", "id": "X", "name": "f", "input": {"X": 1}},
    ],
)
async def test_bytes_names_and_keys_are_no_text(part: dict[str, Any]) -> None:
    """Images in base64, signatures, ids and the keys of objects stay as they are."""
    whole = json.loads(json.dumps({**HELLO, "messages": [{"role": "user", "content": [part]}]}).replace("X", MAIL))
    operation = CHAT if "image_url" in part else MESSAGES
    assert json.loads(await Bench(*SHIPPED, operation=operation).sent(whole)) == whole


async def test_large_requests_are_read_in_a_thread_with_the_same_result() -> None:
    """And so are large answers."""
    body = {**HELLO, "messages": [{"role": "user", "content": f"{MAIL} " * 3}]}
    away = Bench(*SHIPPED, search_on_loop_bytes_max=0)
    assert await away.sent(body) == await Bench(*SHIPPED).sent(body)
    assert away.metrics.matches == [("mail_addresses", "redact")] * 3
    assert json.loads((await away.answered(said(MAIL))).body) == said(GONE[MAIL])
    with pytest.raises(Refusal):
        await Bench(STOP, search_on_loop_bytes_max=0).sent({**HELLO, "user": "Project Apollo"})


async def test_bodies_that_are_slow_to_search_keep_nobody_else_s_work_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    """They are searched a few at a time, in threads of their own."""
    bench, released = Bench(*SHIPPED, search_on_loop_bytes_max=0), threading.Event()
    monkeypatch.setattr(Texts, "document", lambda *_: {} if released.wait(60) else None)
    waiting = [asyncio.create_task(bench.sent(HELLO)) for _ in range(64)]
    async with asyncio.timeout(30):
        await asyncio.sleep(0)
        assert await asyncio.to_thread(lambda: "parsed") == "parsed"
    released.set()
    assert len(await asyncio.gather(*waiting)) == 64
    await bench.plugin.stop()


async def test_more_text_than_is_searched_goes_nowhere() -> None:
    """A body made to be slow is bounded: a request is refused, an answer is not passed on, a stream ends."""
    text = "a " * (TEXT_CHARS_MAX // 2 + 1)
    with pytest.raises(Refusal) as refused:
        await Bench(*SHIPPED).sent({**HELLO, "messages": [{"role": "user", "content": text}]})
    assert refused.value.code == "payload_too_large"
    with pytest.raises(Refusal) as refused:
        await Bench(*SHIPPED).answered(said(text))
    assert refused.value.code == "upstream_error"
    (out, rest) = await Bench(*SHIPPED).streamed(event({"content": "a" * EVENT_BYTES_MAX}))
    assert b'"upstream_error"' in out
    assert rest == b""


@pytest.mark.parametrize("escaped", [False, True])
@pytest.mark.parametrize("style", [(",", ":"), (", ", ": ")])
async def test_one_look_at_a_whole_body_misses_no_match(style: tuple[str, str], escaped: bool) -> None:
    """However the match and what stands around it is written: beside line ends, quotes, tabs, or as escapes."""
    bench = Bench(*SHIPPED)
    for around in ("{}", "a\n{}\n", '"{}"', "\t{}/", "\\{}", "caf\u00e9 {}", "\U0001f600 {}"):
        text = around.format(MAIL)
        body = json.dumps(
            {**HELLO, "messages": [{"role": "user", "content": text}]}, separators=style, ensure_ascii=escaped
        )
        sent = json.loads(await bench.sent(body.replace("@", "\\u0040").encode() if escaped else body.encode()))
        assert sent["messages"][0]["content"] == around.format(GONE[MAIL])


async def test_rules_apply_where_they_say() -> None:
    """`on: [requests]` leaves answers alone, `on: [answers]` requests."""
    asked = ContentRule("in", "secret", "redact", answers=False)
    told = ContentRule("out", "public", "redact", requests=False)
    bench = Bench(asked, told)
    body = {**HELLO, "messages": [{"role": "user", "content": "secret public"}]}
    assert json.loads(await bench.sent(body))["messages"][0]["content"] == "[redacted] public"
    assert json.loads((await bench.answered(said("secret public"))).body) == said("secret [redacted]")


async def test_a_path_that_is_not_read_is_closed_to_who_has_rules() -> None:
    """An unmetered path of a provider would carry anything."""
    bench = Bench(*SHIPPED, operation=UNMETERED)
    with pytest.raises(Refusal) as refused:
        await bench.plugin(bench.exchange(b""), Rest())
    assert refused.value.code == "path_not_allowed"


# -- whole answers


def said(text: str, **members: Any) -> dict[str, Any]:
    """A chat completion."""
    message = {"role": "assistant", "content": text, **members}
    return {
        "id": "c",
        "choices": [{"index": 0, "message": message, "finish_reason": "stop"}],
        "usage": {"total_tokens": 1},
    }


async def test_a_whole_answer_is_redacted_in_every_text() -> None:
    """Content, reasoning, refusal, arguments and vendors' own members; the usage stays."""
    call = {"id": "c", "type": "function", "function": {"name": "f", "arguments": '{"to": "bob\\u0040example.org"}'}}
    bench = Bench(*SHIPPED)
    body = said(f"a {KEY}", reasoning=f"b {CARD}", refusal=MAIL, tool_calls=[call], vendor={"note": MAIL})
    answer = json.loads((await bench.answered(body)).body)
    message = answer["choices"][0]["message"]
    assert (message["content"], message["reasoning"], message["refusal"]) == (
        f"a {GONE[KEY]}", f"b {GONE[CARD]}", GONE[MAIL],
    )  # fmt: skip
    assert json.loads(message["tool_calls"][0]["function"]["arguments"]) == {"to": GONE[MAIL]}
    assert message["vendor"] == {"note": GONE[MAIL]}
    assert answer["usage"] == {"total_tokens": 1}
    assert bench.seen is not None
    assert sorted(bench.seen.content_struck) == ["api_keys", "card_numbers", "mail_addresses"]


async def test_a_whole_answer_without_a_match_passes_byte_for_byte() -> None:
    """Spelling included."""
    raw = b'{ "choices" : [ {"message": {"content": "h\\u00e9llo"}, "n": 1.50} ] }'
    assert (await Bench(*SHIPPED).answered(raw)).body == raw


async def test_a_message_of_anthropic_s_is_redacted() -> None:
    """Text, thinking, and a tool's input."""
    content = [
        {"type": "thinking", "thinking": MAIL, "signature": "s"},
        {"type": "text", "text": MAIL},
        {"type": "tool_use", "id": "t", "name": "f", "input": {"to": [MAIL], "card": 4111111111111111}},
    ]
    answer = json.loads((await Bench(*SHIPPED, operation=MESSAGES).answered({"content": content})).body)
    assert [block.get("thinking", block.get("text", block.get("input"))) for block in answer["content"]] == [
        GONE[MAIL], GONE[MAIL], {"to": [GONE[MAIL]], "card": GONE[CARD]},
    ]  # fmt: skip


async def test_a_refused_answer_is_an_error_that_says_what_it_cost() -> None:
    """403, the rule's name, not the text."""
    bench = Bench(STOP)
    with pytest.raises(Refusal) as refused:
        await bench.answered(said("It is Project Apollo."))
    assert (refused.value.code, refused.value.param) == ("content_refused", None)
    assert "charged" in refused.value.message
    assert "Apollo" not in refused.value.message
    assert bench.metrics.matches == [("plans", "refuse")]


async def test_probabilities_of_tokens_do_not_spell_out_what_was_taken_away() -> None:
    """Where rules apply to answers, `logprobs` are left out, streamed or whole."""
    bench = Bench(*SHIPPED)
    body = said("hi")
    body["choices"][0]["logprobs"] = {"content": [{"token": "bob@", "logprob": 0, "bytes": [98]}]}
    assert json.loads((await bench.answered(body)).body)["choices"][0]["logprobs"] is None
    out = b"".join(await bench.streamed(event({"content": "hi"}, logprobs={"content": [{"token": "bob@"}]})))
    assert json.loads(event_data(split_events(out)[0]))["choices"][0]["logprobs"] is None


async def test_an_answer_that_cannot_be_read_is_not_passed_on() -> None:
    """No rule can be applied to it; errors of a provider pass."""
    with pytest.raises(Refusal) as refused:
        await Bench(*SHIPPED).answered(b"<html>bob@example.org</html>")
    assert refused.value.code == "upstream_error"
    failed = Response.of(503, b"<html>")
    bench = Bench(*SHIPPED)
    assert (await bench.plugin(bench.exchange(HELLO), Rest([failed]))).body == b"<html>"


# -- streamed answers


def event(
    delta: dict[str, Any], *, choice: int = 0, finish: str | None = None, ascii: bool = True, **more: Any
) -> bytes:
    one = {"index": choice, "delta": delta, "finish_reason": finish, **more}
    document = {"id": "c", "object": "chat.completion.chunk", "model": "m", "choices": [one], "usage": None}
    return b"data: " + json.dumps(document, ensure_ascii=ascii).encode() + b"\n\n"


def anthropic(kind: str, **members: Any) -> bytes:
    return b"event: " + kind.encode() + b"\ndata: " + json.dumps({"type": kind, **members}).encode() + b"\n\n"


def documents(out: bytes) -> list[dict[str, Any]]:
    """The events that are JSON."""
    found = [event_data(one) for one in split_events(out)]
    return [json.loads(data) for data in found if data.startswith(b"{")]


def accumulated(out: bytes) -> dict[tuple[Any, ...], str]:
    """What a client makes of a stream: each text joined."""
    texts: dict[tuple[Any, ...], str] = {}
    for document in documents(out):
        for choice in document.get("choices", ()):
            for key, value in choice["delta"].items():
                if key == "tool_calls":
                    for call in value:
                        where = (choice["index"], key, call["index"])
                        texts[where] = texts.get(where, "") + call.get("function", {}).get("arguments", "")
                elif isinstance(value, str) and key != "role":
                    texts[choice["index"], key] = texts.get((choice["index"], key), "") + value
        if document.get("type") == "content_block_delta":
            for key in ("text", "thinking", "partial_json"):
                if key in document["delta"]:
                    where = (document["index"], key)
                    texts[where] = texts.get(where, "") + document["delta"][key]
    return texts


def pieces(text: str, cuts: list[int]) -> list[str]:
    at = [0, *sorted(cut % (len(text) + 1) for cut in cuts), len(text)]
    return [text[start:end] for start, end in pairwise(at)]


def byte_pieces(data: bytes, cuts: list[int]) -> list[bytes]:
    at = [0, *sorted(cut % (len(data) + 1) for cut in cuts), len(data)]
    return [data[start:end] for start, end in pairwise(at) if end > start]


WORDS = ("hello", " ", ", ", "sk-", KEY, CARD, MAIL, "@", "bob", "4111 ", "\n", "é", "😀", '"', "\\", "12/27 ", "x.y")
texts = st.lists(st.sampled_from(WORDS), max_size=8).map("".join)
cuts = st.lists(st.integers(0, 4000), max_size=12)
MATCHER = Matcher(SHIPPED)


def whole(text: str, *, json: bool = False) -> str:
    return redacted(MATCHER, text, lambda _: None, json=json)


@settings(max_examples=150, deadline=None)
@given(texts, texts, texts, cuts, cuts, cuts, st.booleans(), st.booleans())
async def test_a_chat_stream_reads_as_if_redacted_whole(
    content: str, thought: str, argument: str, one: list[int], two: list[int], chunks: list[int], ascii: bool, end: bool
) -> None:
    """Whatever the text, its cuts into deltas, the cuts of the bytes and the spelling of the JSON.

    Two choices interleaved, reasoning, and arguments whose own escapes are cut.
    """
    arguments = json.dumps({"to": argument, "n": 1}, ensure_ascii=ascii).replace("@", "\\u0040")
    events = [event({"role": "assistant", "content": ""})]
    events += [event({"reasoning_content": piece}, ascii=ascii) for piece in pieces(thought, two)]
    for place, piece in enumerate(pieces(content, one)):
        events.append(event({"content": piece}, ascii=ascii))
        events.append(event({"content": piece}, choice=1, ascii=ascii))
        if place == 1:
            events.append(b": a comment\n\n")
    called: dict[str, Any] = {"index": 0, "id": "c", "type": "function", "function": {"name": "f", "arguments": ""}}
    events.append(event({"tool_calls": [called]}))
    for piece in pieces(arguments, one):
        events.append(event({"tool_calls": [{"index": 0, "function": {"arguments": piece}}]}))
    if end:
        events += [event({}, finish="stop"), event({}, choice=1, finish="stop")]
    usage = b'data: {"id":"c","choices":[],"usage":{"total_tokens":3}}\n\n'
    stream = b"".join([*events, usage, DONE])

    out = await Bench(*SHIPPED).streamed(*byte_pieces(stream, chunks))
    for so_far in range(len(out)):
        shown = accumulated(b"".join(out[:so_far]))
        assert whole(content).startswith(shown.get((0, "content"), ""))
    told = accumulated(b"".join(out))
    assert told.get((0, "content"), "") == told.get((1, "content"), "") == whole(content)
    assert told.get((0, "reasoning_content"), "") == whole(thought)
    assert told[0, "tool_calls", 0] == whole(arguments, json=True)
    assert json.loads(told[0, "tool_calls", 0]) == {"to": whole(argument), "n": 1}
    assert b"".join(out).endswith(usage + DONE) or not end
    assert b"".join(out).endswith(DONE)
    assert all(piece.endswith(b"\n\n") for piece in out if piece)
    for choice in (0, 1) if end else ():
        own = [
            one["choices"][0] for one in documents(b"".join(out)) if [c["index"] for c in one["choices"]] == [choice]
        ]
        assert [one["finish_reason"] for one in own] == [*[None] * (len(own) - 1), "stop"]


@settings(max_examples=100, deadline=None)
@given(texts, texts, texts, cuts, cuts)
async def test_a_message_stream_reads_as_if_redacted_whole(
    text: str, thought: str, argument: str, one: list[int], chunks: list[int]
) -> None:
    """Blocks of thinking, text and a tool's input; each block's text is out before the block ends."""
    arguments = json.dumps({"to": argument}).replace("@", "\\u0040")
    blocks = [("thinking", thought), ("text", text), ("input_json", arguments)]
    events = [anthropic("message_start", message={"id": "m", "content": [], "usage": {"input_tokens": 1}})]
    for index, (kind, said) in enumerate(blocks):
        member = "partial_json" if kind == "input_json" else kind
        block = (
            {"type": "tool_use", "id": "t", "name": "f", "input": {}}
            if kind == "input_json"
            else {"type": kind, kind: ""}
        )
        events.append(anthropic("content_block_start", index=index, content_block=block))
        deltas = [{"type": f"{kind}_delta", member: piece} for piece in pieces(said, one)]
        events += [anthropic("content_block_delta", index=index, delta=delta) for delta in deltas]
        if kind == "thinking":
            signed = {"type": "signature_delta", "signature": "c2ln"}
            events.append(anthropic("content_block_delta", index=index, delta=signed))
        events.append(anthropic("content_block_stop", index=index))
    events += [anthropic("message_delta", delta={"stop_reason": "end_turn"}), anthropic("message_stop")]
    bench = Bench(*SHIPPED, operation=MESSAGES)
    out = b"".join(await bench.streamed(*byte_pieces(b"".join(events), chunks)))
    told = accumulated(out)
    assert told.get((0, "thinking"), "") == whole(thought)
    assert told.get((1, "text"), "") == whole(text)
    assert json.loads(told[2, "partial_json"]) == {"to": whole(argument)}
    open_block = None
    for document in documents(out):
        if document["type"] == "content_block_start":
            open_block = document["index"]
        elif document["type"] == "content_block_delta":
            assert document["index"] == open_block
        elif document["type"] == "content_block_stop":
            open_block = None
    signature = [document.get("delta", {}).get("type") for document in documents(out) if document.get("index") == 0]
    assert signature[-2:] == ["signature_delta", None]


@settings(max_examples=60, deadline=None)
@given(texts, texts, cuts, cuts)
async def test_a_response_stream_reads_as_if_redacted_whole(
    text: str, argument: str, one: list[int], chunks: list[int]
) -> None:
    """Deltas of text and arguments, and the whole texts that come again when they are done."""
    arguments = json.dumps({"to": argument}).replace("@", "\\u0040")
    part = {"item_id": "i", "output_index": 0, "content_index": 0}
    call = {"item_id": "f", "output_index": 1}
    events = [anthropic("response.created", response={"id": "r", "output": []})]
    events += [anthropic("response.output_text.delta", **part, delta=piece, logprobs=[]) for piece in pieces(text, one)]
    events.append(anthropic("response.output_text.done", **part, text=text, logprobs=[]))
    events += [anthropic("response.function_call_arguments.delta", **call, delta=p) for p in pieces(arguments, one)]
    events.append(anthropic("response.function_call_arguments.done", **call, arguments=arguments))
    output = [
        {"type": "message", "content": [{"type": "output_text", "text": text}]},
        {"type": "function_call", "name": "f", "arguments": arguments},
    ]
    events.append(anthropic("response.completed", response={"id": "r", "output": output, "usage": {}}))
    bench = Bench(*SHIPPED, operation=RESPONSES)
    out = documents(b"".join(await bench.streamed(*byte_pieces(b"".join(events), chunks))))
    for kind, said in (("output_text", whole(text)), ("function_call_arguments", whole(arguments, json=True))):
        deltas = [document["delta"] for document in out if document["type"] == f"response.{kind}.delta"]
        assert "".join(deltas) == said
        (done,) = [document for document in out if document["type"] == f"response.{kind}.done"]
        assert done.get("text", done.get("arguments")) == said
        assert out.index(done) > max(place for place, one in enumerate(out) if one["type"] == f"response.{kind}.delta")
    assert out[-1]["response"]["output"][0]["content"][0]["text"] == whole(text)
    assert out[-1]["response"]["output"][1]["arguments"] == whole(arguments, json=True)


async def test_events_without_a_match_pass_byte_for_byte_and_at_once() -> None:
    """Unusual line ends, names, ids and comments included."""
    events = [
        b": OPENROUTER PROCESSING\n\n",
        b'id: 7\r\nevent: message\r\ndata:  {"choices" : [{"index":0,"delta":{"content":"h\\u00e9 !"}}]}\r\n\r\n',
        b'data: {"choices":[{"index":0,\ndata: "delta":{"content":"two lines. "}}]}\n\n',
        b'data: {"choices":[],"usage":{"total_tokens":1.50}}\n\n',
        DONE,
    ]
    assert await Bench(*SHIPPED).streamed(*events) == [*events, b""]


async def test_a_choice_has_no_place_that_is_not_read() -> None:
    """Members beside its delta that only some server adds, as in a whole answer."""
    more: dict[str, Any] = {"note": f"stopped at {MAIL}", "reasoning_details": [{"summary": f"writes to {MAIL}"}]}
    (out, _) = await Bench(*SHIPPED).streamed(event({"content": "Done. "}, **more))
    assert MAIL.encode() not in out
    (document,) = documents(out)
    assert document["choices"][0]["reasoning_details"] == [{"summary": f"writes to {GONE[MAIL]}"}]


async def test_an_event_with_what_was_held_back_repeats_nothing_that_was_taken_away() -> None:
    """Members that a server adds to the event before it included."""
    delta = {"type": "response.output_text.delta", "output_index": 0, "content_index": 0, "item_id": "m"}
    done = {**delta, "type": "response.output_text.done", "text": "held"}
    written = [{**delta, "delta": "held", "note": f"by {MAIL}"}, done]
    events = [b"data: " + json.dumps(one).encode() + b"\n\n" for one in written]
    out = b"".join(await Bench(*SHIPPED, operation=RESPONSES).streamed(*events))
    assert MAIL.encode() not in out
    assert [one.get("note") for one in documents(out)] == [f"by {GONE[MAIL]}", f"by {GONE[MAIL]}", None]


async def test_prose_flows_with_a_word_s_delay() -> None:
    """Each event goes out at once; the last word of it may be in the next."""
    words = ["The ", "quick ", "brown ", "fox", " jumps", "."]
    out = await Bench(*SHIPPED).streamed(*[event({"content": word}) for word in words])
    assert [accumulated(one).get((0, "content"), "") for one in out] == [
        "The ", "quick ", "brown ", "", "fox ", "", "jumps.",
    ]  # fmt: skip


async def test_what_is_held_back_goes_out_in_an_event_of_its_own_shape() -> None:
    """Before the reason to finish, with the upstream's id and model; at the end of a stream that says none, too."""
    bench = Bench(*SHIPPED)
    out = documents(b"".join(await bench.streamed(event({"content": "write bob"}), event({}, finish="stop"), DONE)))
    assert out[1] == {
        "id": "c", "object": "chat.completion.chunk", "model": "m", "usage": None,
        "choices": [{"index": 0, "delta": {"content": "bob"}, "finish_reason": None}],
    }  # fmt: skip
    assert out[2]["choices"][0] == {"index": 0, "delta": {}, "finish_reason": "stop"}
    unfinished = await bench.streamed(event({"content": "write bob"}))
    assert accumulated(unfinished[-1]) == {(0, "content"): "bob"}


async def test_text_beside_the_reason_to_finish_stays_in_its_event() -> None:
    """Some providers send the last text and the reason at once."""
    out = await Bench(*SHIPPED).streamed(event({"content": "mail "}), event({"content": MAIL}, finish="stop"))
    last = documents(out[1])
    assert [one["choices"][0]["delta"] for one in last] == [{"content": GONE[MAIL]}]
    assert last[0]["choices"][0]["finish_reason"] == "stop"


async def test_parts_of_content_keep_their_types() -> None:
    """Mistral streams content as a list of parts."""

    def part(text: str) -> bytes:
        return event({"content": [{"type": "thinking", "thinking": [{"type": "text", "text": text}]}]})

    out = documents(b"".join(await Bench(*SHIPPED).streamed(part("to bob"), part("@example.or"), part("g"), DONE)))
    found = [one["choices"][0]["delta"]["content"][0] for one in out]
    assert {one["type"] for one in found} == {"thinking"}
    assert {one["thinking"][0]["type"] for one in found} == {"text"}
    assert "".join(one["thinking"][0]["text"] for one in found) == f"to {GONE[MAIL]}"


async def test_what_is_held_back_of_a_second_call_stays_the_second_s() -> None:
    """Arguments cut off by the output limit: the rest of each goes out under its own index and type."""

    def part(index: int, text: str) -> bytes:
        return event({"tool_calls": [{"index": index, "type": "function", "function": {"arguments": text}}]})

    out = b"".join(
        await Bench(*SHIPPED).streamed(part(0, '{"a":"bo'), part(1, '{"b":"ann'), event({}, finish="length"))
    )
    assert accumulated(out) == {(0, "tool_calls", 0): '{"a":"bo', (0, "tool_calls", 1): '{"b":"ann'}
    held = documents(out)[3]["choices"][0]["delta"]["tool_calls"]
    assert held == [{"index": 1, "type": "function", "function": {"arguments": "ann"}}]
    assert documents(out)[4]["choices"][0]["finish_reason"] == "length"
    both = event({"tool_calls": [{"index": 1, "function": {"arguments": "x"}}]}, finish="stop")
    ended = b"".join(await Bench(*SHIPPED).streamed(part(1, '{"b":"an'), both))
    assert accumulated(ended) == {(0, "tool_calls", 1): '{"b":"anx'}
    assert len(documents(ended)) == 2


async def test_names_of_tools_are_not_held_back() -> None:
    """They come whole, and clients act on them."""
    call = {"index": 0, "id": "c", "type": "function", "function": {"name": "get_weather", "arguments": ""}}
    out = await Bench(*SHIPPED).streamed(event({"tool_calls": [call]}))
    assert documents(out[0])[0]["choices"][0]["delta"]["tool_calls"] == [call]


async def test_half_a_character_in_each_of_two_events_is_one() -> None:
    """A surrogate pair cut by the provider, in an event that strict parsers refuse."""

    def half(text: str) -> bytes:
        return b'data: {"choices":[{"index":0,"delta":{"content":"%s"}}]}\n\n' % text.encode()

    rule = ContentRule("face", "😀!", "redact")
    out = b"".join(await Bench(rule).streamed(half("a \\ud83d"), half("\\ude00! b"), half(" \\ud83d"), DONE))
    assert accumulated(out) == {(0, "content"): "a [redacted] b \ud83d"}


@pytest.mark.parametrize("operation", [CHAT, MESSAGES])
async def test_a_refusal_in_a_stream_ends_it_with_an_error_event(operation: Operation) -> None:
    """What was released stays; after the error nothing goes out, whatever the upstream still sends."""
    if operation is CHAT:
        spoken = [event({"content": piece}) for piece in ("It is Proj", "ect Apo", "llo. Really.")]
    else:
        spoken = [
            anthropic("content_block_delta", index=0, delta={"type": "text_delta", "text": piece})
            for piece in ("It is Proj", "ect Apo", "llo. Really.")
        ]
    bench = Bench(STOP, operation=operation)
    out = await bench.streamed(*spoken, *spoken, DONE)
    assert list(accumulated(b"".join(out)).values()) == ["It is "]
    assert out[3:] == [b""] * (len(out) - 3)
    error = documents(out[2])[-1]["error"]
    assert (error["code"], "Apollo" in error["message"]) == ("content_refused", False)
    assert DIALECTS[operation.dialect or ""].is_error_event(split_events(out[2])[-1])
    assert bench.seen is not None
    assert bench.seen.refusal is not None
    assert (bench.seen.refusal.code, bench.seen.content_struck) == ("content_refused", ["plans"])


@pytest.mark.parametrize("broken", [b"data: {broken bob@example.org\n\n", b"data: bob@example.org\n\n"])
async def test_a_stream_that_cannot_be_read_ends(broken: bytes) -> None:
    """No rule can be applied to it."""
    out = b"".join(await Bench(*SHIPPED).streamed(event({"content": "hi "}), broken, event({"content": "more "})))
    assert MAIL.encode() not in out
    assert accumulated(out) == {(0, "content"): "hi "}
    assert documents(out)[-1]["error"]["code"] == "upstream_error"


async def test_an_unfinished_last_event_is_read_too() -> None:
    """A stream may end without the blank line; what is no JSON is left out."""
    unended = event({"content": f"to {MAIL}!"}).rstrip()
    out = await Bench(*SHIPPED).streamed(event({"content": "hi "}), unended)
    assert accumulated(b"".join(out)) == {(0, "content"): f"hi to {GONE[MAIL]}!"}


async def test_rules_of_one_set_are_compiled_once() -> None:
    """And forgotten when the configuration changes."""
    bench = Bench(*SHIPPED)
    await bench.sent(HELLO)
    (made,) = bench.plugin._matchers.values()
    await bench.sent(HELLO)
    assert [made] == list(bench.plugin._matchers.values())
    bench.plugin.follow(exchange().generation)
    assert bench.plugin._matchers == {}
