"""Follow-up questions on /v1/orchestrate: the stored turns go in front of the new one, the answer behind them."""

from __future__ import annotations

import asyncio
import sqlite3
from typing import ClassVar, Final

from fastapi import APIRouter
from pydantic import Field

from plugins.conversations import api
from plugins.conversations.stream import EndsAfter, Watch, answer_of_whole
from plugins.conversations.turns import Said, bounded, kept, said, with_history
from proxy.accounts import account_of
from proxy.assembly import StartError
from proxy.config.schema import Generation
from proxy.consensus.settings import Consensus
from proxy.conversations.api import Turn, new_id
from proxy.conversations.service import Conversations
from proxy.dialects.base import Call
from proxy.dialects.orchestrate import NEW_CONVERSATION
from proxy.errors import Refusal
from proxy.exchange import Exchange, Response
from proxy.operations import ORCHESTRATE
from proxy.plugin import Next, Plugin, PluginSettings, Services, Stage
from proxy.state_file import FileTooNew

ON_LOOP_BYTES_MAX: Final = 256 << 10
"""Calls larger than this are put together in a thread."""
HISTORY_BYTES_PER_TOKEN: Final = 2
"""Of the mode's input limit: about half of it in English, two thirds in Chinese; the rest is for the question."""


class ConversationsSettings(PluginSettings):
    """How much is kept. For how long, and how many turns, says policies/consensus.yaml."""

    conversations_max: int = Field(
        default=1000, ge=1, le=1_000_000, description="Of one caller; those without a turn for longest give way."
    )
    conversation_bytes_max: int = Field(
        default=1 << 20, ge=1024, le=64 << 20, description="Of text in one conversation; its oldest turns are dropped."
    )


class ConversationsPlugin(Plugin[ConversationsSettings]):
    """Stands behind `catalogue` and before everybody who judges the call: they see the whole conversation.

    A turn is kept as the rules of the caller left it, in the question and in the answer, once the answer came to its
    end. Two requests at once see the same history, and both are kept, in the order in which they end.
    """

    name = "conversations"
    stage = Stage.RESOLVE
    Settings: ClassVar[type[PluginSettings]] = ConversationsSettings
    requires = frozenset({"identity", "call", "model"})

    def __init__(self, settings: ConversationsSettings, services: Services) -> None:
        super().__init__(settings, services)
        self._conversations: Conversations = services.conversations

    async def start(self) -> None:
        """Open the file. Raises StartError."""
        self._conversations.owner_count_max = self.settings.conversations_max
        self._conversations.conversation_bytes_max = self.settings.conversation_bytes_max
        self.follow(self.services.generation)
        try:
            await self._conversations.start()
        except (FileTooNew, sqlite3.Error, OSError) as error:
            raise StartError(f"conversations: {error}") from error

    async def stop(self) -> None:
        """Let go of the file."""
        await self._conversations.stop()

    def follow(self, generation: Generation) -> None:
        """Keep as long and as many turns as the new configuration says."""
        consensus: Consensus | None = generation.consensus
        if consensus is not None:
            self._conversations.hours = consensus.history_hours
            self._conversations.turns_max = consensus.conversation_turns_max

    def router(self) -> APIRouter:
        """See `plugins.conversations.api`."""
        return api.router(self._conversations, self.services.once)

    async def __call__(self, exchange: Exchange, call_next: Next) -> Response:
        call = exchange.call
        wanted = None if call is None else call.document.get("conversation_id")
        if call is None or not isinstance(wanted, str) or exchange.operation.name != ORCHESTRATE.name:
            return await call_next(exchange)
        owner = account_of(exchange)
        if owner is None:
            raise _no_account()
        new = wanted == NEW_CONVERSATION
        now_said = said(call)
        past = () if new else (await self._conversations.find(owner, wanted)).turns
        id_ = new_id() if new else wanted
        exchange.call = await self._asked(exchange, call, now_said, past, id_)
        response = await call_next(exchange)
        if response.status == 200 and exchange.refusal is None and not exchange.repeated:
            await _Keeping(self, exchange, owner, id_, new, len(now_said.new)).follow(response)
        return response

    async def _asked(self, exchange: Exchange, call: Call, now_said: Said, past: tuple[Turn, ...], id_: str) -> Call:
        """The call with the history that fits. Raises Refusal."""
        bytes_max = self.settings.conversation_bytes_max
        panel = None if exchange.model is None else exchange.model.panel
        if panel is not None:
            bytes_max = min(bytes_max, panel.input_tokens_max * HISTORY_BYTES_PER_TOKEN)
        history = bounded(past, bytes_max)
        if len(call.body) + bytes_max > ON_LOOP_BYTES_MAX:
            return await asyncio.to_thread(with_history, call, now_said, history, id_)
        return with_history(call, now_said, history, id_)

    async def keep(self, exchange: Exchange, owner: str, id_: str, turns: list[Turn], *, new: bool) -> None:
        """Keep the turns. The answer stands whatever becomes of it: what cannot be kept is logged, without its text."""
        try:
            kept_ = await self._conversations.append(owner, id_, turns, new=new)
        except Refusal:
            kept_ = False
        if not kept_:
            self.services.log.warning("turn_not_kept", request_id=exchange.request_id, conversation=id_)


class _Keeping:
    """One answer on its way out."""

    def __init__(
        self, plugin: ConversationsPlugin, exchange: Exchange, owner: str, id_: str, new: bool, count: int
    ) -> None:
        self._plugin = plugin
        self._exchange = exchange
        self._owner = owner
        self._id = id_
        self._new = new
        self._count = count
        self._task: asyncio.Task[None] | None = None

    async def follow(self, response: Response) -> None:
        """Keep a whole answer now; a stream's when its `done` comes by, before that goes out."""
        if response.stream is None:
            answer = answer_of_whole(response.body)
            if answer is not None:
                self._begin(answer)
                await self._kept()
            return
        response.transforms.append(Watch(self._begin))
        response.stream = EndsAfter(response.stream, self._kept)
        self._exchange.before_finish.append(self._kept)

    def _begin(self, answer: str) -> None:
        call = self._exchange.call
        if call is None:
            return
        turns = kept(call, self._count, answer)
        keeping = self._plugin.keep(self._exchange, self._owner, self._id, turns, new=self._new)
        self._task = asyncio.get_running_loop().create_task(keeping, name="conversation-keep")

    async def _kept(self) -> None:
        """A client that leaves now does not undo it."""
        if self._task is not None:
            await asyncio.wait({self._task})


def _no_account() -> Refusal:
    return Refusal(
        "invalid_request",
        "A conversation belongs to a key or to a prepaid balance, and none came with this request. Send one, or leave "
        "'conversation_id' out and send the whole conversation in 'messages'.",
        param="conversation_id",
    )


PLUGIN = ConversationsPlugin
