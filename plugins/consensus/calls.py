"""The calls of one run, each through the rest of the chain: circuits, retries, metering and the ledger's rows are
those of any other call."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Final

import orjson

from plugins.consensus.answers import ChatText, check_size, whole_answer
from plugins.consensus.failures import failure_of, kind_of
from proxy.admission import with_room
from proxy.attempt_costs import list_cost
from proxy.catalogue import Model
from proxy.consensus.api import Answer, CallFailed, CallRecord, CallSpec, Deltas
from proxy.dialects import DIALECTS
from proxy.dialects.base import Call
from proxy.exchange import Exchange, Finish, Request, Response
from proxy.forwarding import PANEL_DEPTH
from proxy.headers import Headers
from proxy.operations import CHAT
from proxy.plugin import Next
from proxy.pricing import tokens
from proxy.pricing.money import ZERO, Nano
from proxy.pricing.quote import Quote
from proxy.quoting import encoding_of, narrowed, priced, quote
from proxy.routes import Route, Try
from proxy.upstreams.api import UpstreamFailure
from proxy.usage import Usage, known

RUNNING: Final = "running"
REASONING_TOKENS_PER_SECOND: Final = 100
"""What a model may have been thinking while it said nothing: assumed of a call that was cut before its usage came, so
that leaving early is no way to have models think at somebody else's expense."""


Prepared = tuple[Model, Call, Quote]
"""The model with the candidates that may serve a call, the call, and what it can cost at most."""


class NoBody:
    """A request that we made ourselves has been read."""

    async def read(self) -> bytes:
        """See BodyReader."""
        return b""


@dataclass(slots=True, eq=False)
class Open:
    """One call under way."""

    spec: CallSpec
    branch: Exchange
    call: Call
    model: Model
    quote: Quote
    record: CallRecord
    started: float
    text: ChatText = field(default_factory=ChatText)
    ended: bool = False


