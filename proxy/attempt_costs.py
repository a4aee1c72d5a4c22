"""What one upstream attempt cost at list: for the ledger's settlement, and for a panel's budget while it runs."""

from __future__ import annotations

from proxy.catalogue import Model
from proxy.pricing.money import ZERO, Nano
from proxy.routes import Try
from proxy.usage import known


def list_cost(model: Model | None, tried: Try, most: Nano) -> Nano | None:
    """By its usage; where that is not known `most`, if the upstream may have done the work, else nothing.

    None where the model has no list price there.
    """
    rates = None if model is None else model.list_rates(tried.candidate)
    if rates is None:
        return None
    if (usage := known(tried.usage)) is not None:
        return rates.cost(usage)
    return most if may_have_worked(tried) else ZERO


def may_have_worked(tried: Try) -> bool:
    """The upstream may have done all the work that was held for, and nobody can say."""
    return tried.outcome in ("running", "served", "too_large", "hedge_lost")
