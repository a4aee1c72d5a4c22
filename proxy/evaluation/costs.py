"""What an answer cost: as the gateway reports it, else by its rates and the usage, else not known."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal, InvalidOperation
from typing import Any

from proxy.pricing.money import NANO_PER_USD, Nano
from proxy.pricing.rates import Rates, parse_rate
from proxy.usage import Usage

RateTable = Mapping[str, Rates]


@dataclass(frozen=True, slots=True)
class Cost:
    """Of one answer."""

    nano: Nano | None
    basis: str
    """reported | rates | empty: not known"""


UNKNOWN = Cost(None, "")


def read_rates(raw: bytes) -> RateTable:
    """The answer of GET /v1/cost-preview/rates; what cannot be read is left out."""
    try:
        rows = json.loads(raw, parse_float=Decimal)["rates"]
    except (ValueError, KeyError, TypeError, RecursionError):
        return {}
    found = {}
    for row in rows if isinstance(rows, list) else ():
        try:
            found[str(row["model"])] = Rates(parse_rate(row["input_per_1m"]), parse_rate(row["output_per_1m"]))
        except (KeyError, TypeError, ValueError, InvalidOperation):
            continue
    return found


def cost_of(content: Mapping[str, Any], model: str, rates: RateTable) -> Cost:
    """Of one chat completion."""
    usage = content.get("usage")
    reported = _reported(content, usage)
    if reported is not None:
        return Cost(reported, "reported")
    table = rates.get(model)
    if table is None or not isinstance(usage, dict):
        return UNKNOWN
    into, out = usage.get("prompt_tokens"), usage.get("completion_tokens")
    if type(into) is not int or type(out) is not int:
        return UNKNOWN
    return Cost(table.cost(Usage.reported(input_tokens=into, output_tokens=out)), "rates")


def _reported(content: Mapping[str, Any], usage: Any) -> Nano | None:
    """What the caller was charged for a panel's answer, or what a gateway writes into `usage.cost`, in dollars."""
    panel = content.get("consensus")
    said = panel.get("charged_usd") if isinstance(panel, dict) else None
    if said is None and isinstance(usage, dict):
        said = usage.get("cost")
    return nano_of(said)


def nano_of(usd: Any) -> Nano | None:
    """Dollars as somebody else writes them, to the nano-dollar; None: no amount."""
    if isinstance(usd, bool) or not isinstance(usd, int | float | str):
        return None
    try:
        value = Decimal(str(usd))
    except InvalidOperation:
        return None
    return Nano(round(value * NANO_PER_USD)) if value.is_finite() and 0 <= value < NANO_PER_USD else None
