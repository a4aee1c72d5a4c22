"""Payers that are contracts, on a real chain: their code decides, and what is not deployed needs an allowed factory."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Any

import pytest
from eth_abi import encode
from eth_account.messages import encode_defunct
from eth_account.signers.local import LocalAccount
from hypothesis import given
from hypothesis import strategies as st

from proxy.errors import Refusal
from proxy.payments.api import Declined, Doubtful, Settled
from proxy.payments.settings import X402
from proxy.payments.x402.payload import Authorization, read
from proxy.payments.x402.responses import INVALID_SIGNATURE, NONCE_USED
from proxy.payments.x402.verify import Verifier, claim_digest, claim_text
from proxy.payments.x402.wallets import WRAPPED, unwrapped
from tests.peers.chain import calldata, facilitator, wrapped
from tests.peers.chain.faults import Fault
from tests.support.onchain import PRICE, Till, requirements, settler, till
from tests.support.x402 import Payload

LONG = bytes(3)
"""What the wallet ignores before its owner's signature: it makes it one of another length than a key's."""


@pytest.fixture(scope="module")
def at() -> Iterator[Till]:
    """One chain for all: every test makes a wallet of its own."""
    with till() as own:
        yield own


class Owner:
    """A wallet of a fresh owner, holding a dollar."""

    def __init__(self, at: Till, *, deployed: bool) -> None:
        from eth_account import Account

        self.at = at
        self.key: LocalAccount = Account.from_key(os.urandom(32))
        self.factory = at.chain.factory()
        self.address = at.chain.wallet_address(self.factory, self.key.address)
        self.create = calldata("create(address)", self.key.address)
        if deployed:
            at.chain.send(at.chain.other, self.factory, self.create)
        at.chain.mint(self.address, 1_000_000)

    def payload(self, **changes: Any) -> Payload:
        return self.at.payload(payer=self.address, signer=self.key, **changes)

    def authorization(self, *, prefix: bytes = LONG, wrap: bool = False, **changes: Any) -> Authorization:
        payload = self.payload(**changes)
        signature = prefix + payload.signed()
        payload.signature = wrapped(self.factory, self.create, signature) if wrap else signature
        return found(self.at, payload)


def found(at: Till, payload: Payload) -> Authorization:
    """As the rail finds it."""
    return Verifier(at.settings()).authorization(read(payload.header(), version=2))


def allowing(at: Till, *owners: Owner, **changes: Any) -> X402:
    return at.settings(factories=frozenset(owner.factory.lower() for owner in owners), **changes)


@pytest.mark.parametrize("prefix", [LONG, b""], ids=["bytes", "v,r,s"])
async def test_deployed_wallet_pays(at: Till, prefix: bytes) -> None:
    """By either form of the token's function: what the wallet's owner signed is valid."""
    owner, before = Owner(at, deployed=True), at.received
    authorization = owner.authorization(prefix=prefix)
    assert authorization.contract
    async with settler(at.settings()) as own:
        assert await own.verify_contract_wallet(authorization) is True
        outcome = await own.settle(authorization, {})
    assert isinstance(outcome, Settled)
    assert at.received - before == PRICE


async def test_wallet_of_another_owner_is_declined_for_good(at: Till) -> None:
    """There is code, so no key's signature stands in for it."""
    owner, stranger = Owner(at, deployed=True), Owner(at, deployed=True)
    payload = owner.payload()
    payload.signer = stranger.key
    authorization = found(at, payload)
    async with settler(at.settings()) as own:
        assert await own.verify_contract_wallet(authorization) is False
        outcome = await own.settle(authorization, {})
    assert isinstance(outcome, Declined)
    assert (outcome.reason, outcome.final) == (INVALID_SIGNATURE, True)


async def test_code_overrules_the_payers_own_key(at: Till) -> None:
    """An account with a key and code (EIP-7702): the token asks its code, and so do we."""
    owner, payer = Owner(at, deployed=True), at.chain.other
    authorization = at.authorization(payer=payer.address, signer=payer)
    assert not authorization.contract
    at.chain.mint(payer.address, PRICE)
    code = at.chain.call("eth_getCode", owner.address, "latest")
    at.chain.call("anvil_setCode", payer.address, code)
    try:
        async with settler(at.settings()) as own:
            outcome = await own.settle(authorization, {})
    finally:
        at.chain.call("anvil_setCode", payer.address, "0x")
    assert isinstance(outcome, Declined)
    assert outcome.reason == INVALID_SIGNATURE


async def test_second_signature_of_one_nonce_is_another_payment(at: Till) -> None:
    """The wallet takes both; the token took one. Only that one was paid."""
    owner = Owner(at, deployed=True)
    nonce, until = os.urandom(32), at.chain.now() + 120
    first = owner.authorization(nonce=nonce, valid_before=until)
    second = owner.authorization(nonce=nonce, valid_before=until, prefix=bytes(5))
    assert first.key != second.key
    async with settler(at.settings()) as own:
        assert isinstance(await own.settle(first, {}), Settled)
        assert isinstance(await own.reconcile(first), Settled)
        found = await own.reconcile(second)
    assert isinstance(found, Declined)
    assert (found.reason, found.final) == (NONCE_USED, True)


