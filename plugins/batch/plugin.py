"""Batches of 1 to 20 prompts for panels of models: endpoints, and the working off of what is queued."""

from __future__ import annotations

import sqlite3
from typing import ClassVar

from fastapi import APIRouter
from pydantic import Field

from plugins.batch import api
from proxy.assembly import StartError
from proxy.batches.api import BatchRules
from proxy.batches.service import Batches
from proxy.config.schema import Generation
from proxy.exchange import Exchange, Response
from proxy.plugin import Next, Plugin, PluginSettings, Services, Stage
from proxy.state_file import FileTooNew


class BatchSettings(PluginSettings):
    """Limits. How many prompts a batch has and how many run at once, says policies/consensus.yaml."""

    open_max: int = Field(default=20, ge=1, le=10_000, description="Batches of one key that have not ended.")
    tries_max: int = Field(
        default=3, ge=1, le=20, description="A prompt is begun so often where the process dies while it runs."
    )
    retries_max: int = Field(
        default=10, ge=0, le=1000, description="A prompt that is told to come again later does so this often."
    )
    retry_seconds_max: float = Field(default=300.0, ge=0.1, le=3600, description="Longest wait before it does.")
    kept_hours: int = Field(
        default=24, ge=1, le=720, description="Results are kept so long; what was not begun in this time has failed."
    )


class BatchPlugin(Plugin[BatchSettings]):
    """Serves /v1/batch. Each prompt is an exchange of its own through the whole chain, for the key that sent it."""

    name = "batch"
    stage = Stage.LIMIT
    Settings: ClassVar[type[PluginSettings]] = BatchSettings

    def __init__(self, settings: BatchSettings, services: Services) -> None:
        super().__init__(settings, services)
        self._batches = Batches(
            services.generation.state, services.inward, services.webhooks, services.clock, services.log
        )  # fmt: skip

    async def __call__(self, exchange: Exchange, call_next: Next) -> Response:
        return await call_next(exchange)

    async def start(self) -> None:
        """Begin to work off what is queued. Raises StartError."""
        given = self.settings
        rules = BatchRules(
            tries_max=given.tries_max,
            retries_max=given.retries_max,
            open_max=given.open_max,
            retry_seconds_max=given.retry_seconds_max,
            kept_hours=given.kept_hours,
        )
        try:
            await self._batches.start(rules, self._at_once_max)
        except (FileTooNew, sqlite3.Error, OSError) as error:
            raise StartError(f"batch: {error}") from error

    async def stop(self) -> None:
        """What runs goes back to the queue."""
        await self._batches.stop()

    def router(self) -> APIRouter:
        """See `plugins.batch.api`."""
        return api.router(self._batches, self.services.webhooks)

    def _at_once_max(self) -> int:
        generation: Generation = self.services.generation
        return 0 if generation.consensus is None else generation.consensus.batch_at_once_max


PLUGIN = BatchPlugin
