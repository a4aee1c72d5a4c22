"""Follow-up questions: the history goes in front, the answer behind, as the caller's rules left both."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import orjson
import pytest

from plugins.conversations.plugin import ConversationsPlugin, ConversationsSettings
from plugins.conversations.stream import Watch
from proxy.chain import compose
from proxy.conversations.api import is_id
from proxy.conversations.service import Conversations
from proxy.dialects import DIALECTS, changed
from proxy.errors import Refusal
from proxy.exchange import Exchange, Finish, Response
from proxy.headers import Headers
from proxy.identities import IdentityKind
from proxy.operations import CHAT, ORCHESTRATE, Operation
from proxy.payments.api import Credential, Presented
from tests.support.fakes import Chunks, FakeClock, Log, exchange, generation, identity, model

PANEL: Any = SimpleNamespace(name="fast", input_tokens_max=8_000)
PAYER = identity(kind=IdentityKind.PAYER, key_id="payer")


def event(name: str, **members: Any) -> bytes:
    return b"event: %s\ndata: %s\n\n" % (name.encode(), orjson.dumps({"type": name, **members}))


def done(answer: str) -> bytes:
    return event("done", result={"answer": answer})


class Panel:
    """The rest of the chain: answers with a number, and remembers what it was asked."""

    def __init__(self) -> None:
        self.asked: list[list[tuple[str, Any]]] = []
        self.ids: list[str] = []
        self.answers: list[Response | Exception] = []
        self.gate: asyncio.Event | None = None
        self.amend: dict[str, Any] = {}
        self.repeated = False

    async def __call__(self, seen: Exchange) -> Response:
        if seen.call is not None and self.amend:
            seen.call = changed(seen.call, {key: orjson.dumps(value) for key, value in self.amend.items()})
        document = seen.call.document if seen.call is not None else {}
        self.asked.append([(one["role"], one["content"]) for one in document.get("messages") or []])
        self.ids.append(document.get("conversation_id") or "")
        number = len(self.asked)
        if self.gate is not None:
            await self.gate.wait()
        seen.repeated = self.repeated
        answer = self.answers.pop(0) if self.answers else Response.of(200, orjson.dumps({"answer": f"a{number}"}))
        if isinstance(answer, Exception):
            raise answer
        return answer


class Bench:
    """The plugin on a file of its own."""

    def __init__(self, folder: Path) -> None:
        self.clock, self.log, self.panel = FakeClock(), Log(), Panel()
        self.generation = replace(generation(), root=folder)
        self.store = Conversations(folder, self.clock, self.log)
        services: Any = SimpleNamespace(
            clock=self.clock,
            log=self.log,
            conversations=self.store,
            once=None,
            generation=SimpleNamespace(consensus=None),
        )
        self.plugin = ConversationsPlugin(ConversationsSettings(), services)
        self.chain = compose([self.plugin], self.panel, self.log)

    def exchange(self, document: dict[str, Any], operation: Operation = ORCHESTRATE, **facts: Any) -> Exchange:
        body = orjson.dumps(document)
        seen = exchange(body=body, under=self.generation, operation=operation)
        seen.call = DIALECTS[operation.dialect or ""].parse(body)
        seen.model, seen.identity = model("consensus-fast", panel=PANEL), identity()
        for name, value in facts.items():
            setattr(seen, name, value)
        return seen

    async def ask(self, prompt: str, conversation: str = "new", **facts: Any) -> Response:
        seen = self.exchange({"prompt": prompt, "conversation_id": conversation}, **facts)
        response = await self.chain(seen)
        if response.stream is not None:
            response.body = await read(response)
            for closing in seen.before_finish:
                await closing()
        assert not seen.finish(Finish.SERVED)
        return response

    async def begun(self, prompt: str = "q1", **facts: Any) -> str:
        assert (await self.ask(prompt, **facts)).status == 200
        return self.panel.ids[-1]

    async def turns(self, id_: str, owner: str = "key:key_000000000001") -> list[tuple[str, str]]:
        return [(turn.role, turn.text) for turn in (await self.store.find(owner, id_)).turns]


async def read(response: Response) -> bytes:
    sent = []
    while True:
        chunk = await response.pull()
        last = not chunk
        for transform in response.transforms:
            chunk = transform(chunk) if chunk else b""
            if last:
                chunk += transform(b"")
        sent.append(chunk)
        if last:
            return b"".join(sent)


def streamed(*pieces: bytes | Exception) -> Response:
    return Response(200, Headers({"content-type": "text/event-stream"}), stream=Chunks(*pieces), sse=True)


@pytest.fixture
async def bench(tmp_path: Path) -> AsyncIterator[Bench]:
    made = Bench(tmp_path)
    await made.plugin.start()
    yield made
    await made.plugin.stop()


async def test_new_makes_an_id_that_the_call_then_has(bench: Bench) -> None:
    """So that whoever renders the answer can say it."""
    id_ = await bench.begun()
    assert is_id(id_)
    assert bench.panel.asked == [[("user", "q1")]]
    assert await bench.turns(id_) == [("user", "q1"), ("assistant", "a1")]


async def test_history_stands_before_the_new_turn(bench: Bench) -> None:
    """Former answers are the assistant's; instructions stay in front and are not kept."""
    id_ = await bench.begun()
    messages = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "q2"}]
    seen = bench.exchange({"messages": messages, "conversation_id": id_})
    await bench.chain(seen)
    assert bench.panel.asked[1] == [("system", "Be brief."), ("user", "q1"), ("assistant", "a1"), ("user", "q2")]
    assert bench.panel.ids == [id_, id_]
    assert await bench.turns(id_) == [("user", "q1"), ("assistant", "a1"), ("user", "q2"), ("assistant", "a2")]


