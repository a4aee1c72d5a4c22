"""Every way to pay as a stranger pays: from the 402 to the headers that show the payment, and to the money's return.

way = ways(counterparts)["x402"]
paid = way.pay(shop, body())
answer = shop.client().post(CHAT, json=body(), headers=paid.headers)
"""

from __future__ import annotations

import asyncio
import base64
import json
import os
import re
import shutil
import time
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from enum import Enum
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar, Final

import httpx
import pytest
from eth_account import Account
from eth_account.messages import encode_defunct
from eth_account.signers.local import LocalAccount

from proxy.payments.cashu.tokens import parse_token
from tests.peers.chain import NETWORK, Chain, Facilitator, chain, facilitator
from tests.peers.mint import PROGRAM, Mint, mint
from tests.support.paid import CHAT, LIGHTNING, PaidWorld, offered, paid_world
from tests.support.payment_books import PaymentBooks
from tests.support.trusting import TrustingFacilitator
from tests.support.x402 import PAY_TO, PAYER, Payload, encoded

REFUND: Final = "/v1/payments/refund"
BALANCE: Final = "/v1/balance"
FEE_SATS: Final = 1
"""That the mint keeps of a swap of up to ten notes."""
VALID_SECONDS: Final = 600
"""So long an authorization is good."""
READY_SECONDS_MAX: Final = 10.0
NAMES: Final = ("l402", "mpp", "x402", "cashu", "balance")
EVERY_WAY: Final = [pytest.param(name, marks=pytest.mark.needs(PROGRAM) if name == "cashu" else ()) for name in NAMES]
"""For `pytest.mark.parametrize`."""
_PARAMETER: Final = re.compile(r'(\w+)="([^"]*)"')


class AfterFailure(Enum):
    """Where the payer's money is when no answer came."""

    AGAIN = "the same payment serves for another try, or is refunded to a balance"
    BACK = "it came back with the failure"
    UNTOUCHED = "it was never taken"


@dataclass(frozen=True, slots=True)
class Paid:
    """A payment, made or promised."""

    headers: dict[str, str]
    """Of the paid request."""
    shown: dict[str, str]
    """By which its payer, and nobody else, asks for it back."""
    unit: str
    amount: int
    """What it can bring."""
    key: str = ""
    """What the ledger knows it by; "": it is a balance."""


class Counterparts:
    """Mint, chain and facilitators, each started when first asked for."""

    def __init__(self, stack: ExitStack) -> None:
        self._stack = stack

    @cached_property
    def mint(self) -> Mint:
        """nutshell; a swap of up to ten notes costs `FEE_SATS`."""
        return self._stack.enter_context(mint(fee_ppk=100))

    @cached_property
    def trusting(self) -> TrustingFacilitator:
        """Settles without a chain."""
        return self._stack.enter_context(TrustingFacilitator())

    @cached_property
    def chain(self) -> Chain:
        """anvil."""
        own = self._stack.enter_context(chain())
        own.mint(own.payer.address, 1_000_000_000)
        return own

    @cached_property
    def facilitator(self) -> Facilitator:
        """The x402 SDK's own, on that chain."""
        return self._stack.enter_context(facilitator(self.chain))


class Way(ABC):
    """One way to pay."""

    name: ClassVar[str]
    unit: ClassVar[str] = "msat"
    streams: ClassVar[bool] = True
    after_failure: ClassVar[AfterFailure] = AfterFailure.AGAIN

    def settings(self) -> dict[str, Any]:
        """Its part of `payments` in config.yaml."""
        return {}

    @abstractmethod
    def pay(self, shop: PaidWorld, body: Mapping[str, Any], path: str = CHAT) -> Paid:
        """Ask for the price of this request, and pay it."""

    @staticmethod
    def challenge(shop: PaidWorld, body: Mapping[str, Any], path: str = CHAT) -> httpx.Response:
        """The 402."""
        with shop.client() as client:
            answer = client.post(path, json=body)
        assert answer.status_code == 402, answer.text
        return answer


