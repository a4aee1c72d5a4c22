"""Which payment came with a request."""

from __future__ import annotations

import base64
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.errors import Refusal
from proxy.headers import Headers
from proxy.payments.api import Credential, Presented
from proxy.payments.credentials import CREDENTIAL_CHARS_MAX, all_presented, presented

OURS = "lld_" + "0" * 32
BALANCE = "bal_" + "a" * 43


def seen(*pairs: tuple[str, str]) -> Presented | None:
    return presented(Headers(pairs), key_prefix="lld_")


def refused(*pairs: tuple[str, str]) -> Refusal:
    with pytest.raises(Refusal) as caught:
        seen(*pairs)
    return caught.value


def b64(content: object) -> str:
    return base64.b64encode(json.dumps(content).encode()).decode()


TRANSFER = b64({"txHash": "0x1", "from": "0x2"})
V1 = b64({"x402Version": 1, "scheme": "exact", "payload": {}})


@pytest.mark.parametrize(
    ("name", "value", "credential", "kept"),
    [
        ("Authorization", "L402 bWFj:00", Credential.L402, "bWFj:00"),
        ("Authorization", "LSAT bWFj:00", Credential.L402, "bWFj:00"),
        ("authorization", "l402   bWFj:00 ", Credential.L402, "bWFj:00"),
        ("Authorization", "L402", Credential.L402, ""),
        ("Authorization", "Payment eyJ9", Credential.MPP, "eyJ9"),
        ("Authorization", "PAYMENT eyJ9", Credential.MPP, "eyJ9"),
        ("Authorization", f"Bearer {BALANCE}", Credential.BALANCE, BALANCE),
        ("Authorization", f"bearer {BALANCE}", Credential.BALANCE, BALANCE),
        ("X-API-Key", BALANCE, Credential.BALANCE, BALANCE),
        ("X-API-Key", f"Bearer {BALANCE}", Credential.BALANCE, BALANCE),
        ("Payment-Signature", "eyJ9", Credential.X402, "eyJ9"),
        ("PAYMENT-SIGNATURE", "eyJ9", Credential.X402, "eyJ9"),
        ("X-Cashu", "cashuBabc", Credential.CASHU, "cashuBabc"),
        ("X-PAYMENT", V1, Credential.X402_V1, V1),
        ("X-Payment", TRANSFER, Credential.TRANSFER, TRANSFER),
        ("X-Payment", TRANSFER.rstrip("="), Credential.TRANSFER, TRANSFER.rstrip("=")),
        ("X-Payment", b64({"x402Version": 1, "txHash": "0x1"}), Credential.X402_V1, None),
        ("X-Payment", "not base64!", Credential.X402_V1, None),
        ("X-Payment", "é", Credential.X402_V1, None),
        ("X-Payment", b64([1]), Credential.X402_V1, None),
        ("X-Payment", base64.b64encode(b"[" * 9000).decode(), Credential.X402_V1, None),
    ],
)
def test_each_payment_header_is_recognised(name: str, value: str, credential: Credential, kept: str | None) -> None:
    """By name and scheme, whatever their case; `X-PAYMENT` by its shape. The value stands without its scheme."""
    payment = seen((name, value))
    assert payment is not None
    assert payment.credential is credential
    assert payment.value == (value if kept is None else kept)
    assert len(payment.digest) == 64
    assert payment.value == "" or payment.value not in repr(payment)


@pytest.mark.parametrize(
    "pairs",
    [
        (),
        (("Authorization", "Bearer sk-anything"),),
        (("Authorization", f"Bearer {OURS}"),),
        (("Authorization", "Basic YTpi"),),
        (("Authorization", ""),),
        (("Authorization", BALANCE),),
        (("X-API-Key", "sk-anything"),),
        (("X-Cashu", " "), ("X-PAYMENT", ""), ("Payment-Signature", "")),
    ],
)
def test_what_is_no_payment_is_none(pairs: tuple[tuple[str, str], ...]) -> None:
    """Keys, ours or not, and empty headers."""
    assert seen(*pairs) is None


