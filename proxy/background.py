"""Work of the gateway that no exchange waits for."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, Final
from zoneinfo import ZoneInfo

from proxy.cap_windows import present
from proxy.clock import Clock
from proxy.config.schema import Generation
from proxy.consensus.detection import warm_up
from proxy.errors import Refusal
from proxy.ledger.api import Ledger
from proxy.prepaid import purses_of
from proxy.telemetry.metrics import Metrics

CAPS_WATCH_SECONDS: Final = 5.0


async def watch_caps(
    generation: Callable[[], Generation], ledger: Ledger, metrics: Metrics, clock: Clock, log: Any
) -> None:
    """Keep the metrics of what each team has left no older than a few seconds, while the ledger can be read."""
    while True:
        present_one = generation()
        zone = ZoneInfo(present_one.file.time_zone)
        now = clock.now_ms()
        teams = present_one.teams.values()
        caps = tuple(present("team", team.name, setting, now, zone) for team in teams for setting in team.caps)
        purses = tuple(dict.fromkeys(purse for team in teams for purse in purses_of(team)))
        try:
            if caps:
                metrics.set_caps(await ledger.cap_states(caps))
            if purses:
                metrics.set_purses(await ledger.purse_states(purses))
        except Refusal as refusal:
            log.warning("caps_not_read", reason=refusal.message)
        await asyncio.sleep(CAPS_WATCH_SECONDS)


async def warm_language_model(log: Any) -> None:
    """Half a second of work that the first question to a panel need not wait for."""
    if not await asyncio.to_thread(warm_up):
        log.warning("language_model_not_loaded", remedy="it needs a writable folder for temporary files")
