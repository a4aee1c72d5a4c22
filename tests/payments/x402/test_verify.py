"""A payment is accepted only where its payer signed it, to us, in our token, for enough, in time."""

from __future__ import annotations

from dataclasses import replace

import pytest
from eth_abi.abi import encode
from hypothesis import given
from hypothesis import strategies as st

from proxy.errors import Refusal
from proxy.payments.settings import Asset
from proxy.payments.x402.payload import Authorization, read
from proxy.payments.x402.verify import Verifier, binding, claim_text, claims
from tests.support.x402 import NOW, NOW_MS, PAY_TO, PAYER, SEPOLIA, STRANGER, USDC, Payload, high_s, settings

RPC = {"eip155:8453": "https://rpc.example"}
OTHER = "0x" + "ab" * 20


def judged(payload: Payload, **changes) -> Authorization:
    return Verifier(settings(**changes)).authorization(read(payload.header(), version=payload.version))


def reason(payload: Payload, **changes) -> str:
    with pytest.raises(Refusal) as caught:
        judged(payload, **changes)
    assert (caught.value.code, caught.value.status) == ("x402_settlement_failed", 402)
    return caught.value.details["reason"]


def test_signed_payment_is_accepted():
    """Its terms come out as they were signed, the payer by the signature."""
    found = judged(Payload())
    assert (found.payer, found.pay_to.lower(), found.value, found.asset) == (PAYER.address, PAY_TO.lower(), 3150, USDC)
    assert not found.contract
    assert found.key == f"eip155:8453:{USDC.address.lower()}:{PAYER.address.lower()}:{found.nonce.hex()}"


def test_case_of_addresses_does_not_matter():
    """An address is an address, and makes one key."""
    low = Payload(
        accepted={"asset": USDC.address.lower(), "payTo": PAY_TO.upper().replace("X", "x")},
        authorization={"from": PAYER.address.lower(), "to": PAY_TO.lower()},
    )
    assert judged(low).key == judged(Payload()).key


def test_v_is_given_on_as_tokens_want_it():
    """0 and 1 become 27 and 28."""
    signature = Payload().signed()
    small = signature[:64] + bytes((signature[64] - 27,))
    assert judged(Payload(signature=small)).signature == signature


@pytest.mark.parametrize(
    ("payload", "expected"),
    [
        (Payload(accepted={"scheme": "upto"}), "unsupported_scheme"),
        (Payload(version=1, extra={"scheme": "upto"}), "unsupported_scheme"),
        (Payload(asset=SEPOLIA), "network_mismatch"),
        (Payload(accepted={"network": "base"}), "network_mismatch"),
        (Payload(accepted={"asset": OTHER}), "network_mismatch"),
        (Payload(version=1, asset=SEPOLIA), "network_mismatch"),
        (Payload(version=1, extra={"network": "eip155:8453"}), "network_mismatch"),
        (Payload(to=OTHER), "invalid_exact_evm_payload_recipient_mismatch"),
        (Payload(accepted={"payTo": OTHER}), "invalid_exact_evm_payload_recipient_mismatch"),
        (Payload(accepted={"extra": {}}), "missing_eip712_domain"),
        (Payload(accepted={"extra": {"name": "USDC", "version": "2"}}), "invalid_exact_evm_token_name_mismatch"),
        (Payload(accepted={"extra": {"name": "USD Coin", "version": "1"}}), "invalid_exact_evm_token_version_mismatch"),
    ],
)
def test_what_is_not_our_offer_is_refused(payload, expected):
    """Scheme, network, token, payee and domain must be those of the offer, whatever was signed."""
    assert reason(payload) == expected


@pytest.mark.parametrize(
    "payload",
    [
        Payload(signer=STRANGER),
        Payload(authorization={"from": STRANGER.address}),
        Payload(authorization={"value": "3151"}),
        Payload(authorization={"validBefore": str(NOW + 121)}),
        Payload(authorization={"validAfter": "1"}),
        Payload(authorization={"nonce": "0x" + "ff" * 32}),
        Payload(signature=Payload(asset=replace(USDC, name="USDC")).signed()),
        Payload(signature=Payload(asset=replace(USDC, version="1")).signed()),
        Payload(signature=Payload(asset=replace(USDC, network="eip155:1")).signed()),
        Payload(signature=Payload(asset=Asset(USDC.network, OTHER)).signed()),
        Payload(signature=bytes(65)),
        Payload(signature=b"\xff" * 65),
        Payload(signature=b"\x01"),
        Payload(signature=Payload().signed()[:64]),
        Payload(signature=Payload().signed() + b"\0"),
        Payload(version=1, signer=STRANGER),
    ],
)
def test_signature_must_be_the_payers_over_these_terms(payload):
    """A tampered field, another domain, another key: no payment, where no chain can be asked about wallets."""
    assert reason(payload) == "invalid_exact_evm_payload_signature"


@pytest.mark.parametrize("rpc", [{}, RPC])
def test_high_s_is_refused(rpc):
    """The second spelling of a signature is none, contract wallets or not."""
    assert reason(Payload(signature=high_s(Payload().signed())), rpc=rpc) == "invalid_exact_evm_payload_signature"


@pytest.mark.parametrize("signature", [b"\x01", bytes(500), Payload(signer=STRANGER).signed()])
def test_other_signatures_may_be_a_contract_wallets_where_it_can_be_asked(signature):
    """They are marked, and nothing is settled for them before the wallet was asked."""
    assert judged(Payload(signature=signature), rpc=RPC).contract
    assert reason(Payload(signature=signature), rpc={"eip155:1": "https://rpc.example"})


