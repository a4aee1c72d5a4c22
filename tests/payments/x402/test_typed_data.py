"""What is signed, and by whom, agrees with eth-account and with the x402 SDK."""

from __future__ import annotations

from eth_account import Account
from eth_account.messages import encode_defunct
from eth_utils import to_checksum_address
from hypothesis import given
from hypothesis import strategies as st
from x402.mechanisms.evm.eip712 import hash_eip3009_authorization
from x402.mechanisms.evm.types import ExactEIP3009Authorization

from proxy.payments.settings import Asset
from proxy.payments.x402.typed_data import checksummed, has_high_s, signer_of, text_digest, transfer_digest, with_v
from tests.support.x402 import PAY_TO, PAYER, USDC, Payload, high_s

UINT = st.integers(0, (1 << 256) - 1)
ADDRESS = st.binary(min_size=20, max_size=20).map(lambda raw: "0x" + raw.hex())


@given(
    ADDRESS, ADDRESS, UINT, UINT, UINT, st.binary(min_size=32, max_size=32), st.integers(1, 1 << 60), ADDRESS, st.text()
)
def test_digest_is_the_sdks(payer, to, value, after, before, nonce, chain, token, name):
    """Any transfer of any token hashes as the SDK hashes it."""
    asset = Asset(f"eip155:{chain}", token, name=name, version="2")
    theirs = hash_eip3009_authorization(
        ExactEIP3009Authorization(payer, to, str(value), str(after), str(before), "0x" + nonce.hex()),
        chain,
        token,
        name,
        "2",
    )
    ours = transfer_digest(asset, payer=payer, to=to, value=value, valid_after=after, valid_before=before, nonce=nonce)
    assert ours == theirs


def test_signer_is_recovered_from_both_spellings_of_v():
    """27 and 28 are 0 and 1."""
    digest = text_digest("x")
    signature = bytes(PAYER.sign_message(encode_defunct(text="x")).signature)
    assert signer_of(digest, signature) == PAYER.address
    assert signer_of(digest, signature[:64] + bytes((signature[64] - 27,))) == PAYER.address
    assert with_v(signature[:64] + bytes((signature[64] - 27,))) == signature


def test_high_s_is_told():
    """Both spellings recover; only one is low."""
    payload = Payload()
    signature = payload.signed()
    assert not has_high_s(signature)
    assert has_high_s(high_s(signature))


@given(st.binary(min_size=65, max_size=65))
def test_no_signature_raises(signature):
    """Whatever 65 bytes there are, they have a signer or none."""
    assert signer_of(text_digest("x"), signature) != PAYER.address


@given(ADDRESS)
def test_checksum_is_eip_55(address):
    """In whatever case it came."""
    assert checksummed(address) == to_checksum_address(address) == checksummed("0x" + address[2:].upper())


def test_domain_of_base_usdc_is_the_tokens_own():
    """The separator that the deployed contract answers to DOMAIN_SEPARATOR()."""
    from proxy.payments.x402.typed_data import _domain

    assert _domain(USDC).hex() == "02fa7265e7c5d81118673727957699e4d68f74cd74b7db77da710fe8a2c7834f"


def test_accounts_address_is_checksummed():
    """The helpers here speak of the same payer."""
    assert Account.from_key(PAYER.key).address == checksummed(PAYER.address.lower()) != PAY_TO
