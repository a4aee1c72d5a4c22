"""The Payment scheme over Lightning: challenge, credential, receipt, and every way to bend one of them."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import re
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.errors import Refusal
from proxy.ledger.payment_api import Lease, PaymentTaken, Taken, Unit
from proxy.payments.api import Ask, Credential
from proxy.payments.keys import DerivedKeys
from proxy.payments.l402.rail import L402Rail
from proxy.payments.mpp.encoding import decode, encode
from proxy.payments.mpp.problems import PROBLEM_TYPE, problem_body
from proxy.payments.mpp.rail import MppRail
from proxy.payments.settings import L402, Mpp
from proxy.pricing.money import Nano
from tests.support.fakes import FakeClock
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
    spent_payment,
)

PARAMETER = re.compile(r'(\w+)="([^"]*)"')


class Sold:
    """A quote, its invoice in the ledger, and the challenge that came with it."""

    def __init__(self, ask: Ask | None = None, **settings: Any) -> None:
        self.book = InvoiceBook()
        self.clock = FakeClock(NOW_MS + 5000)
        self.rail = MppRail(Mpp(**settings), KEYS, self.book.ledger, self.clock, leases_max=5)
        self.ask = asked() if ask is None else ask
        self.book.add(issued(), self.ask)
        offer = self.rail.offer(self.ask, issued())
        assert offer is not None
        self.offer = offer
        self.header = offer.headers[0][1]
        self.challenge = dict(PARAMETER.findall(self.header))

    def credential(self, preimage: str = PREIMAGE.hex(), without: tuple[str, ...] = (), **changes: str) -> str:
        echo = {name: value for name, value in {**self.challenge, **changes}.items() if name not in without}
        return encode({"challenge": echo, "payload": {"preimage": preimage}})

    async def problem(self, value: str, ask: Ask | None = None, by: MppRail | None = None) -> dict[str, Any]:
        with pytest.raises(Refusal) as caught:
            await (by or self.rail).check(shows(Credential.MPP, value), ask or self.ask)
        refusal = caught.value
        problem: dict[str, Any] = json.loads(refusal.envelope())
        assert refusal.wire_headers()["content-type"] == PROBLEM_TYPE == "application/problem+json"
        assert refusal.code == problem["code"] == "invalid_payment"
        assert refusal.status == problem["status"]
        assert PREIMAGE.hex() not in refusal.message
        problem["type"] = problem["type"].removeprefix("https://paymentauth.org/problems/")
        return problem


@pytest.fixture
def sold() -> Sold:
    return Sold()


def test_challenge_says_what_the_drafts_want(sold: Sold) -> None:
    """In one line, every value quoted; the request is canonical JSON in base64url."""
    assert sold.header.startswith('Payment id="')
    assert list(sold.challenge) == ["id", "realm", "method", "intent", "request", "expires", "digest"]
    assert (sold.challenge["realm"], sold.challenge["method"], sold.challenge["intent"]) == (
        "tollway",
        "lightning",
        "charge",
    )
    assert sold.challenge["expires"] == "2023-11-14T22:18:20Z"
    body = base64.b64encode(hashlib.sha256(b'{"model":"gpt-4o"}').digest()).decode()
    assert sold.challenge["digest"] == f"sha-256=:{body}:"
    raw = base64.urlsafe_b64decode(sold.challenge["request"] + "==")
    assert raw.decode() == (
        '{"amount":"42","currency":"sat","methodDetails":'
        f'{{"invoice":"{BOLT11}","network":"mainnet","paymentHash":"{HASH}"}}}}'
    )
    assert sold.offer.members == {"price": 42, "invoice": BOLT11, "paymentHash": HASH}


def test_id_is_the_mac_that_the_draft_recommends(sold: Sold) -> None:
    """HMAC-SHA256 over seven slots joined by '|'; what is not there is an empty slot."""
    names = ("realm", "method", "intent", "request", "expires", "digest")
    slots = "|".join([*(sold.challenge[name] for name in names), ""])
    mac = hmac.digest(KEYS.derive("mpp/challenge"), slots.encode(), "sha256")
    assert sold.challenge["id"] == base64.urlsafe_b64encode(mac).decode().rstrip("=")


@pytest.mark.parametrize(
    ("bolt11", "network"), [("lnbcrt1", "regtest"), ("lntbs1", "signet"), ("lntb1", "testnet"), ("lnbc1", "mainnet")]
)
def test_network_is_the_invoices(bolt11: str, network: str) -> None:
    """By its prefix."""
    sold = Sold()
    offer = sold.rail.offer(sold.ask, issued(bolt11=bolt11))
    assert offer is not None
    request = decode(dict(PARAMETER.findall(offer.headers[0][1]))["request"])
    assert request["methodDetails"]["network"] == network


def test_nothing_is_offered_without_a_whole_invoice(sold: Sold) -> None:
    """The scheme counts in sats."""
    assert sold.rail.offer(sold.ask, None) is None
    assert sold.rail.offer(sold.ask, issued(msat=42_001)) is None


@pytest.mark.parametrize("without", [(), ("digest",), ("digest", "opaque")])
async def test_paid_request_is_tendered_its_invoice(sold: Sold, without: tuple[str, ...]) -> None:
    """Under the same key as by L402; clients need not send the digest back."""
    tender = await sold.rail.check(shows(Credential.MPP, sold.credential(without=without)), sold.ask)
    assert (tender.unit, tender.amount, tender.request_digest) == (Unit.MSAT, MSAT, sold.ask.request_digest)
    l402 = L402Rail(L402(), KEYS, sold.book.ledger, leases_max=5)
    offer = l402.offer(sold.ask, issued())
    assert offer is not None
    other = await l402.check(shows(Credential.L402, f"{offer.members['macaroon']}:{PREIMAGE.hex()}"), sold.ask)
    assert tender.proof is not None
    assert other.proof is not None
    assert replace(tender.proof, detail=b"") == other.proof


async def test_source_description_and_padding_are_allowed(sold: Sold) -> None:
    """What the drafts let a client add."""
    echo = {**sold.challenge, "description": "anything", "unknown": "x"}
    value = encode({"challenge": echo, "payload": {"preimage": PREIMAGE.hex(), "x": 1}, "source": "did:key:z6Mk"})
    assert await sold.rail.check(shows(Credential.MPP, value + "=" * (-len(value) % 4)), sold.ask)


async def test_another_body_is_refused(sold: Sold) -> None:
    """Even a smaller one: the challenge is for this very body."""
    smaller = asked(b'{"model":"gpt-4o","max_tokens":1}', output_tokens=1)
    for without in ((), ("digest",)):
        problem = await sold.problem(sold.credential(without=without), smaller)
        assert (problem["type"], problem["status"]) == ("verification-failed", 401)
        assert "another request body" in problem["detail"]


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"path": "/v1/completions"}, "Path mismatch"),
        ({"model": "gpt-4o-mini"}, "Model mismatch"),
        ({"output_tokens": 51}, "max_tokens exceeds paid amount"),
    ],
)
async def test_same_body_elsewhere_is_refused(sold: Sold, changes: dict[str, Any], reason: str) -> None:
    """Another path, another model behind the alias, another default of output."""
    problem = await sold.problem(sold.credential(), asked(**changes))
    assert problem["detail"].startswith(reason)


async def test_without_a_digest_the_terms_bind() -> None:
    """Where nobody knows the body's, any body that costs no more is served."""
    sold = Sold(asked(body_digest=""))
    assert "digest" not in sold.challenge
    other = b'{"model":"gpt-4o","other":1}'
    assert await sold.rail.check(shows(Credential.MPP, sold.credential()), asked(other, output_tokens=1))
    assert await sold.problem(sold.credential(), asked(other, usd=Nano(PRICE.usd + 1)))