class ChainCalls:
    """See `proxy.consensus.api.Calls`. `call_next` is the chain behind the plugin."""

    def __init__(self, exchange: Exchange, call_next: Next) -> None:
        self._exchange = exchange
        self._call_next = call_next
        self._records: list[CallRecord] = []
        self._open: list[Open] = []
        self._tries: list[Try] = []
        self._models: dict[str, Model | None] = {}
        self._ready: dict[int, tuple[CallSpec, Prepared]] = {}
        """By the spec's identity: what was worked out for its bound, until it is called."""

    @property
    def records(self) -> Sequence[CallRecord]:
        """See Calls."""
        return self._records

    @property
    def cost(self) -> Nano:
        """Of all calls so far, at list."""
        return Nano(sum([record.cost for record in self._records]))

    def cost_max(self, spec: CallSpec) -> Nano:
        """See Calls. Raises CallFailed where the seat cannot take the call."""
        prepared = self._prepared(spec)
        self._ready[id(spec)] = (spec, prepared)
        return prepared[2].list or ZERO

    async def call(self, spec: CallSpec, deltas: Deltas | None = None) -> Answer:
        """See Calls."""
        _, ready = self._ready.pop(id(spec), (spec, None))
        model, call, bound = ready or self._prepared(spec)
        opened = self._begin(spec, model, call, bound)
        loop = asyncio.get_running_loop()
        try:
            answer = await self._answer(opened, deltas)
            opened.record.status = "served"
            return answer
        except CallFailed as failed:
            opened.record.status = failed.kind
            raise
        except asyncio.CancelledError:
            opened.record.status = "cancelled"
            raise
        finally:
            opened.record.seconds = loop.time() - opened.started
            if opened.record.status == RUNNING:
                opened.record.status = "broken"  # A fault, or an answer that nobody could take: it runs no more.
            await self._end(opened)

    def close(self, reason: Finish) -> None:
        """The exchange ends: what is still under way is booked as it stands."""
        for opened in list(self._open):
            opened.record.status = "cancelled"
            self._book(opened, reason)
        self.hand_over()

    def hand_over(self) -> None:
        """Every attempt and all usage so far are the exchange's, one that was served last if there is one."""
        exchange = self._exchange
        self._tries.sort(key=lambda tried: tried.outcome == "served")
        exchange.route = Route(self._tries)
        exchange.dispatched = exchange.dispatched or bool(self._tries)
        exchange.usage = _sum([tried.usage for tried in self._tries])

    def _prepared(self, spec: CallSpec) -> Prepared:
        """Raises CallFailed where the seat cannot take the call."""
        model = self._model(spec.seat.model)
        if model is None:
            raise CallFailed("unavailable")
        call = DIALECTS[CHAT.dialect or ""].parse(_body(spec, model))
        bound = quote(model, call, provider_credential=False)
        limit = min(spec.output_tokens, model.output_tokens_max)
        bound = priced(bound.with_output(limit), model, call, provider_credential=False)
        room = with_room(bound.candidates, model, bound.input_tokens, limit)
        if room and len(room) < len(bound.candidates):
            bound = narrowed(bound, model, call, room)
            bound = priced(bound.with_output(min(limit, bound.output_tokens)), model, call, provider_credential=False)
        if not bound.bounded or bound.list is None:
            raise CallFailed("unavailable")
        return model, call, bound

    def _model(self, name: str) -> Model | None:
        """A seat's model with the candidates that the caller's rules leave."""
        if name not in self._models:
            found, exchange = self._exchange.generation.models.get(name), self._exchange
            if found is not None:
                allowed = {(one.upstream, one.upstream_model) for one in _admitted(exchange) if one.model == name}
                left = tuple([one for one in found.candidates if (one.upstream, one.upstream_model) in allowed])
                found = replace(found, candidates=left, hedge=False, sticky=False) if left else None
            self._models[name] = found
        return self._models[name]

    def _begin(self, spec: CallSpec, model: Model, call: Call, bound: Quote) -> Open:
        exchange = self._exchange
        seat = spec.seat
        branch = replace(
            exchange,
            operation=CHAT,
            request=_request(exchange),
            call=call,
            model=model,
            quote=bound.with_enforced(True),
            role=f"{spec.role.value}/{spec.round}/{seat.name}",
            client_gone=False,  # Who stays to its end has retries as well; who does not is cancelled.
            route=None, usage=None, refusal=None, dispatched=False, streams=[], before_finish=[], _finishers=[],
            _finished=None,
        )  # fmt: skip
        record = CallRecord(seat, spec.role, spec.round, spec.hedge, cost=bound.list or ZERO)
        opened = Open(spec, branch, call, model, bound, record, asyncio.get_running_loop().time())
        self._records.append(record)
        self._open.append(opened)
        return opened

    async def _answer(self, opened: Open, deltas: Deltas | None) -> Answer:
        response = await self._call_next(opened.branch)
        if opened.branch.refusal is not None or response.status >= 300:
            raise failure_of(opened.branch, response)
        if response.stream is None:
            opened.text.whole(response.body)
        else:
            await self._read(opened, response, deltas)
        return whole_answer(opened.text, opened.spec)

    async def _read(self, opened: Open, response: Response, deltas: Deltas | None) -> None:
        """The stream to its end, piece by piece."""
        text, loop = opened.text, asyncio.get_running_loop()
        pieces, response.peeked = response.peeked, []
        try:
            while pieces or (chunk := await response.pull()):
                if pieces:
                    chunk = pieces.pop(0)
                for delta in text.feed(chunk):
                    if opened.record.first_seconds is None:
                        opened.record.first_seconds = loop.time() - opened.started
                    if deltas is not None:
                        await deltas(delta)
                check_size(text, opened.spec)
        except UpstreamFailure as failure:
            raise CallFailed(kind_of(failure.kind), partial=text.text) from failure
        if not text.finished:
            raise CallFailed("broken", partial=text.text)

    async def _end(self, opened: Open) -> None:
        """Close what it called, read or count its usage, book it. A second end does nothing but close."""
        branch = opened.branch
        cancelled = opened.record.status != "served"
        try:
            for stream in branch.streams:
                await stream.aclose()
            if not opened.ended:
                for tried in () if branch.route is None else branch.route.tries:
                    tried.cut = tried.cut or cancelled
                for closing in branch.before_finish:
                    await closing()
                await _estimate(opened)
        finally:
            self._book(opened, Finish.CLIENT_GONE if opened.record.status == "cancelled" else Finish.SERVED)

    def _book(self, opened: Open, reason: Finish) -> None:
        if opened.ended:
            return
        opened.ended = True
        self._open.remove(opened)
        branch, record = opened.branch, opened.record
        branch.finish(reason)
        self._exchange.streams.extend(branch.streams)
        cost, usages = ZERO, []
        for tried in () if branch.route is None else branch.route.tries:
            tried.model, tried.most = opened.model, opened.quote.list
            self._tries.append(tried)
            cost = Nano(cost + (list_cost(opened.model, tried, opened.quote.list or ZERO) or ZERO))
            usages.append(tried.usage)
        record.cost = cost
        if (used := _sum(usages)) is not None:
            record.input_tokens, record.output_tokens = used.input_tokens, used.output_tokens
            record.cached_tokens, record.estimated = used.cached_tokens, used.counted


