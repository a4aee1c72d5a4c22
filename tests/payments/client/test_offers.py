"""What a 402 offers is read once, bounded, and what contradicts itself is never paid."""

from __future__ import annotations

import base64
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.payments.client.offers import CashuOffer, LightningOffer, X402Offer, read_challenge
from tests.peers.paywall import Paywall


def read(wall: Paywall, change: Any = lambda headers: headers) -> Any:
    headers, body = wall.offer()
    named = [(name.lower(), value) for name, value in change(headers)]
    return read_challenge(named, json.dumps(body).encode())


def test_every_rails_offer_is_read_in_the_order_it_came() -> None:
    """With the amount that is really asked for."""
    found = read(Paywall())
    assert [(one.rail, str(one.amount)) for one in found.offers] == [
        ("l402", "21 sats"), ("mpp", "21 sats"), ("x402", "$0.000305"), ("cashu", "21 sats"),
    ]  # fmt: skip
    assert found.problems == ()


def test_several_challenges_in_one_line_are_as_good() -> None:
    """As some proxies on the way join them."""

    def joined(headers: list[tuple[str, str]]) -> list[tuple[str, str]]:
        lines = [value for name, value in headers if name == "WWW-Authenticate"]
        return [("WWW-Authenticate", ", ".join(lines))]

    assert [one.rail for one in read(Paywall(), joined).offers] == ["l402", "mpp"]


@pytest.mark.parametrize(
    "line",
    [
        'L402 macaroon="{m}", invoice="{i}"',
        'L402 version="0", token="{m}", invoice="{i}"',
        "LSAT macaroon={m}, invoice={i}",
    ],
    ids=["de_facto", "specification", "lsat_unquoted"],
)
def test_each_form_of_the_l402_line_is_read(line: str) -> None:
    """The three in the wild."""
    wall = Paywall()
    payment_hash, invoice = wall.invoice(21)
    text = line.format(m=wall.macaroon(payment_hash), i=invoice)
    (offer,) = read_challenge([("www-authenticate", text)], b"{}").offers
    assert isinstance(offer, LightningOffer)
    assert offer.credential("ab" * 32)[1].startswith("L402 AgEH")


def test_a_macaroon_of_another_invoice_is_no_offer() -> None:
    """Paying would buy nothing."""
    wall = Paywall()
    (one, _), (_, invoice) = wall.invoice(21), wall.invoice(21)
    found = read_challenge([("www-authenticate", f'L402 macaroon="{wall.macaroon(one)}", invoice="{invoice}"')], b"{}")
    assert (found.offers, "not for this invoice" in found.problems[0]) == ((), True)


def test_an_invoice_without_an_amount_is_no_offer() -> None:
    """It could take anything."""
    found = read(Paywall(rails=("l402",), invoice_msat=0))
    assert (found.offers, "no amount" in found.problems[0]) == ((), True)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("scheme", "upto"),
        ("network", "solana:mainnet"),
        ("asset", "USDC"),
        ("payTo", "0x12"),
        ("amount", "0"),
        ("amount", "-5"),
        ("amount", 305),
        ("amount", "1e9"),
        ("maxTimeoutSeconds", 0),
        ("maxTimeoutSeconds", "120"),
        ("extra", {}),
        ("extra", None),
    ],
)
def test_a_malformed_x402_entry_is_left_out(name: str, value: Any) -> None:
    """Nothing of it is guessed; the other offers stand."""
    wall = Paywall()
    envelope = wall.envelope()
    envelope["accepts"][0][name] = value
    text = base64.b64encode(json.dumps(envelope).encode()).decode()
    found = read_challenge([("payment-required", text), ("x-cashu", dict(wall.offer()[0])["X-Cashu"])], b"{}")
    assert [one.rail for one in found.offers] == ["cashu"]
    assert found.problems[0].startswith("x402: ")


def test_the_second_x402_entry_is_there_where_the_first_is_not_for_us() -> None:
    """Others schemes may come first."""
    wall = Paywall()
    envelope = wall.envelope()
    envelope["accepts"].insert(0, {"scheme": "upto"})
    text = base64.b64encode(json.dumps(envelope).encode()).decode()
    (offer,) = read_challenge([("payment-required", text)], b"{}").offers
    assert isinstance(offer, X402Offer)
    assert (offer.atomic, offer.accepted) == (305, wall.envelope()["accepts"][0])


def test_cashu_in_the_body_alone_is_read() -> None:
    """As the proxies before NUT-24 tell it."""
    body = {"cashu": {"price_sats": 42, "unit": "sat"}}
    assert read_challenge([], json.dumps(body).encode()).offers == (CashuOffer(42, ()),)
    for wrong in ({"price_sats": 42, "unit": "usd"}, {"price_sats": "42", "unit": "sat"}, {"price_sats": True}):
        found = read_challenge([], json.dumps({"cashu": wrong}).encode())
        assert (found.offers, len(found.problems)) == ((), 1)


def test_other_authentication_is_no_offer_and_no_problem() -> None:
    """A Basic challenge, or MPP over another method."""
    lines = [
        ("www-authenticate", 'Basic realm="x"'),
        ("www-authenticate", 'Payment id="a", method="tempo", intent="charge"'),
    ]
    found = read_challenge(lines, b"{}")
    assert (found.offers, found.problems) == ((), ())


@given(
    st.sampled_from(["www-authenticate", "payment-required", "x-cashu"]),
    st.sampled_from(["", "L402 ", "Payment ", "creqA", "cashuB", 'L402 macaroon="', "eyJhY2NlcHRzIjpb"]),
    st.text(st.characters(min_codepoint=32, max_codepoint=255), max_size=200),
    st.binary(max_size=200),
)
def test_noise_is_never_an_exception_and_never_an_offer(name: str, prefix: str, text: str, body: bytes) -> None:
    """Whatever a server sends."""
    assert read_challenge([(name, prefix + text)], body).offers == ()


def test_no_offer_says_its_macaroon() -> None:
    """In a traceback, it would be half of a credential."""
    wall = Paywall(rails=("l402",))
    assert next(iter(wall.macaroons), "none") not in repr(read(wall).offers)
