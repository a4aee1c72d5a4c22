"""One request, paid for: asked, offered, paid, asked again, answered. Never paid twice.

What was paid is written down before it is shown to the proxy. While the proxy says that it is busy, or does not know
yet, the same payment is shown again; when that does not help it stays written down, to be retried or refunded.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from decimal import ROUND_CEILING, Decimal, InvalidOperation
from typing import Any, Final

import orjson

from proxy.clock import Clock
from proxy.ledger.payment_api import Unit
from proxy.payments.client.amounts import USDC_PER_USD, Amount, SpendLimits
from proxy.payments.client.answers import Answer, Receipt, code_of, message_of, read_answer, receipt_of
from proxy.payments.client.errors import NotPaid, NotServed, PayError, Refused, Unreachable, WalletFailure
from proxy.payments.client.invoices import check_preimage, readable
from proxy.payments.client.kept import Kept, KeptFile
from proxy.payments.client.offers import Challenge, LightningOffer, Offer, read_challenge
from proxy.payments.client.transport import Arriving, Reply, Way
from proxy.payments.client.wallets import LightningWallet, Wallet, choose

CHAT: Final = "/v1/chat/completions"
TRIES_MAX: Final = 4
"""So often one payment is shown."""
WAIT_SECONDS_MAX: Final = 30.0
WAIT_SECONDS: Final = 2.0
"""Where the proxy does not say how long."""
PRICE_USD_MAX: Final = 1_000_000
_AGAIN: Final = frozenset({409, 429, 502, 503, 504})
"""Nothing is lost yet: the same payment may be shown again."""


@dataclass(frozen=True, slots=True)
class Step:
    """Something that a payer may want to see. `facts` hold no secret."""

    kind: str
    """request | offers | price | pay | paid_request | wait | answer | change"""
    text: str
    facts: dict[str, Any] = field(default_factory=dict)
    offers: tuple[Offer, ...] = ()


@dataclass(frozen=True, slots=True)
class Order:
    """What to ask for."""

    body: dict[str, Any]
    path: str = CHAT

    @property
    def stream(self) -> bool:
        return self.body.get("stream") is True

    def as_model(self, model: str | None) -> Order:
        """`auto` by the name that it was routed to and priced at."""
        return self if model is None or self.body.get("model") != "auto" else Order({**self.body, "model": model})

    def raw(self) -> bytes:
        return orjson.dumps(self.body)


class Payer:
    """Asks one proxy, with one wallet or one balance."""

    def __init__(
        self,
        way: Way,
        clock: Clock,
        kept: KeptFile,
        limits: SpendLimits,
        *,
        tell: Callable[[Step], None] = lambda _: None,
        show: Callable[[str], None] = lambda _: None,
    ) -> None:
        self.way = way
        self.limits = limits
        self._clock = clock
        self._kept = kept
        self._tell = tell
        self._show = show

    async def ask(self, order: Order, wallet: Wallet, rail: str | None = None) -> Answer:
        """Pay for the request what it costs, and have it answered. Raises PayError."""
        if order.stream and not wallet.streams:
            raise WalletFailure("Ecash pays for whole answers only: the change is known at their end. Leave --stream.")
        self._tell(Step("request", f"POST {order.path}", {"model": order.body.get("model")}))
        async with self.way.open("POST", order.path, order.raw()) as arriving:
            if arriving.status == 200:
                answer = await read_answer(arriving, self._show)
                self._tell(Step("answer", "answered without a payment"))
                return answer
            challenge = self.offered(await arriving.whole())
        order = order.as_model(challenge.route_model)
        offer, kept = await self.pay(challenge, wallet, order.path, order.raw(), rail)
        answer = await self.show_again(kept)
        answer.paid = offer.amount
        return answer

    async def look(self, order: Order) -> Challenge:
        """What it would cost, by every rail. Raises Refused where it costs nothing."""
        self._tell(Step("request", f"POST {order.path}", {"model": order.body.get("model")}))
        return self.offered(await self.way.ask("POST", order.path, order.raw()))

    def offered(self, reply: Reply) -> Challenge:
        """What a 402 offers. Raises Refused for any other answer, and for a 402 that offers nothing."""
        challenge = read_challenge(reply.headers, reply.body)
        if reply.status != 402 or not (challenge.offers or challenge.problems):
            raise refused(reply)
        problems = f" ({'; '.join(challenge.problems)})" if challenge.problems else ""
        count = len(challenge.offers)
        text = f"402: {count} way{'' if count == 1 else 's'} to pay{problems}"
        plain = [{"rail": one.rail, **one.amount.plain(), "detail": one.detail} for one in challenge.offers]
        self._tell(Step("offers", text, {"offers": plain, "problems": challenge.problems}, challenge.offers))
        return challenge

    async def pay(
        self,
        challenge: Challenge,
        wallet: Wallet,
        path: str,
        body: bytes,
        rail: str | None,
        *,
        beside: tuple[tuple[str, str], ...] = (),
    ) -> tuple[Offer, Kept]:
        """Pay one of the offers, and write it down. Raises PayError; OverLimit before anything is paid."""
        offer = choose(wallet, challenge.offers, rail)
        self.limits.check(offer.amount, "It costs")
        self._kept.check()
        self.say_paying(offer.amount, offer.rail, wallet)
        fields: dict[str, Any] = {
            "url": self.way.url,
            "path": path,
            "rail": offer.rail,
            "amount": str(offer.amount),
            "body": body.decode(),
        }
        waiting = wallet.waiting(offer)
        if not waiting:
            shown = await wallet.credential(offer, self.limits)
            headers, claim = [list(one) for one in (*beside, shown)], [list(wallet.claim(shown))]
            return offer, self._kept.add(self._clock.now_ms(), headers=headers, claim=claim, **fields)
        kept = self._kept.add(self._clock.now_ms(), headers=[], waiting=waiting, **fields)
        try:
            shown = await wallet.credential(offer, self.limits)
        except NotPaid:
            self._kept.strike(kept.id)
            raise
        return offer, self._kept.fill(kept, [list(shown)])

    async def found(self, kept: Kept, wallet: LightningWallet) -> Kept:
        """A payment that somebody else may have made meanwhile, with what shows it. Raises WalletFailure."""
        if not kept.waiting:
            return kept
        invoice, token = readable(kept.waiting.get("invoice")), kept.waiting.get("token", "")
        try:
            preimage = await wallet.pay(invoice, token)
        except NotPaid:
            self._kept.strike(kept.id)
            raise
        check_preimage(preimage, invoice.payment_hash)
        return self._kept.fill(kept, [list(LightningOffer(kept.rail, invoice, token).credential(preimage))])

    def say_paying(self, amount: Amount, rail: str, wallet: Wallet) -> None:
        """Before it is paid."""
        self._tell(Step("pay", f"{amount} by {rail}, with {wallet.words}", {"rail": rail, **amount.plain()}))

    async def show_again(self, kept: Kept) -> Answer:
        """Show a payment that was made, and have the answer. Raises NotServed where it stays written down."""
        async with self._showing(kept) as arriving:
            self.tell_change(receipt_of(arriving.headers))
            self._kept.strike(kept.id)  # Burnt from here on, whatever becomes of the rest.
            answer = await read_answer(arriving, self._show)
        answer.rail = kept.rail
        return answer

    async def show(self, kept: Kept) -> Reply:
        """The same, for an answer that is not a model's. It is not struck out."""
        async with self._showing(kept) as arriving:
            return await arriving.whole()

    @asynccontextmanager
    async def _showing(self, kept: Kept) -> AsyncIterator[Arriving]:
        """The head of a 200, after as many tries as are worth it."""
        for tried in range(1, TRIES_MAX + 1):
            self._tell(Step("paid_request", f"POST {kept.path} with {kept.shown_by}"))
            async with AsyncExitStack() as stack:
                try:
                    opened = self.way.open("POST", kept.path, kept.body.encode(), *kept.credentials)
                    arriving = await stack.enter_async_context(opened)
                    reply = None if arriving.status == 200 else await arriving.whole()
                except Unreachable as error:
                    raise NotServed(f"{error}. {self.words(kept)}") from error
                if reply is None:
                    yield arriving
                    return
            returned = self._returned(reply, kept)
            if reply.status not in _AGAIN or returned or tried == TRIES_MAX:
                refusal = refused(reply)
                raise refusal if returned else NotServed(f"{refusal} {self.words(kept)}")
            await self._wait(reply)

    async def from_balance(self, order: Order, token: str) -> Answer:
        """Ask what it costs, and have a balance pay. Raises PayError."""
        price = await self.estimate(order)
        amount = price_of(price)
        self.limits.check(amount, "It costs")
        self._tell(Step("price", f"at most {amount}", amount.plain()))
        self._tell(Step("paid_request", f"POST {order.path} from the balance"))
        async with self.way.open("POST", order.path, order.raw(), bearer(token)) as arriving:
            if arriving.status != 200:
                raise refused(await arriving.whole())
            answer = await read_answer(arriving, self._show)
        answer.rail = "balance"
        return answer

    async def estimate(self, order: Order) -> dict[str, Any]:
        """What the proxy says it costs. Raises Refused."""
        fields = {name: value for name, value in order.body.items() if name != "stream"}
        reply = await self.way.ask("POST", "/v1/estimate-cost", orjson.dumps(fields))
        if reply.status != 200:
            raise refused(reply)
        return reply.json()

    def _returned(self, reply: Reply, kept: Kept) -> bool:
        """Ecash that came back with the error; or it never left: what is refused with 400 or 402 was not taken; or it
        has bought its answer before, and that is kept no longer.
        """
        receipt = receipt_of(reply.headers)
        self.tell_change(receipt)
        never_left = kept.rail in ("cashu", "x402") and reply.status in (400, 402)
        if receipt.change or never_left or code_of(reply.json()) == "payment_spent":
            self._kept.strike(kept.id)
            return True
        return False

    def tell_change(self, receipt: Receipt) -> None:
        """Bearer money of the payer's: told at once."""
        if receipt.change:
            facts = {"token": receipt.change, "sats": receipt.change_sats}
            self._tell(Step("change", f"{receipt.change_sats} sats came back as ecash", facts))

    def words(self, kept: Kept) -> str:
        """Where the payment is now."""
        return (
            f"The payment of {kept.amount} is kept as number {kept.id}: 'tollway pay retry {kept.id}' shows it again, "
            f"'tollway pay refund {kept.id}' turns it into a balance."
        )

    async def _wait(self, reply: Reply) -> None:
        text = reply.header("retry-after") or ""
        known = text.isascii() and text.isdecimal()
        seconds = min(float(text), WAIT_SECONDS_MAX) if known else WAIT_SECONDS
        why = code_of(reply.json()) or str(reply.status)
        self._tell(Step("wait", f"{why}: shown again in {seconds:g} s, nothing is paid twice"))
        await asyncio.sleep(seconds)


def bearer(token: str) -> tuple[str, str]:
    """How a balance pays."""
    return "Authorization", f"Bearer {token}"


def refused(reply: Reply) -> Refused:
    """An answer that is an error, in its own words."""
    content = reply.json()
    message = message_of(content) or "no reason was given"
    return Refused(reply.status, code_of(content), message[:500])


def price_of(estimate: dict[str, Any]) -> Amount:
    """The sats of an estimate, else its dollars. Raises PayError where it has neither."""
    sats, usd = estimate.get("costSats"), estimate.get("costUsd")
    if isinstance(sats, int) and not isinstance(sats, bool) and sats >= 0:
        return Amount.sats(sats)
    try:
        told = Decimal(str(usd))
    except InvalidOperation:
        told = Decimal(-1)
    if not told.is_finite() or not 0 <= told <= PRICE_USD_MAX:
        raise PayError("The proxy does not say what it costs, so nothing is spent. --estimate shows its answer.")
    return Amount(Unit.USDC, int((told * USDC_PER_USD).to_integral_value(ROUND_CEILING)))
