"""Where payers of tests buy: a real ledger, the dev Lightning node, and scripted rails that bring money at once."""

from __future__ import annotations

import asyncio
import hashlib
import json
from collections.abc import Mapping
from dataclasses import replace
from decimal import Decimal
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from proxy.endpoints import bridge
from proxy.endpoints.public import application
from proxy.errors import Refusal
from proxy.exchange import Exchange, Response
from proxy.ledger.payment_api import (
    Lease,
    OnFailure,
    Payment,
    PaymentTaken,
    Proof,
    Receipt,
    Tender,
    Unit,
)
from proxy.ledger.store import SqliteLedger
from proxy.operations import LOCAL
from proxy.payments.api import Ask, Credential, HeaderFields, IssuedInvoice, Offer, Outcome, Presented, Rail, Settled
from proxy.payments.balance.rail import BalanceRail
from proxy.payments.bitcoin_price import BitcoinPriceSource
from proxy.payments.keys import DerivedKeys
from proxy.payments.l402.rail import L402Rail
from proxy.payments.lightning.dev import DevWallet
from proxy.payments.lightning.invoices import Invoices
from proxy.payments.lightning.nodes import build_node
from proxy.payments.rails import Rails
from proxy.payments.settings import L402, Balance, BitcoinPrice, Lightning, Payments
from tests.support.fakes import FakeClock, Log, exchange

BTC_USD = Decimal(68_000)


class ScriptedRail(Rail):
    """Takes credentials spelled `AMOUNT/NAME` and `AMOUNT/NAME/claim`: the claim says that the payer itself asks."""

    def __init__(self, credential: Credential, proofs: str, unit: Unit, ledger: SqliteLedger) -> None:
        self.name, self.proofs = credential.value, proofs  # type: ignore[misc]
        self.credentials = frozenset({credential})  # type: ignore[misc]
        self._unit, self._ledger = unit, ledger
        self.outcomes: list[Outcome] = []
        self.settled: list[str] = []
        self.public = unit is Unit.USDC
        """Who sees it on chain can show it again."""
        self.streams = True
        """Pays for streamed answers, too."""
        self.gate: asyncio.Event | None = None

    def offer(self, ask: Ask, invoice: IssuedInvoice | None) -> Offer | None:
        if ask.stream and not self.streams:
            return None
        return Offer(((f"X-Offer-{self.name}", str(self._price(ask))),), {self.name: {"price": self._price(ask)}})

    async def check(self, presented: Presented, ask: Ask) -> Tender:
        proof = self._proof(presented)
        if proof.amount < self._price(ask):
            raise Refusal("x402_underpayment", "Too little.")
        proof = replace(proof, binding=ask.request_digest if self.public else "")
        return Tender(self._unit, self._price(ask), ask.request_digest, proof=proof)

    async def settle(self, lease: Lease, ask: Ask) -> Outcome:
        self.settled.append(lease.proof.key)
        if self.gate is not None:
            await self.gate.wait()
        return self.outcomes.pop(0) if self.outcomes else Settled(Receipt(lease.proof.amount, reference="ref"))

    async def reconcile(self, lease: Lease) -> Outcome:
        return Settled(Receipt(lease.proof.amount))

    def taken(self, error: PaymentTaken) -> Refusal:
        busy = error.why.value == "under_way"
        return Refusal("payment_under_way" if busy else "payment_spent", f"{error.why.value}", retry_after_seconds=1)

    async def served(self, lease: Lease) -> HeaderFields:
        return (("X-Served", lease.id),)

    async def served_again(self, payment: Payment) -> HeaderFields:
        return (("X-Served", payment.id),)

    async def shown(self, presented: Presented) -> Proof:
        if self.public and not presented.value.endswith("/claim"):
            raise Refusal("invalid_payment", "Sign the claim.")
        return self._proof(presented)

    def _price(self, ask: Ask) -> int:
        return ask.price.usdc if self._unit is Unit.USDC else ask.price.msat or 0

    def _proof(self, presented: Presented) -> Proof:
        amount, _, name = presented.value.removesuffix("/claim").partition("/")
        back = OnFailure.RETURN if self.proofs == "cashu" else OnFailure.FREE
        return Proof(self.proofs, name, self._unit, int(amount), settled=False, on_failure=back)