@pytest.mark.parametrize("late_ms", [SECONDS * 1000, 10**10])
async def test_expired_challenge_is_refused(sold: Sold, late_ms: int) -> None:
    """With the way to its money."""
    problem = await sold.problem(sold.credential(), asked(now_ms=NOW_MS + late_ms))
    assert (problem["type"], problem["status"]) == ("lightning/expired-invoice", 401)
    assert "POST /v1/payments/refund" in problem["detail"]


async def test_spent_payment_is_known_by_its_answer_after_its_end(sold: Sold) -> None:
    """The ledger says that it was used, and may still have the answer."""
    sold.book.burnt.add(HASH)
    assert await sold.rail.check(shows(Credential.MPP, sold.credential()), asked(now_ms=NOW_MS + 10**6))


@pytest.mark.parametrize(
    "changes",
    [
        {"id": "x"},
        {"id": ""},
        {"realm": "other"},
        {"realm": ""},
        {"expires": "2033-11-14T22:18:20Z"},
        {"expires": "never"},
        {"digest": "sha-256=:AAAA:"},
        {"opaque": "e30"},
        {"request": encode({"amount": "1", "methodDetails": {"paymentHash": HASH}})},
        {"method": "tempo"},
        {"intent": "session"},
        {"method": "Lightning"},
        {"header": "Payment-Authorization"},
    ],
)
async def test_changed_challenge_is_unknown(sold: Sold, changes: dict[str, str]) -> None:
    """Nothing in it can be bent: the id is a MAC over all of it."""
    problem = await sold.problem(sold.credential(**changes))
    assert (problem["type"], problem["status"]) == ("lightning/unknown-challenge", 401)


