"""What pays: something that settles invoices, a key of an EVM account, a Cashu token, a balance."""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import TYPE_CHECKING, ClassVar, Final

import orjson

from proxy.clock import Clock
from proxy.payments.client import ecash, evm
from proxy.payments.client.amounts import Amount, SpendLimits
from proxy.payments.client.errors import BadOffer, NotPaid, OverLimit, WalletFailure
from proxy.payments.client.invoices import Bolt11, check_preimage
from proxy.payments.client.offers import CashuOffer, LightningOffer, Offer, X402Offer
from proxy.payments.client.transport import Way

if TYPE_CHECKING:
    from proxy.payments.lightning import dev

POLL_SECONDS: Final = 2.0


class Wallet(ABC):
    """Pays one kind of offer."""

    rails: ClassVar[tuple[str, ...]]
    """Which it can pay, the preferred one first."""
    streams: ClassVar[bool] = True
    """A stream can be paid with it."""

    @abstractmethod
    def fits(self, offer: Offer) -> bool:
        """Whether it could pay this one."""

    @abstractmethod
    async def credential(self, offer: Offer, limits: SpendLimits) -> tuple[str, str]:
        """Pay, and give the header field that shows it. Raises WalletFailure, BadOffer, OverLimit."""

    def waiting(self, offer: Offer) -> dict[str, str]:
        """What must be kept before anybody pays, so that the payment can be found again; {} where nobody else pays."""
        return {}

    def claim(self, shown: tuple[str, str]) -> tuple[str, str]:
        """The header field that has this payment refunded: mostly the one that paid."""
        return shown

    @property
    @abstractmethod
    def words(self) -> str:
        """What it is, for people."""


class LightningWallet(Wallet):
    """Pays invoices."""

    rails: ClassVar[tuple[str, ...]] = ("l402", "mpp")

    def __init__(self, clock: Clock) -> None:
        self._clock = clock

    def fits(self, offer: Offer) -> bool:
        return isinstance(offer, LightningOffer)

    async def credential(self, offer: Offer, limits: SpendLimits) -> tuple[str, str]:
        if not isinstance(offer, LightningOffer):
            raise WalletFailure("This wallet pays Lightning invoices only.")
        if offer.invoice.expires_ms <= self._clock.now_ms():
            raise BadOffer("The invoice has expired already. Nothing was paid; check this machine's clock.")
        preimage = await self.pay(offer.invoice, offer.token)
        check_preimage(preimage, offer.invoice.payment_hash)
        return offer.credential(preimage)

    @abstractmethod
    async def pay(self, invoice: Bolt11, token: str) -> str:
        """Pay; the preimage, hex. `token` is the macaroon that came with the invoice. Raises WalletFailure."""

    async def hand_over(self, invoice: Bolt11) -> None:
        """Pay, or have it paid, where nobody wants the preimage. Raises WalletFailure."""
        await self.pay(invoice, "")


class DevWallet(LightningWallet):
    """Settles invoices of a proxy in development, through its state folder."""

    def __init__(self, clock: Clock, inner: dev.DevWallet) -> None:
        super().__init__(clock)
        self._inner = inner

    @property
    def words(self) -> str:
        return "the development wallet"

    async def pay(self, invoice: Bolt11, token: str) -> str:
        from proxy.payments.lightning.dev import NotPayable

        try:
            return self._inner.pay(invoice.text)
        except NotPayable as error:
            raise WalletFailure(
                f"The development wallet cannot pay this invoice: {error}. It pays those of the proxy whose "
                "configuration it reads (--config), where payments.lightning.backend is dev."
            ) from error


