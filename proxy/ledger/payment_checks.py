"""What the ledger is asked to write about payments, judged before anything is. All raise ValueError."""

from __future__ import annotations

from typing import Final

from proxy.ledger.errors import AMOUNT_UNITS_MAX
from proxy.ledger.payment_api import EcashProof, Invoice, NewBalance, Proof, Receipt, StoredAnswer, Tender

KEY_CHARACTERS_MAX: Final = 512
TEXT_CHARACTERS_MAX: Final = 16_384
DETAIL_BYTES_MAX: Final = 1 << 20
ANSWER_BYTES_MAX: Final = 64 << 20
ECASH_NOTES_MAX: Final = 1_000
DIGEST_BYTES: Final = 32


def check_tender(tender: Tender) -> None:
    """One of a proof and a balance, of an amount that can be counted."""
    _amount(tender.amount, tender.input_amount)
    if tender.input_amount > tender.amount:
        raise ValueError("what is tendered for the input is a part of the price")
    if (tender.proof is None) == (tender.balance is None):
        raise ValueError("a tender is a proof or a balance")
    if tender.proof is not None:
        check_proof(tender.proof)
        if tender.proof.unit is not tender.unit:
            raise ValueError("a price and its proof count the same")
    elif tender.balance is None or len(tender.balance) != DIGEST_BYTES:
        raise ValueError("a balance is named by the SHA-256 of its token")


def check_proof(proof: Proof) -> None:
    """Named, and of an amount above zero."""
    _amount(proof.amount)
    if not proof.amount:
        raise ValueError("a proof of payment brings something")
    if not (proof.rail and proof.key) or max(len(proof.rail), len(proof.key), len(proof.binding)) > KEY_CHARACTERS_MAX:
        raise ValueError(f"a proof has a rail, a key and a binding of at most {KEY_CHARACTERS_MAX} characters")
    _detail(proof.detail)


def check_receipt(receipt: Receipt) -> None:
    """Parts of an amount that can be counted."""
    _amount(receipt.amount, receipt.fee, receipt.change, receipt.absorbed)
    if receipt.fee + receipt.change + receipt.absorbed > receipt.amount:
        raise ValueError("fee, change and what is absorbed are parts of what came")
    if len(receipt.reference) > TEXT_CHARACTERS_MAX or len(receipt.ecash) > ECASH_NOTES_MAX:
        raise ValueError("a receipt has a short reference and a bounded number of notes")
    _detail(receipt.detail)
    for note in receipt.ecash:
        _check_note(note)


def check_new_balance(balance: NewBalance) -> None:
    """Named by a digest, and with an end."""
    if len(balance.digest) != DIGEST_BYTES:
        raise ValueError("a balance is named by the SHA-256 of its token")
    _amount(balance.idle_ms, balance.life_ms)


def check_invoice(invoice: Invoice) -> None:
    """For an amount above zero."""
    _amount(invoice.msat, invoice.created_ms, invoice.expires_ms)
    if not invoice.msat or max(len(invoice.bolt11), len(invoice.terms)) > TEXT_CHARACTERS_MAX:
        raise ValueError("an invoice has an amount, and text that is bounded")


def check_answer(answer: StoredAnswer) -> None:
    """Of a size that a row can have."""
    if len(answer.body) > ANSWER_BYTES_MAX:
        raise ValueError(f"an answer that is kept has at most {ANSWER_BYTES_MAX} bytes")


def check_detail(detail: bytes) -> None:
    """Of a size that a row can have."""
    _detail(detail)


def _check_note(note: EcashProof) -> None:
    _amount(note.amount)
    if not (note.amount and note.secret):
        raise ValueError("a note has an amount and a secret")
    if max(map(len, (note.mint, note.keyset, note.secret, note.signature, note.dleq))) > TEXT_CHARACTERS_MAX:
        raise ValueError(f"the parts of a note have at most {TEXT_CHARACTERS_MAX} characters")


def _detail(detail: bytes) -> None:
    if len(detail) > DETAIL_BYTES_MAX:
        raise ValueError(f"a detail has at most {DETAIL_BYTES_MAX} bytes")


def _amount(*amounts: int) -> None:
    if min(amounts) < 0 or max(amounts) > AMOUNT_UNITS_MAX:
        raise ValueError("an amount is from 0 to what the ledger can count")
