"""A scripted proxy that wants to be paid: every rail's offer and proof in the bytes of its published format.

It shares no code with the payer: invoices are the bolt11 package's, signatures eth_account's, ecash plain CBOR.
"""

from __future__ import annotations

import base64
import hashlib
import json
import secrets
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Final

import cbor2
from bolt11 import Bolt11, MilliSatoshi, Tags, encode
from eth_account import Account
from eth_account.messages import encode_typed_data

MINT: Final = "https://mint.example"
NODE_KEY: Final = "11" * 32
PAY_TO: Final = "0x00000000000000000000000000000000000000aA"
USDC: Final = "0x833589fCD6eDb6E08f4c7C32D4f71b54bdA02913"
BALANCE: Final = "bal_" + "A" * 43
TEXT: Final = "Hello! How can I help you today?"
_TYPES: Final = {
    "TransferWithAuthorization": [
        {"name": name, "type": kind}
        for name, kind in (
            ("from", "address"), ("to", "address"), ("value", "uint256"),
            ("validAfter", "uint256"), ("validBefore", "uint256"), ("nonce", "bytes32"),
        )
    ]
}  # fmt: skip
Answer = tuple[int, dict[str, str], bytes]


@dataclass
class Seen:
    """One request that came."""

    path: str
    headers: dict[str, str]
    body: dict[str, Any]

    @property
    def credential(self) -> str | None:
        """What pays, with its scheme."""
        for name in ("authorization", "payment-signature", "x-cashu"):
            if name in self.headers:
                return f"{name} {self.headers[name]}"
        return None