class HandWallet(LightningWallet):
    """Shows the invoice, and asks the proxy until somebody has paid it with a wallet of theirs."""

    rails = ("l402",)

    def __init__(self, clock: Clock, way: Way, show: Callable[[str], None]) -> None:
        super().__init__(clock)
        self._way = way
        self._show = show

    @property
    def words(self) -> str:
        return "a wallet of yours"

    async def hand_over(self, invoice: Bolt11) -> None:
        self._show(invoice.text)

    def waiting(self, offer: Offer) -> dict[str, str]:
        return {"invoice": offer.invoice.text, "token": offer.token} if isinstance(offer, LightningOffer) else {}

    async def pay(self, invoice: Bolt11, token: str) -> str:
        """Asks until it is paid or has ended, and then once more."""
        self._show(invoice.text)
        asked = orjson.dumps({"payment_hash": invoice.payment_hash, "macaroon": token})
        ended = False
        while not ended:
            ended = self._clock.now_ms() >= invoice.expires_ms
            reply = await self._way.ask("POST", "/api/invoice/status", asked)
            told = reply.json()
            if reply.status == 200 and told.get("paid") is True and isinstance(told.get("preimage"), str):
                return str(told["preimage"])
            if reply.status not in (200, 429, 503):
                raise WalletFailure(f"The proxy does not tell whether the invoice was paid (status {reply.status}).")
            await asyncio.sleep(POLL_SECONDS)
        raise NotPaid("The invoice has ended and was not paid.")


class EvmWallet(Wallet):
    """Signs USDC authorizations."""

    rails = ("x402",)

    def __init__(self, key: str, clock: Clock, *, assets: frozenset[tuple[str, str]] = evm.KNOWN_ASSETS) -> None:
        self.address = evm.address_of(key)
        self._key = key
        self._clock = clock
        self._assets = assets

    @property
    def words(self) -> str:
        return f"USDC of {self.address}"

    def fits(self, offer: Offer) -> bool:
        """Of an unknown asset nobody knows what an amount is worth."""
        return isinstance(offer, X402Offer) and (offer.network, offer.asset.lower()) in self._assets

    async def credential(self, offer: Offer, limits: SpendLimits) -> tuple[str, str]:
        if not isinstance(offer, X402Offer):
            raise WalletFailure("This wallet signs USDC payments only.")
        return "Payment-Signature", evm.sign(offer, self._key, self._clock.now_ms() // 1000)

    def claim(self, shown: tuple[str, str]) -> tuple[str, str]:
        return shown[0], evm.claimed(shown[1], self._key)


class CashuWallet(Wallet):
    """A token, given away whole: what it is worth too much comes back as change."""

    rails = ("cashu",)
    streams = False

    def __init__(self, token: str) -> None:
        self.worth = ecash.worth_of(token)
        self._token = token
        if self.worth.unit != "sat":
            raise WalletFailure(f"The token counts {self.worth.unit}, and only sat is taken.")

    @property
    def words(self) -> str:
        return f"a token of {self.worth.amount} sats of {self.worth.mint}"

    def fits(self, offer: Offer) -> bool:
        return isinstance(offer, CashuOffer)

    async def credential(self, offer: Offer, limits: SpendLimits) -> tuple[str, str]:
        if not isinstance(offer, CashuOffer):
            raise WalletFailure("This wallet pays with ecash only.")
        if offer.mints and self.worth.mint not in offer.mints:
            raise WalletFailure(f"The token is of {self.worth.mint}, and taken are {', '.join(offer.mints)}.")
        if self.worth.amount < offer.sats:
            raise WalletFailure(f"The token is worth {self.worth.amount} sats, and {offer.sats} are asked for.")
        try:
            limits.check(Amount.sats(self.worth.amount), "The token goes out whole, and is worth")
        except OverLimit as error:
            raise OverLimit(f"{error}, or use a smaller token: change comes back only from who is honest.") from error
        return "X-Cashu", self._token


def choose(wallet: Wallet, offers: tuple[Offer, ...], rail: str | None) -> Offer:
    """The offer that the wallet pays. Raises WalletFailure."""
    wanted = wallet.rails if rail is None else (rail,)
    for name in wanted:
        for offer in offers:
            if offer.rail == name and wallet.fits(offer):
                return offer
    offered = ", ".join(sorted({offer.rail for offer in offers})) or "nothing that can be read"
    unknown = any(offer.rail in wanted for offer in offers)
    why = " of an asset that is not known (--asset allows it)" if unknown and "x402" in wanted else ""
    raise WalletFailure(f"{wallet.words.capitalize()} can pay {' or '.join(wanted)}, and offered is {offered}{why}.")
