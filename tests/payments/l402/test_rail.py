"""L402: what is offered, what is taken, and every way to ask for more than was paid for."""

from __future__ import annotations

import base64
import hashlib
import hmac
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.errors import Refusal
from proxy.ledger.payment_api import OnFailure, Unit
from proxy.payments.api import Ask, Credential
from proxy.payments.keys import DerivedKeys
from proxy.payments.l402.macaroon import mint, parse
from proxy.payments.l402.rail import L402Rail
from proxy.payments.settings import L402
from proxy.pricing.money import Nano
from tests.support.lightning import (
    BOLT11,
    HASH,
    KEYS,
    MSAT,
    NOW_MS,
    PREIMAGE,
    PRICE,
    SECONDS,
    InvoiceBook,
    asked,
    issued,
    shows,
)

SETTINGS = L402(location="tollway", epoch=1_690_000_000)
OTHER_BODY = b'{"model":"gpt-4o","other":1}'


def rail(book: InvoiceBook, keys: DerivedKeys = KEYS, **changes: Any) -> L402Rail:
    return L402Rail(replace(SETTINGS, **changes), keys, book.ledger, leases_max=5)


class Sold:
    """A quote, its invoice in the ledger, and the macaroon that came with it."""

    def __init__(self, ask: Ask | None = None, **settings: Any) -> None:
        self.book = InvoiceBook()
        self.rail = rail(self.book, **settings)
        self.ask = asked() if ask is None else ask
        self.book.add(issued(), self.ask)
        offer = self.rail.offer(self.ask, issued())
        assert offer is not None
        self.offer = offer
        self.macaroon: str = offer.members["macaroon"]

    def credential(self, macaroon: str | None = None, preimage: str = PREIMAGE.hex()) -> str:
        return f"{macaroon or self.macaroon}:{preimage}"

    async def refusal(self, value: str, ask: Ask | None = None, by: L402Rail | None = None) -> Refusal:
        with pytest.raises(Refusal) as caught:
            await (by or self.rail).check(shows(Credential.L402, value), ask or self.ask)
        refusal = caught.value
        assert (refusal.code, refusal.status) == ("invalid_payment", 401)
        assert PREIMAGE.hex() not in refusal.message
        return refusal


@pytest.fixture
def sold() -> Sold:
    return Sold()


