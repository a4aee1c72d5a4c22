"""What a plain model thinks of payments, balances and the exchanges that use them."""

from __future__ import annotations

from dataclasses import dataclass, field

from proxy.ledger.api import Attempt, Hold
from proxy.ledger.payment_api import EcashProof, Lease, Proof, Unit
from proxy.ledger.payment_states import PaymentState as S


@dataclass
class Shown:
    """What the model thinks of one payment."""

    proof: Proof
    state: S = S.SEEN
    known: bool = False
    leases: int = 0
    fence: int = 0
    owner: tuple[int, int] | None = None
    """Ledger and boot that have it leased."""
    orphaned: bool = False
    value: int = 0
    balance: int | None = None
    notes: tuple[EcashProof, ...] = ()
    answered: bool = False


@dataclass
class Saved:
    """What the model thinks of one balance."""

    unit: Unit
    deposited: int = 0
    spent: int = 0
    held: int = 0

    @property
    def left(self) -> int:
        return self.deposited - self.spent - self.held


@dataclass
class Running:
    """An open hold, or (`hold` None) a lease without one."""

    owner: tuple[int, int]
    hold: Hold | None
    lease: Lease | None
    key: int | None = None
    balance: int | None = None
    amount: int = 0
    attempts: list[Attempt] = field(default_factory=list)
    committed: bool = False