async def test_what_asks_for_no_conversation_is_left_alone(bench: Bench) -> None:
    """The very call goes on, of another operation too."""
    seen = bench.exchange({"prompt": "q"})
    call = seen.call
    await bench.chain(seen)
    assert seen.call is call
    chat = {"model": "consensus-fast", "messages": [{"role": "user", "content": "q"}], "conversation_id": "new"}
    seen = bench.exchange(chat, CHAT)
    call = seen.call
    await bench.chain(seen)
    assert seen.call is call
    assert await bench.store.listing("key:key_000000000001", 10) == []


@pytest.mark.parametrize("id_", ["conv_" + "0" * 26, "conv_x", "elsewhere"])
async def test_unknown_conversation_is_refused_before_anything_runs(bench: Bench, id_: str) -> None:
    """404, and nobody is called."""
    refused = await bench.ask("q", id_)
    assert (refused.status, orjson.loads(refused.body)["error"]["code"], bench.panel.asked) == (404, "not_found", [])


async def test_conversation_of_another_caller_is_unknown(bench: Bench) -> None:
    """The same answer as to one that never was."""
    id_ = await bench.begun()
    other = identity(key_id="key_000000000002")
    refused = await bench.ask("q", id_, identity=other)
    unknown = await bench.ask("q", "conv_" + "0" * 26, identity=other)
    assert (refused.status, refused.body) == (404, unknown.body)


async def test_balance_has_conversations_of_its_own(bench: Bench) -> None:
    """Known by its token's digest."""
    paid = Presented(Credential.BALANCE, "t", "ab" * 32)
    id_ = await bench.begun(identity=PAYER, presented=paid)
    assert (await bench.ask("q2", id_, identity=PAYER, presented=paid)).status == 200
    assert (await bench.ask("q2", id_)).status == 404
    assert len(await bench.turns(id_, f"balance:{'ab' * 32}")) == 4


@pytest.mark.parametrize(
    "facts",
    [
        {"identity": PAYER},
        {"identity": PAYER, "payment_proof": "ab" * 32, "presented": Presented(Credential.L402, "t", "ab" * 32)},
        {"identity": identity(kind=IdentityKind.ANONYMOUS)},
    ],
)
async def test_who_has_no_account_has_no_conversation(bench: Bench, facts: dict[str, Any]) -> None:
    """A clear 400 that says what to do instead."""
    refused = await bench.ask("q", **facts)
    assert (refused.status, b"prepaid balance" in refused.body, bench.panel.asked) == (400, True, [])


@pytest.mark.parametrize(
    "messages",
    [
        [{"role": "user", "content": "q"}, {"role": "assistant", "content": "a"}, {"role": "user", "content": "q"}],
        [{"role": "system", "content": "s"}],
    ],
)
async def test_only_what_is_new_is_sent(bench: Bench, messages: list[Any]) -> None:
    """Answers are the conversation's own; without a question there is nothing to answer."""
    seen = bench.exchange({"messages": messages, "conversation_id": "new"})
    assert (await bench.chain(seen)).status == 400


@pytest.mark.parametrize(
    "failure",
    [Refusal("upstream_unavailable", "No.", retry_after_seconds=1), RuntimeError("x"), Response.of(200, b"garbage")],
)
async def test_failed_run_leaves_nothing(bench: Bench, failure: Any) -> None:
    """No conversation of a first turn, and no turn of a later one."""
    bench.panel.answers = [failure]
    await bench.ask("q")
    assert await bench.store.listing("key:key_000000000001", 10) == []
    id_ = await bench.begun()
    bench.panel.answers = [failure]
    await bench.ask("lost", id_)
    assert len(await bench.turns(id_)) == 2


async def test_repeated_answer_is_no_turn(bench: Bench) -> None:
    """It was kept when it was given."""
    id_ = await bench.begun()
    bench.panel.repeated = True
    await bench.ask("q1", id_)
    assert len(await bench.turns(id_)) == 2


async def test_turn_is_kept_as_the_rules_left_it(bench: Bench) -> None:
    """The question as it was asked after content rules, the answer as they let it out."""
    bench.panel.amend = {"messages": [{"role": "user", "content": "my card is [card]"}]}
    bench.panel.answers = [Response.of(200, orjson.dumps({"answer": "noted: [card]"}))]
    id_ = await bench.begun("my card is 4111111111111111")
    assert await bench.turns(id_) == [("user", "my card is [card]"), ("assistant", "noted: [card]")]


