"""How `payments.x402` in config.yaml settles."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from proxy.config.payment_entries import PaymentsEntry
from proxy.config.payments import build_payments
from proxy.config.problems import Marks, Problem
from proxy.payments.settings import X402

PAY_TO = "0x" + "1" * 40
KEY = "0x" + "5e" * 32
NODE = {"eip155:8453": "https://node.example/v2/key"}


def built(**entry: object) -> tuple[X402 | None, list[Problem]]:
    problems: list[Problem] = []
    parsed = PaymentsEntry.model_validate({"x402": {"pay_to": PAY_TO} | entry})
    payments = build_payments(parsed, Marks("config.yaml"), problems, tiers=(), root=Path())
    return None if payments is None else payments.x402, problems


def test_settling_here_wants_a_node_and_a_key() -> None:
    """With both it is on, and its transactions are bounded."""
    x402, problems = built(rpc=NODE, signer_key=KEY, fee_gwei_max="0.5", gas_max=200_000)
    assert not problems
    assert x402 is not None
    assert (x402.gas_max, x402.fee_wei_max) == (200_000, 500_000_000)
    assert KEY not in repr(x402)
    assert "v2/key" not in repr(x402)


def test_settling_by_a_facilitator_wants_its_address_alone() -> None:
    """The rest is looked up where it can be."""
    x402, problems = built(facilitator="https://facilitator.example/")
    assert not problems
    assert x402 is not None
    assert x402.facilitator == "https://facilitator.example"


@pytest.mark.parametrize(
    ("entry", "says"),
    [
        ({"rpc": NODE}, "a key that pays the gas"),
        ({"signer_key": KEY}, "needs its JSON-RPC URL"),
        ({"rpc": NODE, "signer_key": "hunter2"}, "not a private key"),
        ({"rpc": {"eip155:8453": "http://node.example"}, "signer_key": KEY}, "https://"),
        ({"facilitator": "http://127.0.0.1:4020"}, "https://"),
        ({"facilitator": "https://facilitator.example", "transfers": True}, "needs rpc"),
        ({"facilitator": "https://facilitator.example", "transfers": True, "rpc": NODE}, "set public_url"),
        (
            {"facilitator": "https://facilitator.example", "pay_to": "0x209693Bc6afc0C5328bA36FaF03C514EF312287D"},
            "mistyped",
        ),
        ({"facilitator": "https://facilitator.example", "rpc": {"eip155:1": "https://node.example"}}, "no asset"),
    ],
)
def test_what_cannot_settle_is_a_problem(entry: dict[str, object], says: str) -> None:
    """At its place in the file, with what to change, and without the secret."""
    _, problems = built(**entry)
    assert len(problems) == 1
    assert says in str(problems[0])
    assert "hunter2" not in str(problems[0])


@pytest.mark.parametrize("spelled", [str, str.lower, lambda address: "0x" + address[2:].upper()])
def test_an_address_is_taken_in_one_case_or_with_its_checksum(spelled: Callable[[str], str]) -> None:
    """In one case it has no checksum to fail."""
    address = spelled("0x209693Bc6afc0C5328bA36FaF03C514EF312287C")
    x402, problems = built(facilitator="https://facilitator.example", pay_to=address)
    assert not problems
    assert x402 is not None
    assert x402.pay_to == address