async def test_wallet_claims_its_payment_by_its_owners_signature(at: Till) -> None:
    """Of the text that asks for the money, as EIP-1271 has it; nobody else's will do."""
    owner, stranger = Owner(at, deployed=True), Owner(at, deployed=True)
    authorization = owner.authorization()
    text = encode_defunct(text=claim_text(authorization))
    async with settler(at.settings()) as own:
        for who, agreed in ((owner, True), (stranger, False)):
            claim = bytes(who.key.sign_message(text).signature)
            assert await own.wallet_says(authorization, claim_digest(authorization), claim) is agreed
    async with settler(at.settings(rpc={})) as blind:
        assert await blind.wallet_says(authorization, claim_digest(authorization), claim) is None


async def test_undeployed_wallet_is_refused_without_its_factory(at: Till) -> None:
    """We are to call the factory: nobody but the operator says which."""
    owner, other = Owner(at, deployed=False), Owner(at, deployed=False)
    authorization = owner.authorization(wrap=True)
    for settings in (at.settings(), allowing(at, other)):
        async with settler(settings) as own:
            assert await own.verify_contract_wallet(authorization) is False
            outcome = await own.settle(authorization, {})
        assert isinstance(outcome, Declined)
        assert (outcome.reason, outcome.final) == ("eip6492_factory_not_allowed", True)


async def test_undeployed_wallet_is_deployed_by_an_allowed_factory_and_pays(at: Till) -> None:
    """Its factory is called by our signer, then the token."""
    owner, before = Owner(at, deployed=False), at.received
    authorization = owner.authorization(wrap=True)
    async with settler(allowing(at, owner)) as own:
        assert await own.verify_contract_wallet(authorization) is True
        outcome = await own.settle(authorization, {})
        assert isinstance(outcome, Settled)
        assert isinstance(await own.reconcile(authorization), Settled)
    assert at.received - before == PRICE
    assert at.chain.call("eth_getCode", owner.address, "latest") != "0x"


async def test_wrapped_signature_of_a_deployed_wallet_pays_without_its_factory(at: Till) -> None:
    """Nothing is to be deployed, so no factory is called."""
    owner = Owner(at, deployed=True)
    async with settler(at.settings()) as own:
        assert isinstance(await own.settle(owner.authorization(wrap=True), {}), Settled)


async def test_inner_signature_of_an_undeployed_wallet_is_checked(at: Till) -> None:
    """The wallet that the factory would make is asked; nothing is deployed for one that says no."""
    owner, stranger = Owner(at, deployed=False), Owner(at, deployed=True)
    payload = owner.payload()
    payload.signer = stranger.key
    payload.signature = wrapped(owner.factory, owner.create, LONG + payload.signed())
    authorization = found(at, payload)
    async with settler(allowing(at, owner)) as own:
        assert await own.verify_contract_wallet(authorization) is False
        outcome = await own.settle(authorization, {})
    assert isinstance(outcome, Declined)
    assert (outcome.reason, outcome.final) == (INVALID_SIGNATURE, True)
    assert at.chain.call("eth_getCode", owner.address, "latest") == "0x"


async def test_empty_undeployed_wallet_is_not_deployed(at: Till) -> None:
    """We pay for no deployment behind which there is no payment."""
    owner = Owner(at, deployed=False)
    authorization = owner.authorization(wrap=True, value=2_000_000)
    at.node.methods.clear()
    async with settler(allowing(at, owner)) as own:
        outcome = await own.settle(authorization, {})
    assert isinstance(outcome, Declined)
    assert outcome.reason == "invalid_exact_evm_insufficient_balance"
    assert "eth_sendRawTransaction" not in at.node.methods


async def test_undeployed_wallet_without_wrapping_is_declined(at: Till) -> None:
    """Nobody can tell whose signature it is; another day the wallet may be there."""
    owner = Owner(at, deployed=False)
    async with settler(allowing(at, owner)) as own:
        outcome = await own.settle(owner.authorization(), {})
    assert isinstance(outcome, Declined)
    assert outcome.reason == "invalid_exact_evm_payload_undeployed_smart_wallet"
    assert not outcome.final


async def test_network_without_multicall_takes_nothing(at: Till) -> None:
    """Where a deployment cannot be tried without being made, it is not made."""
    from tests.peers.chain.node import MULTICALL3

    owner = Owner(at, deployed=False)
    code = at.chain.call("eth_getCode", MULTICALL3, "latest")
    at.chain.call("anvil_setCode", MULTICALL3, "0x")
    try:
        async with settler(allowing(at, owner)) as own:
            assert await own.verify_contract_wallet(owner.authorization(wrap=True)) is None
            outcome = await own.settle(owner.authorization(wrap=True), {})
    finally:
        at.chain.call("anvil_setCode", MULTICALL3, code)
    assert isinstance(outcome, Declined)
    assert outcome.refusal.code == "payment_unavailable"


