"""Webhooks as the rest of the house has them: `services.webhooks`. On where the plugin `webhooks` is in the chain."""

from __future__ import annotations

import secrets
import sqlite3
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import orjson

from proxy.clock import Clock
from proxy.errors import Refusal
from proxy.kept_secrets import kept_secret
from proxy.payments.keys import DerivedKeys
from proxy.state_file import StateFile
from proxy.state_service import reachable
from proxy.webhooks import store
from proxy.webhooks.api import TEST, DeliveryReport, WebhookConfig
from proxy.webhooks.settings import WebhookRules
from proxy.webhooks.signing import secret_text
from proxy.webhooks.targets import BadTarget, check

if TYPE_CHECKING:
    from proxy.webhooks.delivery import Deliverer

KEPT_IN: Final = "webhooks.key"
"""In the state folder: what every owner's secret derives from."""
BODY_BYTES_MAX: Final = 4 << 20
OVERLAP_MS: Final = 86_400_000
"""How long a secret signs on beside the one that took its place."""
_SALT_BYTES: Final = 16
_EVENT_BYTES: Final = 16
WHAT: Final = "Webhooks"


class Webhooks:
    """An owner is the id of a key. Every method but `start` and `stop` raises Refusal where the file cannot be used."""

    def __init__(self, state: Path, clock: Clock, log: Any) -> None:
        self._state = state
        self._clock = clock
        self._log = log
        self._rules = WebhookRules()
        self._file: StateFile | None = None
        self._keys: DerivedKeys | None = None
        self._deliverer: Deliverer | None = None

    async def start(self, rules: WebhookRules) -> None:
        """Open the outbox and begin to send. Raises SecretUnreadable, FileTooNew, sqlite3.Error, OSError."""
        from proxy.webhooks.delivery import Deliverer

        self._rules = rules
        self._keys = DerivedKeys(kept_secret(self._state / KEPT_IN, guards="sign in the place of this proxy"))
        self._file = StateFile.open(self._state / store.FILE_NAME, tables=store.TABLES, version=store.VERSION)
        self._deliverer = Deliverer(self._file, self._signing_keys, rules, self._clock, self._log)
        self._deliverer.start()

    async def stop(self) -> None:
        """Send nothing more; what was not sent is there at the next start."""
        if self._deliverer is not None and self._file is not None:
            await self._deliverer.stop()
            await self._file.close()
            self._deliverer = self._file = None

    async def check(self, url: str, *, param: str = "webhook_url") -> None:
        """Refuse a URL that nothing would be sent to. Raises Refusal `invalid_request`."""
        if self._file is None:
            raise Refusal("invalid_request", f"{param}: This proxy sends no webhooks. Leave it out.", param=param)
        try:
            await check(url, self._rules)
        except BadTarget as error:
            raise Refusal("invalid_request", f"{param}: {error}", param=param) from error

    async def enqueue(
        self, owner: str, url: str | None, type: str, payload: dict[str, Any], *, event_id: str | None = None
    ) -> str | None:
        """Put an event into the outbox, durable when this returns; its id, None where nobody wants it.

        `url` None: the one that the owner has configured, if it wants events of this type. With an `event_id` it
        happens once, however often it is asked for.
        """
        if self._file is None:
            return None
        now = self._clock.now_ms()
        event_id = event_id or f"evt_{secrets.token_hex(_EVENT_BYTES)}"
        body = _body(type, payload, now)
        pending_max = self._rules.pending_max

        def write(connection: sqlite3.Connection) -> str | None:
            config = store.config(connection, owner)
            if url is None and (config is None or not config.wants(type)):
                return None
            if config is None:
                store.put_config(connection, _fresh(owner, now))
            waits = store.enqueue(
                connection, event_id=event_id, owner=owner, url=url, event_type=type, body=body, now_ms=now,
                pending_max=pending_max,
            )  # fmt: skip
            if not waits:
                self._log.warning("webhook_not_enqueued", event_id=event_id, owner=owner, type=type)
            return event_id

        with reachable(WHAT):
            made = await self._file.write(write)
        if made is not None and self._deliverer is not None:
            self._deliverer.wake()
        return made

    async def config(self, owner: str) -> tuple[WebhookConfig | None, list[DeliveryReport]]:
        """What is configured, and the last deliveries."""
        file = self._need_file()
        with reachable(WHAT):
            return await file.read(lambda found: (store.config(found, owner), store.recent(found, owner)))

    async def put(
        self, owner: str, url: str | None, events: tuple[str, ...], *, rotate: bool
    ) -> tuple[WebhookConfig, str | None]:
        """Configure a URL that was checked, or none; the secret where it is new or was never shown."""
        file, now = self._need_file(), self._clock.now_ms()

        def write(connection: sqlite3.Connection) -> tuple[WebhookConfig, bool]:
            old = store.config(connection, owner)
            new = replace(old or _fresh(owner, now), url=url, events=events, disabled="", shown=True)
            if old is not None and rotate:
                new = replace(
                    new, salt=_salt(), previous_salt=old.salt, previous_until_ms=now + OVERLAP_MS, rotated_ms=now
                )  # fmt: skip
            if url is None:
                store.remove_url(connection, owner, now)
            store.put_config(connection, new)
            return new, old is None or not old.shown or rotate

        with reachable(WHAT):
            made, tell = await file.write(write)
        return made, secret_text(self._signing_keys(made)[0]) if tell else None

    async def remove(self, owner: str) -> bool:
        """Send nothing more to the configured URL; says whether there was one. The secret stays."""
        file, now = self._need_file(), self._clock.now_ms()
        with reachable(WHAT):
            return await file.write(lambda found: store.remove_url(found, owner, now))

    async def test(self, owner: str) -> str | None:
        """Send a test to the configured URL; its event's id, None where there is no such URL."""
        self._need_file()
        return await self.enqueue(owner, None, TEST, {"message": "This is a test of your webhook."})

    def _need_file(self) -> StateFile:
        if self._file is None:
            raise Refusal("not_found", "This proxy sends no webhooks.")
        return self._file

    def _signing_keys(self, config: WebhookConfig) -> tuple[bytes, ...]:
        """The secret's key; and the one before it, while it still signs."""
        salts = [config.salt]
        if config.previous_salt is not None and self._clock.now_ms() < config.previous_until_ms:
            salts.append(config.previous_salt)
        if self._keys is None:
            raise Refusal("not_found", "This proxy sends no webhooks.")
        keys = self._keys
        return tuple(keys.derive(f"webhooks/{config.owner}/{salt}") for salt in salts)


def _fresh(owner: str, now_ms: int) -> WebhookConfig:
    return WebhookConfig(owner, None, (), "", _salt(), None, 0, False, now_ms, now_ms)


def _salt() -> str:
    return secrets.token_hex(_SALT_BYTES)


def _body(event_type: str, payload: dict[str, Any], now_ms: int) -> bytes:
    """As Standard Webhooks has it. What is too long is left out, and said to be."""
    moment = datetime.fromtimestamp(now_ms // 1000, UTC)
    event = {"type": event_type, "timestamp": f"{moment:%Y-%m-%dT%H:%M:%SZ}", "data": payload}
    body = orjson.dumps(event)
    if len(body) <= BODY_BYTES_MAX:
        return body
    short = {"id": payload.get("id"), "omitted": f"longer than {BODY_BYTES_MAX} bytes"}
    return orjson.dumps({**event, "data": short})
