"""From a token to money that is ours: one swap, written down before the mint is asked, and found again after a doubt.

A swap is done or not done as a whole. Where no answer tells, the mint is asked what became of the notes (NUT-07) and
for its signatures on the outputs that were written down (NUT-09). Outputs are made once for a payment and request:
should a swap that was given up take effect late, trying again finds its signatures.
"""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any, Final

from proxy.egress import EgressFailure
from proxy.errors import Refusal
from proxy.ledger.errors import LedgerError
from proxy.ledger.payment_api import Lease, PaymentLedger
from proxy.payments.api import Declined, Doubtful, Outcome, Settled
from proxy.payments.cashu import refusals
from proxy.payments.cashu.blinding import BadSignature, BlindSignature, y_of
from proxy.payments.cashu.keysets import BadKeyset, Keysets, UnknownKeyset
from proxy.payments.cashu.mint import BadAnswer, MintBusy, MintClient, MintRefusal, MintState
from proxy.payments.cashu.swaps import SwapRecord, TooLittle, fee_for, make_plan
from proxy.payments.settings import Cashu

REFUSES_NOTES: Final = frozenset({10001, 10003})
"""Codes of mints, past and present, for notes that they did not sign; their other codes have changed meanings."""
KEYSET_CODES: Final = range(12000, 13000)
ASKED_AGAIN: Final = "asked again"
PENDING_WAITS_SECONDS: Final = (0.1, 0.3, 0.9)
"""Notes are pending while another swap of them is under way, which mostly takes a moment."""


