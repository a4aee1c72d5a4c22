"""Caps as an operator types them: `5/day`, `100/month:list`, `1/hour:clamp`, `20/day:soft=80`."""

from __future__ import annotations

from decimal import Decimal, InvalidOperation
from typing import Final

from proxy.identities import CapSetting
from proxy.pricing.money import Nano, nano_from_usd, usd_text

WINDOWS: Final = ("hour", "day", "month", "total")
BASES: Final = ("charged", "list")
USD_MAX: Final = 1_000_000_000


def parse_cap(text: str) -> CapSetting:
    """`USD/WINDOW`, then any of `:charged`, `:list`, `:clamp`, `:soft=PERCENT`.

    Raises ValueError with what to write instead.
    """
    limit, *options = text.strip().split(":")
    amount, slash, window = limit.partition("/")
    if not slash or window not in WINDOWS:
        raise ValueError(f"'{text}' is not a cap: write USD/WINDOW, WINDOW one of {', '.join(WINDOWS)}, as in 5/day")
    basis, clamp, soft = "charged", False, None
    for option in options:
        if option in BASES:
            basis = option
        elif option == "clamp":
            clamp = True
        elif option.startswith("soft="):
            soft = _percent(option.removeprefix("soft="), text)
        else:
            raise ValueError(f"'{option}' in '{text}' is unknown: use list, charged, clamp or soft=PERCENT")
    return CapSetting(_nano(amount, text), window, basis, soft, clamp)


def cap_text(cap: CapSetting) -> str:
    """The cap as `parse_cap` reads it."""
    text = f"{usd_text(Nano(cap.limit_nano))}/{cap.window}"
    if cap.basis != "charged":
        text += f":{cap.basis}"
    if cap.soft_percent is not None:
        text += f":soft={cap.soft_percent}"
    return f"{text}:clamp" if cap.clamp else text


def _nano(amount: str, text: str) -> Nano:
    try:
        usd = Decimal(amount.removeprefix("$"))
        if not usd.is_finite() or not 0 <= usd <= USD_MAX:
            raise ValueError(f"the limit of '{text}' is not between 0 and {USD_MAX} USD")
        return nano_from_usd(usd)
    except InvalidOperation as error:
        raise ValueError(f"'{amount}' in '{text}' is not an amount of dollars, as in 5 or 0.25") from error


def _percent(value: str, text: str) -> int:
    if not (value.isascii() and value.isdigit() and 1 <= int(value) <= 100):
        raise ValueError(f"'soft={value}' in '{text}' is not a percentage from 1 to 100")
    return int(value)
