"""Version 1: networks have names, the offer is in the body."""

from __future__ import annotations

from dataclasses import replace

from x402.http.utils import detect_payment_required_version
from x402.mechanisms.evm.v1.constants import V1_NETWORK_CHAIN_IDS
from x402.schemas.v1 import PaymentRequiredV1

from proxy.payments.x402 import v1
from tests.support.x402 import SEPOLIA, USDC, ask, till


def test_names_are_the_sdks():
    """Each name is that of the SDK's chain."""
    assert all(network == f"eip155:{V1_NETWORK_CHAIN_IDS[name]}" for name, network in v1.NETWORKS.items())
    assert v1.name_of("eip155:8453") == "base"
    assert v1.name_of("eip155:424242") is None


def test_offer_is_in_the_body():
    """The SDK reads the members of the 402's body, whatever else stands there."""
    unnamed = replace(USDC, network="eip155:424242")
    members = till(assets=(USDC, SEPOLIA, unnamed)).rail.offer(ask(), None).members
    required = PaymentRequiredV1.model_validate({"error": "Payment Required", "price": 42, **members})
    assert [offer.network for offer in required.accepts] == ["base", "base-sepolia"]
    assert required.accepts[0].max_amount_required == "3150"
    assert detect_payment_required_version({"Payment-Required": "x"}) == 2


def test_no_offer_where_it_is_off():
    """Then the body has the member `x402` alone."""
    assert list(till(v1=False).rail.offer(ask(), None).members) == ["x402"]