async def test_slots_cannot_be_shifted(sold: Sold) -> None:
    """A '|' within a value would make another challenge with the same MAC."""
    shifted = {"realm": f"{sold.challenge['realm']}|lightning", "method": "charge"}
    assert (await sold.problem(sold.credential(**shifted)))["type"] == "lightning/malformed-credential"
    assert (await sold.problem(sold.credential(realm="a|b")))["type"] == "lightning/malformed-credential"


async def test_foreign_challenge_is_unknown(sold: Sold) -> None:
    """Of a server with another secret."""
    foreign = MppRail(Mpp(), DerivedKeys(b"x" * 32), sold.book.ledger, sold.clock, leases_max=5)
    assert (await sold.problem(sold.credential(), by=foreign))["type"] == "lightning/unknown-challenge"


async def test_restart_under_another_realm_voids_nothing(sold: Sold) -> None:
    """What was offered is bound by its MAC alone."""
    renamed = MppRail(Mpp(realm="other"), KEYS, sold.book.ledger, sold.clock, leases_max=5)
    assert await renamed.check(shows(Credential.MPP, sold.credential()), sold.ask)


@pytest.mark.parametrize("preimage", ["00" * 32, HASH])
async def test_preimage_of_another_hash_is_refused(sold: Sold, preimage: str) -> None:
    """Before the ledger is asked."""
    problem = await sold.problem(sold.credential(preimage))
    assert (problem["type"], problem["status"]) == ("lightning/invalid-preimage", 401)
    assert sold.book.asked == 0


MALFORMED: list[Any] = [
    "", "!", "e30", "a" * 9000, encode({"challenge": {}, "payload": {}}), encode({"challenge": "x", "payload": {}}),
    encode({"challenge": {}, "payload": {"preimage": PREIMAGE.hex()}}), 'method="lightning", preimage="00"',
]  # fmt: skip


@pytest.mark.parametrize("value", MALFORMED)
async def test_malformed_credential_is_told_so(sold: Sold, value: str) -> None:
    """400, by the draft for Lightning."""
    problem = await sold.problem(value)
    assert (problem["type"], problem["status"]) == ("lightning/malformed-credential", 400)
    assert problem["title"] == "Malformed Credential"
    assert sold.book.asked == 0


@pytest.mark.parametrize("preimage", ["", "00", PREIMAGE.hex().upper(), PREIMAGE.hex() + "0", "g" * 64])
async def test_preimage_is_64_lower_case_hex_digits(sold: Sold, preimage: str) -> None:
    """As the draft says."""
    assert (await sold.problem(sold.credential(preimage)))["status"] == 400


@pytest.mark.parametrize("name", ["id", "realm", "method", "intent", "request", "expires"])
async def test_missing_or_mistyped_member_is_malformed(sold: Sold, name: str) -> None:
    """Of those that every challenge has."""
    assert (await sold.problem(sold.credential(without=(name,))))["status"] == 400
    echo: dict[str, Any] = {**sold.challenge, name: 1}
    assert (await sold.problem(encode({"challenge": echo, "payload": {"preimage": PREIMAGE.hex()}})))["status"] == 400