@dataclass
class Paywall:
    """What it offers, what it knows, and what it was asked."""

    rails: tuple[str, ...] = ("l402", "mpp", "x402", "cashu")
    sats: int = 21
    atomic: int = 305
    mint: str = MINT
    asset: str = USDC
    expiry_seconds: int = 300
    invoice_msat: int | None = None
    """In place of what `sats` says: a proxy that asks for more than it tells."""
    first: list[Answer] = field(default_factory=list)
    """Answers to the next paid requests, in place of serving them."""
    before: list[Answer] = field(default_factory=list)
    """Answers to the next unpaid requests, in place of a 402."""
    route_model: str | None = None
    paid_by_others: bool = False
    """Every invoice counts as paid at once."""
    node: Callable[[int], tuple[str, str]] | None = None
    """In place of its own: millisatoshis -> payment hash and invoice, of which it does not know the preimage."""
    url: str = ""
    seen: list[Seen] = field(default_factory=list)
    preimages: dict[str, str] = field(default_factory=dict)
    """By payment hash."""
    invoices: dict[str, str] = field(default_factory=dict)
    """Their texts, by payment hash."""
    macaroons: dict[str, str] = field(default_factory=dict)
    """Macaroon -> payment hash."""
    paid_invoices: set[str] = field(default_factory=set)
    spent: set[str] = field(default_factory=set)
    change: str = ""
    balance_sats: int = 1000
    payers: list[str] = field(default_factory=list)
    """Addresses whose signatures were good."""

    def pay(self, bolt11: str) -> str:
        """As a wallet would: the preimage."""
        for payment_hash, preimage in self.preimages.items():
            if self.invoices[payment_hash] == bolt11:
                self.paid_invoices.add(payment_hash)
                return preimage
        raise ValueError("not an invoice of this node")

    def paid(self) -> list[Seen]:
        """The requests that came with a payment."""
        return [one for one in self.seen if one.credential is not None]

    # -- offers

    def invoice(self, sats: int) -> tuple[str, str]:
        """Payment hash and BOLT-11 text."""
        if self.node is not None:
            payment_hash, text = self.node(sats * 1000)
            self.preimages[payment_hash], self.invoices[payment_hash] = "unknown", text
            return payment_hash, text
        preimage = secrets.token_bytes(32)
        payment_hash = hashlib.sha256(preimage).hexdigest()
        tags = Tags.from_dict(
            {
                "payment_hash": payment_hash,
                "payment_secret": secrets.token_hex(32),
                "description": "inference",
                "expire_time": self.expiry_seconds,
                "min_final_cltv_expiry": 18,
            }
        )
        msat = MilliSatoshi(self.invoice_msat if self.invoice_msat is not None else sats * 1000)
        made = Bolt11(currency="bcrt", date=int(time.time()), amount_msat=msat, tags=tags)
        text = encode(made, NODE_KEY)
        self.preimages[payment_hash], self.invoices[payment_hash] = preimage.hex(), text
        if self.paid_by_others:
            self.paid_invoices.add(payment_hash)
        return payment_hash, text

    def macaroon(self, payment_hash: str) -> str:
        """Version 2, with the 66-byte identifier."""
        identifier = b"\0\0" + bytes.fromhex(payment_hash) + secrets.token_bytes(32)
        raw = b"\x02\x01\x07tollway\x02\x42" + identifier + b"\0\0\x06\x20" + secrets.token_bytes(32)
        text = base64.b64encode(raw).decode()
        self.macaroons[text] = payment_hash
        return text

    def offer(self, sats: int | None = None) -> tuple[list[tuple[str, str]], dict[str, Any]]:
        """Header fields and body members of a 402."""
        headers, body = [], {"error": "Payment Required", "price": sats or self.sats, "model": "gpt-4o"}
        payment_hash, bolt11 = self.invoice(sats or self.sats)
        if "l402" in self.rails:
            token = self.macaroon(payment_hash)
            line = f'L402 macaroon="{token}", invoice="{bolt11}", version="0", token="{token}"'
            headers.append(("WWW-Authenticate", line))
            body |= {"invoice": bolt11, "macaroon": token, "paymentHash": payment_hash}
        if "mpp" in self.rails:
            asked = {"amount": str(self.sats), "currency": "sat", "methodDetails": {"invoice": bolt11}}
            text = base64.urlsafe_b64encode(json.dumps(asked).encode()).decode().rstrip("=")
            line = f'Payment id="{payment_hash[:16]}", realm="tollway", method="lightning", intent="charge"'
            headers.append(("WWW-Authenticate", f'{line}, request="{text}", expires="2099-01-01T00:00:00Z"'))
        if "x402" in self.rails:
            headers.append(("Payment-Required", base64.b64encode(json.dumps(self.envelope()).encode()).decode()))
        if "cashu" in self.rails:
            asked = {"a": sats or self.sats, "u": "sat", "m": [self.mint]}
            headers.append(("X-Cashu", "creqA" + _base64url(cbor2.dumps(asked))))
        return headers, body

    def envelope(self) -> dict[str, Any]:
        accepted = {
            "scheme": "exact", "network": "eip155:8453", "amount": str(self.atomic), "asset": self.asset,
            "payTo": PAY_TO, "maxTimeoutSeconds": 120, "extra": {"name": "USD Coin", "version": "2"},
        }  # fmt: skip
        resource = {
            "url": f"{self.url}/v1/chat/completions",
            "description": "inference",
            "mimeType": "application/json",
        }
        return {"x402Version": 2, "error": "Payment required", "accepts": [accepted], "resource": resource}

    # -- proofs

    def served_headers(self, seen: Seen) -> dict[str, str] | None:
        """What a paid answer carries; None: this is no payment. Each works once."""
        credential = seen.credential or ""
        if credential in self.spent:
            return None
        name, _, value = credential.partition(" ")
        headers = {
            "authorization": self._authorization,
            "payment-signature": self._signature,
            "x-cashu": self._ecash,
        }[name](value)
        if headers is not None and not value.startswith("Bearer "):
            self.spent.add(credential)
        return headers

    def _authorization(self, value: str) -> dict[str, str] | None:
        scheme, _, rest = value.partition(" ")
        if scheme == "Bearer":
            self.balance_sats -= self.sats if rest == BALANCE else 0
            return {} if rest == BALANCE else None
        if scheme in ("L402", "LSAT"):
            token, _, preimage = rest.partition(":")
            payment_hash = hashlib.sha256(bytes.fromhex(preimage)).hexdigest()
            return {} if self.macaroons.get(token) == payment_hash else None
        shown = json.loads(base64.urlsafe_b64decode(rest + "=" * (-len(rest) % 4)))
        payment_hash = hashlib.sha256(bytes.fromhex(shown["payload"]["preimage"])).hexdigest()
        if payment_hash not in self.preimages or shown["challenge"]["id"] != payment_hash[:16]:
            return None
        receipt = {"method": "lightning", "reference": payment_hash, "status": "success"}
        return {"Payment-Receipt": _base64url(json.dumps(receipt).encode())}

    def _signature(self, value: str) -> dict[str, str] | None:
        shown = json.loads(base64.b64decode(value))
        said = shown["payload"]["authorization"]
        message = {
            **{name: said[name] for name in ("from", "to")},
            **{name: int(said[name]) for name in ("value", "validAfter", "validBefore")},
            "nonce": bytes.fromhex(said["nonce"][2:]),
        }
        domain = {"name": "USD Coin", "version": "2", "chainId": 8453, "verifyingContract": self.asset}
        signable = encode_typed_data(domain, _TYPES, message)
        payer = Account.recover_message(signable, signature=shown["payload"]["signature"])
        now = int(time.time())
        good = payer == said["from"] and said["to"].lower() == PAY_TO.lower() and int(said["value"]) == self.atomic
        if not good or not int(said["validAfter"]) <= now <= int(said["validBefore"]):
            return None
        if shown["accepted"] != self.envelope()["accepts"][0]:
            return None
        self.payers.append(payer)
        receipt = {"success": True, "transaction": "0x" + "ab" * 32, "network": "eip155:8453", "payer": payer}
        return {"PAYMENT-RESPONSE": base64.b64encode(json.dumps(receipt).encode()).decode()}

    def _ecash(self, value: str) -> dict[str, str] | None:
        token = cbor2.loads(base64.urlsafe_b64decode(value[6:] + "=" * (-len(value[6:]) % 4)))
        worth = sum(proof["a"] for group in token["t"] for proof in group["p"])
        if token["m"] != self.mint or worth < self.sats:
            return None
        self.change = ecash(worth - self.sats, self.mint) if worth - self.sats >= 2 else ""
        return {"X-Cashu-Consumed": "true", **({"X-Cashu-Change": self.change} if self.change else {})}

    # -- answers

    def answer(self, seen: Seen) -> tuple[int, list[tuple[str, str]], bytes]:
        """To one request."""
        self.seen.append(seen)
        if seen.path == "/v1/estimate-cost":
            return 200, [], json.dumps({"model": "gpt-4o", "costSats": self.sats, "costUsd": 0.000305}).encode()
        if seen.path == "/api/invoice/status":
            return self._status(seen)
        if seen.path == "/v1/balance":
            return self._balance(seen)
        if seen.path == "/v1/payments/refund":
            told = {"token": BALANCE, "unit": "sat", "sats": self.sats, "payment_id": "pay_" + "0" * 32}
            return (200, [], json.dumps(told).encode()) if seen.credential else refusal(401, "invalid_payment")
        if seen.credential is None:
            if self.before:
                status, fields, body = self.before.pop(0)
                return status, list(fields.items()), body
            headers, offered = self.offer()
            headers += [("X-Route-Model", self.route_model)] if self.route_model else []
            return 402, headers, json.dumps(offered).encode()
        if self.first:
            status, fields, body = self.first.pop(0)
            return status, list(fields.items()), body
        paid = self.served_headers(seen)
        return refusal(401, "invalid_payment") if paid is None else self._served(seen, paid)

    def _served(self, seen: Seen, paid: dict[str, str]) -> tuple[int, list[tuple[str, str]], bytes]:
        if not seen.body.get("stream"):
            choice = {"index": 0, "message": {"role": "assistant", "content": TEXT}, "finish_reason": "stop"}
            whole = {"model": seen.body["model"], "choices": [choice], "usage": {"total_tokens": 14}}
            return 200, list(paid.items()), json.dumps(whole).encode()
        events = [{"choices": [{"index": 0, "delta": {"content": word}}]} for word in TEXT.split(" ")]
        lines = [f"data: {json.dumps(event)}\n\n" for event in events]
        body = ": heartbeat\n\n" + "".join(lines) + "data: [DONE]\n\n"
        return 200, [*paid.items(), ("Content-Type", "text/event-stream")], body.encode()

    def _status(self, seen: Seen) -> tuple[int, list[tuple[str, str]], bytes]:
        payment_hash = self.macaroons.get(str(seen.body.get("macaroon")))
        if payment_hash != seen.body.get("payment_hash"):
            return refusal(401, "invalid_payment")
        paid = payment_hash in self.paid_invoices
        told: dict[str, Any] = (
            {"paid": True, "preimage": self.preimages[str(payment_hash)]} if paid else {"paid": False}
        )
        return 200, [], json.dumps(told).encode()

    def _balance(self, seen: Seen) -> tuple[int, list[tuple[str, str]], bytes]:
        credential = seen.credential or ""
        if seen.body.get("action") == "status":
            told: dict[str, Any] = {"sats": self.balance_sats, "total_spent": 0, "requests": 0}
            return (200, [], json.dumps(told).encode()) if BALANCE in credential else refusal(401, "invalid_balance")
        if "payment_hash" in seen.body:
            right = seen.body.get("poll_secret") == "p" * 43
            paid = seen.body["payment_hash"] in self.paid_invoices
            told = {"paid": paid} | ({"token": BALANCE, "sats": 1000} if paid else {})
            return (200, [], json.dumps(told).encode()) if right else refusal(401, "invalid_payment")
        if credential and "Bearer" not in credential:
            paid_headers = self.served_headers(seen)
            if paid_headers is None:
                return refusal(401, "invalid_payment")
            bought = {"paid": True, "token": BALANCE, "sats": seen.body["sats"]}
            return 200, list(paid_headers.items()), json.dumps(bought).encode()
        headers, offered = self.offer(seen.body["sats"])
        headers = [one for one in headers if one[0] != "WWW-Authenticate"]
        payment_hash, bolt11 = self.invoice(seen.body["sats"])
        told = {"payment_hash": payment_hash, "invoice": bolt11, "sats": seen.body["sats"], "poll_secret": "p" * 43}
        return 402, headers, json.dumps({**offered, **told, "expires_in": 600}).encode()


