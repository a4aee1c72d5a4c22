"""A signed payment is exactly what was offered, for as short a time as is wanted."""

from __future__ import annotations

import base64
import json
from dataclasses import replace

import pytest
from eth_account import Account
from eth_account.messages import encode_defunct

from proxy.payments.client.errors import WalletFailure
from proxy.payments.client.evm import AUTHORIZATION_SECONDS_MAX, address_of, claimed, sign
from proxy.payments.client.offers import X402Offer, read_challenge
from tests.peers.paywall import Paywall

KEY = "42" * 32
NOW = 1_782_900_000


def offer() -> X402Offer:
    headers, _ = Paywall(rails=("x402",)).offer()
    (found,) = read_challenge([(name.lower(), value) for name, value in headers], b"{}").offers
    assert isinstance(found, X402Offer)
    return found


def test_what_is_signed_is_what_was_offered() -> None:
    """Amount and payee; the entry and its resource are echoed; the window is the offer's."""
    shown = json.loads(base64.b64decode(sign(offer(), KEY, NOW)))
    said = shown["payload"]["authorization"]
    assert (said["to"], said["value"]) == (offer().pay_to, "305")
    assert (int(said["validAfter"]) < NOW, int(said["validBefore"])) == (True, NOW + 120)
    assert (shown["x402Version"], shown["accepted"], shown["resource"]) == (2, offer().accepted, offer().resource)


def test_a_claim_is_the_payers_word_for_this_very_payment() -> None:
    """Beside the payment as it was sent; the key is not in it."""
    paid = sign(offer(), KEY, NOW)
    shown = json.loads(base64.b64decode(claimed(paid, KEY)))
    claim = shown.pop("claim")
    assert shown == json.loads(base64.b64decode(paid))
    said = shown["payload"]["authorization"]
    name = f"eip155:8453:{offer().asset.lower()}:{said['from'].lower()}:{said['nonce'][2:]}"
    text = encode_defunct(text=f"I claim the x402 payment {name}")
    assert Account.recover_message(text, signature=claim) == address_of(KEY)


def test_no_nonce_is_used_twice() -> None:
    """Two payments of one amount are two payments."""
    nonces = {
        json.loads(base64.b64decode(sign(offer(), KEY, NOW)))["payload"]["authorization"]["nonce"] for _ in range(3)
    }
    assert len(nonces) == 3


def test_nobody_gets_an_authorization_for_ever() -> None:
    """However long the offer wants it."""
    shown = json.loads(base64.b64decode(sign(replace(offer(), seconds=10**9), KEY, NOW)))
    assert int(shown["payload"]["authorization"]["validBefore"]) == NOW + AUTHORIZATION_SECONDS_MAX


@pytest.mark.parametrize("key", ["", "0x12", "00" * 32, "ff" * 32, "zz" * 32])
def test_what_is_no_key_is_told_without_repeating_it(key: str) -> None:
    """Out of range, too."""
    with pytest.raises(WalletFailure) as refused:
        address_of(key)
    assert not key or key not in str(refused.value)


def test_a_key_may_be_written_with_or_without_0x() -> None:
    """Both in use."""
    assert address_of(KEY) == address_of("0x" + KEY) == Account.from_key(KEY).address
