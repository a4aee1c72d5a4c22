"""A payer by x402 whose signatures are made by eth-account, not by the code under test, and a rail to pay."""

from __future__ import annotations

import base64
import hashlib
import json
from dataclasses import dataclass, field, replace
from decimal import Decimal
from typing import Any

from eth_account import Account
from eth_account.signers.local import LocalAccount

from proxy.ledger.payment_api import Lease, Payment, Proof, Receipt, Unit
from proxy.ledger.payment_states import PaymentState
from proxy.payments.api import Ask, Credential, Outcome, Presented, Price, Settled
from proxy.payments.settings import X402, Asset, Payments
from proxy.payments.x402.payload import Authorization
from proxy.payments.x402.rail import X402Rail
from proxy.pricing.money import Nano

NOW_MS = 1_700_000_000_000
NOW = NOW_MS // 1000
PAYER: LocalAccount = Account.from_key("0x" + "11" * 32)
STRANGER: LocalAccount = Account.from_key("0x" + "22" * 32)
PAY_TO = "0xE05cf38AB5d01b5c2b5d9eC2a3E4f17C1b1a2A3d"
USDC = Asset("eip155:8453", "0x833589fCD6eDb6E08f4c7C32D4f71b54bdA02913")
SEPOLIA = Asset("eip155:84532", "0x036CbD53842c5426634e7929541eC2318f3dCF7e", name="USDC")
NONCE = bytes(range(32))
TYPES = {
    "TransferWithAuthorization": [
        {"name": "from", "type": "address"},
        {"name": "to", "type": "address"},
        {"name": "value", "type": "uint256"},
        {"name": "validAfter", "type": "uint256"},
        {"name": "validBefore", "type": "uint256"},
        {"name": "nonce", "type": "bytes32"},
    ]
}


def settings(**changes: Any) -> X402:
    """The rail's settings: USDC on Base, no way to ask a chain."""
    return replace(X402(pay_to=PAY_TO.lower(), assets=(USDC,), facilitator="https://facilitator.example"), **changes)


def ask(usdc: int = 3150, *, body: bytes = b"{}", now_ms: int = NOW_MS, **changes: Any) -> Ask:
    """A chat request of this price."""
    price = Price(
        usd=Nano(usdc * 1000),
        input_usd=Nano(1000),
        msat=None,
        input_tokens=1,
        input_chars=1,
        input_items=0,
        output_tokens=50,
        max_tokens=50,
        rates_digest="",
    )
    request = Ask(
        method="POST",
        path="/v1/chat/completions",
        url="https://llm.example/v1/chat/completions",
        operation="chat.completions",
        model="deepseek-v3.2",
        stream=False,
        price=price,
        request_digest=hashlib.sha256(b"POST /v1/chat/completions\n" + body).hexdigest(),
        client="192.0.2.1",
        now_ms=now_ms,
    )
    return replace(request, **changes)


@dataclass
class Payload:
    """A payment as clients make it; a test changes what it is about."""

    value: int | str = 3150
    to: str = PAY_TO
    payer: str = PAYER.address
    valid_after: int | str = 0
    valid_before: int | str = NOW + 120
    nonce: bytes = NONCE
    asset: Asset = USDC
    signer: LocalAccount = PAYER
    version: int = 2
    accepted: dict[str, Any] = field(default_factory=dict)
    authorization: dict[str, Any] = field(default_factory=dict)
    """What is changed after it was signed."""
    signature: bytes | None = None
    extra: dict[str, Any] = field(default_factory=dict)

    def signed(self) -> bytes:
        """The payer's own signature."""
        message = {
            "from": self.payer,
            "to": self.to,
            "value": int(self.value),
            "validAfter": int(self.valid_after),
            "validBefore": int(self.valid_before),
            "nonce": self.nonce,
        }
        domain = {
            "name": self.asset.name,
            "version": self.asset.version,
            "chainId": self.asset.chain_id,
            "verifyingContract": self.asset.address,
        }
        return bytes(self.signer.sign_typed_data(domain, TYPES, message).signature)

    def document(self) -> dict[str, Any]:
        """The JSON."""
        signature = self.signed() if self.signature is None else self.signature
        inner = {
            "signature": "0x" + signature.hex(),
            "authorization": {
                "from": self.payer,
                "to": self.to,
                "value": str(self.value),
                "validAfter": str(self.valid_after),
                "validBefore": str(self.valid_before),
                "nonce": "0x" + self.nonce.hex(),
                **self.authorization,
            },
        }
        if self.version == 1:
            names = {"eip155:8453": "base", "eip155:84532": "base-sepolia"}
            network = names.get(self.asset.network, self.asset.network)
            return {"x402Version": 1, "scheme": "exact", "network": network, "payload": inner, **self.extra}
        accepted = {
            "scheme": "exact",
            "network": self.asset.network,
            "amount": str(self.value),
            "asset": self.asset.address,
            "payTo": self.to,
            "maxTimeoutSeconds": 120,
            "extra": {"name": self.asset.name, "version": self.asset.version},
            **self.accepted,
        }
        return {"x402Version": 2, "accepted": accepted, "payload": inner, **self.extra}

    def header(self) -> str:
        """Its header's value."""
        return encoded(self.document())

    def presented(self) -> Presented:
        """As it is recognised."""
        return presented(self.header(), self.version)


