"""The words of webhooks: what an owner has configured, and what becomes of one delivery."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum
from typing import Final

ORCHESTRATION_COMPLETED: Final = "orchestration.completed"
ORCHESTRATION_FAILED: Final = "orchestration.failed"
BATCH_COMPLETED: Final = "batch.completed"
TEST: Final = "webhook.test"
EVENTS: Final = (ORCHESTRATION_COMPLETED, ORCHESTRATION_FAILED, BATCH_COMPLETED)
"""Types that an owner may choose among; a test is sent whatever was chosen."""


class DeliveryState(Enum):
    """What became of a delivery."""

    PENDING = "pending"
    DELIVERED = "delivered"
    FAILED = "failed"
    """Tried as often as it may be, given up, or its webhook is gone."""


@dataclass(frozen=True, slots=True)
class WebhookConfig:
    """What one owner has configured. The secret is derived from `salt`, and nowhere."""

    owner: str
    """Id of the key: it outlives the key's rotation."""
    url: str | None = field(repr=False)
    """None: only requests that name a URL of their own are told of."""
    events: tuple[str, ...]
    """None named: all."""
    disabled: str
    """Why nothing is sent to `url` any more; empty: it is."""
    salt: str = field(repr=False)
    previous_salt: str | None = field(repr=False)
    previous_until_ms: int
    """Until then the secret before this one signs, too."""
    shown: bool
    """Its owner has been shown the secret."""
    created_ms: int
    rotated_ms: int

    def wants(self, event_type: str) -> bool:
        """Whether an event of this type goes to `url`."""
        if self.url is None or self.disabled:
            return False
        return event_type == TEST or not self.events or event_type in self.events


@dataclass(frozen=True, slots=True)
class Delivery:
    """One event on its way to one URL."""

    row: int
    event_id: str
    owner: str
    url: str | None = field(repr=False)
    """That the request named; None: whatever is configured when it is sent."""
    type: str
    body: bytes = field(repr=False)
    attempts: int
    """Made so far, this one included once it is claimed."""
    created_ms: int


@dataclass(frozen=True, slots=True)
class DeliveryReport:
    """What an owner may know of a delivery."""

    event_id: str
    type: str
    state: DeliveryState
    attempts: int
    status: int | None
    """Of the last answer; None: there was none."""
    error: str
    created_ms: int
    due_ms: int | None
    """Of the next attempt; None: there is none."""
    ended_ms: int | None
