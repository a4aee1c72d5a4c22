"""What the scripted nodes share: invoices with known preimages, and every way to fail and to lie.

async with LndPeer() as node:
    node.fault = "hang"
    node.pay(payment_hash)
"""

from __future__ import annotations

import asyncio
import hashlib
import secrets
import ssl
import time
from dataclasses import dataclass, field
from typing import Any, Self

import bolt11
from aiohttp import web
from bolt11.models.tags import Tags

HASH_OF_ANOTHER = hashlib.sha256(b"another").hexdigest()


@dataclass
class MadeInvoice:
    """One invoice at a node."""

    preimage: str
    payment_hash: str
    bolt11: str
    msat: int
    memo: str
    seconds: int
    created: int
    paid: bool = False


def make_bolt11(
    *, payment_hash: str, msat: int | None, memo: str, seconds: int, created: int, key: str = "11" * 32
) -> str:
    """Signed by `key`, on the regression test network."""
    invoice = bolt11.Bolt11(
        currency="bcrt",
        date=created,
        amount_msat=None if msat is None else bolt11.MilliSatoshi(msat),
        tags=Tags.from_dict(
            {"payment_hash": payment_hash, "payment_secret": secrets.token_hex(32), "description": memo,
             "expire_time": seconds, "min_final_cltv_expiry": 18}
        ),
    )  # fmt: skip
    return bolt11.encode(invoice, "11" * 32)


@dataclass
class Books:
    """A node's invoices. `lie` makes them wrong: amount | no amount | hash | life | clock | junk | preimage"""

    lie: str = ""
    invoices: dict[str, MadeInvoice] = field(default_factory=dict)

    def make(self, *, msat: int, memo: str, seconds: int) -> MadeInvoice:
        preimage = secrets.token_hex(32)
        payment_hash = hashlib.sha256(bytes.fromhex(preimage)).hexdigest()
        created = int(time.time()) - (400 if self.lie == "clock" else 0)
        text = make_bolt11(
            payment_hash=HASH_OF_ANOTHER if self.lie == "hash" else payment_hash,
            msat=None if self.lie == "no amount" else msat - 1000 if self.lie == "amount" else msat,
            memo=memo,
            seconds=5 if self.lie == "life" else seconds,
            created=created,
        )
        text = "lnbcrt1junk" if self.lie == "junk" else text
        made = MadeInvoice(preimage, payment_hash, text, msat, memo, seconds, created)
        self.invoices[payment_hash] = made
        return made

    def pay(self, payment_hash: str) -> str:
        """As a wallet would; the preimage."""
        self.invoices[payment_hash].paid = True
        return self.invoices[payment_hash].preimage

    def shown_preimage(self, made: MadeInvoice) -> str:
        return "ab" * 32 if self.lie == "preimage" else made.preimage


class NodePeer(Books):
    """A node with a REST API. `fault`: hang | broken | junk | list | empty | huge | redirect."""

    credential = ""

    def __init__(self, *, tls: ssl.SSLContext | None = None) -> None:
        super().__init__()
        self.fault = ""
        self.requests: list[tuple[str, str, Any]] = []
        self._tls = tls
        self._released = asyncio.Event()

    def routes(self) -> list[web.RouteDef]:
        raise NotImplementedError

    def denied(self, request: web.Request) -> web.StreamResponse | None:
        """The vendor's answer to a wrong credential; None where it is right."""
        raise NotImplementedError

    async def __aenter__(self) -> Self:
        app = web.Application(middlewares=[self._misbehave])
        app.add_routes(self.routes())
        self._runner = web.AppRunner(app, shutdown_timeout=0.1)
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", 0, ssl_context=self._tls)
        await site.start()
        port = self._runner.addresses[0][1]
        self.url = f"https://localhost:{port}" if self._tls else f"http://127.0.0.1:{port}"
        return self

    async def __aexit__(self, *_: object) -> None:
        self._released.set()
        await self._runner.cleanup()

    @web.middleware
    async def _misbehave(self, request: web.Request, handler: Any) -> web.StreamResponse:
        self.requests.append((request.method, request.path, (await request.read()).decode()))
        if self.fault == "hang":
            await self._released.wait()
        if self.fault == "broken":
            return web.json_response({"message": f"database locked, you sent {request.headers}"}, status=500)
        if self.fault == "junk":
            return web.Response(text="<html>maintenance</html>")
        if self.fault == "list":
            return web.json_response([])
        if self.fault == "empty":
            return web.json_response({})
        if self.fault == "huge":
            return web.Response(body=b"x" * (1 << 20))
        if self.fault == "redirect":
            return web.Response(status=302, headers={"location": "http://169.254.169.254/"})
        return self.denied(request) or await handler(request)
