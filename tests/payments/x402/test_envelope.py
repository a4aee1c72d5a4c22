"""The offer is read by the protocol's own client and by a strict one, whatever the request."""

from __future__ import annotations

import re
from dataclasses import replace

import pytest
from x402.http.utils import decode_payment_required_header

from proxy.payments.x402.envelope import HEADER_CHARACTERS_MAX, usd
from tests.support.x402 import PAY_TO, SEPOLIA, USDC, ask, decoded, till

OPERATIONS = ["chat.completions", "embeddings", "messages", "responses"]


def header(asked=None, **changes) -> str:
    offer = till(**changes).rail.offer(asked or ask(), None)
    assert offer is not None
    ((name, value),) = offer.headers
    assert name == "Payment-Required"
    return value


def test_envelope_has_its_documented_members():
    """Version, error, the offer and the resource stand where clients look for them, and the price in words."""
    document = decoded(header())
    extensions = document.pop("extensions")
    assert list(extensions) == ["bazaar"]
    assert document == {
        "x402Version": 2,
        "error": "Payment required",
        "accepts": [
            {
                "scheme": "exact",
                "amount": "3150",
                "network": "eip155:8453",
                "asset": USDC.address,
                "payTo": document["accepts"][0]["payTo"],
                "maxTimeoutSeconds": 120,
                "extra": {"name": "USD Coin", "version": "2"},
            }
        ],
        "resource": {
            "url": "https://llm.example/v1/chat/completions",
            "description": "deepseek-v3.2 inference",
            "mimeType": "application/json",
        },
        "price": "$0.003150",
    }
    assert document["accepts"][0]["payTo"].lower() == PAY_TO.lower()


def test_sdk_decodes_it():
    """The x402 SDK's own models take it."""
    required = decode_payment_required_header(header(assets=(USDC, SEPOLIA)))
    assert required.x402_version == 2
    assert [offer.network for offer in required.accepts] == ["eip155:8453", "eip155:84532"]
    assert required.resource.url.startswith("https://")


@pytest.mark.parametrize("usdc", [0, 1, 999, 1000, 3150, 10**9])
@pytest.mark.parametrize("operation", OPERATIONS)
def test_header_is_what_strict_clients_want(usdc, operation):
    """At most 8,192 characters, no comma, a positive whole amount."""
    value = header(ask(usdc, operation=operation))
    assert len(value) <= HEADER_CHARACTERS_MAX
    assert "," not in value
    assert re.fullmatch(r"[1-9]\d*", decoded(value)["accepts"][0]["amount"])


def test_floor_is_offered():
    """A cheaper request is offered at the floor."""
    assert decoded(header(ask(7)))["accepts"][0]["amount"] == "1000"


def test_body_member_has_its_documented_members():
    """Price in dollars, network, address, asset, scheme."""
    offer = till().rail.offer(ask(305, now_ms=0), None)
    assert offer.members["x402"] == {
        "price_usd": "0.001000",
        "network": "eip155:8453",
        "address": decoded(header())["accepts"][0]["payTo"],
        "asset": USDC.address,
        "scheme": "exact",
    }


def test_long_envelopes_lose_the_bazaar_first():
    """Examples go first, then the extension; what pays stays, and what cannot be said is not on offer."""
    stages = []
    for length in range(0, 7000, 100):
        offer = till().rail.offer(ask(url="https://llm.example/" + "x" * length), None)
        if offer is None:
            stages.append("none")
            continue
        value = offer.headers[0][1]
        assert len(value) <= HEADER_CHARACTERS_MAX
        document = decoded(value)
        assert document["accepts"][0]["amount"] == "3150"
        info = document.get("extensions", {}).get("bazaar", {}).get("info")
        stages.append("bare" if info is None else "full" if "output" in info else "short")
    assert list(dict.fromkeys(stages)) == ["full", "short", "bare", "none"]
    assert stages == sorted(stages, key=["full", "short", "bare", "none"].index)


def test_sixteen_assets_fit():
    """As many as may be configured are on offer."""
    many = tuple(replace(SEPOLIA, network=f"eip155:{i}") for i in range(1, 17))
    assert len(decoded(header(assets=many))["accepts"]) == 16


@pytest.mark.parametrize("text", ['"', "\\", "\u2028", "é" * 300, "\x00"])
def test_no_name_breaks_the_json(text):
    """Models and descriptions may be any text."""
    document = decoded(header(ask(model=text)))
    assert document["extensions"]["bazaar"]["info"]["input"]["body"]["model"] == text
    assert decoded(header(description=text))["resource"]["description"] == text[:200]


@pytest.mark.parametrize(("units", "text"), [(0, "0.000000"), (3150, "0.003150"), (1_000_000, "1.000000")])
def test_usd_has_six_decimals(units, text):
    """A dollar sign and six decimals."""
    assert usd(units) == text
