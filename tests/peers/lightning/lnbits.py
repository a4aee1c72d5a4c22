"""LNbits' API, v1.0 (and `payment_request` as before): whole sats, an invoice key in X-Api-Key."""

from __future__ import annotations

from aiohttp import web

from tests.peers.lightning.node import NodePeer


class LnbitsPeer(NodePeer):
    credential = "7a1f0e7bd7f14f5ba0a2a3b7bb1d2c3e"
    invoice_member = "bolt11"
    internal = False
    """Paid from within: no real preimage."""

    def routes(self) -> list[web.RouteDef]:
        return [web.post("/api/v1/payments", self.add), web.get("/api/v1/payments/{payment_hash}", self.look_up)]

    def denied(self, request: web.Request) -> web.StreamResponse | None:
        if request.headers.get("X-Api-Key") == self.credential:
            return None
        return web.json_response({"detail": "Wallet not found."}, status=404)

    async def add(self, request: web.Request) -> web.Response:
        asked = await request.json()
        if asked["out"] or asked["unit"] != "sat":
            return web.json_response({"detail": "not of this test"}, status=400)
        made = self.make(msat=asked["amount"] * 1000, memo=asked["memo"], seconds=asked["expiry"])
        return web.json_response(
            {"checking_id": made.payment_hash, "payment_hash": made.payment_hash, "amount": made.msat, "fee": 0,
             "memo": made.memo, "status": "pending", self.invoice_member: made.bolt11},
            status=201,
        )  # fmt: skip

    async def look_up(self, request: web.Request) -> web.Response:
        made = self.invoices.get(request.match_info["payment_hash"])
        if made is None:
            return web.json_response({"detail": "Payment does not exist."}, status=404)
        preimage = "00" * 32 if self.internal else self.shown_preimage(made)
        return web.json_response({"paid": made.paid, "status": "success" if made.paid else "pending",
                                  "preimage": preimage if made.paid else None, "details": {}})  # fmt: skip