async def test_stream_is_kept_before_its_end_goes_out(bench: Bench) -> None:
    """As it goes out, byte for byte, however it is cut; `done` follows the commit."""
    sent = event("token", text="x") + event("usage") + done("a \u00e9")
    bench.panel.answers = [streamed(*[sent[at : at + 7] for at in range(0, len(sent), 7)])]
    seen = bench.exchange({"prompt": "q", "conversation_id": "new", "stream": True})
    response = await bench.chain(seen)
    out = b""
    while chunk := await response.pull():
        out += response.transforms[0](chunk)
    assert b"event: done" not in out
    assert await bench.turns(bench.panel.ids[-1]) == [("user", "q"), ("assistant", "a \u00e9")]
    assert out + response.transforms[0](b"") == sent


async def test_stream_is_kept_as_outer_rules_let_it_out(bench: Bench) -> None:
    """A transform further in has been at it before."""
    answer = streamed(done("SECRET"))
    answer.transforms.append(lambda chunk: chunk.replace(b"SECRET", b"[cut]"))
    bench.panel.answers = [answer]
    await bench.ask("q")
    assert (await bench.turns(bench.panel.ids[-1]))[1] == ("assistant", "[cut]")


async def test_stream_held_back_to_its_end_is_kept(bench: Bench) -> None:
    """A transform further in that lets all go at the end: kept before the exchange ends."""
    held: list[bytes] = []

    def hold(chunk: bytes) -> bytes:
        if chunk:
            held.append(chunk)
            return b""
        return b"".join(held)

    answer = streamed(done("a"))
    answer.transforms.append(hold)
    bench.panel.answers = [answer]
    assert (await bench.ask("q")).body == done("a")
    assert (await bench.turns(bench.panel.ids[-1]))[1] == ("assistant", "a")


@pytest.mark.parametrize("pieces", [(event("error", error={}),), (event("token", text="x"),), (event("done"),)])
async def test_stream_without_an_answer_is_not_kept(bench: Bench, pieces: tuple[bytes, ...]) -> None:
    """It broke off, or ended with an error."""
    bench.panel.answers = [streamed(*pieces)]
    await bench.ask("q")
    assert await bench.store.listing("key:key_000000000001", 10) == []


async def test_requests_at_once_see_one_history_and_are_both_kept(bench: Bench) -> None:
    """In the order in which they end."""
    id_ = await bench.begun()
    bench.panel.gate = asyncio.Event()
    asks = [asyncio.create_task(bench.ask(f"at once {number}", id_)) for number in range(2)]
    while len(bench.panel.asked) < 3:
        await asyncio.sleep(0.001)
    bench.panel.gate.set()
    await asyncio.gather(*asks)
    assert [len(asked) for asked in bench.panel.asked[1:]] == [3, 3]
    turns = await bench.turns(id_)
    assert [role for role, _ in turns] == ["user", "assistant"] * 3
    assert {text for role, text in turns if role == "user"} == {"q1", "at once 0", "at once 1"}


async def test_deleted_meanwhile_stays_deleted(bench: Bench) -> None:
    """The answer is given, the turn is not kept, and the log says so without its text."""
    id_ = await bench.begun()
    bench.panel.gate = asyncio.Event()
    ask = asyncio.create_task(bench.ask("SECRET", id_))
    while len(bench.panel.asked) < 2:
        await asyncio.sleep(0.001)
    await bench.store.delete("key:key_000000000001", id_)
    bench.panel.gate.set()
    assert (await ask).status == 200
    assert await bench.store.listing("key:key_000000000001", 10) == []
    assert "turn_not_kept" in bench.log.names()
    assert "SECRET" not in repr(bench.log.events)


async def test_history_is_bounded_by_the_mode_and_begins_with_the_user(bench: Bench) -> None:
    """The oldest turns are left out of the call, not out of the conversation."""
    id_ = await bench.begun("x" * 9_000)
    await bench.ask("y" * 9_000, id_)
    await bench.ask("z", id_)
    assert [(role, text[:1]) for role, text in bench.panel.asked[2]] == [
        ("user", "y"),
        ("assistant", "a"),
        ("user", "z"),
    ]
    assert len(await bench.turns(id_)) == 6


async def test_image_is_kept_as_a_note(bench: Bench) -> None:
    """Its bytes are not."""
    parts = [
        {"type": "text", "text": "What is this?"},
        {"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}},
    ]
    seen = bench.exchange({"messages": [{"role": "user", "content": parts}], "conversation_id": "new"})
    await bench.chain(seen)
    assert bench.panel.asked[0] == [("user", parts)]
    assert (await bench.turns(bench.panel.ids[-1]))[0] == ("user", "What is this?\n[image]")


def test_watch_passes_an_endless_event_on() -> None:
    """Unread, in its order, and to the last byte."""
    watch = Watch(lambda _: None)
    sent = event("token", text="x") + b": " + b"x" * (9 << 20)
    out = b"".join([watch(sent[at : at + (1 << 20)]) for at in range(0, len(sent), 1 << 20)])
    assert out + watch(done("a")) + watch(b"") == sent + done("a")
