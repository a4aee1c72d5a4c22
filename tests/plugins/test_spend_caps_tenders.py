"""What a balance pays for an answer, from what its attempts came to."""

from __future__ import annotations

from decimal import Decimal
from types import SimpleNamespace
from typing import Any

import pytest

from plugins.spend_caps.tenders import paid_for
from proxy.ledger.api import Settlement
from proxy.ledger.payment_api import Tender, Unit
from proxy.payments.settings import Balance, Payments
from proxy.pricing.money import ZERO, Nano
from proxy.routes import Route

SURCHARGE = 50_000_000
HELD = 90_000
SETTINGS = Payments(balance=Balance(), surcharge_percent=Decimal(10), surcharge=Nano(SURCHARGE))
RAILS: Any = SimpleNamespace(settings=SETTINGS)


def settled(outcome: str, charged: int, *, paid: int | None = None) -> Settlement:
    """After one attempt with this outcome."""
    price = SimpleNamespace(usd=Nano(HELD * 1000), nano_per_btc=None)
    tried: Any = SimpleNamespace(outcome=outcome)
    exchange: Any = SimpleNamespace(
        ask=SimpleNamespace(price=price), route=Route([tried]), model=None, paid=False, charge_msat=None
    )
    tender = Tender(Unit.USDC, HELD, "request", balance=b"d" * 32)
    known = None if paid is None else Nano(paid)
    return paid_for(exchange, tender, Settlement(Nano(charged), ZERO, (), "served", 0, known), RAILS)


@pytest.mark.parametrize(
    ("outcome", "charged", "tendered"),
    [("served", 20_000_000, 72_000), ("served", 0, 50_000), ("served", 10**9, HELD), ("status", 0, 0)],
)
def test_a_balance_pays_the_surcharge_with_every_answer(outcome: str, charged: int, tendered: int) -> None:
    """Of a free model's, too, as every other way to pay does; of a failure it pays nothing."""
    settlement = settled(outcome, charged)
    assert (settlement.tendered, settlement.charged) == (tendered, tendered * 1000)


@pytest.mark.parametrize(("charge_msat", "tendered"), [(500_000, 500_000), (250_000, 250_000), (1, 21_000), (0, 0)])
def test_a_balance_in_sats_pays_a_price_that_is_fixed_in_sats(charge_msat: int, tendered: int) -> None:
    """Not what the dollars beside it are worth today; a part of it for a part of an answer, and nothing for none."""
    price = SimpleNamespace(usd=Nano(50_000_000), nano_per_btc=68_000 * 10**9)
    model = SimpleNamespace(panel=object())
    charge = Nano(50_000_000 * charge_msat // 500_000)
    exchange: Any = SimpleNamespace(
        ask=SimpleNamespace(price=price), route=None, model=model, charge=charge, charge_msat=charge_msat
    )
    tender = Tender(Unit.MSAT, 500_000, "request", balance=b"d" * 32)
    rails: Any = SimpleNamespace(settings=Payments(balance=Balance()))
    settlement = paid_for(exchange, tender, Settlement(charge, ZERO, (), "served", 0), rails)
    assert (settlement.tendered, settlement.charged) == (tendered, charge)