@pytest.mark.parametrize(
    "request_",
    ["", "!", "W10", encode({}), encode({"methodDetails": []}), encode({"methodDetails": {"paymentHash": "x"}})],
)
async def test_request_without_a_payment_hash_is_malformed(sold: Sold, request_: str) -> None:
    """It names the invoice."""
    assert (await sold.problem(sold.credential(request=request_)))["status"] == 400


@given(data=st.data())
async def test_no_edit_of_a_credential_is_taken(data: st.DataObject) -> None:
    """Characters replaced, removed or added: a problem, never a fault, never a tender."""
    sold = Sold()
    value = sold.credential()
    start = data.draw(st.integers(0, len(value) - 1))
    end = data.draw(st.integers(start, min(len(value), start + 6)))
    edited = value[:start] + data.draw(st.text(st.sampled_from("AZaz09-_="), max_size=6)) + value[end:]
    if edited.rstrip("=") == value:
        return
    try:
        same = decode(edited)["challenge"] == sold.challenge
    except (ValueError, KeyError):
        same = False
    if not same:
        await sold.problem(edited)


async def test_unknown_invoice_is_refused(sold: Sold) -> None:
    """However good its MAC."""
    sold.book.invoices.clear()
    assert (await sold.problem(sold.credential()))["status"] == 401


async def test_payment_is_shown_after_its_end_and_for_no_request(sold: Sold) -> None:
    """For a refund. Its refusals are plain: nobody of the scheme asks there."""
    proof = await sold.rail.shown(shows(Credential.MPP, sold.credential(without=("digest",))))
    assert (proof.rail, proof.key) == ("lightning", HASH)
    for value in (sold.credential("00" * 32), sold.credential(id="x"), "e30"):
        with pytest.raises(Refusal) as caught:
            await sold.rail.shown(shows(Credential.MPP, value))
        assert caught.value.body is None


async def test_receipt_comes_with_the_paid_answer_and_again(sold: Sold) -> None:
    """Challenge, payment hash and time; never the preimage."""
    tender = await sold.rail.check(shows(Credential.MPP, sold.credential()), sold.ask)
    assert tender.proof is not None
    ((name, value),) = await sold.rail.served(Lease("pay_1", 1, 1, tender.proof, settled=True))
    assert name == "Payment-Receipt"
    receipt = {
        "challengeId": sold.challenge["id"],
        "method": "lightning",
        "reference": HASH,
        "status": "success",
        "timestamp": "2023-11-14T22:13:25Z",
    }
    assert decode(value) == receipt
    again = spent_payment(detail=tender.proof.detail)
    assert await sold.rail.served_again(again) == (("Payment-Receipt", encode(receipt)),)
    ((_, bare),) = await sold.rail.served_again(spent_payment())
    assert "challengeId" not in decode(bare)


@pytest.mark.parametrize("why", list(Taken))
def test_taken_payment_is_told_in_a_problem_document(sold: Sold, why: Taken) -> None:
    """With the same status as by L402, and the payment's id."""
    refusal = sold.rail.taken(PaymentTaken(why, spent_payment()))
    problem = json.loads(refusal.envelope())
    assert refusal.wire_headers()["content-type"] == PROBLEM_TYPE
    assert problem["payment_id"] == "pay_" + "0" * 32
    assert refusal.status in (401, 409, 503)
    assert problem["status"] == refusal.status


@pytest.mark.parametrize(
    ("refusal", "type_", "title"),
    [
        (Refusal("payment_required", "Pay."), "https://paymentauth.org/problems/payment-required", "Payment Required"),
        (Refusal("rate_limited", "Wait.", retry_after_seconds=1), "about:blank", "Too Many Requests"),
        (Refusal("payment_unknown", "Wait.", retry_after_seconds=1), "about:blank", "Service Unavailable"),
    ],
)
def test_any_refusal_has_a_problem_document(refusal: Refusal, type_: str, title: str) -> None:
    """Under a type of the drafts where one fits."""
    problem = json.loads(problem_body(refusal))
    assert (problem["type"], problem["title"], problem["status"]) == (type_, title, refusal.status)
    assert problem["detail"] == refusal.message