def test_offer_is_read_by_old_and_new_clients(sold: Sold) -> None:
    """`macaroon` and `invoice` first, as clients' expressions want them; then the names of the present text."""
    ((name, value),) = sold.offer.headers
    assert name == "WWW-Authenticate"
    assert value == f'L402 macaroon="{sold.macaroon}", invoice="{BOLT11}", version="0", token="{sold.macaroon}"'
    assert sold.offer.members == {
        "price": 42,
        "invoice": BOLT11,
        "macaroon": sold.macaroon,
        "paymentHash": HASH,
    }
    macaroon = parse(sold.macaroon)
    assert macaroon.location == b"tollway"
    assert macaroon.identifier[:34] == b"\x00\x00" + bytes.fromhex(HASH)
    assert len(macaroon.identifier) == 66
    assert macaroon.caveats == (
        b"RequestPath = /v1/chat/completions",
        b"ExpiresAt = %d" % (NOW_MS // 1000 + SECONDS),
        b"MaxTokens = 50",
        b"MaxInputChars = 60",
        b"MaxInputTokens = 12",
        b"NotBefore = 1690000000",
        b"Model = gpt-4o",
    )


def test_every_offer_is_another_macaroon(sold: Sold) -> None:
    """Its identifier is random beside the payment hash."""
    again = sold.rail.offer(sold.ask, issued())
    assert again is not None
    assert again.members["macaroon"] != sold.macaroon


def test_macaroon_does_not_outlive_its_invoice() -> None:
    """Whatever the setting."""
    made = rail(InvoiceBook()).offer(asked(), issued(expires_ms=NOW_MS + 61_999))
    assert made is not None
    assert b"ExpiresAt = %d" % (NOW_MS // 1000 + 61) in parse(made.members["macaroon"]).caveats


def test_nothing_is_offered_without_an_invoice_or_room() -> None:
    """Never an offer that could not be taken back."""
    some = rail(InvoiceBook())
    assert some.offer(asked(), None) is None
    assert some.offer(asked(path="/" + "p" * 2100), issued()) is None
    fits = some.offer(asked(path="/" + "é" * 900), issued())
    assert fits is not None
    assert parse(fits.members["macaroon"]).signed_by(KEYS.derive("l402/root/1690000000/tollway"))


async def test_paid_request_is_tendered_its_invoice(sold: Sold) -> None:
    """All of the invoice, under the payment hash, settled, usable until the macaroon expires."""
    tender = await sold.rail.check(shows(Credential.L402, sold.credential()), sold.ask)
    assert (tender.unit, tender.amount, tender.balance) == (Unit.MSAT, MSAT, None)
    assert tender.request_digest == sold.ask.request_digest
    proof = tender.proof
    assert proof is not None
    assert (proof.rail, proof.key, proof.unit, proof.amount) == ("lightning", HASH, Unit.MSAT, MSAT)
    assert proof.settled
    assert (proof.leases_max, proof.on_failure, proof.binding) == (5, OnFailure.FREE, "")
    assert proof.use_until_ms == NOW_MS + SECONDS * 1000


@pytest.mark.parametrize("changes", [{"output_tokens": 10}, {"input_tokens": 3, "input_chars": 9}, {}])
async def test_smaller_request_is_served_too(sold: Sold, changes: dict[str, Any]) -> None:
    """The macaroon names no body."""
    assert await sold.rail.check(shows(Credential.L402, sold.credential()), asked(OTHER_BODY, **changes))


@pytest.mark.parametrize("hex_case", [str.upper, str.title])
async def test_preimage_in_any_case_is_one_payment(sold: Sold, hex_case: Any) -> None:
    """Wallets differ; the payment is known by its hash."""
    value = sold.credential(preimage=hex_case(PREIMAGE.hex()))
    tender = await sold.rail.check(shows(Credential.L402, value), sold.ask)
    assert tender.proof is not None
    assert tender.proof.key == HASH


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"path": "/v1/completions"}, "Path mismatch"),
        ({"path": "/v1/chat/completions/"}, "Path mismatch"),
        ({"path": "/V1/chat/completions"}, "Path mismatch"),
        ({"method": "PUT"}, "Path mismatch"),
        ({"model": "gpt-4o-mini"}, "Model mismatch"),
        ({"model": "GPT-4o"}, "Model mismatch"),
        ({"output_tokens": 51, "max_tokens": 51}, "max_tokens exceeds paid amount"),
        ({"output_tokens": 100, "max_tokens": 50}, "max_tokens exceeds paid amount"),
        ({"input_tokens": 13}, "Input exceeds paid amount"),
        ({"input_chars": 61}, "Input exceeds paid amount"),
        ({"usd": Nano(PRICE.usd * 2)}, "Input exceeds paid amount"),
        ({"now_ms": NOW_MS + SECONDS * 1000}, "Macaroon expired"),
        ({"now_ms": NOW_MS + 10**11}, "Macaroon expired"),
    ],
)
async def test_request_beyond_what_was_paid_is_refused(sold: Sold, changes: dict[str, Any], reason: str) -> None:
    """Another path, model or method, a larger input or output, several choices, dearer features, too late."""
    refusal = await sold.refusal(sold.credential(), asked(OTHER_BODY, **changes))
    assert refusal.message.startswith(reason)
    assert sold.book.invoices[HASH].settled_ms is None


async def test_last_moment_is_in_time(sold: Sold) -> None:
    """Up to the second that the caveat names."""
    late = asked(now_ms=NOW_MS + SECONDS * 1000 - 1)
    assert await sold.rail.check(shows(Credential.L402, sold.credential()), late)


