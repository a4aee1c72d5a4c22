"""Signed webhooks: endpoints for the holder of a key, and the sending of what waits in the outbox."""

from __future__ import annotations

import sqlite3
from pathlib import Path
from typing import ClassVar

from fastapi import APIRouter
from pydantic import Field

from plugins.webhooks import api, results
from proxy.assembly import StartError
from proxy.exchange import Exchange, Response
from proxy.kept_secrets import SecretUnreadable
from proxy.plugin import Next, Plugin, PluginSettings, Services, Stage
from proxy.state_file import FileTooNew
from proxy.webhooks.service import Webhooks
from proxy.webhooks.settings import WebhookRules


class WebhooksSettings(PluginSettings):
    """How deliveries are made, and where they may go beside public addresses."""

    attempts_max: int = Field(default=7, ge=1, le=20, description="A delivery is tried so often, and for 24 h at most.")
    retry_seconds: float = Field(
        default=5.0, ge=0.01, le=3600, description="Before the second attempt; each further wait is six times as long."
    )
    timeout_seconds: float = Field(
        default=10.0, ge=0.1, le=60, description="From looking the name up to the last byte of the receiver's answer."
    )
    at_once_max: int = Field(default=8, ge=1, le=256, description="Deliveries under way at once in this process.")
    pending_max: int = Field(default=1000, ge=1, le=1_000_000, description="Deliveries of one key that may wait.")
    development: bool = Field(
        default=False, description="Lets webhooks go to this very machine, over http as well: for trying them out."
    )
    allow_private: tuple[str, ...] = Field(
        default=(), description="HOST:PORT, spelled as in the URL, that may be private; they may be http."
    )
    ca_file: str = Field(
        default="", description="Certificates of allow_private and of this machine are checked against it alone."
    )


class WebhooksPlugin(Plugin[WebhooksSettings]):
    """Serves /v1/webhooks/config and /v1/webhooks/test, and runs `services.webhooks`: without it nothing is sent.

    What came of an orchestration is put into the outbox as it goes out to its caller, so that rules about content and
    concealment hold for both: it stands outside of everything that changes an answer.
    """

    name = "webhooks"
    stage = Stage.OBSERVE
    observes = frozenset({"identity", "call"})
    precedes = frozenset({"conceal", "content_rules"})
    Settings: ClassVar[type[PluginSettings]] = WebhooksSettings

    def __init__(self, settings: WebhooksSettings, services: Services) -> None:
        super().__init__(settings, services)
        self._webhooks: Webhooks = services.webhooks

    async def __call__(self, exchange: Exchange, call_next: Next) -> Response:
        response = await call_next(exchange)
        if not results.concerned(exchange):
            return response
        if response.stream is None:
            await results.tell_whole(exchange, response, self._webhooks, self.services.log)
            return response
        watch = results.Watch()
        response.transforms.append(watch)

        async def told() -> None:
            if exchange.charge is not None and not exchange.repeated:
                await results.tell(exchange, self._webhooks, watch.document, self.services.log)

        exchange.before_finish.append(told)
        return response

    async def start(self) -> None:
        """Begin to send. Raises StartError."""
        given = self.settings
        rules = WebhookRules(
            attempts_max=given.attempts_max,
            retry_seconds=given.retry_seconds,
            timeout_seconds=given.timeout_seconds,
            at_once_max=given.at_once_max,
            pending_max=given.pending_max,
            development=given.development,
            allow_private=frozenset(given.allow_private),
            ca_file=self.services.generation.root / Path(given.ca_file) if given.ca_file else None,
        )
        try:
            await self._webhooks.start(rules)
        except (SecretUnreadable, FileTooNew, sqlite3.Error, OSError) as error:
            raise StartError(f"webhooks: {error}") from error

    async def stop(self) -> None:
        """What was not sent is sent by whoever starts next."""
        await self._webhooks.stop()

    def router(self) -> APIRouter:
        """See `plugins.webhooks.api`."""
        return api.router(self._webhooks, self.services.log)


PLUGIN = WebhooksPlugin
