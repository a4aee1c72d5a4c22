"""Prepaid balances from the payer's side: bought and topped up, asked about; and refunds, which become balances."""

from __future__ import annotations

import asyncio
import re
from dataclasses import dataclass, field
from typing import Any, Final

import orjson

from proxy.clock import Clock
from proxy.payments.client.amounts import Amount
from proxy.payments.client.answers import code_of, receipt_of
from proxy.payments.client.errors import BadOffer, NotServed, PayError, Unreachable
from proxy.payments.client.invoices import Bolt11, readable
from proxy.payments.client.kept import Kept, KeptFile
from proxy.payments.client.offers import read_challenge
from proxy.payments.client.payer import Payer, bearer, refused
from proxy.payments.client.transport import Reply
from proxy.payments.client.wallets import POLL_SECONDS, LightningWallet, Wallet

PATH: Final = "/v1/balance"
REFUND_PATH: Final = "/v1/payments/refund"
INVOICE_RAIL: Final = "invoice"
"""`Kept.rail` of a balance that an invoice buys: asked about by its poll secret, not shown."""
_TOKEN: Final = re.compile(r"bal_[A-Za-z0-9_-]{43}")
_HASH: Final = re.compile(r"[0-9a-f]{64}")
_SPENT: Final = frozenset({"payment_spent"})
_NOTHING_LEFT: Final = {rail: _SPENT | {"not_found"} for rail in ("x402", "cashu")}
"""Rail -> what a refund is refused with where there is nothing to give back, and never will be."""
_WAIT: Final = frozenset({429, 502, 503, 504})


@dataclass(frozen=True, slots=True)
class Bought:
    """What a payment, or a refund, became."""

    token: str = field(repr=False)
    """Of the balance; "" where a known one was topped up, or where ecash came back."""
    told: dict[str, Any]
    """The proxy's own words, without any token."""
    ecash: str = field(default="", repr=False)


class Balances:
    """At one proxy."""

    def __init__(self, payer: Payer, kept: KeptFile, clock: Clock) -> None:
        self._payer = payer
        self._way = payer.way
        self._kept = kept
        self._clock = clock

    async def status(self, token: str) -> dict[str, Any]:
        """Where it stands. Raises Refused."""
        reply = await self._way.ask("POST", PATH, orjson.dumps({"action": "status"}), bearer(token))
        if reply.status != 200:
            raise refused(reply)
        return reply.json()

    async def buy(self, sats: int, wallet: Wallet, *, rail: str | None = None, top_up: str | None = None) -> Bought:
        """Buy a balance, or put `sats` on the one whose token is `top_up`. Raises PayError."""
        holder = () if top_up is None else (bearer(top_up),)
        asked = orjson.dumps({"sats": sats})
        reply = await self._way.ask("POST", PATH, asked, *holder)
        if reply.status != 402:
            raise refused(reply)
        if isinstance(wallet, LightningWallet):
            return await self._by_invoice(reply, sats, wallet, holder)
        challenge = self._payer.offered(reply)
        _, kept = await self._payer.pay(challenge, wallet, PATH, asked, rail, beside=holder)
        return await self._shown(kept)

    async def resume(self, kept: Kept) -> Bought:
        """Have what was paid for before. Raises PayError."""
        if kept.rail == INVOICE_RAIL:
            return await self._poll(kept, readable(orjson.loads(kept.body).get("invoice")))
        return await self._shown(kept)

    async def refund(self, kept: Kept) -> Bought:
        """Turn a payment that bought nothing into a balance. Raises Refused, Unreachable."""
        reply = await self._way.ask("POST", REFUND_PATH, b"{}", *kept.claims)
        if reply.status != 200:
            if code_of(reply.json()) in _NOTHING_LEFT.get(kept.rail, _SPENT):
                self._kept.strike(kept.id)
            raise refused(reply)
        bought = bought_of(reply)
        self._kept.strike(kept.id)
        return bought

    async def _by_invoice(
        self, reply: Reply, sats: int, wallet: LightningWallet, holder: tuple[tuple[str, str], ...]
    ) -> Bought:
        told = reply.json()
        if not isinstance(told.get("invoice"), str):
            offered = ", ".join(one.rail for one in read_challenge(reply.headers, reply.body).offers) or "nothing"
            raise PayError(f"No invoice is offered for a balance, but {offered}.")
        invoice = readable(told["invoice"])
        amount = Amount.sats(sats)
        if invoice.msat != amount.value or told.get("payment_hash") != invoice.payment_hash:
            raise BadOffer(f"The invoice is not over the {sats} sats that were asked for. Nothing was paid.")
        self._payer.limits.check(amount, "It costs")
        asked = {"payment_hash": invoice.payment_hash, "poll_secret": told.get("poll_secret"), "invoice": invoice.text}
        kept = self._kept.add(
            self._clock.now_ms(),
            url=self._way.url,
            path=PATH,
            rail=INVOICE_RAIL,
            amount=str(amount),
            headers=[list(one) for one in holder],
            body=orjson.dumps({name: value for name, value in asked.items() if value is not None}).decode(),
        )
        self._payer.say_paying(amount, "invoice", wallet)
        try:
            await wallet.hand_over(invoice)
        except PayError:
            self._kept.strike(kept.id)
            raise
        return await self._poll(kept, invoice)

    async def _poll(self, kept: Kept, invoice: Bolt11) -> Bought:
        """Until it is paid; asked once more after the invoice has ended."""
        asked = orjson.loads(kept.body)
        asked.pop("invoice", None)
        while True:
            ended = self._clock.now_ms() > invoice.expires_ms
            reply = await self._way.ask("POST", PATH, orjson.dumps(asked), *kept.credentials)
            if reply.status == 200 and reply.json().get("paid") is True:
                self._kept.strike(kept.id)
                return bought_of(reply)
            if ended and reply.status == 200:
                self._kept.strike(kept.id)
                raise PayError("The invoice has ended and was not paid.")
            if ended or (reply.status != 200 and reply.status not in _WAIT):
                raise NotServed(f"{refused(reply)} It is kept as number {kept.id}: 'tollway pay retry {kept.id}'.")
            await asyncio.sleep(POLL_SECONDS)

    async def _shown(self, kept: Kept) -> Bought:
        try:
            reply = await self._payer.show(kept)
        except Unreachable as error:
            raise NotServed(f"{error} {self._payer.words(kept)}") from error
        self._payer.tell_change(receipt_of(reply.headers))
        bought = bought_of(reply)
        self._kept.strike(kept.id)
        return bought


def bought_of(reply: Reply) -> Bought:
    """Raises PayError for an answer that gives nothing."""
    told = reply.json()
    texts = [found for found in (told.pop("token", None), told.pop("cashu", None)) if isinstance(found, str)]
    token = next((text for text in texts if _TOKEN.fullmatch(text)), "")
    back = next((text for text in texts if text.startswith("cashuB")), "")
    if not token and not back and told.get("paid") is not True:
        raise PayError("The proxy's answer holds neither a balance nor ecash. Nothing is struck out: ask its operator.")
    return Bought(token, told, back)