@pytest.mark.parametrize("name", ["X-Cashu", "Payment-Signature", "X-PAYMENT"])
def test_foreign_bearer_may_stand_beside_a_payment(name: str) -> None:
    """An SDK insists on sending some key."""
    payment = seen(("Authorization", "Bearer sk-dummy"), ("X-API-Key", "sk-dummy"), (name, "abc"))
    assert payment is not None
    assert payment.value == "abc"


def test_same_credential_twice_is_one() -> None:
    """Aperture's client sends its token under both names of the scheme."""
    one = seen(("Authorization", "L402 m:p"))
    assert seen(("Authorization", "LSAT m:p"), ("Authorization", "L402 m:p")) == one
    assert seen(("X-Cashu", "t"), ("X-Cashu", "t")) == seen(("X-Cashu", "t"))
    bearer = ("Authorization", f"Bearer {BALANCE}")
    assert seen(bearer, ("X-API-Key", BALANCE)) == seen(bearer)


@pytest.mark.parametrize(
    "pairs",
    [
        (("Authorization", "LSAT m:p"), ("Authorization", "L402 m:q")),
        (("Authorization", "L402 m:p"), ("Authorization", "Payment m:p")),
        (("Authorization", "L402 m:p"), ("X-Cashu", "t")),
        (("X-Cashu", "t"), ("X-Cashu", "u")),
        (("Payment-Signature", "t"), ("X-PAYMENT", "t")),
        (("X-PAYMENT", V1), ("X-PAYMENT", TRANSFER)),
        (("Authorization", f"Bearer {BALANCE}"), ("X-Cashu", "t")),
        (("Authorization", f"Bearer {OURS}"), ("X-Cashu", "t")),
        (("Authorization", f"bearer {OURS}"), ("Payment-Signature", "t")),
        (("X-API-Key", OURS), ("Authorization", "L402 m:p")),
        (("api-key", OURS), ("X-Cashu", "t")),
        (("X-API-Key", BALANCE), ("Authorization", "L402 m:p")),
        (("X-API-Key", BALANCE), ("Authorization", f"Bearer {OURS}")),
    ],
)
def test_two_ways_to_pay_are_ambiguous(pairs: tuple[tuple[str, str], ...]) -> None:
    """Whatever their order; nobody guesses which one is meant."""
    for order in (pairs, pairs[::-1]):
        refusal = refused(*order)
        assert (refusal.code, refusal.status) == ("ambiguous_payment", 400)
        assert OURS not in refusal.message and BALANCE not in refusal.message


def test_balance_and_another_payment_can_be_told_apart() -> None:
    """For the endpoint that tops one up with the other."""
    both = all_presented(Headers([("Authorization", f"Bearer {BALANCE}"), ("X-Cashu", "t")]))
    assert {payment.credential for payment in both} == {Credential.BALANCE, Credential.CASHU}


@pytest.mark.parametrize("name", ["X-Cashu", "Payment-Signature", "X-PAYMENT"])
def test_oversized_credential_is_refused(name: str) -> None:
    """Before anything looks into it."""
    assert refused((name, "a" * (CREDENTIAL_CHARS_MAX + 1))).code == "headers_too_large"
    assert seen((name, "a" * CREDENTIAL_CHARS_MAX)) is not None


HEADER_NAMES = st.sampled_from(["authorization", "x-payment", "x-cashu", "payment-signature", "x-api-key"])


@given(st.lists(st.tuples(HEADER_NAMES, st.text(st.characters(codec="utf-8"), max_size=60)), max_size=4))
def test_no_header_value_is_a_fault(pairs: list[tuple[str, str]]) -> None:
    """A payment, none, or a refusal."""
    try:
        payment = seen(*pairs)
    except Refusal as refusal:
        assert refusal.code == "ambiguous_payment"
    else:
        assert payment is None or isinstance(payment, Presented)
