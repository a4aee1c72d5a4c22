"""L402: pay the invoice, then send the macaroon with the preimage that paying it gave."""

from __future__ import annotations

import re
from typing import ClassVar, Final

from proxy.ledger.payment_api import PaymentLedger, Proof, Tender
from proxy.payments.api import Ask, Credential, IssuedInvoice, Offer, Presented
from proxy.payments.keys import DerivedKeys
from proxy.payments.l402.caveats import BadCaveat, Caveats, parse_caveats
from proxy.payments.l402.identifier import new_identifier, payment_hash_of
from proxy.payments.l402.invoice_rail import InvoiceRail, preimage_of, proves
from proxy.payments.l402.macaroon import Macaroon, MalformedMacaroon, mint, parse
from proxy.payments.l402.terms import ANEW, REFUND, Limits, invalid
from proxy.payments.settings import L402
from proxy.pricing.money import MSAT_PER_SAT

MS: Final = 1000
NAMES_BYTES_MAX: Final = 2048
"""Of the path and the model's name: longer ones do not fit into a macaroon that is taken back."""
_EPOCH: Final = re.compile(rb"NotBefore = (0|[1-9][0-9]{0,15})")
_LOCATION: Final = re.compile(rb"[!-~]{1,64}")


class L402Rail(InvoiceRail):
    """Macaroons are signed by a root key derived for their epoch: no restart voids one that was paid."""

    name: ClassVar[str] = "l402"
    money: ClassVar[str] = "Lightning"
    credentials: ClassVar[frozenset[Credential]] = frozenset({Credential.L402})

    def __init__(self, settings: L402, keys: DerivedKeys, ledger: PaymentLedger, *, leases_max: int) -> None:
        super().__init__(ledger, leases_max=leases_max)
        self._settings = settings
        self._keys = keys

    def offer(self, ask: Ask, invoice: IssuedInvoice | None) -> Offer | None:
        """`WWW-Authenticate: L402`, under the names of the macaroon that clients know: the old one, and the new."""
        if invoice is None or len(ask.path.encode()) + len(ask.model.encode()) > NAMES_BYTES_MAX:
            return None
        text = self._mint(ask, invoice).text()
        value = f'L402 macaroon="{text}", invoice="{invoice.bolt11}", version="0", token="{text}"'
        members = {
            "price": -(-invoice.msat // MSAT_PER_SAT),
            "invoice": invoice.bolt11,
            "macaroon": text,
            "paymentHash": invoice.payment_hash,
        }
        return Offer((("WWW-Authenticate", value),), members)

    async def check(self, presented: Presented, ask: Ask) -> Tender:
        """Signature, preimage, caveats, and what the invoice was made for. Raises Refusal `invalid_payment`."""
        macaroon, payment_hash = self._proven(presented)
        caveats = self._caveats(macaroon)
        if ask.now_ms >= caveats.expires_at * MS and not await self._spent(payment_hash):
            raise invalid("Macaroon expired", REFUND)
        paid = await self._paid(payment_hash)
        caveats.limits.check(ask, same=ask.request_digest == paid.terms.request_digest)
        return await self._tender(paid, ask, self._proof(paid.invoice, use_until_ms=caveats.expires_at * MS))

    async def shown(self, presented: Presented) -> Proof:
        """As `check`, for a payment that is asked about or given back."""
        macaroon, payment_hash = self._proven(presented)
        caveats = self._caveats(macaroon)
        paid = await self._paid(payment_hash)
        return self._proof(paid.invoice, use_until_ms=caveats.expires_at * MS)

    def check_ownership(self, macaroon: str, payment_hash: str) -> None:
        """Whoever asks for an invoice's preimage shows the macaroon that was offered with it.

        Raises Refusal `invalid_payment` where that macaroon is not ours, or is another invoice's.
        """
        named = self._signed(macaroon)[1]
        if named.hex() != payment_hash.lower():
            raise invalid("This macaroon belongs to another invoice", "Send the two that came in one 402 answer.")

    def _mint(self, ask: Ask, invoice: IssuedInvoice) -> Macaroon:
        settings = self._settings
        expires_at = min(ask.now_ms + settings.seconds * MS, invoice.expires_ms) // MS
        location = settings.location.encode()
        return mint(
            self._root_key(settings.epoch, location),
            location=location,
            identifier=new_identifier(bytes.fromhex(invoice.payment_hash)),
            caveats=Caveats(Limits.of(ask), expires_at, settings.epoch).encode(),
        )

    def _proven(self, presented: Presented) -> tuple[Macaroon, bytes]:
        """A macaroon of ours with the preimage of its invoice."""
        text, colon, preimage = presented.value.partition(":")
        if not colon or "," in text:
            raise invalid("Malformed L402 credential", "Send 'Authorization: L402 <one macaroon>:<preimage in hex>'.")
        macaroon, payment_hash = self._signed(text)
        raw = preimage_of(preimage.lower())
        if raw is None or not proves(raw, payment_hash):
            raise invalid(
                "Preimage does not match", "Send the one that paying this macaroon's own invoice gave, 64 hex digits."
            )
        return macaroon, payment_hash

    def _signed(self, text: str) -> tuple[Macaroon, bytes]:
        """A macaroon that we made, of an epoch that was not retired, and the invoice that it names."""
        try:
            macaroon = parse(text)
        except MalformedMacaroon as error:
            raise invalid(f"Malformed macaroon: {error}", "Send it exactly as it came in the 402 answer.") from None
        epoch = next((int(found[1]) for one in macaroon.caveats if (found := _EPOCH.fullmatch(one))), None)
        payment_hash = payment_hash_of(macaroon.identifier)
        if (
            epoch is None
            or payment_hash is None
            or not _LOCATION.fullmatch(macaroon.location)
            or not macaroon.signed_by(self._root_key(epoch, macaroon.location))
        ):
            raise invalid("Invalid macaroon signature", "It was changed, or made by somebody else. " + ANEW)
        if epoch < self._settings.epoch_min:
            raise invalid("Invoice expired (its root key was retired)", ANEW + " If you paid it, ask the operator.")
        return macaroon, payment_hash

    def _caveats(self, macaroon: Macaroon) -> Caveats:
        try:
            return parse_caveats(macaroon.caveats)
        except BadCaveat as error:
            raise invalid(f"Caveat refused: {error}", "Send the macaroon exactly as it came, nothing added.") from None

    def _root_key(self, epoch: int, location: bytes) -> bytes:
        """The location is part of it, since a macaroon's signature does not cover it."""
        return self._keys.derive(f"l402/root/{epoch}/{location.decode('ascii')}")