class Settling:
    """Settles and reconciles. `on_spent` is told the secrets of notes that a mint calls spent by somebody else."""

    def __init__(
        self,
        settings: Cashu,
        mints: Mapping[str, MintClient],
        ledger: PaymentLedger,
        log: Any,
        on_spent: Callable[[list[str]], None],
    ) -> None:
        self._settings = settings
        self._mints = mints
        self._ledger = ledger
        self._log = log
        self._on_spent = on_spent

    async def settle(self, lease: Lease, price: int) -> Outcome:
        """Swap the notes of a payment for `price` sats and change; the plan that an earlier try left is kept to."""
        record, mint = self._known(lease)
        if record is None or mint is None:
            return _declined(refusals.unavailable(), "its mint is not configured any more")
        keysets = mint.keysets()
        if keysets is None:
            return _declined(refusals.unavailable(), "the mint's keysets are not known")
        if record.plan is not None and not _possible(record, keysets):
            outcome = await self._resolve(mint, record, "its plan cannot be carried out any more", done=True)
            if outcome is not None:
                return outcome
            record = replace(record, plan=None)
        if record.plan is None:
            planned = self._plan(record, keysets, price)
            if isinstance(planned, Declined):
                return planned
            record = planned
            try:
                await self._ledger.note_payment(lease, record.dump())
            except (LedgerError, sqlite3.Error) as error:
                return _declined(refusals.unavailable(), f"it could not be written down: {type(error).__name__}")
        return await self._swap(mint, record)

    async def reconcile(self, lease: Lease) -> Outcome:
        """What became of a payment that nobody knows of. Doubtful: ask again later."""
        record, mint = self._known(lease)
        if record is None or mint is None:
            return Doubtful("its mint is not configured any more: configure it again")
        if record.plan is None:
            return _declined(refusals.unavailable(), "the mint was never asked")
        return await self._resolve(mint, record, ASKED_AGAIN, done=True) or _unspent(ASKED_AGAIN)

    def _known(self, lease: Lease) -> tuple[SwapRecord | None, MintClient | None]:
        try:
            record = SwapRecord.load(lease.proof.detail)
        except ValueError:
            return None, None
        return record, self._mints.get(record.mint)

    def _plan(self, record: SwapRecord, keysets: Keysets, price: int) -> SwapRecord | Declined:
        current = keysets.current
        if current is None:
            return _declined(refusals.unavailable(), "the mint has no active keyset")
        settings = self._settings
        try:
            record = record.expanded(keysets)
            plan = make_plan(
                record,
                keysets,
                current,
                price=price,
                change_min=settings.change_sats_min,
                change_bytes_max=settings.change_bytes_max,
            )
        except TooLittle as little:
            return _declined(refusals.underpaid_after_fees(little.worth, little.fee, little.price), str(little))
        except (UnknownKeyset, BadKeyset) as error:
            return _declined(refusals.unavailable(), f"keyset: {error}")
        return record.planned(plan)

    async def _swap(self, mint: MintClient, record: SwapRecord, *, again: bool = True) -> Outcome:
        """Swap; once more where the connection broke and the notes are unspent: the outputs are the same ones."""
        plan = record.plan
        if plan is None:
            raise ValueError("a swap is planned before it is made")
        loop = asyncio.get_running_loop()
        begun = loop.time()
        try:
            signed = await mint.swap(record.inputs, plan.outputs)
            return await self._settled(mint, record, signed)
        except EgressFailure as failure:
            if not failure.sent:
                return _declined(refusals.unavailable(), f"nothing was sent: {failure.detail}")
            why = failure.detail
        except MintRefusal as refusal:
            return await self._refused(mint, record, refusal)
        except MintBusy as busy:
            return _declined(refusals.unavailable(), str(busy))
        except (BadAnswer, BadSignature, UnknownKeyset) as error:
            why = str(error)
        outcome = await self._resolve(mint, record, why, done=False)
        if outcome is None and again and loop.time() - begun < self._settings.timeout_seconds / 2:
            return await self._swap(mint, record, again=False)
        return outcome or self._doubtful(mint, f"{why}; the notes are unspent so far")

    async def _refused(self, mint: MintClient, record: SwapRecord, refusal: MintRefusal) -> Outcome:
        """The mint's own word. That notes are spent may mean: by this very swap, sent twice by something between."""
        if refusal.code in REFUSES_NOTES:
            return Declined(refusals.refused_by_mint(), str(refusal), final=True)
        if refusal.code in KEYSET_CODES:
            mint.read_soon()
            return _declined(refusals.unavailable(retry_after_seconds=refusals.SOON_SECONDS), str(refusal))
        why = str(refusal)
        return await self._resolve(mint, record, why, done=True) or _unspent(why)

    async def _settled(self, mint: MintClient, record: SwapRecord, signed: list[BlindSignature]) -> Settled:
        """Raises BadSignature, UnknownKeyset."""
        plan, keysets = record.plan, mint.keysets()
        if plan is None or keysets is None:
            raise UnknownKeyset
        notes = await asyncio.to_thread(plan.unblind, signed, keysets.expand)
        return Settled(plan.receipt(notes, record.mint))

    async def _resolve(self, mint: MintClient, record: SwapRecord, why: str, *, done: bool) -> Outcome | None:
        """Ask what became of a swap; None: the notes are unspent. `done`: the mint is not at it any more."""
        try:
            async with asyncio.timeout(self._settings.timeout_seconds):
                found = await _states(mint, record)
                if MintState.PENDING in found:
                    return self._doubtful(mint, f"{why}; the mint is at it still")
                if MintState.SPENT not in found:
                    return None
                return await self._restored(mint, record, found, why, done=done)
        except EgressFailure as failure:
            return self._doubtful(mint, f"{why}; {failure.detail}")
        except TimeoutError:
            return self._doubtful(mint, f"{why}; it takes too long to say what became of it")
        except (MintRefusal, BadAnswer, BadSignature, BadKeyset, UnknownKeyset) as error:
            return self._doubtful(mint, f"{why}; {error}")

    async def _restored(
        self, mint: MintClient, record: SwapRecord, found: list[MintState], why: str, *, done: bool
    ) -> Outcome:
        plan = record.plan
        if plan is None:
            raise ValueError("a swap is planned before it is made")
        if all(state is MintState.SPENT for state in found):
            signed = await mint.restore(plan.outputs)
            ours = [signed[output.blinded] for output in plan.outputs if output.blinded in signed]
            if len(ours) == len(plan.outputs):
                if mint.keysets() is None:
                    await mint.read()
                return await self._settled(mint, record, ours)
            if ours:
                raise BadAnswer("it signed a part of the outputs")
            if not done:
                return self._doubtful(mint, f"{why}; the notes are spent, and it has signed nothing so far")
        self._on_spent(
            [note.secret for note, state in zip(record.inputs, found, strict=True) if state is MintState.SPENT]
        )
        return Declined(refusals.spent(), f"{why}; spent by somebody else", final=True)

    def _doubtful(self, mint: MintClient, reason: str) -> Doubtful:
        self._log.warning("cashu_swap_unknown", mint=mint.url, detail=reason)
        return Doubtful(reason)


async def _states(mint: MintClient, record: SwapRecord) -> list[MintState]:
    """Of all notes; asked again a few times while one is pending."""
    ys = [y_of(note.secret) for note in record.inputs]
    found = await mint.states(ys)
    for seconds in PENDING_WAITS_SECONDS:
        if MintState.PENDING not in found:
            break
        await asyncio.sleep(seconds)
        found = await mint.states(ys)
    return found


def _possible(record: SwapRecord, keysets: Keysets) -> bool:
    """The mint would still sign the plan's outputs for these notes: its keyset is active, its fee the same."""
    plan = record.plan
    if plan is None:
        return False
    try:
        active = all(keysets.expand(output.keyset).info.active for output in plan.outputs)
        return active and fee_for(record.inputs, keysets) == plan.fee
    except UnknownKeyset:
        return False


def _unspent(why: str) -> Declined:
    return _declined(refusals.unavailable(), f"{why}; the notes are unspent")


def _declined(refusal: Refusal, reason: str) -> Declined:
    """Nothing was taken, and the notes are the payer's still."""
    return Declined(refusal, reason, final=False)
