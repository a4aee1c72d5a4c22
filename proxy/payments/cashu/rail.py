"""The rail that is paid in ecash: `X-Cashu: cashuB...`, sats, swapped before the request is served."""

from __future__ import annotations

import asyncio
import hashlib
from collections import OrderedDict
from collections.abc import Sequence
from typing import Any, ClassVar, Final

from proxy.clock import Clock
from proxy.errors import Refusal
from proxy.ledger.payment_api import Lease, OnFailure, Payment, PaymentLedger, PaymentTaken, Proof, Tender, Unit
from proxy.ledger.payment_states import FINAL, PaymentState
from proxy.payments.api import Ask, Credential, HeaderFields, IssuedInvoice, Offer, Outcome, Presented, Rail
from proxy.payments.cashu import refusals
from proxy.payments.cashu.blinding import BadSignature, genuine, spend_key
from proxy.payments.cashu.keysets import Keysets, UnknownKeyset, fee_of
from proxy.payments.cashu.mint import UNIT, MintClient
from proxy.payments.cashu.settling import Settling
from proxy.payments.cashu.swaps import SwapRecord, token_of
from proxy.payments.cashu.tokens import BadToken, Note, Token, TooManyNotes, encode_request, parse_token
from proxy.payments.cashu.urls import mint_url
from proxy.payments.settings import Cashu
from proxy.pricing.money import MSAT_PER_SAT

RAIL: Final = "cashu"
LEASES_MAX: Final = 1000
"""Nothing is taken by a try that fails, and settled notes never wait to be tried again: they are served or go back."""
SATS_MAX: Final = 100_000_000
"""Of one token."""
INLINE_MAX: Final = 8
"""So many proofs of signature are checked on the loop; more in a thread."""
START_SECONDS_MAX: Final = 3.0
"""So long the start waits for mints."""
SPENT_MAX: Final = 10_000
"""Notes that mints called spent, remembered so that they are not asked about them again and again."""


