"""The offer of x402: the `Payment-Required` header (version 2) and its members of the 402's body.

What does not change with the request is written once; an offer is then a few joins and one base64.
"""

from __future__ import annotations

import base64
from collections.abc import Iterator
from typing import Any, Final

import orjson

from proxy.payments.api import Ask, Offer
from proxy.payments.settings import X402
from proxy.payments.x402 import v1
from proxy.payments.x402.bazaar import Bazaar
from proxy.payments.x402.verify import SCHEME, Verifier

HEADER: Final = "Payment-Required"
HEADER_CHARACTERS_MAX: Final = 8_192
"""More is refused by clients."""
_JSON_BYTES_MAX: Final = HEADER_CHARACTERS_MAX // 4 * 3
_DESCRIPTION_CHARACTERS_MAX: Final = 200
_USDC_DECIMALS: Final = 6
_USDC: Final = 10**_USDC_DECIMALS


class Envelope:
    """Writes offers under one configuration. Asks nobody."""

    def __init__(self, settings: X402, verifier: Verifier, *, description: str = "") -> None:
        self._verifier = verifier
        self._description = description[:_DESCRIPTION_CHARACTERS_MAX]
        self._seconds = settings.timeout_seconds
        self._bazaar = Bazaar()
        self._before_amount = orjson.dumps({"scheme": SCHEME})[:-1] + b',"amount":"'
        self._after_amount = tuple(b'",' + orjson.dumps(self._requirements(i))[1:] for i in range(len(verifier.assets)))
        first = verifier.assets[0]
        self._member = {"network": first.network, "address": verifier.pay_to, "asset": first.address, "scheme": SCHEME}
        names = ((asset, v1.name_of(asset.network)) for asset in verifier.assets if settings.v1)
        self._v1 = tuple((asset, name) for asset, name in names if name is not None)

    def offer(self, ask: Ask) -> Offer | None:
        """Header and members for one request; None where no envelope of it is short enough."""
        amount = self._verifier.required(ask.price.usdc)
        header = self.header(ask, amount)
        if header is None:
            return None
        members: dict[str, Any] = {"x402": {"price_usd": usd(amount), **self._member}}
        if self._v1:
            members |= {"x402Version": 1, "accepts": self._v1_offers(ask, amount)}
        return Offer(((HEADER, header),), members)

    def header(self, ask: Ask, amount: int, *, error: str = "Payment required") -> str | None:
        """The envelope in base64: with the Bazaar's examples, else without them, else without the Bazaar."""
        head = b'{"x402Version":2,"error":%s,"accepts":[%s],"resource":%s,"price":"$%s"' % (
            orjson.dumps(error),
            b",".join(self._accepts(str(amount).encode())),
            orjson.dumps(
                {"url": ask.url, "description": self._described(ask), "mimeType": "application/json"},
            ),
            usd(amount).encode(),
        )
        for extensions in self._extensions(ask):
            document = b'%s,"extensions":%s}' % (head, extensions) if extensions else head + b"}"
            if len(document) <= _JSON_BYTES_MAX:
                return base64.b64encode(document).decode()
        return None

    def _accepts(self, amount: bytes) -> Iterator[bytes]:
        return (self._before_amount + amount + after for after in self._after_amount)

    def _extensions(self, ask: Ask) -> Iterator[bytes]:
        yield self._bazaar.full(ask.operation, ask.named or ask.model)
        yield self._bazaar.short(ask.operation, ask.named or ask.model)
        yield b""

    def _requirements(self, index: int) -> dict[str, Any]:
        asset = self._verifier.assets[index]
        return {
            "network": asset.network,
            "asset": asset.address,
            "payTo": self._verifier.pay_to,
            "maxTimeoutSeconds": self._seconds,
            "extra": {"name": asset.name, "version": asset.version},
        }

    def _v1_offers(self, ask: Ask, amount: int) -> list[dict[str, Any]]:
        return [
            v1.requirements(
                asset,
                name,
                amount=amount,
                pay_to=self._verifier.pay_to,
                seconds=self._seconds,
                resource=ask.url,
                description=self._described(ask),
            )
            for asset, name in self._v1
        ]

    def _described(self, ask: Ask) -> str:
        return self._description or f"{ask.model} inference"[:_DESCRIPTION_CHARACTERS_MAX]


def usd(units: int) -> str:
    """Millionths of a dollar as decimal text: 3150 is "0.003150"."""
    return f"{units // _USDC}.{units % _USDC:0{_USDC_DECIMALS}}"
