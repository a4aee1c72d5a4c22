"""BOLT-11 invoices as they are read."""

from __future__ import annotations

import random

import bolt11
import pytest
from bech32 import bech32_decode, bech32_encode
from hypothesis import given, settings
from hypothesis import strategies as st

from proxy.payments.lightning.reading import NotAnInvoice, preimage_of, read_invoice
from tests.peers.lightning.node import make_bolt11

SPEC_COFFEE = (  # BOLT 11, examples: 2500u, "1 cup coffee", expires in 60 s
    "lnbc2500u1pvjluezsp5zyg3zyg3zyg3zyg3zyg3zyg3zyg3zyg3zyg3zyg3zyg3zyg3zygspp5qqqsyqcyq5rqwzqfqqqsyqcyq5rqwzqfqqqsyqcyq"
    "5rqwzqfqypqdq5xysxxatsyp3k7enxv4jsxqzpu9qrsgquk0rl77nj30yxdy8j9vdx85fkpmdla2087ne0xh8nhedh8w27kyke0lp53ut353s06fv3q"
    "fegext0eh0ymjpf39tuven09sam30g4vgpfna3rh"
)


def test_the_specifications_own_example() -> None:
    """Amount, hash, secret and end."""
    read = read_invoice(SPEC_COFFEE)
    assert read.msat == 250_000_000
    assert read.payment_hash == "0001020304050607080900010203040506070809000102030405060708090102"
    assert read.payment_secret == "11" * 32
    assert read.expires_ms == (1_496_314_658 + 60) * 1000
    assert read_invoice(SPEC_COFFEE.upper()) == read


@pytest.mark.parametrize(
    "prefix", ["lnbc1p", "lnbc01n", "lnbcx", "lntbx1u", "ln", "bc", "lnbc1q", "lnbc-1n", "lnbc1.5m"]
)
def test_amounts_and_networks_that_there_are_not_are_refused(prefix: str) -> None:
    """Parts of a msat, leading zeros, other multipliers, other chains."""
    with pytest.raises(NotAnInvoice):
        read_invoice(bech32_encode(prefix, bech32_decode(SPEC_COFFEE)[1]))


@pytest.mark.parametrize(
    ("prefix", "msat"), [("lnbc", 0), ("lntb20m", 2 * 10**9), ("lnbcrt10p", 1), ("lntbs9n", 900), ("lnbc2", 2 * 10**11)]
)
def test_amounts_of_every_multiplier(prefix: str, msat: int) -> None:
    """In msat."""
    assert read_invoice(bech32_encode(prefix, bech32_decode(SPEC_COFFEE)[1])).msat == msat


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 10**12), st.integers(1, 86_400), st.integers(1_600_000_000, 2_000_000_000))
def test_what_is_written_is_read(msat: int, seconds: int, created: int) -> None:
    """Every amount to the msat."""
    text = make_bolt11(payment_hash="ab" * 32, msat=msat, memo="m", seconds=seconds, created=created)
    read = read_invoice(text)
    assert (read.msat, read.payment_hash, read.expires_ms) == (msat, "ab" * 32, (created + seconds) * 1000)


@settings(max_examples=150, deadline=None)
@given(st.integers(0, 1 << 32))
def test_damaged_invoices_with_a_right_checksum_are_read_or_refused(seed: int) -> None:
    """Nothing but NotAnInvoice comes of them; what is read, the bolt11 package reads the same."""
    chance = random.Random(seed)
    prefix, data = bech32_decode(SPEC_COFFEE)
    for _ in range(chance.randint(1, 4)):
        place = chance.randrange(len(data))
        match chance.randrange(4):
            case 0:
                data = data[: place + 1]
            case 1:
                data[place:place] = [chance.randrange(32) for _ in range(chance.randint(1, 9))]
            case 2:
                prefix = "ln" + "".join(chance.choice("bcrt0123456789pnumx") for _ in range(chance.randint(1, 12)))
            case _:
                data[place] = chance.randrange(32)
    text = bech32_encode(prefix, data)
    try:
        read = read_invoice(text)
    except NotAnInvoice:
        return
    try:
        peer = bolt11.decode(text, ignore_exceptions=True)
    except ValueError:  # Of parts that are not read here: signature, description, fallback.
        return
    assert (read.payment_hash, read.msat) == (peer.payment_hash, peer.amount_msat or 0)
    assert read.expires_ms == peer.expiry_time * 1000


@pytest.mark.parametrize(
    "text",
    [
        "",
        "lnbc1",
        SPEC_COFFEE[:-1],
        SPEC_COFFEE + "q",
        SPEC_COFFEE[0].upper() + SPEC_COFFEE[1:],
        "lnbc" + "q" * 5000,
        "é",
        "\0",
    ],
)
def test_what_is_none_is_refused(text: str) -> None:
    """A wrong checksum, a wrong length, mixed case, or much too long."""
    with pytest.raises(NotAnInvoice):
        read_invoice(text)


@pytest.mark.parametrize("preimage", ["", "ab", "zz" * 32, "AB" * 32, "ab" * 33, "é" * 64])
def test_a_preimage_is_64_lower_case_hex_digits(preimage: str) -> None:
    """Whatever else comes is none."""
    assert not preimage_of(preimage, "ab" * 32)
