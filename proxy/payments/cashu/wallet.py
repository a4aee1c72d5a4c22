"""Our own ecash: how much there is at each mint, and taking it out as tokens that any wallet redeems."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import batched
from typing import Final, Protocol

from proxy.ledger.payment_api import EcashProof
from proxy.payments.cashu.swaps import note_of
from proxy.payments.cashu.tokens import encode_token

NOTES_MAX: Final = 100
"""In one token: what wallets and mints take at once."""


class Notes(Protocol):
    """The part of `PaymentLedger` that keeps our ecash."""

    async def wallet(self, mint: str | None = None) -> tuple[EcashProof, ...]: ...

    async def export(self, secrets: tuple[str, ...]) -> None: ...


class NotEnough(Exception):
    """The wallet holds less at this mint. In sat."""

    def __init__(self, mint: str, held: int) -> None:
        super().__init__(f"{held} sats are held at {mint}")
        self.mint = mint
        self.held = held


async def balances(ledger: Notes) -> dict[str, int]:
    """Mint -> sats that are ours: of payments that bought something, and not exported."""
    found: dict[str, int] = {}
    for note in await ledger.wallet():
        found[note.mint] = found.get(note.mint, 0) + note.amount
    return found


async def export_tokens(ledger: Notes, mint: str, sats: int | None, *, notes_max: int = NOTES_MAX) -> tuple[str, ...]:
    """Tokens worth `sats` or, where our notes do not add up to that, the least above it; None: all there is.

    When this returns the notes are no longer ours: whoever has the tokens has the money. Raises NotEnough, LedgerError.
    """
    held = await ledger.wallet(mint)
    chosen = held if sats is None else choose(held, sats)
    if not chosen:
        raise NotEnough(mint, sum(note.amount for note in held))
    tokens = tuple(encode_token(mint, map(note_of, batch)) for batch in batched(chosen, notes_max, strict=False))
    await ledger.export(tuple(note.secret for note in chosen))
    return tokens


def choose(notes: Sequence[EcashProof], sats: int) -> tuple[EcashProof, ...]:
    """Notes that add up to `sats`, or to the least above; none where there are too few.

    Amounts are powers of two, so taking the largest that fits each time finds a sum that can be made.
    """
    left, chosen, passed = sats, [], []
    for note in sorted(notes, key=lambda entry: -entry.amount):
        if note.amount <= left:
            chosen.append(note)
            left -= note.amount
        else:
            passed.append(note)
    if left <= 0:
        return tuple(chosen)
    # Every note that was passed over is larger than what was left then: the smallest alone covers what is left now.
    if not passed:
        return ()
    cover = passed[-1]
    return tuple([note for note in chosen if note.amount >= cover.amount] + [cover])
