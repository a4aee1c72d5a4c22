"""The words of batches: what is asked for, what becomes of it."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum


class ItemState(Enum):
    """What became of one prompt."""

    QUEUED = "queued"
    RUNNING = "running"
    COMPLETED = "completed"
    FAILED = "failed"
    CANCELED = "canceled"

    @property
    def ended(self) -> bool:
        return self not in (ItemState.QUEUED, ItemState.RUNNING)


@dataclass(frozen=True, slots=True)
class NewBatch:
    """A batch whose every prompt was checked."""

    id: str
    owner: str
    """Id of the key: it outlives the key's rotation."""
    peer: str
    """The address that it was sent from, for rules that name addresses."""
    webhook_url: str | None = field(repr=False)
    prompts: tuple[bytes, ...] = field(repr=False)
    """Bodies of `POST /v1/orchestrate`."""
    created_ms: int
    expires_ms: int
    once_key: str | None = None
    """Digest of its Idempotency-Key."""
    once_request: str = ""
    """Digest of the request that came with it."""


@dataclass(frozen=True, slots=True)
class Item:
    """One prompt, claimed by this process."""

    batch: str
    owner: str
    peer: str
    number: int
    body: bytes = field(repr=False)
    tries: int
    """Runs begun, this one included."""
    waits: int
    """Runs that were told to come again later."""


@dataclass(frozen=True, slots=True)
class ItemReport:
    """What its owner may know of one prompt."""

    number: int
    state: ItemState
    outcome: bytes = field(repr=False)
    """JSON: the result of one that completed, the error of one that failed; empty while there is neither."""
    started_ms: int | None
    ended_ms: int | None


@dataclass(frozen=True, slots=True)
class BatchReport:
    """What its owner may know of a batch."""

    id: str
    created_ms: int
    ended_ms: int | None
    canceled_ms: int | None
    expires_ms: int
    items: tuple[ItemReport, ...]

    @property
    def counts(self) -> dict[str, int]:
        """How many prompts are in each state, and in all."""
        states = [item.state for item in self.items]
        return {"total": len(states), **{state.value: states.count(state) for state in ItemState}}

    @property
    def status(self) -> str:
        """queued | running | completed | failed (every prompt did) | canceled (what had not begun was left out)"""
        states = {item.state for item in self.items}
        if self.ended_ms is None:
            return "queued" if states == {ItemState.QUEUED} else "running"
        if self.canceled_ms is not None:
            return "canceled"
        return "failed" if states == {ItemState.FAILED} else "completed"


@dataclass(frozen=True, slots=True)
class BatchRules:
    """How batches are worked off: see the plugin's settings."""

    tries_max: int = 3
    retries_max: int = 10
    open_max: int = 20
    retry_seconds_max: float = 300.0
    kept_hours: int = 24