async def test_expired_payment_is_told_where_its_money_is(sold: Sold) -> None:
    """It becomes a balance."""
    refusal = await sold.refusal(sold.credential(), asked(now_ms=NOW_MS + 10**9))
    assert "POST /v1/payments/refund" in refusal.message


async def test_spent_payment_is_known_by_its_answer_after_its_end(sold: Sold) -> None:
    """The ledger says that it was used, and may still have the answer; a lease of it is never given."""
    sold.book.burnt.add(HASH)
    late = asked(now_ms=NOW_MS + 10**6)
    tender = await sold.rail.check(shows(Credential.L402, sold.credential()), late)
    assert tender.proof is not None
    assert tender.proof.use_until_ms < late.now_ms
    await sold.refusal(sold.credential(), asked(model="gpt-4o-mini", now_ms=late.now_ms))


async def test_more_items_than_paid_are_refused() -> None:
    """An embeddings request of five."""
    sold = Sold(asked(path="/v1/embeddings", input_items=5))
    assert await sold.rail.check(shows(Credential.L402, sold.credential()), sold.ask)
    more = asked(OTHER_BODY, path="/v1/embeddings", input_items=6)
    assert (await sold.refusal(sold.credential(), more)).message.startswith("Input exceeds paid amount: 5 items")


@pytest.mark.parametrize("preimage", [bytes(32), b"\xff" * 32, hashlib.sha256(PREIMAGE).digest()])
async def test_preimage_of_another_hash_is_refused(sold: Sold, preimage: bytes) -> None:
    """The payment hash itself, which every node on the way knows, among them."""
    refusal = await sold.refusal(sold.credential(preimage=preimage.hex()))
    assert refusal.message.startswith("Preimage does not match")
    assert sold.book.asked == 0


@pytest.mark.parametrize(
    "tail",
    ["", ":", ":00", ":" + "0" * 63, ":" + "0" * 65, ":" + "g" * 64, ":" + "٠" * 64, f":{PREIMAGE.hex()}:x", ": "],
)
async def test_malformed_preimage_is_refused(sold: Sold, tail: str) -> None:
    """64 hex digits."""
    await sold.refusal(sold.macaroon + tail)


async def test_several_macaroons_are_refused(sold: Sold) -> None:
    """The scheme allows them; here one macaroon is one payment."""
    assert (await sold.refusal(f"{sold.macaroon},{sold.macaroon}:{PREIMAGE.hex()}")).message.startswith("Malformed")


@pytest.mark.parametrize("value", ["", ":", "é", "AgEJ", "a" * 20_000, "=" * 4096, "A" * 4096 + ":" + "0" * 64])
async def test_junk_is_refused_without_asking_the_ledger(sold: Sold, value: str) -> None:
    """Whatever its size."""
    await sold.refusal(value)
    assert sold.book.asked == 0


async def test_macaroon_with_any_byte_changed_is_refused(sold: Sold) -> None:
    """Location, identifier, caveats, signature: all of it is signed."""
    raw = bytearray(base64.b64decode(sold.macaroon))
    for position in range(len(raw)):
        changed = bytearray(raw)
        changed[position] ^= 1
        text = base64.b64encode(bytes(changed)).decode()
        await sold.refusal(sold.credential(text))
    assert sold.book.asked == 0


@given(data=st.data())
async def test_no_edit_of_a_credential_is_taken(data: st.DataObject) -> None:
    """Characters replaced, removed, added or moved."""
    sold = Sold()
    value = sold.credential()
    start = data.draw(st.integers(0, len(value) - 1))
    end = data.draw(st.integers(start, min(len(value), start + 8)))
    middle = data.draw(st.text(st.sampled_from("AZaz09+/=:, "), max_size=8))
    edited = value[:start] + middle + value[end:]
    if edited.lower().partition(":")[2] == PREIMAGE.hex() and edited.partition(":")[0] == sold.macaroon:
        return
    await sold.refusal(edited)


