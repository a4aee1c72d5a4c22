"""LND's REST API, v0.18: bytes in base64, 64-bit integers as text, errors as grpc-gateway writes them."""

from __future__ import annotations

import base64

from aiohttp import web

from tests.peers.lightning.node import NodePeer


class LndPeer(NodePeer):
    credential = "0201036c6e64" * 8

    def routes(self) -> list[web.RouteDef]:
        return [web.post("/v1/invoices", self.add), web.get("/v1/invoice/{r_hash_str}", self.look_up)]

    def denied(self, request: web.Request) -> web.StreamResponse | None:
        sent = request.headers.get("Grpc-Metadata-macaroon")
        if sent == self.credential:
            return None
        words = "expected 1 macaroon, got 0" if sent is None else "verification failed: signature mismatch"
        return web.json_response({"code": 2, "message": words, "details": []}, status=500)

    async def add(self, request: web.Request) -> web.Response:
        asked = await request.json()
        made = self.make(msat=int(asked["value_msat"]), memo=asked["memo"], seconds=int(asked["expiry"]))
        return web.json_response(
            {"r_hash": _b64(made.payment_hash), "payment_request": made.bolt11, "add_index": "7",
             "payment_addr": _b64("22" * 32)}
        )  # fmt: skip

    async def look_up(self, request: web.Request) -> web.Response:
        made = self.invoices.get(request.match_info["r_hash_str"])
        if made is None:
            return web.json_response({"code": 5, "message": "unable to locate invoice", "details": []}, status=404)
        return web.json_response(
            {"memo": made.memo, "r_preimage": _b64(self.shown_preimage(made)), "r_hash": _b64(made.payment_hash),
             "value": str(made.msat // 1000), "value_msat": str(made.msat), "settled": made.paid,
             "creation_date": str(made.created), "settle_date": "0", "payment_request": made.bolt11,
             "expiry": str(made.seconds), "state": "SETTLED" if made.paid else "OPEN",
             "amt_paid_msat": str(made.msat if made.paid else 0)}
        )  # fmt: skip


def _b64(text: str) -> str:
    return base64.b64encode(bytes.fromhex(text)).decode()