def _body(spec: CallSpec, model: Model) -> bytes:
    """OpenAI's chat completions. The output limit is forwarded by the quote, in the upstream's own field."""
    document: dict[str, Any] = {"model": model.name, "messages": list(spec.messages), **spec.sampling}
    if "streaming" in model.common.capabilities:
        document["stream"] = True
    if spec.tools:
        document["tools"] = list(spec.tools)
        if spec.tool_choice is not None:
            document["tool_choice"] = spec.tool_choice
        if spec.parallel_tool_calls is not None:
            document["parallel_tool_calls"] = spec.parallel_tool_calls
    if spec.response_format is not None:
        document["response_format"] = spec.response_format
    return orjson.dumps(document)


def _request(exchange: Exchange) -> Request:
    """A request of our own: nothing of the client's headers goes to a panel's models."""
    headers = Headers({"content-type": "application/json", PANEL_DEPTH: "1"})
    return Request(method="POST", path="/v1/chat/completions", headers=headers, reader=NoBody())


def _admitted(exchange: Exchange) -> Sequence[Any]:
    """The candidates of all seats that the caller's rules leave."""
    if exchange.quote is not None and exchange.quote.candidates:
        return exchange.quote.candidates
    return () if exchange.model is None else exchange.model.candidates


async def _estimate(opened: Open) -> None:
    """Our own count of a call that was cut before its usage came: its input, and what had come of its answer."""
    branch = opened.branch
    tried = branch.route.tries[-1] if branch.route is not None and branch.route.tries else None
    if tried is None or tried.usage is not None or tried.outcome not in ("running", "served"):
        return
    candidates = opened.quote.candidates
    encoding = encoding_of(opened.model, candidates)
    images = opened.model.image_tokens_max_of(tried.candidate)
    given = await tokens.count_call_async(opened.call, encoding, image_tokens_max=images)
    written = await tokens.count_async(opened.text.generated, encoding)
    if given is not None and written is not None:
        output = min(written + _unseen(opened), opened.quote.output_tokens)
        tried.usage = Usage(min(given, opened.quote.input_tokens), output, counted=True)


def _unseen(opened: Open) -> int:
    """Tokens of reasoning that a provider charges and does not show: as many as fit into the silence."""
    if opened.text.reasoned:
        return 0
    silent = opened.record.first_seconds
    if silent is None:
        silent = asyncio.get_running_loop().time() - opened.started
    return int(silent * REASONING_TOKENS_PER_SECOND)


def _sum(usages: Sequence[Usage | None]) -> Usage | None:
    found = [usage for one in usages if (usage := known(one)) is not None]
    if not found:
        return None
    total = Usage.reported(
        input_tokens=sum(one.input_tokens for one in found),
        output_tokens=sum(one.output_tokens for one in found),
        cached_tokens=sum(one.cached_tokens for one in found),
        reasoning_tokens=sum(one.reasoning_tokens for one in found),
    )
    return replace(total, counted=any(one.counted for one in found))
