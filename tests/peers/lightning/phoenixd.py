"""phoenixd's HTTP API, v0.8: forms in, whole sats, Basic authentication with a password alone."""

from __future__ import annotations

import base64

from aiohttp import web

from tests.peers.lightning.node import NodePeer


class PhoenixdPeer(NodePeer):
    credential = "6fd1e2a3c4b5968778695a4b3c2d1e0f"

    def routes(self) -> list[web.RouteDef]:
        return [web.post("/createinvoice", self.add), web.get("/payments/incoming/{paymentHash}", self.look_up)]

    def denied(self, request: web.Request) -> web.StreamResponse | None:
        right = "Basic " + base64.b64encode(f":{self.credential}".encode()).decode()
        if request.headers.get("Authorization") == right:
            return None
        return web.Response(status=401, headers={"www-authenticate": "Basic realm=Ktor"})

    async def add(self, request: web.Request) -> web.Response:
        asked = await request.post()
        if request.content_type != "application/x-www-form-urlencoded" or len(str(asked["description"])) > 128:
            return web.Response(status=400, text="Parameter is invalid")
        made = self.make(
            msat=int(str(asked["amountSat"])) * 1000,
            memo=str(asked["description"]),
            seconds=int(str(asked["expirySeconds"])),
        )
        return web.json_response(
            {"amountSat": made.msat // 1000, "paymentHash": made.payment_hash, "serialized": made.bolt11}
        )

    async def look_up(self, request: web.Request) -> web.Response:
        made = self.invoices.get(request.match_info["paymentHash"])
        if made is None:
            return web.Response(status=404, text="Not found")
        return web.json_response(
            {"type": "incoming_payment", "subType": "lightning", "paymentHash": made.payment_hash,
             "preimage": self.shown_preimage(made), "description": made.memo, "invoice": made.bolt11,
             "isPaid": made.paid, "receivedSat": made.msat // 1000 if made.paid else 0, "fees": 0,
             "expiresAt": (made.created + made.seconds) * 1000, "createdAt": made.created * 1000}
        )  # fmt: skip
