"""Money is exact, and text of it says what it is."""

from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.pricing.money import NANO_PER_USD, Nano, nano_from_usd, usd_text


@given(st.integers(-(10**18), 10**18))
def test_text_and_amount_are_the_same(amount: int) -> None:
    """Dollars written out are read back as the same nano-dollars."""
    assert nano_from_usd(usd_text(Nano(amount))) == amount


@pytest.mark.parametrize(
    ("usd", "nano"),
    [
        ("1", NANO_PER_USD),
        (2, 2 * NANO_PER_USD),
        ("0.000000001", 1),
        (Decimal("-0.5"), -NANO_PER_USD // 2),
        ("1e-9", 1),
    ],
)
def test_dollars_become_nano_dollars(usd: Decimal | str | int, nano: int) -> None:
    """Exactly."""
    assert nano_from_usd(usd) == nano


@pytest.mark.parametrize("usd", [0.1, "0.0000000001", 1.0])
def test_floats_and_finer_amounts_are_refused(usd: float | str) -> None:
    """Rounding is never silent."""
    with pytest.raises(ValueError):
        nano_from_usd(usd)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("nano", "places", "text"),
    [
        (0, None, "0.00"),
        (NANO_PER_USD, None, "1.00"),
        (1_500_000_000, None, "1.50"),
        (1, None, "0.000000001"),
        (-1_230_000_000, None, "-1.23"),
        (1_234_567_890, 2, "1.23"),
        (10_000_000_000, 0, "10"),
    ],
)
def test_dollars_as_text(nano: int, places: int | None, text: str) -> None:
    """Two decimals at least, or as many as asked for."""
    assert usd_text(Nano(nano), places=places) == text