class Shop:
    """Rails, a ledger on disk and whatever plugins bring endpoints; asked in process as a listener would ask."""

    def __init__(self, folder: Path, *, lightning: bool = True, rate: bool = True, **changes: Any) -> None:
        self.clock, self.log = FakeClock(), Log()
        self.keys = DerivedKeys(b"k" * 32)
        self.ledger = SqliteLedger.open(folder / "ledger.sqlite", self.clock, self.log)
        node = Lightning("dev", development=True)
        price = BitcoinPrice(fixed=BTC_USD)
        self.settings = Payments(
            lightning=node if lightning else None,
            l402=L402(),
            bitcoin=price if rate else None,
            **{"balance": Balance(), **changes},
        )
        self.wallet = DevWallet(self.keys, folder, self.clock)
        made = Invoices(build_node(node, self.keys, folder, self.clock), self.ledger, self.clock, node, self.log)
        self.x402 = ScriptedRail(Credential.X402, "x402", Unit.USDC, self.ledger)
        self.cashu = ScriptedRail(Credential.CASHU, "cashu", Unit.MSAT, self.ledger)
        self.l402 = L402Rail(L402(), self.keys, self.ledger, leases_max=5)
        self.rails = Rails(
            settings=self.settings,
            keys=self.keys,
            bitcoin=BitcoinPriceSource(price, self.clock, self.log) if rate else None,
            invoices=made if lightning else None,
            rails=(self.l402, self.x402, self.cashu, BalanceRail(self.settings, self.ledger)),
        )
        self._plugins: list[Any] = []
        self._app: Any = None

    def open(self, *kinds: Any, under: Any = None) -> None:
        """Open the endpoints of these plugins."""
        services: Any = SimpleNamespace(
            clock=self.clock, log=self.log, ledger=self.ledger, rails=self.rails, generation=under
        )
        self._plugins = [kind(kind.Settings(), services) for kind in kinds]
        self._app = application("test", [router for one in self._plugins if (router := one.router()) is not None])
        self.under = under

    async def close(self) -> None:
        """Wait for what is under way."""
        for plugin in self._plugins:
            await plugin.stop()
        await self.ledger.close()

    async def ask(
        self,
        path: str,
        body: Mapping[str, Any] | bytes | None = None,
        *,
        method: str = "POST",
        headers: Mapping[str, str] | None = None,
        **changes: Any,
    ) -> Response:
        """One request. A refusal comes as its answer."""
        raw = b"" if method == "GET" else body
        operation = replace(LOCAL, body_bytes_max=1 << 20)
        seen: Exchange = exchange(
            operation=operation, path=path, method=method, body=raw, headers=headers, under=self.under, **changes
        )
        seen.request.authority = "pay.test"
        try:
            return await bridge.call(self._app, seen)
        except Refusal as refusal:
            return Response.refused(refusal)

    async def balance(
        self,
        body: Mapping[str, Any] | bytes,
        *,
        token: str | None = None,
        x402: str | None = None,
        cashu: str | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> Response:
        """POST /v1/balance."""
        fields = dict(headers or {})
        if token is not None:
            fields["authorization"] = f"Bearer {token}"
        if x402 is not None:
            fields["payment-signature"] = x402
        if cashu is not None:
            fields["x-cashu"] = cashu
        return await self.ask("/v1/balance", body, headers=fields)

    async def buy(self, sats: int = 1000, *, token: str | None = None) -> dict[str, Any]:
        """Ask for an invoice, pay it, poll: the poll's answer."""
        offer = told(await self.balance({"sats": sats}, token=token), 402)
        self.wallet.pay(offer["invoice"])
        polled = await self.balance(poll_of(offer), token=token)
        return told(polled)


def poll_of(offer: Mapping[str, Any]) -> dict[str, Any]:
    """What polling for an offer sends."""
    return {"payment_hash": offer["payment_hash"], "poll_secret": offer["poll_secret"]}


def told(answer: Response, status: int = 200) -> dict[str, Any]:
    """The answer's JSON."""
    assert answer.status == status, answer.body
    content: dict[str, Any] = json.loads(answer.body)
    return content


def code(answer: Response) -> tuple[int, str]:
    """Status and code of a refusal."""
    return answer.status, json.loads(answer.body)["error"]["code"]


def digest(token: str) -> bytes:
    """As the ledger knows it."""
    return hashlib.sha256(token.encode()).digest()