async def test_foreign_macaroon_is_refused(sold: Sold) -> None:
    """The same in everything, signed with another secret."""
    forged = Sold().rail
    other = L402Rail(SETTINGS, DerivedKeys(b"x" * 32), sold.book.ledger, leases_max=5).offer(sold.ask, issued())
    assert other is not None
    refusal = await sold.refusal(sold.credential(other.members["macaroon"]), by=forged)
    assert refusal.message.startswith("Invalid macaroon signature")


@pytest.mark.parametrize(
    ("caveat", "reason"),
    [
        (b"MaxTokens = 100000", "MaxTokens' is there twice"),
        (b"MaxTokens = 1", "MaxTokens' is there twice"),
        (b"ExpiresAt = 9999999999", "ExpiresAt' is there twice"),
        (b"NotBefore = 0", "NotBefore' is there twice"),
        (b"Colour = red", "Colour' is not known"),
        (b"MaxInputItems = many", "MaxInputItems' is not a number"),
    ],
)
async def test_caveats_that_the_holder_added_are_refused(sold: Sold, caveat: bytes, reason: str) -> None:
    """Validly: the signature is the chain's. Unknown ones, and repeated ones even where they narrow."""
    refusal = await sold.refusal(sold.credential(attenuated(sold.macaroon, caveat)))
    assert reason in refusal.message


async def test_known_caveat_that_the_holder_added_narrows() -> None:
    """One that is not there yet is obeyed."""
    sold = Sold()
    narrowed = attenuated(sold.macaroon, b"MaxInputItems = 2")
    assert await sold.rail.check(shows(Credential.L402, sold.credential(narrowed)), sold.ask)
    await sold.refusal(sold.credential(narrowed), asked(OTHER_BODY, input_items=3))


def attenuated(text: str, caveat: bytes) -> str:
    """With a caveat appended, as anybody may who holds it."""
    old = parse(text)
    signature = hmac.digest(old.signature, caveat, hashlib.sha256)
    return replace(old, caveats=(*old.caveats, caveat), signature=signature).text()


async def test_signed_macaroon_of_another_form_is_refused(sold: Sold) -> None:
    """Our key alone does not make it ours: identifier, epoch and location are of one form."""
    key = KEYS.derive("l402/root/1690000000/tollway")
    good = parse(sold.macaroon)
    bad_identifiers = (b"\x00\x01" + good.identifier[2:], good.identifier[:-1], good.identifier + b"\x00", b"")
    for identifier in bad_identifiers:
        made = mint(key, location=good.location, identifier=identifier, caveats=good.caveats)
        assert (await sold.refusal(sold.credential(made.text()))).message.startswith("Invalid macaroon signature")
    for caveats in (good.caveats[:5], (b"NotBefore = -1",), (b"NotBefore = 01",), ()):
        made = mint(key, location=good.location, identifier=good.identifier, caveats=caveats)
        assert (await sold.refusal(sold.credential(made.text()))).message.startswith("Invalid macaroon signature")
    for location in (b"", b"\xff", b"a b", b"x" * 65):
        made = mint(key, location=location, identifier=good.identifier, caveats=good.caveats)
        assert (await sold.refusal(sold.credential(made.text()))).message.startswith("Invalid macaroon signature")
    bare = mint(key, location=good.location, identifier=good.identifier, caveats=(b"NotBefore = 1690000000",))
    assert "is missing" in (await sold.refusal(sold.credential(bare.text()))).message


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"location": "renamed"},
        {"seconds": 30},
        {"epoch": 1_700_000_000},
        {"epoch": 1_700_000_000, "epoch_min": 1_690_000_000},
        {"epoch": 0},
    ],
)
async def test_restart_and_other_settings_void_nothing(sold: Sold, settings: dict[str, Any]) -> None:
    """Another process, another root key for new macaroons, another name, a clock that goes on."""
    restarted = rail(sold.book, **settings)
    later = asked(now_ms=NOW_MS + 200_000)
    assert await restarted.check(shows(Credential.L402, sold.credential()), later)


