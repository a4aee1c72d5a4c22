"""What an answer takes from a balance."""

from __future__ import annotations

from fractions import Fraction

from hypothesis import given
from hypothesis import strategies as st

from proxy.ledger.payment_api import Unit
from proxy.payments.balance.charge import amount_of, charge_of, floor_of, usd_of
from proxy.payments.settings import X402, Balance, Payments
from proxy.pricing.money import MSAT_PER_BTC, Nano

USD = st.integers(0, 10**15).map(Nano)
RATES = st.integers(10**12, 10**17)
UNITS = st.sampled_from(Unit)
HELD = st.integers(0, 10**15)
SETTINGS = Payments(balance=Balance(), x402=X402("0x1", ()))


@given(USD, UNITS, RATES, HELD)
def test_a_charge_is_what_it_cost_within_its_bounds(usd: Nano, unit: Unit, rate: int, held: int) -> None:
    """Never above what was held; else at least the floor, and never below the cost nor a whole unit above it."""
    charged = charge_of(usd, unit, rate, SETTINGS, held)
    assert 0 <= charged <= held
    exact = Fraction(usd, 1000) if unit is Unit.USDC else Fraction(usd * MSAT_PER_BTC, rate)
    floor = floor_of(unit, SETTINGS)
    if charged < held:
        assert charged >= exact
        assert charged >= floor
        assert charged - exact < 1 or charged == floor


@given(USD, USD, UNITS, RATES, HELD)
def test_more_never_charges_less(one: Nano, other: Nano, unit: Unit, rate: int, held: int) -> None:
    """Monotonous in what it cost, and in what was held."""
    less, more = sorted((one, other))
    assert charge_of(less, unit, rate, SETTINGS, held) <= charge_of(more, unit, rate, SETTINGS, held)
    assert charge_of(less, unit, rate, SETTINGS, held) <= charge_of(less, unit, rate, SETTINGS, held + 1)


@given(USD, RATES)
def test_dollars_become_msat_rounded_up_once(usd: Nano, rate: int) -> None:
    """They cover the price and a msat less would not; there and back loses nothing."""
    msat = amount_of(usd, Unit.MSAT, rate)
    assert msat is not None
    assert msat * rate >= usd * MSAT_PER_BTC > (msat - 1) * rate
    assert usd_of(msat, rate) >= usd


def test_conversions_by_hand() -> None:
    """At 100,000 dollars a sat is a tenth of a cent."""
    rate = 100_000 * 10**9
    assert amount_of(Nano(10**9), Unit.MSAT, rate) == 1_000_000
    assert amount_of(Nano(1), Unit.MSAT, rate) == 1
    assert usd_of(1_000, rate) == 1_000_000


def test_floors() -> None:
    """21 sats; of dollars, what x402 asks at least."""
    assert floor_of(Unit.MSAT, SETTINGS) == 21_000
    assert floor_of(Unit.USDC, SETTINGS) == 1000
    assert floor_of(Unit.USDC, Payments(x402=X402("0x1", (), usdc_min=5))) == 5
    assert floor_of(Unit.MSAT, Payments(balance=Balance(charge_sats_min=0))) == 0


def test_without_an_exchange_rate_all_that_was_held_is_charged() -> None:
    """No hold in sats is made without one; a fault must not be a gift."""
    assert amount_of(Nano(5), Unit.MSAT, None) is None
    assert charge_of(Nano(5), Unit.MSAT, None, SETTINGS, 77) == 77
    assert charge_of(Nano(5000), Unit.USDC, None, SETTINGS, 7777) == 1000
