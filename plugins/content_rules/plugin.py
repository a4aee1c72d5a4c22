"""What requests and answers must not carry: keys, card numbers, mail addresses and patterns of the operator's."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any, ClassVar

import orjson
from pydantic import Field

from plugins.content_rules.answers import unreadable, whole_answer
from plugins.content_rules.anthropic_stream import MessageEvents
from plugins.content_rules.documents import Texts, TooMuchText, refused_answer, refused_request, too_much_to_read
from plugins.content_rules.openai_stream import ChatEvents
from plugins.content_rules.orchestrate_stream import OrchestrateEvents
from plugins.content_rules.responses_stream import ResponseEvents
from plugins.content_rules.streams import EventReader, Followed, StreamGuard
from proxy.config.schema import Generation
from proxy.dialects import changed
from proxy.dialects.base import Call
from proxy.errors import Refusal
from proxy.exchange import Exchange, Response
from proxy.operations import Target
from proxy.plugin import Next, Plugin, PluginSettings, Stage
from proxy.policy.rules import ContentRule
from proxy.text.filters import Refused
from proxy.text.matching import Matcher

MATCHERS_MAX = 1_000
"""Sets of rules kept compiled: one for each direction of each policy in use."""
READERS: dict[str, Callable[[Followed], EventReader]] = {
    "openai.chat": ChatEvents,
    "anthropic.messages": MessageEvents,
    "openai.responses": ResponseEvents,
    "tollway.orchestrate": OrchestrateEvents,
}
"""Dialect -> what its events mean."""
SEARCHES_AT_ONCE_MAX = 4
"""Large bodies searched at a time. In threads of their own: a body made to be slow must not keep parsing waiting."""
_UNREAD = (Target.UNMETERED, Target.WEBSOCKET)


class ContentRulesSettings(PluginSettings):
    """How bodies are searched."""

    search_on_loop_bytes_max: int = Field(
        default=64 << 10, ge=0, description="Larger requests and answers are searched in a thread, off the event loop."
    )


class ContentRulesPlugin(Plugin[ContentRulesSettings]):
    """Refuses or redacts by the rules in `policy.content`, in requests and, streamed or whole, in answers."""

    name = "content_rules"
    stage = Stage.RESOLVE
    Settings: ClassVar[type[PluginSettings]] = ContentRulesSettings
    requires = frozenset({"identity", "call", "model", "policy"})
    enforces = frozenset({"content"})

    def __init__(self, settings: ContentRulesSettings, services: Any) -> None:
        super().__init__(settings, services)
        self._matchers: dict[tuple[ContentRule, ...], tuple[Matcher | None, Matcher | None]] = {}
        self._threads = ThreadPoolExecutor(SEARCHES_AT_ONCE_MAX, thread_name_prefix="content-rules")

    async def stop(self) -> None:
        """See Plugin: nobody waits for what is still being searched."""
        self._threads.shutdown(wait=False, cancel_futures=True)

    def follow(self, generation: Generation) -> None:
        """See Plugin: rules of an earlier configuration are forgotten."""
        self._matchers.clear()

    async def __call__(self, exchange: Exchange, call_next: Next) -> Response:
        policy = exchange.policy
        if policy is None or not policy.content:
            return await call_next(exchange)
        if exchange.operation.target in _UNREAD:
            raise Refusal(
                "path_not_allowed",
                "Content rules apply to you, and what goes over this path is not read. Use a path that is metered.",
            )
        requests, answers = self._matchers.get(policy.content) or self._compile(policy.content)
        call = exchange.call
        if call is None:
            return await call_next(exchange)
        if requests is not None:
            exchange.call = await self._checked(exchange, call, requests)
        if call.stream and answers is not None and call.dialect not in READERS:
            raise Refusal("internal_error", "This path is closed: nothing here reads streams of its format.")
        exchange.content_checked = True
        response = await call_next(exchange)
        if answers is not None and response.status < 300 and exchange.operation.name != "embeddings":
            await self._guard(exchange, call, response, answers)
        return response

    def _compile(self, rules: tuple[ContentRule, ...]) -> tuple[Matcher | None, Matcher | None]:
        requests = tuple([rule for rule in rules if rule.requests])
        answers = tuple([rule for rule in rules if rule.answers])
        made = (Matcher(requests) if requests else None, Matcher(answers) if answers else None)
        if len(self._matchers) >= MATCHERS_MAX:
            self._matchers.clear()
        self._matchers[rules] = made
        return made

    async def _in_thread[**P, T](self, search: Callable[P, T], *given: P.args, **named: P.kwargs) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._threads, partial(search, *given, **named))

    def _strike(self, exchange: Exchange, rule: ContentRule) -> None:
        if rule.name not in exchange.content_struck:
            exchange.content_struck.append(rule.name)
        self.services.metrics.content_struck(rule.name, rule.action)

    async def _checked(self, exchange: Exchange, call: Call, matcher: Matcher) -> Call:
        """The call as it may be sent. Raises Refusal."""
        struck: list[ContentRule] = []
        texts = Texts(matcher, struck.append)
        try:
            if len(call.body) > self.settings.search_on_loop_bytes_max:
                return await self._in_thread(_amended, call, texts)
            return _amended(call, texts)
        except Refused as refused:
            raise refused_request(refused) from refused
        except TooMuchText as unread:
            raise too_much_to_read() from unread
        finally:
            for rule in struck:
                self._strike(exchange, rule)

    async def _guard(self, exchange: Exchange, call: Call, response: Response, matcher: Matcher) -> None:
        """Search the answer: now where it is whole, as it passes where it is a stream."""
        if response.stream is not None:
            reader = READERS[call.dialect]
            guard = StreamGuard(exchange, matcher, reader, lambda rule: self._strike(exchange, rule))
            response.transforms.append(guard)
            return
        struck: list[ContentRule] = []
        texts = Texts(matcher, struck.append)
        try:
            if len(response.body) > self.settings.search_on_loop_bytes_max:
                response.body = await self._in_thread(whole_answer, response.body, texts)
            else:
                response.body = whole_answer(response.body, texts)
        except Refused as refused:
            raise refused_answer(refused) from refused
        except TooMuchText as unread:
            raise unreadable() from unread
        finally:
            for rule in struck:
                self._strike(exchange, rule)


def _amended(call: Call, texts: Texts) -> Call:
    """Only the top-level members that change are written anew; all else stays the client's own bytes."""
    if texts.untouched(call.body):
        return call
    members = texts.document(call.document)
    return changed(call, {key: orjson.dumps(value) for key, value in members.items()}) if members else call


PLUGIN = ContentRulesPlugin