def test_junk_with_a_victims_nonce_never_has_the_victims_key():
    """What is not signed by the payer itself is a payment of its own."""
    victim = judged(Payload(), rpc=RPC)
    junk = [judged(Payload(signature=bytes([i]) * 70), rpc=RPC) for i in range(3)]
    keys = {victim.key, *(one.key for one in junk)}
    assert len(keys) == 4
    assert all(one.key.startswith(victim.key) for one in junk)


def wrapped(inner: bytes, call: bytes = b"\x01") -> bytes:
    """An ERC-6492 signature."""
    body = encode(("address", "bytes", "bytes"), ("0x" + "fa" * 20, call, inner))
    return body + bytes.fromhex("6492" * 16)


def test_wrapping_makes_no_second_payment():
    """What the token is given is the same, whatever deploys the wallet and however v is spelt: one key."""
    inner = Payload(signer=STRANGER).signed()
    small = inner[:64] + bytes((inner[64] - 27,))
    ways = [inner, small, wrapped(inner), wrapped(inner, b"\x02"), wrapped(small)]
    found = [judged(Payload(signature=way), rpc=RPC) for way in ways]
    assert len({one.key for one in found}) == 1
    assert [one.signature for one in found] == ways
    assert judged(Payload(signature=wrapped(b"\x01" * 90)), rpc=RPC).key != found[0].key


def test_own_keys_signature_is_not_taken_wrapped():
    """It would be a second payment under the nonce of the first."""
    assert reason(Payload(signature=wrapped(Payload().signed())), rpc=RPC) == "invalid_exact_evm_payload_signature"
    assert reason(Payload(signature=wrapped(high_s(Payload().signed()))), rpc=RPC)


@given(st.binary(max_size=300))
def test_any_wrapping_is_read_or_refused(body):
    """No bytes before the mark of ERC-6492 make anything but a candidate or a refusal."""
    try:
        assert judged(Payload(signature=body + bytes.fromhex("6492" * 16)), rpc=RPC).contract
    except Refusal as refusal:
        assert refusal.details["reason"] == "invalid_exact_evm_payload_signature"


def test_version_1_finds_the_token_by_the_signature():
    """It does not name one: of two tokens on a network, the one that was signed for is meant."""
    second = replace(USDC, address="0x" + "cd" * 20, name="Other Dollar")
    found = judged(Payload(version=1, asset=second), assets=(USDC, second))
    assert found.asset.name == "Other Dollar"


@pytest.mark.parametrize(
    ("before", "after", "expected"),
    [
        (NOW + 6, 0, None),
        (NOW + 5, 0, "invalid_exact_evm_payload_authorization_valid_before"),
        (0, 0, "invalid_exact_evm_payload_authorization_valid_before"),
        (NOW + 86_401, 0, "invalid_exact_evm_payload_authorization_valid_before"),
        (NOW + 60, NOW, None),
        (NOW + 60, NOW + 1, "invalid_exact_evm_payload_authorization_valid_after"),
    ],
)
def test_window_is_the_sdks(before, after, expected):
    """Good for six more seconds, and good already."""
    verifier = Verifier(settings())
    found = judged(Payload(valid_before=before, valid_after=after))
    if expected is None:
        verifier.check_time(found, NOW_MS)
    else:
        with pytest.raises(Refusal) as caught:
            verifier.check_time(found, NOW_MS)
        assert caught.value.details["reason"] == expected


@pytest.mark.parametrize(("value", "enough"), [(3150, True), (3145, True), (3144, False), (10_000, True), (0, False)])
def test_amount_may_miss_the_price_by_five_units(value, enough):
    """Five less is accepted, six are not."""
    verifier = Verifier(settings())
    if enough:
        verifier.check_amount(judged(Payload(value=value)), 3150)
    else:
        with pytest.raises(Refusal) as caught:
            verifier.check_amount(judged(Payload(value=value)), 3150)
        assert (caught.value.code, caught.value.status) == ("x402_underpayment", 402)
        assert caught.value.details["required"] == "3150"


def test_nothing_is_never_enough():
    """Not even where the price is within the tolerance."""
    verifier = Verifier(settings(usdc_min=0))
    assert verifier.required(0) == 1
    with pytest.raises(Refusal):
        verifier.check_amount(judged(Payload(value=0)), 3)


def test_floor_is_the_rails_own():
    """A cheaper request costs a tenth of a cent."""
    assert Verifier(settings()).required(7) == 1000


def test_binding_is_of_the_request_and_of_every_signed_term():
    """A nonce signed again for another amount is another payment's."""
    one, again = judged(Payload()), judged(Payload(value=1))
    assert one.key == again.key
    assert len({binding(one, "a"), binding(one, "b"), binding(again, "a")}) == 3
    assert binding(one, "a") == binding(judged(Payload()), "a")


def test_claim_is_the_payers_word_about_this_payment():
    """Neither the payment's own signature nor another's key will do."""
    from eth_account.messages import encode_defunct

    found = judged(Payload())
    message = encode_defunct(text=claim_text(found))
    assert claims(found, bytes(PAYER.sign_message(message).signature))
    assert not claims(found, bytes(STRANGER.sign_message(message).signature))
    assert not claims(found, found.signature)
    assert not claims(found, b"\x01")