def encoded(document: Any) -> str:
    """base64 of its JSON."""
    return base64.b64encode(json.dumps(document).encode()).decode()


def decoded(value: str) -> Any:
    """The JSON in a header."""
    return json.loads(base64.b64decode(value, validate=True))


def presented(value: str, version: int = 2) -> Presented:
    """A header's value as it is recognised."""
    return Presented(Credential.X402 if version == 2 else Credential.X402_V1, value, "")


def high_s(signature: bytes) -> bytes:
    """The other spelling of the same signature."""
    order = 0xFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFEBAAEDCE6AF48A03BBFD25E8CD0364141
    other = order - int.from_bytes(signature[32:64])
    return signature[:32] + other.to_bytes(32) + bytes((55 - signature[64],))


def payment(proof: Proof, state: PaymentState, **changes: Any) -> Payment:
    """The ledger's word for a proof."""
    found = Payment(
        id="pay_" + "0" * 32,
        row=1,
        fence=1,
        rail=proof.rail,
        key=proof.key,
        unit=Unit.USDC,
        state=state,
        leased=False,
        amount=proof.amount,
        captured=0,
        credited=0,
        returned=0,
        change=0,
        fee=0,
        absorbed=0,
        expired=0,
        binding=proof.binding,
        detail=proof.detail,
        receipt_detail=b"",
        reference="0xtx",
        reason="",
        leases=1,
        leases_max=5,
        use_until_ms=0,
        created_ms=NOW_MS,
        changed_ms=NOW_MS,
    )
    return replace(found, **changes)


def lease(proof: Proof, *, receipt: Receipt | None = None) -> Lease:
    """An exchange's right to a proof."""
    return Lease("pay_" + "0" * 32, 1, 1, proof, settled=receipt is not None, receipt=receipt)


class KnownPayments:
    """The one question that the rail has for a ledger."""

    def __init__(self) -> None:
        self.known: dict[str, Payment] = {}

    async def payment(self, rail: str, key: str) -> Payment | None:
        return self.known.get(key)


class ScriptedSettler:
    """Settles everything, and keeps what it was given."""

    def __init__(self) -> None:
        self.settled: list[tuple[Authorization, dict[str, Any]]] = []
        self.outcome: Outcome | None = None
        self.wallet: bool | None = True
        self.asked: list[Authorization] = []

        self.open = False

    async def start(self) -> None:
        self.open = True

    async def aclose(self) -> None:
        self.open = False

    async def settle(self, authorization: Authorization, requirements: dict[str, Any]) -> Outcome:
        self.settled.append((authorization, requirements))
        return self.outcome or Settled(Receipt(authorization.value, reference="0xtx", detail=b"{}"))

    async def verify_contract_wallet(self, authorization: Authorization) -> bool | None:
        self.asked.append(authorization)
        return self.wallet

    async def wallet_says(self, authorization: Authorization, digest: bytes, signature: bytes) -> bool | None:
        return None if self.wallet is None else self.wallet and signature == b"agreed"

    async def reconcile(self, authorization: Authorization) -> Outcome:
        self.asked.append(authorization)
        return self.outcome or Settled(Receipt(authorization.value, reference="0xtx", detail=b"{}"))


@dataclass
class Till:
    """A rail with its scripted surroundings."""

    rail: X402Rail
    settler: ScriptedSettler
    ledger: KnownPayments


def till(*, description: str = "", **changes: Any) -> Till:
    """A rail under these settings."""
    own = settings(**changes)
    settler, ledger = ScriptedSettler(), KnownPayments()
    payments = Payments(x402=own, description=description, surcharge_percent=Decimal(0))
    return Till(X402Rail(payments, own, settler, ledger), settler, ledger)  # type: ignore[arg-type]
