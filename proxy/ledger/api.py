"""The ledger's contract: holds, attempts, caps, purses, settlement. Implementations live beside this file.

A hold goes held -> dispatched -> committed -> settled | released, each exactly once. Check and hold are one
transaction over every cap concerned and the purse; the caller is woken after that transaction is durable. A hold
counts in the windows in which it was made. After a crash, holds of a dead boot id are settled at the next start:
never dispatched, released; dispatched or committed, in full against the caps, and a purse pays for the input only; a
fixed price is not charged for an answer that nobody can be shown to have had.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import Protocol

from proxy.ledger.payment_api import Lease, StoredAnswer, Tender
from proxy.pricing.money import ZERO, Nano
from proxy.usage import Usage


class Basis(Enum):
    """Which of the two amounts of an exchange a cap counts."""

    CHARGED = "charged"
    LIST = "list"


@dataclass(frozen=True, slots=True)
class Cap:
    """One cap in its present window. `scope` is key | user | team | organisation."""

    scope: str
    scope_id: str
    window: str
    """hour | day | month | total"""
    start_ms: int
    end_ms: int
    """First millisecond after the window; 0 for total."""
    basis: Basis
    limit: Nano
    soft_limit: Nano | None = None


@dataclass(frozen=True, slots=True)
class CapState:
    """Where a cap stands: `left = limit - spent - held`, never below 0 by a hold."""

    cap: Cap
    spent: Nano
    held: Nano

    @property
    def left(self) -> Nano:
        return Nano(max(0, self.cap.limit - self.spent - self.held))


@dataclass(frozen=True, slots=True)
class Purse:
    """A prepaid account: whose it is, and which of its purses. `scope` is organisation | team | user | key."""

    scope: str
    scope_id: str
    """As in caps: a user's is `team/user`."""
    wallet: str = "balance"
    """balance | frontier"""


@dataclass(frozen=True, slots=True)
class PurseState:
    """Where a purse stands: `left = granted - spent - held`, never below 0 by a hold."""

    purse: Purse
    granted: Nano
    spent: Nano
    held: Nano

    @property
    def left(self) -> Nano:
        return Nano(max(0, self.granted - self.spent - self.held))


@dataclass(frozen=True, slots=True)
class Grant:
    """Money put into a purse (or taken out: negative, never below what is left). `id` makes it happen once."""

    id: str
    purse: Purse
    amount: Nano
    note: str
    at_ms: int


class PurseExceeded(Exception):
    """A hold does not fit into its purse. Nothing was held, in no cap either."""

    def __init__(self, state: PurseState) -> None:
        super().__init__(f"{state.purse.scope} {state.purse.scope_id}/{state.purse.wallet}: {state.left} nano left")
        self.state = state


class CapExceeded(Exception):
    """A hold does not fit. Nothing was held. `states` are the caps it does not fit into, tightest first."""

    def __init__(self, states: tuple[CapState, ...]) -> None:
        super().__init__(
            "; ".join(f"{s.cap.scope} {s.cap.scope_id}/{s.cap.window}: {s.left} nano left" for s in states)
        )
        self.states = states


@dataclass(frozen=True, slots=True)
class HoldRequest:
    """What to set aside. `exchange_id` is the idempotency key: a second hold under it is refused."""

    exchange_id: str
    key_id: str
    user: str
    team: str
    organisation: str
    model: str
    operation: str
    charged: Nano
    list: Nano | None
    caps: tuple[Cap, ...]
    at_ms: int
    purse: Purse | None = None
    """Pays what is charged, in advance; None: nobody does, caps alone count."""
    input_charged: Nano = ZERO
    """The part of `charged` that is input: all that a purse pays where a process died with the answer under way."""
    owed: Nano | None = None
    """What is charged where a process died with the answer under way, at most `charged`; None: all of `charged`,
    because nobody knows what came of it. A fixed price is owed for an answer alone: ZERO. Where a proof of payment
    was burnt by then, it has bought the answer: all of `charged`."""
    price_source: str = ""
    """Where the prices come from, with their date."""
    tender: Tender | None = None
    """A proof of payment, leased with the hold, or a balance held from; None: an account answers for it."""

    @property
    def in_advance(self) -> bool:
        """A purse or a prepaid balance pays: what was counted, where nobody knows the usage."""
        return self.purse is not None or (self.tender is not None and self.tender.balance is not None)


