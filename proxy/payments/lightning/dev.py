"""A Lightning node for development: real BOLT-11 invoices that only its own wallet can pay, with nothing but a file.

An invoice's payment secret is random and its preimage is derived from it, so that every process with the same key
makes, pays and knows the same invoices. The file of a payment hash in the state folder says that it was paid.
"""

from __future__ import annotations

import hashlib
import hmac
import os
import secrets
from pathlib import Path
from typing import Final

from proxy.clock import Clock
from proxy.payments.keys import DerivedKeys
from proxy.payments.lightning.api import NodeFailure, NodeInvoice, NodeStatus
from proxy.payments.lightning.reading import NotAnInvoice, preimage_of, read_invoice
from proxy.payments.settings import Lightning

FOLDER: Final = "lightning-dev"
CURRENCY: Final = "bcrt"
"""Of invoices of the regression test network: no wallet with real money pays them."""
_CLTV_BLOCKS: Final = 18


class NotPayable(Exception):
    """The dev wallet cannot pay this; the message says why."""


class DevNode:
    """Makes invoices, and reads what the wallet wrote. Raises ValueError without `development`."""

    name = "dev"

    def __init__(self, settings: Lightning, keys: DerivedKeys, state: Path, clock: Clock) -> None:
        if not settings.development:
            raise ValueError("the dev node makes invoices that nobody can pay: it wants 'development: true'")
        self._keys = keys
        self._folder = state / FOLDER
        self._clock = clock

    async def create_invoice(self, *, msat: int, memo: str, seconds: int) -> NodeInvoice:
        """Signed by a key that stands for a node's."""
        from bolt11 import Bolt11, MilliSatoshi, Tags, encode

        payment_secret = secrets.token_hex(32)
        payment_hash = hashlib.sha256(bytes.fromhex(_preimage(self._keys, payment_secret))).hexdigest()
        made = Bolt11(
            currency=CURRENCY,
            date=self._clock.now_ms() // 1000,
            amount_msat=MilliSatoshi(msat),
            tags=Tags.from_dict(
                {
                    "payment_hash": payment_hash,
                    "payment_secret": payment_secret,
                    "description": memo,
                    "expire_time": seconds,
                    "min_final_cltv_expiry": _CLTV_BLOCKS,
                }
            ),
        )
        return NodeInvoice(payment_hash, encode(made, self._keys.derive("lightning/dev/node").hex()))

    async def lookup(self, payment_hash: str) -> NodeStatus:
        """Paid once the wallet's file is there. Raises NodeFailure."""
        try:
            preimage = (self._folder / payment_hash).read_text(encoding="ascii")
        except FileNotFoundError:
            return NodeStatus(False)
        except (OSError, UnicodeDecodeError) as error:
            raise NodeFailure(f"dev: {type(error).__name__} in {FOLDER}") from error
        return NodeStatus(True, preimage)

    async def aclose(self) -> None:
        """Nothing is open."""


class DevWallet:
    """Pays invoices of a dev node with the same key and state folder."""

    def __init__(self, keys: DerivedKeys, state: Path, clock: Clock) -> None:
        self._keys = keys
        self._folder = state / FOLDER
        self._clock = clock

    def pay(self, bolt11: str) -> str:
        """The preimage, 64 hex digits; paid from now on. Paying again changes nothing. Raises NotPayable."""
        try:
            read = read_invoice(bolt11)
        except NotAnInvoice as error:
            raise NotPayable(str(error)) from error
        preimage = _preimage(self._keys, read.payment_secret)
        if not preimage_of(preimage, read.payment_hash):
            raise NotPayable("this invoice is not of the dev node with this secret")
        if self._clock.now_ms() >= read.expires_ms:
            raise NotPayable("this invoice has ended: ask for a new one")
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        fresh = self._folder / f".{secrets.token_hex(8)}"
        descriptor = os.open(fresh, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600)
        with os.fdopen(descriptor, "w", encoding="ascii") as file:
            file.write(preimage)
        fresh.replace(self._folder / read.payment_hash)
        return preimage


def _preimage(keys: DerivedKeys, payment_secret: str) -> str:
    return hmac.digest(keys.derive("lightning/dev/preimage"), payment_secret.encode(), hashlib.sha256).hex()