async def test_retired_root_key_is_refused_everywhere(sold: Sold) -> None:
    """Retired on purpose: it is trusted neither with a request nor with a refund or a preimage."""
    retired = rail(sold.book, epoch=1_700_000_000, epoch_min=1_690_000_001)
    assert (await sold.refusal(sold.credential(), by=retired)).message.startswith("Invoice expired")
    with pytest.raises(Refusal):
        await retired.shown(shows(Credential.L402, sold.credential()))
    with pytest.raises(Refusal):
        retired.check_ownership(sold.macaroon, HASH)


async def test_epochs_have_keys_of_their_own(sold: Sold) -> None:
    """One macaroon's epoch cannot be passed off as another's."""
    good = parse(sold.macaroon)
    caveats = tuple(b"NotBefore = 1690000001" if c.startswith(b"NotBefore") else c for c in good.caveats)
    made = mint(
        KEYS.derive("l402/root/1690000000/tollway"), location=b"tollway", identifier=good.identifier, caveats=caveats
    )
    assert (await sold.refusal(sold.credential(made.text()))).message.startswith("Invalid macaroon signature")


@pytest.mark.parametrize("changes", [{"purpose": "balance"}, {"terms": ""}, {"terms": '{"v":9}'}])
async def test_invoice_that_was_made_for_something_else_is_refused(sold: Sold, changes: dict[str, Any]) -> None:
    """A balance's, or one whose terms nobody understands."""
    sold.book.add(issued(), sold.ask, **changes)
    await sold.refusal(sold.credential())


async def test_invoice_that_the_ledger_does_not_know_is_refused(sold: Sold) -> None:
    """However well its macaroon is signed."""
    sold.book.invoices.clear()
    assert (await sold.refusal(sold.credential())).message.startswith("This invoice is not known here")


async def test_terms_bind_beyond_the_macaroon(sold: Sold) -> None:
    """What costs more at the same rates, though no caveat says so."""
    dearer = asked(OTHER_BODY, usd=Nano(PRICE.usd + 1))
    assert "costs more" in (await sold.refusal(sold.credential(), dearer)).message
    raised = asked(OTHER_BODY, usd=Nano(PRICE.usd * 2), rates_digest="rates-2")
    assert await sold.rail.check(shows(Credential.L402, sold.credential()), raised)


async def test_payment_is_shown_after_its_end_and_for_no_request(sold: Sold) -> None:
    """For a refund: the right to it is proven just the same."""
    proof = await sold.rail.shown(shows(Credential.L402, sold.credential()))
    assert (proof.rail, proof.key, proof.settled) == ("lightning", HASH, True)
    for value in (sold.credential(preimage="00" * 32), sold.credential(attenuated(sold.macaroon, b"Colour = red"))):
        with pytest.raises(Refusal):
            await sold.rail.shown(shows(Credential.L402, value))


def test_invoice_status_wants_the_macaroon_of_that_invoice(sold: Sold) -> None:
    """A payment hash is known to every node on the payment's way, the macaroon only to who asked for it."""
    sold.rail.check_ownership(sold.macaroon, HASH)
    sold.rail.check_ownership(sold.macaroon, HASH.upper())
    other = sold.rail.offer(sold.ask, issued(bytes(32)))
    assert other is not None
    for macaroon, payment_hash in [
        (sold.macaroon, "0" * 64),
        (other.members["macaroon"], HASH),
        ("AgEJ", HASH),
        ("", ""),
    ]:
        with pytest.raises(Refusal) as caught:
            sold.rail.check_ownership(macaroon, payment_hash)
        assert caught.value.status == 401
