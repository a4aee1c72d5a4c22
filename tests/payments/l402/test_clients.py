"""Clients that others wrote, l402-requests and Alby's for Node, pay and are served: by L402, and by the Payment scheme.

The server around the rails is the test's; rails, ledger, invoices and the development node are the proxy's own.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from aiohttp import web
from l402_requests.client import AsyncL402Client
from l402_requests.wallets import WalletBase

from proxy.clock import SystemClock
from proxy.errors import Refusal
from proxy.headers import Headers
from proxy.ledger.payment_api import PaymentTaken
from proxy.ledger.store import SqliteLedger
from proxy.payments.api import Ask, IssuedInvoice
from proxy.payments.credentials import presented
from proxy.payments.l402.invoice_rail import InvoiceRail
from proxy.payments.l402.rail import L402Rail
from proxy.payments.l402.terms import Terms
from proxy.payments.lightning.dev import DevWallet
from proxy.payments.lightning.invoices import Invoices
from proxy.payments.lightning.nodes import build_node
from proxy.payments.mpp.rail import MppRail
from proxy.payments.settings import L402, Lightning, Mpp
from tests.ledger.making import opened, request
from tests.peers.paywall import wallet_server
from tests.support.fakes import Log
from tests.support.lightning import KEYS, asked

BODY = b'{"model":"gpt-4o","messages":[{"role":"user","content":"Say hello."}],"max_tokens":50}'
CLOCK = SystemClock()
NODE = Path(__file__).parents[2] / "clients" / "node"


class Wallet(WalletBase):
    """The client's, over the development wallet."""

    def __init__(self, state: Path) -> None:
        self._dev = DevWallet(KEYS, state, CLOCK)
        self.paid: list[str] = []

    async def pay_invoice(self, bolt11: str) -> str:
        return self.pay_now(bolt11)

    def pay_now(self, bolt11: str) -> str:
        """The preimage."""
        self.paid.append(bolt11)
        return self._dev.pay(bolt11)


class Paywall:
    """The order in which a paid request goes, and nothing else: offer, check, hold and lease, burn, answer."""

    def __init__(self, state: Path, rails: tuple[str, ...]) -> None:
        self.ledger: SqliteLedger = opened(state / "ledger.db", CLOCK)
        node = Lightning("dev", development=True)
        self.invoices = Invoices(build_node(node, KEYS, state, CLOCK), self.ledger, CLOCK, node, Log())
        made: dict[str, InvoiceRail] = {
            "l402": L402Rail(L402(), KEYS, self.ledger, leases_max=5),
            "mpp": MppRail(Mpp(), KEYS, self.ledger, CLOCK, leases_max=5),
        }
        self.rails = [made[name] for name in rails]
        self.failing = 0

    async def answer(self, asked_for: web.Request) -> web.StreamResponse:
        body = await asked_for.read()
        ask = asked(body, path=asked_for.path, now_ms=CLOCK.now_ms())
        payment = presented(Headers(asked_for.headers.items()), key_prefix="lld_")
        if payment is None:
            return self._challenge(ask, await self._invoice(ask))
        rail = next(rail for rail in self.rails if payment.credential in rail.credentials)
        try:
            tender = await rail.check(payment, ask)
            hold = await self.ledger.hold(request(100, tender=tender))
        except Refusal as refusal:
            return _refused(refusal)
        except PaymentTaken as error:
            return _refused(rail.taken(error))
        if self.failing:
            self.failing -= 1
            self.ledger.release(hold, reason="upstream failed", at_ms=CLOCK.now_ms())
            return web.Response(status=502)
        await self.ledger.dispatch(hold, upstream="openai", upstream_model="gpt-4o")
        await self.ledger.commit(hold)
        if hold.lease is None:
            raise AssertionError("a tender's proof is leased with the hold")
        return web.json_response({"text": "Hello."}, headers=dict(await rail.served(hold.lease)))

    async def _invoice(self, ask: Ask) -> IssuedInvoice:
        terms = Terms.of(ask).json()
        return await self.invoices.issue(
            msat=42_000, memo="test", client=ask.client, purpose="request", seconds=300, terms=terms
        )

    def _challenge(self, ask: Ask, invoice: IssuedInvoice) -> web.Response:
        offers = [offer for rail in self.rails if (offer := rail.offer(ask, invoice)) is not None]
        answer = web.json_response(
            {name: value for offer in offers for name, value in offer.members.items()}, status=402
        )
        for offer in offers:
            for name, value in offer.headers:
                answer.headers.add(name, value)
        return answer


def _refused(refusal: Refusal) -> web.Response:
    return web.Response(status=refusal.status, body=refusal.envelope(), headers=refusal.wire_headers())


