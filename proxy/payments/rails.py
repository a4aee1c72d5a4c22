"""The rails that are on, built from the operator's settings, with all that they share."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from proxy import kept_secrets
from proxy.clock import Clock
from proxy.ledger.payment_api import PaymentLedger
from proxy.payments.api import Credential, Rail
from proxy.payments.bitcoin_price import BitcoinPriceSource
from proxy.payments.keys import DerivedKeys
from proxy.payments.lightning.invoices import Invoices
from proxy.payments.settings import Payments

KEPT_IN: Final = "payments.key"
"""In the state folder, where the configuration gives no secret."""


@dataclass(frozen=True, slots=True)
class Rails:
    """All ways to pay, in the order in which they are offered."""

    settings: Payments
    keys: DerivedKeys
    bitcoin: BitcoinPriceSource | None
    invoices: Invoices | None
    rails: tuple[Rail, ...]

    @property
    def nano_per_btc(self) -> int | None:
        """Nano-dollars a bitcoin; None: not known, or stale."""
        return None if self.bitcoin is None else self.bitcoin.nano_per_btc()

    def taking(self, credential: Credential) -> Rail | None:
        """The rail that takes such a credential; None where it is off."""
        return next((rail for rail in self.rails if credential in rail.credentials), None)

    def proving(self, proofs: str) -> Rail | None:
        """The rail that made proofs of this kind."""
        return next((rail for rail in self.rails if rail.proofs == proofs), None)

    async def start(self) -> None:
        """Before the first request."""
        if self.bitcoin is not None:
            await self.bitcoin.start()
        for rail in self.rails:
            await rail.start()

    async def stop(self) -> None:
        """After the last one."""
        for rail in reversed(self.rails):
            await rail.stop()
        if self.invoices is not None:
            await self.invoices.aclose()
        if self.bitcoin is not None:
            await self.bitcoin.stop()


def build_rails(settings: Payments, *, state: Path, ledger: PaymentLedger, clock: Clock, log: Any) -> Rails:
    """Everything that is on. Heavy packages are imported by the rails that need them alone."""
    keys = DerivedKeys(settings.secret or kept_secret(state / KEPT_IN))
    bitcoin = None if settings.bitcoin is None else BitcoinPriceSource(settings.bitcoin, clock, log)
    invoices = None
    if settings.lightning is not None:
        from proxy.payments.lightning.nodes import build_node

        node = build_node(settings.lightning, keys, state, clock)
        invoices = Invoices(node, ledger, clock, settings.lightning, log)
    return Rails(settings, keys, bitcoin, invoices, tuple(_rails(settings, keys, ledger, clock, log)))


def _rails(settings: Payments, keys: DerivedKeys, ledger: PaymentLedger, clock: Clock, log: Any) -> Iterator[Rail]:
    """In the order of their offers: clients that look at the first `WWW-Authenticate` alone expect L402."""
    leases_max = settings.leases_max
    if settings.l402 is not None:
        from proxy.payments.l402.rail import L402Rail

        yield L402Rail(settings.l402, keys, ledger, leases_max=leases_max)
    if settings.mpp is not None:
        from proxy.payments.mpp.rail import MppRail

        yield MppRail(settings.mpp, keys, ledger, clock, leases_max=leases_max)
    if settings.x402 is not None:
        from proxy.payments.x402.rail import X402Rail
        from proxy.payments.x402.settlement import build_settler
        from proxy.payments.x402.transfers import TransferRail

        settler = build_settler(settings.x402, clock, log)
        yield X402Rail(settings, settings.x402, settler, ledger)
        if settings.x402.transfers:
            yield TransferRail(settings, settings.x402, ledger, clock, log)
    if settings.cashu is not None:
        from proxy.payments.cashu.rail import CashuRail

        yield CashuRail(settings.cashu, ledger, clock, log)
    if settings.balance is not None:
        from proxy.payments.balance.rail import BalanceRail

        yield BalanceRail(settings, ledger)


def kept_secret(path: Path) -> bytes:
    """The secret of this state folder. Raises SecretUnreadable, OSError."""
    return kept_secrets.kept_secret(path, guards="make tokens of every balance", otherwise=", or set payments.secret")