class L402(Way):
    """A macaroon and the preimage of its invoice."""

    name = "l402"

    def pay(self, shop: PaidWorld, body: Mapping[str, Any], path: str = CHAT) -> Paid:
        answer = self.challenge(shop, body, path)
        macaroon, invoice = offered(answer)
        headers = {"authorization": f"L402 {macaroon}:{shop.wallet.pay(invoice)}"}
        return Paid(headers, headers, "msat", answer.json()["price"] * 1000, answer.json()["paymentHash"])


class Mpp(Way):
    """The same invoice by the Payment scheme."""

    name = "mpp"

    def pay(self, shop: PaidWorld, body: Mapping[str, Any], path: str = CHAT) -> Paid:
        answer = self.challenge(shop, body, path)
        lines = answer.headers.get_list("www-authenticate")
        echoed = dict(_PARAMETER.findall(next(line for line in lines if line.startswith("Payment "))))
        request = echoed["request"] + "=" * (-len(echoed["request"]) % 4)
        invoice = json.loads(base64.urlsafe_b64decode(request))["methodDetails"]["invoice"]
        shown = {"challenge": echoed, "payload": {"preimage": shop.wallet.pay(invoice)}}
        value = base64.urlsafe_b64encode(json.dumps(shown, sort_keys=True, separators=(",", ":")).encode())
        headers = {"authorization": f"Payment {value.rstrip(b'=').decode()}"}
        return Paid(headers, headers, "msat", answer.json()["price"] * 1000, answer.json()["paymentHash"])


@dataclass
class X402(Way):
    """A signed authorization, settled by a facilitator that believes it."""

    counterparts: Counterparts
    payer: LocalAccount = field(default_factory=lambda: PAYER)
    name: ClassVar[str] = "x402"
    unit: ClassVar[str] = "usdc"

    @property
    def pay_to(self) -> str:
        """Who is paid."""
        return PAY_TO

    @property
    def now(self) -> int:
        """In seconds, by the clock that is ahead: ours, or the chain's."""
        return int(time.time())

    def settings(self) -> dict[str, Any]:
        return {"x402": {"pay_to": self.pay_to, "facilitator": self.counterparts.trusting.url, "development": True}}

    def pay(self, shop: PaidWorld, body: Mapping[str, Any], path: str = CHAT) -> Paid:
        answer = self.challenge(shop, body, path)
        required = json.loads(base64.b64decode(answer.headers["payment-required"]))
        amount = int(required["accepts"][0]["amount"])
        payload = Payload(
            value=amount, to=self.pay_to, payer=self.payer.address, signer=self.payer, nonce=os.urandom(32),
            valid_before=self.now + VALID_SECONDS,
        )  # fmt: skip
        key = f"{NETWORK}:{payload.asset.address.lower()}:{payload.payer.lower()}:{payload.nonce.hex()}"
        claim = self.payer.sign_message(encode_defunct(text=f"I claim the x402 payment {key}")).signature
        claimed = replace(payload, extra={"claim": "0x" + bytes(claim).hex()})
        return Paid(
            {"payment-signature": payload.header()},
            {"payment-signature": encoded(claimed.document())},
            "usdc", amount, key,
        )  # fmt: skip


class OnChain(X402):
    """The same, settled in process on a real chain."""

    def __init__(self, counterparts: Counterparts) -> None:
        super().__init__(counterparts, counterparts.chain.payer)

    @property
    def pay_to(self) -> str:
        return self.counterparts.chain.pay_to

    @property
    def now(self) -> int:
        return max(int(time.time()), self.counterparts.chain.now())

    def settings(self) -> dict[str, Any]:
        own = self.counterparts.chain
        entry = {"pay_to": self.pay_to, "rpc": {NETWORK: own.url}, "signer_key": "0x" + own.signer.key.hex()}
        return {"x402": {**entry, "development": True}}