def ecash(sats: int, mint: str = MINT, unit: str = "sat") -> str:
    """A cashuB token in notes of powers of two; nobody has signed it."""
    notes = [1 << bit for bit in range(sats.bit_length()) if sats >> bit & 1]
    proofs = [{"a": amount, "s": secrets.token_hex(32), "c": b"\x02" + secrets.token_bytes(32)} for amount in notes]
    content = {"m": mint, "u": unit, "t": [{"i": bytes.fromhex("00ad268c4d1f5826"), "p": proofs}]}
    return "cashuB" + _base64url(cbor2.dumps(content))


def refusal(status: int, code: str, message: str = "what to do next") -> tuple[int, list[tuple[str, str]], bytes]:
    """An error as every proxy of ours tells it."""
    error = {"error": {"message": message, "type": "payment_error", "code": code, "param": None}}
    return status, [], json.dumps(error).encode()


def failing(status: int, code: str, **headers: str) -> Answer:
    """For `first` and `before`."""
    return status, {name.replace("_", "-"): value for name, value in headers.items()}, refusal(status, code)[2]


def _base64url(raw: bytes) -> str:
    return base64.urlsafe_b64encode(raw).decode().rstrip("=")


@contextmanager
def paywall(**fields: Any) -> Iterator[Paywall]:
    """One that listens on a free port."""
    wall = Paywall(**fields)

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            raw = self.rfile.read(int(self.headers.get("content-length", 0)))
            seen = Seen(self.path, {name.lower(): value for name, value in self.headers.items()}, json.loads(raw))
            status, headers, body = wall.answer(seen)
            self.send_response(status)
            for name, value in headers:
                self.send_header(name, value)
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: Any) -> None:
            """Nothing is printed."""

    with serving(Handler) as wall.url:
        yield wall


@contextmanager
def wallet_server(pay: Any) -> Iterator[str]:
    """For wallets in other languages: POST {invoice} -> {preimage}. Gives its URL."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            asked = json.loads(self.rfile.read(int(self.headers["content-length"])))
            body = json.dumps({"preimage": pay(asked["invoice"])}).encode()
            self.send_response(200)
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: Any) -> None:
            """Nothing is printed."""

    with serving(Handler) as url:
        yield url


@contextmanager
def serving(handler: type[BaseHTTPRequestHandler]) -> Iterator[str]:
    """A server on a free port of loopback, in threads; its URL."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join(10)
