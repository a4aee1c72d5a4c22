"""A small Nostr relay (NIP-01, NIP-42 on demand) with a wallet service behind it (NIP-47, kinds 23194 and 23195)."""

from __future__ import annotations

import asyncio
import json
import time
from typing import Any, Self

from aiohttp import WSMsgType, web

from proxy.payments.lightning.nostr import Conversation, public_key, signed_event, verified_event
from tests.peers.lightning.node import Books

WALLET_SECRET = bytes.fromhex("71a8c14c1407c113601079c4302dab36460f0ccd0ad506f1f2dc73b5100e4f3c")
CLIENT_SECRET = bytes.fromhex("5c0c523f52a5b6fad39ed2403092df8cebc36318b39383bca6c00808626fab3a")
STRANGER_SECRET = bytes.fromhex("4b22aa260e4acb7021e32f38a6cdf4b673c6a277755bfce287e370c924dc936d")


class NwcPeer(Books):
    """`fault`: hang | refuse (OK false) | close | forge | stranger | other question | error | junk | no result | late
    noise. `scheme` None: the wallet announces nothing."""

    def __init__(self, *, scheme: str | None = "nip44_v2 nip04", auth: bool = False) -> None:
        super().__init__()
        self.scheme = scheme
        self.auth = auth
        self.fault = ""
        self.methods: list[str] = []
        self.connections = 0
        self.cut: list[web.WebSocketResponse] = []
        self._conversation = Conversation(WALLET_SECRET, public_key(CLIENT_SECRET))

    async def __aenter__(self) -> Self:
        app = web.Application()
        app.add_routes([web.get("/", self._connected)])
        self._runner = web.AppRunner(app, shutdown_timeout=0.1)
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", 0).start()
        self.url = f"ws://127.0.0.1:{self._runner.addresses[0][1]}"
        self.credential = f"nostr+walletconnect://{public_key(WALLET_SECRET)}?relay={self.url}&secret={CLIENT_SECRET.hex()}&lud16=a@b.c"
        return self

    async def __aexit__(self, *_: object) -> None:
        for socket in self.cut:
            await socket.close()
        await self._runner.cleanup()

    async def _connected(self, request: web.Request) -> web.StreamResponse:
        if self.fault == "redirect":
            return web.Response(status=302, headers={"location": f"{self.url}/elsewhere"})
        self.connections += 1
        socket = web.WebSocketResponse()
        await socket.prepare(request)
        self.cut.append(socket)
        known = not self.auth
        if self.auth:
            await socket.send_json(["AUTH", "prove yourself"])
        async for message in socket:
            if message.type is not WSMsgType.TEXT:
                break
            match json.loads(message.data):
                case ["AUTH", raw]:
                    event = verified_event(raw)
                    known = event is not None and event.kind == 22242 and event.tag("challenge") == "prove yourself"
                    await socket.send_json(["OK", raw["id"], known, ""])
                case ["REQ", name, _] if not known:
                    await socket.send_json(["CLOSED", name, "auth-required: who are you"])
                case ["REQ", "info", _]:
                    await self._info(socket)
                case ["REQ", name, _]:
                    await socket.send_json(["EOSE", name])
                case ["EVENT", raw]:
                    await self._asked(socket, raw)
        return socket

    async def _info(self, socket: web.WebSocketResponse) -> None:
        if self.fault == "never ready":
            return
        tags = [["encryption", self.scheme]] if self.scheme else []
        await socket.send_json(["EVENT", "info", self._event(13194, tags, "make_invoice lookup_invoice")])
        await socket.send_json(["EOSE", "info"])

    async def _asked(self, socket: web.WebSocketResponse, raw: dict[str, Any]) -> None:
        event = verified_event(raw)
        right = event is not None and event.kind == 23194 and event.author == public_key(CLIENT_SECRET)
        if event is None or not right or self.fault == "refuse":
            await socket.send_json(["OK", raw["id"], False, "blocked: not here"])
            return
        await socket.send_json(["OK", event.id, True, ""])
        if ("nip44" in (self.scheme or "")) == ("?iv=" in event.content):
            return
        asked = json.loads(self._conversation.decrypt(event.content))
        self.methods.append(asked["method"])
        await self._misbehave(socket, event.id)
        if self.fault in ("hang", "close"):
            return
        answer = json.dumps(self._answer(asked["method"], asked["params"]))
        scheme = "nip04" if "?iv=" in event.content else "nip44_v2"
        content = "junk" if self.fault == "junk" else self._conversation.encrypt(answer, scheme)
        await socket.send_json(["EVENT", "answers", self._event(23195, self._tags(event.id), content)])

    async def _misbehave(self, socket: web.WebSocketResponse, asked: str) -> None:
        """What comes before the true answer, and must not be taken for it."""
        right = self._conversation.encrypt('{"result_type": "make_invoice", "result": {}}', "nip04")
        if self.fault == "close":
            await socket.close()
        if self.fault == "forge":
            forged = self._event(23195, self._tags(asked), right)
            await socket.send_json(["EVENT", "answers", forged | {"content": right + "A"}])
            await socket.send_json(["EVENT", "answers", forged | {"sig": "00" * 64}])
        if self.fault == "stranger":
            event = signed_event(
                STRANGER_SECRET, kind=23195, tags=self._tags(asked), content=right, at=int(time.time())
            )
            await socket.send_json(["EVENT", "answers", event])
            await socket.send_json(["EVENT", "answers", self._event(23195, self._tags("00" * 32), right)])
            await socket.send_json(["EVENT", "answers", self._event(23196, self._tags(asked), right)])
        if self.fault == "noise":
            for noise in ("{", "[]", '["EVENT"]', '["EVENT", "answers", 3]', '["NOTICE", "hello"]', '["OK", 1, false]'):
                await socket.send_str(noise)

    def _answer(self, method: str, params: dict[str, Any]) -> dict[str, Any]:
        if self.fault == "error":
            return {"result_type": method, "error": {"code": "RESTRICTED", "message": "not allowed"}, "result": None}
        if self.fault == "other question":
            method = "get_balance"
        if self.fault == "no result":
            return {"result_type": method, "error": None, "result": None}
        if "payment_hash" in params:
            made = self.invoices.get(params["payment_hash"])
            if made is None:
                return {"result_type": method, "error": {"code": "NOT_FOUND", "message": "no such invoice"}}
        else:
            made = self.make(msat=params["amount"], memo=params["description"], seconds=params["expiry"])
        result = {
            "type": "incoming", "state": "settled" if made.paid else "pending", "invoice": made.bolt11,
            "description": made.memo, "preimage": self.shown_preimage(made), "payment_hash": made.payment_hash,
            "amount": made.msat, "fees_paid": 0, "created_at": made.created,
            "expires_at": made.created + made.seconds, "settled_at": made.created + 1 if made.paid else None,
        }  # fmt: skip
        return {"result_type": method, "error": None, "result": result}

    def _tags(self, asked: str) -> list[list[str]]:
        return [["p", public_key(CLIENT_SECRET)], ["e", asked]]

    def _event(self, kind: int, tags: list[list[str]], content: str) -> dict[str, Any]:
        return signed_event(WALLET_SECRET, kind=kind, tags=tags, content=content, at=int(time.time()))


async def settled(condition: Any) -> None:
    """Until something is true; bounded by the test's own limit."""
    while not condition():
        await asyncio.sleep(0.005)