class ByFacilitator(OnChain):
    """The same, by the SDK's facilitator over HTTP, the chain being asked what became of it."""

    def settings(self) -> dict[str, Any]:
        own = self.counterparts
        entry = {"pay_to": self.pay_to, "rpc": {NETWORK: own.chain.url}, "facilitator": own.facilitator.url}
        return {"x402": {**entry, "development": True}}


@dataclass
class Cashu(Way):
    """Ecash of a real mint, more than the price, so that there is change."""

    counterparts: Counterparts
    over_sats: int = 20
    name: ClassVar[str] = "cashu"
    streams: ClassVar[bool] = False
    after_failure: ClassVar[AfterFailure] = AfterFailure.BACK

    def settings(self) -> dict[str, Any]:
        return {"cashu": {"mints": [{"url": self.counterparts.mint.url, "development": True}]}}

    def pay(self, shop: PaidWorld, body: Mapping[str, Any], path: str = CHAT) -> Paid:
        deadline = time.monotonic() + READY_SECONDS_MAX
        while "cashu" not in (told := self.challenge(shop, body, path).json()):
            assert time.monotonic() < deadline, "the mint never was on offer"
            time.sleep(0.05)
        sats = told["cashu"]["price_sats"] + self.over_sats
        return self.of(asyncio.run(self.counterparts.mint.notes(sats)))

    @staticmethod
    def of(token: str) -> Paid:
        """A token as a payment."""
        headers = {"x-cashu": token}
        return Paid(headers, headers, "msat", worth(token) * 1000, token)


class Balance(Way):
    """A balance of its own for each payment."""

    name = "balance"
    after_failure = AfterFailure.UNTOUCHED
    sats: ClassVar[int] = 1000

    def pay(self, shop: PaidWorld, body: Mapping[str, Any], path: str = CHAT) -> Paid:
        with shop.client() as client:
            offer = client.post(BALANCE, json={"sats": self.sats}).json()
            shop.wallet.pay(offer["invoice"])
            poll = {"payment_hash": offer["payment_hash"], "poll_secret": offer["poll_secret"]}
            token = client.post(BALANCE, json=poll).json()["token"]
        return self.of(token, self.sats * 1000)

    @staticmethod
    def of(token: str, amount: int, unit: str = "msat") -> Paid:
        """A token as a payment."""
        headers = {"authorization": f"Bearer {token}"}
        return Paid(headers, headers, unit, amount)


def ways(counterparts: Counterparts) -> dict[str, Way]:
    """All five by name; without a mint's program, all but Cashu."""
    found: list[Way] = [L402(), Mpp(), X402(counterparts), Balance()]
    if shutil.which(PROGRAM) is not None:
        found.append(Cashu(counterparts))
    return {way.name: way for way in found}


def stranger() -> LocalAccount:
    """A new key, without anything on it."""
    return Account.from_key(os.urandom(32))


@contextmanager
def selling(folder: Path, *ways: Way, leases_max: int = 5, **options: Any) -> Iterator[PaidWorld]:
    """A proxy that is paid in all these ways, with every endpoint for payers."""
    settings: dict[str, Any] = {
        "lightning": {**LIGHTNING, "pending_client_max": 100_000},
        "leases_max": leases_max,
        **options.pop("payments", {}),
    }
    for way in ways:
        settings |= way.settings()
    with paid_world(folder, payments=settings, **options) as shop:
        yield shop


def books(shop: PaidWorld) -> PaymentBooks:
    """What the shop's ledger says."""
    return PaymentBooks(shop.world.gateway.folder)


def refund(shop: PaidWorld, paid: Paid) -> httpx.Response:
    """Ask for it back."""
    with shop.client() as client:
        return client.post(REFUND, json={}, headers=paid.shown)


def worth(token: str) -> int:
    """Sats that a token says it is."""
    return parse_token(token, notes_max=100).amount if token else 0
