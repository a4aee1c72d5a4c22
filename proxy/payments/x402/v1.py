"""Version 1 of x402: networks by name, the offer in the body of the 402, the payment in `X-PAYMENT`."""

from __future__ import annotations

from typing import Any, Final

from proxy.payments.settings import Asset

NETWORKS: Final = {
    "ethereum": "eip155:1",
    "base": "eip155:8453",
    "base-sepolia": "eip155:84532",
    "polygon": "eip155:137",
    "polygon-amoy": "eip155:80002",
    "avalanche": "eip155:43114",
    "avalanche-fuji": "eip155:43113",
    "sei": "eip155:1329",
    "sei-testnet": "eip155:1328",
    "iotex": "eip155:4689",
    "peaq": "eip155:3338",
    "celo": "eip155:42220",
}
"""The names of the x402 SDK 2.25, where the token is one with EIP-3009. Other networks are of version 2 alone."""
_NAMES: Final = {network: name for name, network in NETWORKS.items()}


def name_of(network: str) -> str | None:
    """A CAIP-2 network's name in version 1; None: it has none."""
    return _NAMES.get(network)


def requirements(
    asset: Asset, network: str, *, amount: int, pay_to: str, seconds: int, resource: str, description: str
) -> dict[str, Any]:
    """`PaymentRequirements` of version 1. `network`: its name."""
    return {
        "scheme": "exact",
        "network": network,
        "maxAmountRequired": str(amount),
        "resource": resource,
        "description": description,
        "mimeType": "application/json",
        "payTo": pay_to,
        "maxTimeoutSeconds": seconds,
        "asset": asset.address,
        "extra": {"name": asset.name, "version": asset.version},
    }
