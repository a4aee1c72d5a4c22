"""What x402 says back: the refusals of a payment in the specification's reason codes, and the settlement header."""

from __future__ import annotations

import base64
import re
from typing import Any, Final

import orjson

from proxy.errors import Refusal

RESPONSE_HEADERS: Final = {1: "X-PAYMENT-RESPONSE", 2: "PAYMENT-RESPONSE"}
"""By version of the protocol that the payment came by."""

NONCE_USED: Final = "invalid_exact_evm_nonce_already_used"
INVALID_SIGNATURE: Final = "invalid_exact_evm_payload_signature"
TRANSACTION_FAILED: Final = "transaction_failed"

_CODE: Final = re.compile(r"[a-z0-9_]{1,80}")
_SAID: Final = {
    "unsupported_scheme": "Only the scheme 'exact' is taken here.",
    "network_mismatch": "This network, or this asset on it, is not taken here.",
    "invalid_exact_evm_payload_recipient_mismatch": "The authorization pays another address than the offer's payTo.",
    "missing_eip712_domain": "accepted.extra lacks the token's name and version.",
    "invalid_exact_evm_token_name_mismatch": "accepted.extra.name is not the token's.",
    "invalid_exact_evm_token_version_mismatch": "accepted.extra.version is not the token's.",
    "invalid_exact_evm_payload_authorization_valid_before": "The authorization has expired, or is about to.",
    "invalid_exact_evm_payload_authorization_valid_after": "The authorization is not valid yet: mend your clock.",
    INVALID_SIGNATURE: "The signature is not the payer's over this authorization and this token.",
    NONCE_USED: "This authorization has been used.",
    "invalid_exact_evm_insufficient_balance": "The payer's balance does not cover it, and nothing was taken.",
    "invalid_exact_evm_payload_undeployed_smart_wallet": "The payer's wallet is not deployed.",
    "eip6492_factory_not_allowed": "The payer's wallet is not deployed, and its factory is not known here.",
    "asset_not_deployed_contract": "There is no such token on this network.",
}
_NEXT: Final = "Ask again without payment, and sign the offer of that 402."


def settlement_failed(reason: str, *, message: str | None = None) -> Refusal:
    """402 `x402_settlement_failed`. `reason`: the specification's code, told in `error.reason`; `message`: one sentence
    in place of the code's own.

    A code that is not known here comes from a facilitator: it is told on only where it looks like one.
    """
    said = message or _SAID.get(reason, "The payment could not be settled, and nothing was taken.")
    return Refusal("x402_settlement_failed", f"{said} {_NEXT}", details={"reason": plain(reason)})


def plain(reason: str) -> str:
    """The code, or that of any failure where it is not a code at all."""
    return reason if _CODE.fullmatch(reason) else TRANSACTION_FAILED


def response_header(document: dict[str, Any]) -> str:
    """A settle response as the value of its header."""
    return base64.b64encode(orjson.dumps(document)).decode()
