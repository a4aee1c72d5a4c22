"""Everything about an x402 payment that can be judged without asking a chain.

The rules and their order are those of the x402 SDK's facilitator (2.25, `exact` on EVM), with two of our own: a signed
amount need not equal the price, it must cover it to within a tolerance, and a signature must be the only spelling of
itself. The domain that is signed for is always ours, never the client's.
"""

from __future__ import annotations

import hashlib
from dataclasses import replace
from typing import Final

from proxy.errors import Refusal
from proxy.payments.settings import X402, Asset
from proxy.payments.x402 import v1
from proxy.payments.x402.payload import Accepted, Authorization, Sent
from proxy.payments.x402.responses import INVALID_SIGNATURE, settlement_failed
from proxy.payments.x402.typed_data import (
    SIGNATURE_BYTES,
    checksummed,
    has_high_s,
    signer_of,
    text_digest,
    transfer_digest,
    with_v,
)
from proxy.payments.x402.wallets import unwrapped

VALID_SECONDS_MAX: Final = 86_400
"""An authorization of which nobody knows what came of it is known at the latest when it has ended."""
EXPIRY_MARGIN_SECONDS: Final = 6
"""An authorization must be good for so much longer: a few blocks, as the SDK has it."""
SCHEME: Final = "exact"


class Verifier:
    """The rules under one configuration."""

    def __init__(self, settings: X402) -> None:
        self.pay_to: Final = checksummed(settings.pay_to)
        self.assets: Final = tuple(replace(a, address=checksummed(a.address)) for a in settings.assets)
        self._settings = settings

    def required(self, usdc: int) -> int:
        """What is asked for a price: never less than the floor, never nothing."""
        return max(usdc, self._settings.usdc_min, 1)

    def authorization(self, sent: Sent, *, to: str | None = None) -> Authorization:
        """What was sent, where it pays us in a token of ours and is signed by the payer.

        What may be a contract wallet's signature passes as such where its network can be asked. `to`: who was us when
        it was signed, if not by today's configuration. Raises Refusal `x402_settlement_failed`. Neither time nor
        amount are looked at.
        """
        if sent.scheme != SCHEME:
            raise settlement_failed("unsupported_scheme")
        assets, to = self._assets(sent), to or self.pay_to
        if checksummed(sent.to) != to:
            raise settlement_failed("invalid_exact_evm_payload_recipient_mismatch")
        if sent.accepted is not None:
            _check_accepted(sent.accepted, assets[0], to)
        return self._signed(sent, assets)

    def check_time(self, authorization: Authorization, now_ms: int) -> None:
        """Raises Refusal where no block that is still to come would take it, or the next one would not yet."""
        now = now_ms // 1000
        if authorization.valid_before < now + EXPIRY_MARGIN_SECONDS:
            raise settlement_failed("invalid_exact_evm_payload_authorization_valid_before")
        if authorization.valid_before > now + VALID_SECONDS_MAX:
            raise settlement_failed(
                "invalid_exact_evm_payload_authorization_valid_before",
                message=f"This authorization is valid for over {VALID_SECONDS_MAX // 3600} hours: sign a shorter one.",
            )
        if authorization.valid_after > now:
            raise settlement_failed("invalid_exact_evm_payload_authorization_valid_after")

    def check_amount(self, authorization: Authorization, required: int) -> None:
        """Raises Refusal `x402_underpayment`."""
        if authorization.value < max(1, required - self._settings.tolerance):
            raise Refusal(
                "x402_underpayment",
                f"The authorization is for {authorization.value} units of {authorization.asset.name}, and this request "
                f"costs {required}. Nothing was taken. Sign the amount of a fresh 402 for this very request.",
                details={
                    "reason": "invalid_exact_evm_payload_authorization_value_mismatch",
                    "required": str(required),
                    "signed": str(authorization.value),
                },
            )

    def _assets(self, sent: Sent) -> list[Asset]:
        """Those that it can mean: one in version 2, in version 1 all of the network."""
        network = v1.NETWORKS.get(sent.network) if sent.version == 1 else sent.network
        found = [asset for asset in self.assets if asset.network == network]
        if sent.accepted is not None:
            address = checksummed(sent.accepted.asset)
            found = [asset for asset in found if asset.address == address]
        if not found:
            taken = ", ".join(f"{asset.address} on {asset.network}" for asset in self.assets)
            raise settlement_failed("network_mismatch", message=f"Taken here: {taken}.")
        return found

    def _signed(self, sent: Sent, assets: list[Asset]) -> Authorization:
        wrapping = unwrapped(sent.signature)
        if wrapping is None:
            raise _bad_signature("The ERC-6492 wrapping of the signature is not in order.")
        payer, given, signed = checksummed(sent.payer), wrapping.inner, None
        if len(given) == SIGNATURE_BYTES:
            if has_high_s(given):
                raise _bad_signature("The signature's s is in the upper half: send its other spelling (EIP-2).")
            given = with_v(given)
            signed = next((asset for asset in assets if signer_of(_digest(sent, asset), given) == payer), None)
            if signed is not None and wrapping.factory:
                raise _bad_signature("The payer's own key signed: send its signature without the ERC-6492 wrapping.")
        if signed is None and assets[0].network not in self._settings.rpc:
            raise settlement_failed(INVALID_SIGNATURE)
        return Authorization(
            asset=signed or assets[0],
            payer=payer,
            pay_to=checksummed(sent.to),
            value=sent.value,
            valid_after=sent.valid_after,
            valid_before=sent.valid_before,
            nonce=sent.nonce,
            signature=sent.signature if signed is None else given,
            version=sent.version,
            payload=sent.payload,
            contract=signed is None,
            given=given if signed is None else b"",
        )


def _check_accepted(accepted: Accepted, asset: Asset, to: str) -> None:
    if checksummed(accepted.pay_to) != to:
        raise settlement_failed("invalid_exact_evm_payload_recipient_mismatch")
    if accepted.name is None or accepted.version is None:
        raise settlement_failed("missing_eip712_domain")
    if accepted.name != asset.name:
        raise settlement_failed("invalid_exact_evm_token_name_mismatch")
    if accepted.version != asset.version:
        raise settlement_failed("invalid_exact_evm_token_version_mismatch")


def binding(authorization: Authorization, request_digest: str) -> str:
    """What a nonce is tied to at first sight: the request, and every term that was signed with it."""
    return hashlib.sha256(request_digest.encode() + authorization.signed).hexdigest()


def _bad_signature(message: str) -> Refusal:
    return settlement_failed(INVALID_SIGNATURE, message=message)


def claim_text(authorization: Authorization) -> str:
    """What the payer signs to have its payment shown or refunded: the payment's own signature is public on chain."""
    return f"I claim the x402 payment {authorization.key}"


def claim_digest(authorization: Authorization) -> bytes:
    """What is signed of it, by `personal_sign` (EIP-191)."""
    return text_digest(claim_text(authorization))


def claims(authorization: Authorization, claim: bytes) -> bool:
    """Whether the payer's key signed `claim_text`."""
    if len(claim) != SIGNATURE_BYTES:
        return False
    return signer_of(claim_digest(authorization), claim) == authorization.payer


def _digest(sent: Sent, asset: Asset) -> bytes:
    return transfer_digest(
        asset,
        payer=sent.payer,
        to=sent.to,
        value=sent.value,
        valid_after=sent.valid_after,
        valid_before=sent.valid_before,
        nonce=sent.nonce,
    )
