"""Signing an x402 payment: an EIP-3009 authorization, made with a key that never leaves this process."""

from __future__ import annotations

import base64
import re
import secrets
from typing import Any, Final

import orjson

from proxy.payments.client.errors import WalletFailure
from proxy.payments.client.offers import X402Offer

KEY: Final = re.compile(r"(0x)?[0-9a-fA-F]{64}")
AUTHORIZATION_SECONDS_MAX: Final = 3600
"""No authorization is good for longer, whatever the offer wants."""
CLOCK_SKEW_SECONDS: Final = 600
KNOWN_ASSETS: Final = frozenset(
    {
        ("eip155:8453", "0x833589fcd6edb6e08f4c7c32d4f71b54bda02913"),
        ("eip155:84532", "0x036cbd53842c5426634e7929541ec2318f3dcf7e"),
    }
)
"""USDC on Base and on Base Sepolia: of these an amount is known to be in millionths of a dollar."""

_TYPES: Final = {
    "TransferWithAuthorization": [
        {"name": "from", "type": "address"},
        {"name": "to", "type": "address"},
        {"name": "value", "type": "uint256"},
        {"name": "validAfter", "type": "uint256"},
        {"name": "validBefore", "type": "uint256"},
        {"name": "nonce", "type": "bytes32"},
    ]
}


def address_of(key: str) -> str:
    """Checksummed. Raises WalletFailure for what is no private key."""
    from eth_account import Account

    if not KEY.fullmatch(key):
        raise WalletFailure("A private key is 64 hex digits, with or without 0x before them.")
    try:
        return str(Account.from_key(key).address)
    except ValueError as error:
        raise WalletFailure("This is no private key of secp256k1.") from error


def sign(offer: X402Offer, key: str, now_s: int) -> str:
    """The value of `Payment-Signature`. Raises WalletFailure."""
    from eth_account import Account
    from eth_account.messages import encode_typed_data

    payer, nonce = address_of(key), secrets.token_bytes(32)
    after, before = now_s - CLOCK_SKEW_SECONDS, now_s + min(offer.seconds, AUTHORIZATION_SECONDS_MAX)
    message: dict[str, Any] = {
        "from": payer,
        "to": offer.pay_to,
        "value": offer.atomic,
        "validAfter": after,
        "validBefore": before,
        "nonce": nonce,
    }
    domain = {
        "name": offer.name,
        "version": offer.version,
        "chainId": int(offer.network.partition(":")[2]),
        "verifyingContract": offer.asset,
    }
    signed = Account.sign_message(encode_typed_data(domain, _TYPES, message), key)
    authorization = {
        "from": payer,
        "to": offer.pay_to,
        "value": str(offer.atomic),
        "validAfter": str(after),
        "validBefore": str(before),
        "nonce": f"0x{nonce.hex()}",
    }
    payload = {
        "x402Version": 2,
        "accepted": offer.accepted,
        "payload": {"signature": f"0x{bytes(signed.signature).hex()}", "authorization": authorization},
    }
    payload.update({"resource": offer.resource} if offer.resource is not None else {})
    payload.update({"extensions": offer.extensions} if offer.extensions is not None else {})
    return base64.b64encode(orjson.dumps(payload)).decode()


def claimed(shown: str, key: str) -> str:
    """The same `Payment-Signature` with the payer's word for having its money back: its own signature will be public
    on chain, so anybody could show that.
    """
    from eth_account import Account
    from eth_account.messages import encode_defunct

    payload = orjson.loads(base64.b64decode(shown))
    accepted, said = payload["accepted"], payload["payload"]["authorization"]
    nonce = said["nonce"].removeprefix("0x").lower()
    name = f"{accepted['network']}:{accepted['asset'].lower()}:{said['from'].lower()}:{nonce}"
    signed = Account.sign_message(encode_defunct(text=f"I claim the x402 payment {name}"), key)
    return base64.b64encode(orjson.dumps({**payload, "claim": f"0x{bytes(signed.signature).hex()}"})).decode()