async def test_node_that_fails_says_nothing_of_a_wallet(at: Till) -> None:
    """Neither valid nor invalid."""
    authorization = Owner(at, deployed=True).authorization()
    async with settler(at.settings()) as own:
        at.node.once["eth_getCode"] = Fault.DOWN
        assert await own.verify_contract_wallet(authorization) is None
    async with settler(at.settings(rpc={}, facilitator="http://127.0.0.1:9")) as own:
        assert await own.verify_contract_wallet(authorization) is None


async def test_facilitator_settles_wallets_too(at: Till) -> None:
    """Deployed ones, and with the same list of factories undeployed ones."""
    deployed, fresh = Owner(at, deployed=True), Owner(at, deployed=False)
    before = at.received
    with facilitator(at.chain, factories=(fresh.factory,)) as peer:
        async with settler(allowing(at, fresh, facilitator=peer.url)) as own:
            for authorization in (deployed.authorization(), fresh.authorization(wrap=True)):
                assert await own.verify_contract_wallet(authorization) is True
                outcome = await own.settle(authorization, requirements(authorization))
                assert isinstance(outcome, Settled), outcome
    assert at.received - before == 2 * PRICE


async def test_facilitator_that_tells_of_another_signature_of_the_nonce_is_not_believed(at: Till) -> None:
    """It may know payments by their nonce alone, and call the second one settled by the transaction of the first."""
    owner = Owner(at, deployed=True)
    nonce, until = os.urandom(32), at.chain.now() + 120
    first = owner.authorization(nonce=nonce, valid_before=until)
    second = owner.authorization(nonce=nonce, valid_before=until, prefix=bytes(5))
    with facilitator(at.chain) as peer:
        async with settler(at.settings(facilitator=peer.url)) as own:
            paid = await own.settle(first, requirements(first))
            assert isinstance(paid, Settled)
            peer.said["/verify"] = (200, {"isValid": True})
            told = {"success": True, "network": first.asset.network, "transaction": paid.receipt.reference}
            peer.said["/settle"] = (200, told)
            outcome = await own.settle(second, requirements(second))
    assert isinstance(outcome, Declined)
    assert (outcome.reason, outcome.final) == (NONCE_USED, True)


async def test_payment_by_way_of_another_contract_names_no_signature(at: Till) -> None:
    """Such a call could show several signatures at once: the wallet's payment stays a doubt, a key's is clear."""
    from proxy.payments.x402.eip3009 import transfer_call
    from proxy.payments.x402.wallets import MULTICALL, together

    owner = Owner(at, deployed=True)
    wallets, keys = owner.authorization(), at.authorization()
    for each in (wallets, keys):
        call = together((each.asset.address, transfer_call(each, each.signature)))
        at.chain.send(at.chain.other, MULTICALL, "0x" + call.hex())
    async with settler(at.settings()) as own:
        assert isinstance(await own.reconcile(wallets), Doubtful)
        assert isinstance(await own.reconcile(keys), Settled)


def test_wrapping_is_read() -> None:
    """ERC-6492: factory, call and the signature inside."""
    factory = "0x" + "ab" * 20
    signature = unwrapped(wrapped(factory, "0x1234", b"inner"))
    assert signature is not None
    assert (signature.factory, signature.factory_call, signature.inner) == (factory, b"\x12\x34", b"inner")


@given(st.binary(max_size=512))
def test_noise_in_a_wrapping_is_refused_or_read(noise: bytes) -> None:
    """Whatever is wrapped: nothing raises."""
    signature = unwrapped(noise + WRAPPED)
    assert signature is None or signature.inner


@given(st.lists(st.sampled_from([0, 1, 31, 32, 64, 96, 2**63, 2**64, 2**255, 2**256 - 1]), min_size=3, max_size=8))
def test_pointers_of_a_wrapping_lead_nowhere_else(words: list[int]) -> None:
    """Offsets and lengths of any size."""
    signature = unwrapped(b"".join(word.to_bytes(32) for word in words) + WRAPPED)
    assert signature is None or len(signature.inner) <= 32 * len(words)


def test_wrapping_within_a_wrapping_is_refused() -> None:
    """As the standard has it: one."""
    inner = wrapped("0x" + "ab" * 20, "0x12", b"x")
    assert unwrapped(wrapped("0x" + "ab" * 20, "0x12", inner)) is None
    assert unwrapped(encode(["address", "bytes", "bytes"], ["0x" + "ab" * 20, b"", b"x"]) + WRAPPED) is None


async def test_broken_wrapping_is_refused_before_anybody_is_asked(at: Till) -> None:
    """By the rail's own check."""
    payload = at.payload()
    payload.signature = b"x" * 40 + WRAPPED
    with pytest.raises(Refusal):
        found(at, payload)