class CashuRail(Rail):
    """Ecash in sats of the mints on the operator's list. Make it in a running loop."""

    name: ClassVar[str] = "cashu"
    money: ClassVar[str] = "Cashu"
    proofs: ClassVar[str] = RAIL
    credentials: ClassVar[frozenset[Credential]] = frozenset({Credential.CASHU})

    def __init__(self, settings: Cashu, ledger: PaymentLedger, clock: Clock, log: Any) -> None:
        self._settings = settings
        self._ledger = ledger
        self._mints = {
            mint.url: MintClient(mint, timeout_seconds=settings.timeout_seconds, clock=clock, log=log)
            for mint in settings.mints
        }
        self._urls = {mint_url(url) or url: url for url in self._mints}
        self._settling = Settling(settings, self._mints, ledger, log, self._remember_spent)
        self._spent: OrderedDict[bytes, None] = OrderedDict()

    async def start(self) -> None:
        """Read the keysets of all mints; one that is slow or away is on offer once it answers."""
        await asyncio.gather(*(mint.read_within(START_SECONDS_MAX) for mint in self._mints.values()))

    async def stop(self) -> None:
        """Close every connection."""
        await asyncio.gather(*(mint.aclose() for mint in self._mints.values()))

    def offer(self, ask: Ask, invoice: IssuedInvoice | None) -> Offer | None:
        """`X-Cashu: creqA...` (NUT-24) with the mints that are ready; None where none is, or a stream is wanted."""
        price = self.price_sats(ask)
        ready = [mint.url for mint in self._mints.values() if mint.ready()]
        if price is None or ask.stream or not ready:
            return None
        description = f"Send a cashuB token in {UNIT} in {refusals.HEADER}; mints: {', '.join(ready)}"
        return Offer(
            ((refusals.HEADER, encode_request(price, ready)),),
            {"cashu": {"price_sats": price, "unit": UNIT, "description": description}},
        )

    def price_sats(self, ask: Ask) -> int | None:
        """In whole sats, the floor at least; None where no price of bitcoin is known."""
        return None if ask.price.msat is None else max(self._settings.sats_min, -(-ask.price.msat // MSAT_PER_SAT))

    async def check(self, presented: Presented, ask: Ask) -> Tender:
        """Read the token, and judge what can be judged without its mint. Raises Refusal.

        A token that has paid, or may have, passes unjudged: the ledger knows what became of it.
        """
        if ask.stream:
            raise refusals.no_stream()
        token, mint = self._read(presented)
        price = self.price_sats(ask)
        if price is None:
            raise refusals.no_exchange_rate()
        key = _key(token)
        known = await self._ledger.payment(RAIL, key)
        record = SwapRecord(mint.url, token.notes)
        if known is None or known.state is PaymentState.SEEN:
            record = await self._judged(token, mint, price)
            if known is None:
                self._refuse_spent(token.notes)
        proof = _proof(key, record, known, binding=ask.request_digest)
        return Tender(Unit.MSAT, price * MSAT_PER_SAT, ask.request_digest, proof=proof)

    async def settle(self, lease: Lease, ask: Ask) -> Outcome:
        """One swap makes the price ours and the change the payer's."""
        price = self.price_sats(ask)
        if price is None:
            raise ValueError("a request is priced in sats before it is paid for in ecash")
        return await self._settling.settle(lease, price)

    async def reconcile(self, lease: Lease) -> Outcome:
        """What became of the swap, by the mint's own word on the notes and the outputs that were written down."""
        return await self._settling.reconcile(lease)

    def taken(self, error: PaymentTaken) -> Refusal:
        """See `refusals.taken`."""
        return refusals.taken(error)

    async def served(self, lease: Lease) -> HeaderFields:
        """`X-Cashu-Consumed`, and `X-Cashu-Change` where there is change."""
        return await self._headers(lease.row, kept=False)

    async def served_again(self, payment: Payment) -> HeaderFields:
        """The same."""
        return await self._headers(payment.row, kept=False)

    async def returned(self, lease: Lease) -> HeaderFields:
        """Of an answer that failed, once the ledger has the payment as returned: `X-Cashu-Change` is all of its value
        less the mint's fee. A token too long for a header is had from the refund endpoint.
        """
        return await self._headers(lease.row, kept=None)

    async def token_of(self, payment: Payment) -> str:
        """What a payment leaves its payer: all of a returned one, the change of one that was burnt; "" for none."""
        if payment.state not in FINAL:
            return ""
        return token_of(await self._ledger.ecash_of(payment.row, kept=None))

    async def shown(self, presented: Presented) -> Proof:
        """The proof of a token, whatever it is worth. Raises Refusal."""
        token, mint = self._read(presented)
        key = _key(token)
        return _proof(key, SwapRecord(mint.url, token.notes), await self._ledger.payment(RAIL, key), binding="")

    def _read(self, presented: Presented) -> tuple[Token, MintClient]:
        """The token and its mint; nothing is dialled but what the operator has listed. Raises Refusal."""
        limit = self._settings.proofs_max
        try:
            token = parse_token(presented.value.strip(), notes_max=limit)
        except TooManyNotes as error:
            raise refusals.too_many(limit) from error
        except BadToken as error:
            raise refusals.bad_token(str(error)) from error
        if token.unit != UNIT:
            raise refusals.wrong_unit(UNIT)
        url = self._urls.get(mint_url(token.mint) or "")
        if url is None:
            raise refusals.foreign_mint(list(self._mints))
        if any(note.locked for note in token.notes):
            raise refusals.bad_token("its notes are locked to a key or a condition; send notes that anybody can spend")
        if token.amount > SATS_MAX:
            raise refusals.bad_token(f"more than {SATS_MAX} sats are not taken at once")
        return token, self._mints[url]

    async def _judged(self, token: Token, mint: MintClient, price: int) -> SwapRecord:
        """Value, fee, keysets, proofs of signature, in the order of what they cost us. Raises Refusal."""
        if token.amount < price:
            raise refusals.underpaid(token.amount, price)
        keysets = mint.keysets()
        if keysets is None:
            mint.read_soon()
            raise refusals.unavailable(retry_after_seconds=refusals.SOON_SECONDS)
        try:
            fee = _fee(token.notes, keysets)
        except UnknownKeyset as unknown:
            if unknown.ambiguous:
                raise refusals.bad_token(
                    "a short keyset id means several; have your wallet write whole ones"
                ) from unknown
            if mint.read_soon():
                raise refusals.unavailable(retry_after_seconds=refusals.SOON_SECONDS) from unknown
            raise refusals.bad_token("its mint has no such keyset in sat") from unknown
        if token.amount - fee < price:
            raise refusals.underpaid_after_fees(token.amount, fee, price)
        proven = sum(note.dleq is not None for note in token.notes)
        if proven > INLINE_MAX:
            await asyncio.to_thread(_refuse_forged, token.notes, keysets)
        else:
            _refuse_forged(token.notes, keysets)
        return SwapRecord(mint.url, token.notes).expanded(keysets)

    def _refuse_spent(self, notes: Sequence[Note]) -> None:
        if any(_digest(note.secret) in self._spent for note in notes):
            raise refusals.spent()

    def _remember_spent(self, secrets: list[str]) -> None:
        for secret in secrets:
            self._spent[_digest(secret)] = None
        while len(self._spent) > SPENT_MAX:
            self._spent.popitem(last=False)

    async def _headers(self, row: int, *, kept: bool | None) -> HeaderFields:
        token = token_of(await self._ledger.ecash_of(row, kept=kept), chars_max=self._settings.change_bytes_max)
        change = (("X-Cashu-Change", token),) if token else ()
        return (("X-Cashu-Consumed", "true"), *change)


def _fee(notes: Sequence[Note], keysets: Keysets) -> int:
    return fee_of(keysets.expand(note.keyset).info for note in notes)


def _key(token: Token) -> str:
    return spend_key(tuple(note.secret for note in token.notes))


def _digest(secret: str) -> bytes:
    return hashlib.sha256(secret.encode()).digest()


def _refuse_forged(notes: Sequence[Note], keysets: Keysets) -> None:
    """Every note is looked at, whatever the others bring. Raises Refusal."""
    for note in notes:
        try:
            key = keysets.expand(note.keyset).key(note.amount)
        except BadSignature as error:
            raise refusals.bad_token(f"its mint has no notes of {note.amount} sats") from error
        if note.dleq is not None and not genuine(note, key):
            raise refusals.bad_token("the proof of a signature (DLEQ) does not hold: the notes are forged or damaged")


def _proof(key: str, record: SwapRecord, known: Payment | None, *, binding: str) -> Proof:
    """With what an earlier try has written down, so that a swap which took effect late is found again."""
    detail = record.dump()
    if known is not None:
        try:
            written = SwapRecord.load(known.detail)
        except ValueError:
            written = record
        if written.plan is not None:
            detail = known.detail
    return Proof(
        rail=RAIL,
        key=key,
        unit=Unit.MSAT,
        amount=record.worth * MSAT_PER_SAT,
        settled=False,
        binding=binding,
        detail=detail,
        leases_max=LEASES_MAX,
        on_failure=OnFailure.RETURN,
    )
