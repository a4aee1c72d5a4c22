"""What is said back is in the specification's words, and in nobody else's."""

from __future__ import annotations

import pytest
from x402.http.utils import decode_payment_response_header

from proxy.payments.x402.responses import TRANSACTION_FAILED, plain, response_header, settlement_failed


def test_refusal_tells_its_code():
    """The reason stands beside the envelope's members, the message says what to do."""
    refusal = settlement_failed("invalid_exact_evm_insufficient_balance")
    assert (refusal.status, refusal.details) == (402, {"reason": "invalid_exact_evm_insufficient_balance"})
    assert "Ask again without payment" in refusal.message


@pytest.mark.parametrize("reason", ["<b>", "a b", "A", "", "x" * 81, "é", "eyJ.x", "0\n"])
def test_a_facilitators_prose_is_not_passed_on(reason):
    """Only what looks like a code is told."""
    assert plain(reason) == TRANSACTION_FAILED
    assert settlement_failed(reason).details == {"reason": TRANSACTION_FAILED}


def test_sdk_reads_the_header():
    """The x402 SDK's own model takes it."""
    value = response_header({"success": False, "errorReason": "x", "transaction": "", "network": "base", "payer": "0x"})
    assert decode_payment_response_header(value).error_reason == "x"
    assert "," not in value
