"""One swap of a payment: what goes in, what comes out, and how it is written down before the mint is asked.

The record is all that an interrupted swap is recovered from, and bearer money: with its secrets and blinding factors
whoever reads it can claim what the mint signed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Final, Self

import orjson

from proxy.ledger.payment_api import EcashProof, Receipt
from proxy.payments.cashu.blinding import BlindSignature, Output, new_output, unblind
from proxy.payments.cashu.keysets import Keyset, Keysets, fee_of
from proxy.payments.cashu.tokens import POINT_BYTES, Dleq, Note, encode_token
from proxy.pricing.money import MSAT_PER_SAT

_SECRET: Final = "0" * 64


class TooLittle(Exception):
    """What the notes are worth after the mint's fee does not cover the price. Both in sat."""

    def __init__(self, worth: int, fee: int, price: int) -> None:
        super().__init__(f"{worth} less {fee} is below {price}")
        self.worth = worth
        self.fee = fee
        self.price = price


@dataclass(frozen=True, slots=True)
class Plan:
    """What one swap makes of a payment. Amounts in sat: `price + change + absorbed + fee` is what the notes are worth.

    The outputs are in ascending order of their amounts (NUT-03), so that the mint cannot tell change from price.
    """

    price: int
    change: int
    absorbed: int
    fee: int
    outputs: tuple[Output, ...] = field(repr=False)
    kept: tuple[bool, ...]
    """For each output: ours, or the payer's change."""

    def ecash(self, notes: Sequence[Note], mint: str) -> tuple[EcashProof, ...]:
        """The swapped notes, as the ledger keeps them."""
        return tuple(ecash_of(note, mint, kept=kept) for note, kept in zip(notes, self.kept, strict=True))

    def receipt(self, notes: Sequence[Note], mint: str) -> Receipt:
        """What the swap brought, in msat."""
        return Receipt(
            amount=(self.price + self.change + self.absorbed + self.fee) * MSAT_PER_SAT,
            fee=self.fee * MSAT_PER_SAT,
            change=self.change * MSAT_PER_SAT,
            absorbed=self.absorbed * MSAT_PER_SAT,
            reference=mint,
            ecash=self.ecash(notes, mint),
        )

    def unblind(self, signed: Sequence[BlindSignature], keysets: Callable[[str], Keyset]) -> tuple[Note, ...]:
        """Notes for all outputs, in their order. Raises BadSignature, and what `keysets` raises."""
        return tuple(
            unblind(output, signature, keysets(output.keyset).key(output.amount))
            for output, signature in zip(self.outputs, signed, strict=True)
        )


@dataclass(frozen=True, slots=True)
class SwapRecord:
    """The notes that were shown; and, once their mint was or is about to be asked, the plan."""

    mint: str
    inputs: tuple[Note, ...] = field(repr=False)
    plan: Plan | None = None

    @property
    def worth(self) -> int:
        """Sat, before the mint's fee."""
        return sum(note.amount for note in self.inputs)

    def expanded(self, keysets: Keysets) -> Self:
        """With whole keyset ids. Raises UnknownKeyset."""
        return replace(self, inputs=tuple(replace(n, keyset=keysets.expand(n.keyset).info.id) for n in self.inputs))

    def planned(self, plan: Plan) -> Self:
        """With a plan."""
        return replace(self, plan=plan)

    def dump(self) -> bytes:
        """JSON for the ledger."""
        members: dict[str, Any] = {
            "mint": self.mint,
            "inputs": [[n.keyset, n.amount, n.secret, n.signature.hex()] for n in self.inputs],
        }
        if self.plan is not None:
            plan = self.plan
            members["plan"] = {
                "sats": [plan.price, plan.change, plan.absorbed, plan.fee],
                "outputs": [
                    [o.keyset, o.amount, o.secret, o.blinding, kept]
                    for o, kept in zip(plan.outputs, plan.kept, strict=True)
                ],
            }
        return orjson.dumps(members)

    @classmethod
    def load(cls, detail: bytes) -> Self:
        """What `dump` wrote. Raises ValueError for anything else."""
        try:
            members = orjson.loads(detail)
            inputs = tuple(Note(k, a, s, bytes.fromhex(c)) for k, a, s, c in members["inputs"])
            plan = members.get("plan")
            if plan is None:
                return cls(members["mint"], inputs)
            price, change, absorbed, fee = plan["sats"]
            outputs = tuple(Output(*entry[:4]) for entry in plan["outputs"])
            kept = tuple(entry[4] for entry in plan["outputs"])
            return cls(members["mint"], inputs, Plan(price, change, absorbed, fee, outputs, kept))
        except (KeyError, TypeError, AttributeError) as error:
            raise ValueError("this is no record of a swap") from error


def fee_for(notes: Iterable[Note], keysets: Keysets) -> int:
    """Sat that the mint keeps for spending these notes. Raises UnknownKeyset."""
    return fee_of(keysets.expand(note.keyset).info for note in notes)


def make_plan(
    record: SwapRecord, keysets: Keysets, current: Keyset, *, price: int, change_min: int, change_bytes_max: int
) -> Plan:
    """Price and change out of one swap; change that is too small, or too long a token, is absorbed.

    Raises TooLittle, UnknownKeyset (of the inputs), BadKeyset.
    """
    fee = fee_for(record.inputs, keysets)
    over = record.worth - fee - price
    if over < 0:
        raise TooLittle(record.worth, fee, price)
    change = current.split(over) if over >= change_min else []
    if change and _token_chars(record.mint, current.info.id, change) > change_bytes_max:
        change = []
    ours = current.split(price + over - sum(change))
    made = sorted(
        [(amount, False) for amount in change] + [(amount, True) for amount in ours], key=lambda entry: entry[0]
    )
    return Plan(
        price=price,
        change=sum(change),
        absorbed=over - sum(change),
        fee=fee,
        outputs=tuple(new_output(current.info.id, amount) for amount, _ in made),
        kept=tuple(kept for _, kept in made),
    )


def _token_chars(mint: str, keyset: str, amounts: Sequence[int]) -> int:
    """How long a token of such notes is, without proofs of signature."""
    return len(encode_token(mint, [Note(keyset, amount, _SECRET, bytes(POINT_BYTES)) for amount in amounts]))


def ecash_of(note: Note, mint: str, *, kept: bool) -> EcashProof:
    """A note as the ledger keeps it."""
    dleq = b"" if note.dleq is None else orjson.dumps([part.hex() for part in (note.dleq.e, note.dleq.s, note.dleq.r)])
    return EcashProof(
        mint=mint,
        keyset=note.keyset,
        amount=note.amount,
        secret=note.secret,
        signature=note.signature.hex(),
        dleq=dleq.decode(),
        kept=kept,
    )


def note_of(ecash: EcashProof) -> Note:
    """A note as the ledger kept it."""
    dleq = Dleq(*map(bytes.fromhex, orjson.loads(ecash.dleq))) if ecash.dleq else None
    return Note(ecash.keyset, ecash.amount, ecash.secret, bytes.fromhex(ecash.signature), dleq)


def token_of(ecash: Sequence[EcashProof], *, chars_max: int | None = None) -> str:
    """One token of all these notes, which are of one mint; "" for none.

    With the proofs of signature where the token fits then, without where it fits only so; "" where it does not fit.
    """
    if not ecash:
        return ""
    notes = [note_of(entry) for entry in ecash]
    for dleq in (True, False):
        token = encode_token(ecash[0].mint, notes, dleq=dleq)
        if chars_max is None or len(token) <= chars_max:
            return token
    return ""