@pytest.fixture(params=[("l402", "mpp"), ("l402",), ("mpp",)], ids="+".join)
async def wall(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[tuple[Paywall, str]]:
    made = Paywall(tmp_path, request.param)
    app = web.Application()
    app.router.add_post("/{path:.*}", made.answer)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    host, port = runner.addresses[0][:2]
    yield made, f"http://{host}:{port}/v1/chat/completions"
    await runner.cleanup()
    await made.invoices.aclose()
    await made.ledger.close()


async def pay(url: str, wallet: Wallet) -> tuple[httpx.Response, str]:
    """The answer, and the Authorization that it was got with."""
    async with AsyncL402Client(wallet, budget=None) as client:
        answer = await client.post(url, content=BODY)
    return answer, answer.request.headers["authorization"]


async def again(url: str, authorization: str, body: bytes = BODY) -> httpx.Response:
    async with httpx.AsyncClient() as client:
        return await client.post(url, content=body, headers={"authorization": authorization})


async def test_client_pays_once_and_is_served_once(wall: tuple[Paywall, str], tmp_path: Path) -> None:
    """One invoice paid, one answer; the same credential again is told that it was used."""
    paywall, url = wall
    wallet = Wallet(tmp_path)
    answer, authorization = await pay(url, wallet)
    assert (answer.status_code, answer.json()) == (200, {"text": "Hello."})
    assert len(wallet.paid) == 1
    scheme = "Payment" if [rail.name for rail in paywall.rails] == ["mpp"] else "L402"
    assert authorization.startswith(f"{scheme} ")
    receipt: Any = answer.payment_receipt  # type: ignore[attr-defined]
    assert (receipt is not None) == (scheme == "Payment")
    if receipt is not None:
        payment = await paywall.ledger.payment("lightning", receipt.reference)
        assert payment is not None
        assert (receipt.status, payment.captured) == ("success", 42_000)
    used = await again(url, authorization)
    assert used.status_code == 401
    assert "has already been used" in used.text


async def test_upstream_failure_leaves_the_payment_good(wall: tuple[Paywall, str], tmp_path: Path) -> None:
    """The same credential serves for the next try."""
    paywall, url = wall
    paywall.failing = 1
    answer, authorization = await pay(url, Wallet(tmp_path))
    assert answer.status_code == 502
    assert (await again(url, authorization)).status_code == 200
    assert (await again(url, authorization)).status_code == 401


async def test_payment_that_fails_too_often_is_refundable(wall: tuple[Paywall, str], tmp_path: Path) -> None:
    """After five tries it names the way to its money."""
    paywall, url = wall
    paywall.failing = 5
    _, authorization = await pay(url, Wallet(tmp_path))
    for _ in range(4):
        assert (await again(url, authorization)).status_code == 502
    worn = await again(url, authorization)
    assert worn.status_code == 401
    assert "POST /v1/payments/refund" in worn.text


async def test_alby_pays_and_is_served(wall: tuple[Paywall, str], tmp_path: Path) -> None:
    """By whatever it finds: it neither looks at the digest of a challenge nor sends it back."""
    paywall, url = wall
    told = await alby(url, Wallet(tmp_path), "fetch402")
    assert (told["status"], json.loads(told["body"])) == (200, {"text": "Hello."})
    assert len(told["invoices"]) == 1
    mpp = [rail.name for rail in paywall.rails] == ["mpp"]
    assert told["payment"]["credentials"]["value"].startswith("Payment " if mpp else "L402 ")
    assert ("payment-receipt" in told["headers"]) == mpp


async def alby(url: str, wallet: Wallet, client: str) -> dict[str, Any]:
    """One run of the client; what it told."""
    with wallet_server(wallet.pay_now) as wallet_url:
        environment = {**os.environ, "URL": url, "BODY": BODY.decode(), "CLIENT": client, "WALLET_URL": wallet_url}
        ran = await asyncio.create_subprocess_exec(
            "node", "pay-l402.mjs", cwd=NODE, env=environment, stdout=asyncio.subprocess.PIPE
        )
        output, _ = await asyncio.wait_for(ran.communicate(), 50)
    assert ran.returncode == 0
    told: dict[str, Any] = json.loads(output)
    return told


async def test_one_invoice_buys_once_over_both_schemes(tmp_path: Path) -> None:
    """The preimage that was spent by L402 is spent for the Payment scheme."""
    paywall = Paywall(tmp_path, ("l402", "mpp"))
    ask = asked(BODY, now_ms=CLOCK.now_ms())
    invoice = await paywall._invoice(ask)
    preimage = DevWallet(KEYS, tmp_path, CLOCK).pay(invoice.bolt11)
    assert hashlib.sha256(bytes.fromhex(preimage)).hexdigest() == invoice.payment_hash
    proofs = []
    for rail, scheme in zip(paywall.rails, ("L402", "Payment"), strict=True):
        offer = rail.offer(ask, invoice)
        assert offer is not None
        payment = presented(
            Headers({"authorization": f"{scheme} {credential(offer.headers[0][1], preimage)}"}), key_prefix="lld_"
        )
        assert payment is not None
        proofs.append((await rail.check(payment, ask)).proof)
    first, second = proofs
    assert first is not None
    assert second is not None
    lease = await paywall.ledger.lease(first, ask.request_digest)
    with pytest.raises(PaymentTaken):
        await paywall.ledger.lease(second, ask.request_digest)
    paywall.ledger.unlease(lease, reason="test")
    await paywall.ledger.close()


def credential(header: str, preimage: str) -> str:
    """What a client makes of a challenge."""
    from l402_requests.challenge import build_payment_credential, find_payment_challenge

    challenge: Any = find_payment_challenge({"www-authenticate": header})
    if header.startswith("L402"):
        return f"{challenge.macaroon}:{preimage}"
    return build_payment_credential(challenge, preimage).removeprefix("Payment ")
