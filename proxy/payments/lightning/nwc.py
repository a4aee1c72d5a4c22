"""Nostr Wallet Connect (NIP-47): a wallet that is asked over a relay, with make_invoice and lookup_invoice alone."""

from __future__ import annotations

import asyncio
import re
from typing import Any, Final
from urllib.parse import parse_qs

import orjson

from proxy.clock import Clock
from proxy.payments.lightning.api import NodeFailure, NodeInvoice, NodeStatus
from proxy.payments.lightning.nostr import NIP44, Conversation, NotDecrypted, signed_event
from proxy.payments.lightning.relay import REQUEST, WORDS_MAX, Relay
from proxy.payments.settings import Lightning

_URI: Final = re.compile(r"nostr\+?walletconnect:(?://)?([0-9a-f]{64})/?\?(.{1,4000})")
_KEY: Final = re.compile(r"[0-9a-f]{64}")


class NwcNode:
    """The credential is the connection URI, `nostr+walletconnect://PUBKEY?relay=...&secret=...`; of several relays
    the first is used. Raises ValueError for a URI that is none.
    """

    name = "nwc"

    def __init__(self, settings: Lightning, clock: Clock) -> None:
        uri = _URI.fullmatch(settings.credential)
        query = parse_qs(uri[2]) if uri else {}
        relay, secret = query.get("relay", [""])[0], query.get("secret", [""])[0]
        schemes = ("wss://", "ws://") if settings.private else ("wss://",)
        if uri is None or not _KEY.fullmatch(secret) or not relay.startswith(schemes):
            raise ValueError("a connection URI is needed: nostr+walletconnect://PUBKEY?relay=wss://...&secret=...")
        self._wallet = uri[1]
        self._secret = bytes.fromhex(secret)
        self._seconds = settings.timeout_seconds
        self._clock = clock
        self._conversation = Conversation(self._secret, self._wallet)
        self._relay = Relay(relay, self._secret, self._wallet, settings, clock)

    async def create_invoice(self, *, msat: int, memo: str, seconds: int) -> NodeInvoice:
        """Raises NodeFailure."""
        result = await self._ask("make_invoice", {"amount": msat, "description": memo, "expiry": seconds})
        return NodeInvoice(self._text(result, "payment_hash"), self._text(result, "invoice"))

    async def lookup(self, payment_hash: str) -> NodeStatus:
        """`settled_at` is there once it is paid; a preimage may be there before. Raises NodeFailure."""
        result = await self._ask("lookup_invoice", {"payment_hash": payment_hash})
        if self._text(result, "payment_hash") != payment_hash or result.get("type", "incoming") != "incoming":
            raise self._failure("it answered with another invoice")
        if not result.get("settled_at"):
            return NodeStatus(False)
        return NodeStatus(True, self._text(result, "preimage"))

    async def aclose(self) -> None:
        """Hang up."""
        await self._relay.aclose()

    async def _ask(self, method: str, parameters: dict[str, Any]) -> dict[str, Any]:
        try:
            async with asyncio.timeout(self._seconds):
                connection = await self._relay.connection()
                event = await connection.ask(self._request(method, parameters, connection.scheme))
        except TimeoutError as error:
            raise self._failure(f"no answer within {self._seconds:g} s") from error
        except NodeFailure as error:
            raise self._failure(error.detail) from error
        try:
            answer = orjson.loads(self._conversation.decrypt(event.content))
        except (NotDecrypted, orjson.JSONDecodeError) as error:
            raise self._failure("its answer cannot be read") from error
        if not isinstance(answer, dict) or answer.get("result_type") != method:
            raise self._failure("its answer is to another question")
        if answer.get("error"):
            raise self._failure(_words(answer["error"]))
        result = answer.get("result")
        if not isinstance(result, dict):
            raise self._failure("its answer has no result")
        return result

    def _request(self, method: str, parameters: dict[str, Any], scheme: str) -> dict[str, Any]:
        asked = orjson.dumps({"method": method, "params": parameters}).decode()
        at = self._clock.now_ms() // 1000
        tags = [["p", self._wallet], ["expiration", str(at + round(self._seconds) + 1)]]
        if scheme == NIP44:
            tags.append(["encryption", NIP44])
        content = self._conversation.encrypt(asked, scheme)
        return signed_event(self._secret, kind=REQUEST, tags=tags, content=content, at=at)

    def _text(self, result: dict[str, Any], member: str) -> str:
        value = result.get(member)
        if not isinstance(value, str) or not value:
            raise self._failure(f"its answer has no '{member}'")
        return value

    def _failure(self, words: str) -> NodeFailure:
        return NodeFailure(f"{self.name}: {words}")


def _words(error: Any) -> str:
    if not isinstance(error, dict):
        return "it failed"
    said = f"{error.get('code')}: {error.get('message')}"
    return "".join(char if char.isprintable() else " " for char in said)[:WORDS_MAX]
