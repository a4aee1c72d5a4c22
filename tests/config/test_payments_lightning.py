"""The Lightning rails of `payments` in config.yaml."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from proxy.config.payment_entries import PaymentsEntry
from proxy.config.payments import build_payments
from proxy.config.problems import Marks, Problem
from proxy.payments.settings import L402, Mpp, Payments

DEV: dict[str, Any] = {"lightning": {"backend": "dev", "development": True}, "bitcoin": {"fixed_usd": "60000"}}


def built(**entry: Any) -> tuple[Payments | None, list[Problem]]:
    """Of the development node and what the test sets."""
    problems: list[Problem] = []
    made = PaymentsEntry.model_validate({**DEV, **entry})
    return build_payments(made, Marks("config.yaml"), problems, tiers=(), root=Path()), problems


def test_both_rails_are_on_where_there_is_a_node() -> None:
    """With the settings' own values."""
    payments, problems = built(
        l402={"location": "api.test", "sats_min": 5, "seconds": 60, "epoch": 9, "epoch_min": 9}, mpp={"realm": "r"}
    )
    assert not problems
    assert payments is not None
    assert (payments.l402, payments.mpp) == (L402("api.test", 5, 60, 9, 9), Mpp("r"))


@pytest.mark.parametrize(
    ("entry", "l402", "mpp"),
    [
        ({"l402": {"enabled": False}}, None, Mpp()),
        ({"mpp": {"enabled": False}}, L402(), None),
        ({"lightning": {"backend": "off"}, "cashu": {"mints": [{"url": "https://mint.test"}]}}, None, None),
    ],
)
def test_a_rail_that_is_off_is_none(entry: dict[str, Any], l402: L402 | None, mpp: Mpp | None) -> None:
    """Turned off, or without a node."""
    payments, problems = built(**entry)
    assert not problems
    assert payments is not None
    assert (payments.l402, payments.mpp) == (l402, mpp)


def test_retiring_the_present_root_key_is_a_problem() -> None:
    """Every new macaroon would be refused."""
    _, (problem,) = built(l402={"epoch": 5, "epoch_min": 6})
    assert "'epoch' is 5" in str(problem)


@pytest.mark.parametrize(
    "entry", [{"epoch": -1}, {"epoch": "now"}, {"location": "a b"}, {"location": ""}, {"location": "é"}, {"seconds": 5}]
)
def test_settings_out_of_range_are_refused(entry: dict[str, Any]) -> None:
    """Before anything is built."""
    with pytest.raises(ValidationError):
        built(l402=entry)


def test_a_balance_that_nobody_can_pay_into_is_a_problem() -> None:
    """The least above the most."""
    _, (problem,) = built(balance={"sats_min": 200, "sats_max": 100})
    assert "balance.sats_min: nobody can pay in so much: 'sats_max' is 100" in str(problem)
    assert not built(balance={"sats_min": 200, "sats_max": 100, "enabled": False})[1]


@pytest.mark.parametrize("usd", ["68", "0", "6800000000000"])
def test_a_fixed_price_that_no_bitcoin_has_is_a_problem(usd: str) -> None:
    """As for a price that is polled: thousands left out would sell a thousandfold too dear."""
    with pytest.raises(ValidationError):
        built(bitcoin={"fixed_usd": usd})
