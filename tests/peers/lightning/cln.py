"""Core Lightning's clnrest, v24.08: every method a POST that answers 201, a rune in a header of its own."""

from __future__ import annotations

from aiohttp import web

from tests.peers.lightning.node import NodePeer


class ClnPeer(NodePeer):
    credential = "zm0x_eLgHexaTvZn3Cz7gb_YlvrlYGDo_w4BYlR9SS09MSZtZXRob2RebGlzdA=="

    def __init__(self, **more: object) -> None:
        super().__init__(**more)  # type: ignore[arg-type]
        self.labels: set[str] = set()

    def routes(self) -> list[web.RouteDef]:
        return [web.post("/v1/invoice", self.add), web.post("/v1/listinvoices", self.look_up)]

    def denied(self, request: web.Request) -> web.StreamResponse | None:
        if request.headers.get("Rune") == self.credential:
            return None
        return web.json_response({"code": 1501, "message": "Not authorized: Not derived from master"}, status=401)

    async def add(self, request: web.Request) -> web.Response:
        asked = await request.json()
        if asked["label"] in self.labels:
            return web.json_response({"code": 900, "message": "Duplicate label"}, status=500)
        self.labels.add(asked["label"])
        made = self.make(msat=asked["amount_msat"], memo=asked["description"], seconds=asked["expiry"])
        return web.json_response(
            {"payment_hash": made.payment_hash, "expires_at": made.created + made.seconds, "bolt11": made.bolt11,
             "payment_secret": "33" * 32, "created_index": 1, "warning_capacity": "Insufficient incoming capacity"},
            status=201,
        )  # fmt: skip

    async def look_up(self, request: web.Request) -> web.Response:
        made = self.invoices.get((await request.json())["payment_hash"])
        if made is None:
            return web.json_response({"invoices": []}, status=201)
        found = {
            "label": "x", "bolt11": made.bolt11, "payment_hash": made.payment_hash, "amount_msat": made.msat,
            "status": "paid" if made.paid else "unpaid", "description": made.memo, "created_index": 1,
            "expires_at": made.created + made.seconds,
        }  # fmt: skip
        if made.paid:
            found |= {"pay_index": 1, "amount_received_msat": made.msat, "payment_preimage": self.shown_preimage(made)}
        return web.json_response({"invoices": [found]}, status=201)