@dataclass(slots=True, eq=False)
class Hold:
    """An open hold; given back by `Ledger.hold`, ended by exactly one `settle` or `release`."""

    id: int
    request: HoldRequest
    soft_crossed: tuple[CapState, ...] = ()
    """Caps whose soft limit this hold crosses."""
    ended: bool = False
    attempts: int = 0
    """Upstream calls dispatched under it so far."""
    counters: tuple[int, ...] = ()
    """Ids of the counters it counts in; the ledger's own."""
    purse_id: int | None = None
    """Id of the purse that pays; the ledger's own."""
    lease: Lease | None = None
    """Of the tender's proof, where there is one."""
    balance: int | None = None
    """Row of the balance that the tender is held from."""


@dataclass(slots=True, eq=False)
class Attempt:
    """One upstream call under a hold (1, 2, ...); durable before the call is made."""

    hold_id: int
    number: int
    upstream: str
    upstream_model: str
    role: str = "answer"
    partner: str | None = None
    """Who ran the upstream when it was called, for the partner's statement."""


@dataclass(frozen=True, slots=True)
class AttemptOutcome:
    """How an attempt ended. `list_cost` is None where the model has no list price."""

    attempt: Attempt
    outcome: str
    status: int
    usage: Usage | None
    list_cost: Nano | None
    ended_ms: int


@dataclass(frozen=True, slots=True)
class Settlement:
    """The end of a hold: what is charged and what it cost at list, over all attempts.

    Amounts above the hold go to the overage account and raise an alarm; they count in the caps' windows.
    """

    charged: Nano
    list: Nano | None
    attempts: tuple[AttemptOutcome, ...]
    outcome: str
    at_ms: int
    paid: Nano | None = None
    """What the purse pays, at most what was held; None: what is charged. Less where the full hold counts against
    caps because nobody knows the usage, while a prepaid balance pays what was counted."""
    tendered: int = 0
    """What a tender's balance pays, in its unit, at most what was held."""


class Ledger(Protocol):
    """Double entry over integers. `settle` and `release` only enqueue, so no cancellation can lose them."""

    async def hold(self, request: HoldRequest) -> Hold:
        """Check every cap, the purse and the tender, and set the amounts aside, in one transaction.

        Raises CapExceeded, PurseExceeded, PaymentTaken, BalanceExceeded.
        """
        ...

    async def dispatch(
        self, hold: Hold, *, upstream: str, upstream_model: str, role: str = "answer", partner: str | None = None
    ) -> Attempt:
        """Durably note that an upstream is about to be called. Call before sending the first byte to it."""
        ...

    async def commit(self, hold: Hold, answer: StoredAnswer | None = None) -> None:
        """Durably note that the answer is about to go out, burn the tender's proof and keep `answer` for it.

        Raises LeaseLost; then nothing may go out.
        """
        ...

    def settle(self, hold: Hold, settlement: Settlement) -> None:
        """End the hold with real amounts. A second end of the same hold is an error that is logged and alarms."""
        ...

    def release(self, hold: Hold, *, reason: str, at_ms: int) -> None:
        """End a hold that was never dispatched, or whose attempts cost nothing."""
        ...

    async def cap_states(self, caps: tuple[Cap, ...]) -> tuple[CapState, ...]:
        """Where these caps stand now."""
        ...

    async def grant(self, grant: Grant) -> PurseState:
        """Put money into a purse, durable past a loss of power; the same id again changes nothing.

        Raises Refusal `conflict` for the same id with other contents, PurseExceeded for taking more than is left.
        """
        ...

    async def purse_states(self, purses: tuple[Purse, ...]) -> tuple[PurseState, ...]:
        """Where these purses stand now."""
        ...

    async def flush(self) -> None:
        """Return once everything enqueued before is durable."""
        ...

    async def close(self) -> None:
        """Flush and let go of the file."""
        ...
