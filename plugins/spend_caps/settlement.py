"""What an exchange is charged and what it cost at list, from what its attempts did."""

from __future__ import annotations

from proxy.attempt_costs import list_cost, may_have_worked
from proxy.catalogue import Model
from proxy.exchange import Exchange, Finish
from proxy.ledger.api import AttemptOutcome, Hold, Settlement
from proxy.pricing.money import ZERO, Nano
from proxy.routes import Try
from proxy.usage import known


def settlement_of(exchange: Exchange, hold: Hold, reason: Finish, now_ms: int) -> Settlement:
    """The settlement of a dispatched hold.

    A served attempt is charged by its usage; one whose usage is not known (the drain ended before it came, the answer
    was larger than we take, or what was reported is beyond any model) takes the full hold. A failed attempt is the
    operator's cost, 0 to the caller, unless the upstream reported usage. The loser of a hedge is charged to nobody
    either; at list it may have done all that was asked of it, and counts as that: half of a hold that was made for two.

    A panel's answer is charged by `exchange.charge`, not by its calls; each call has its own model's list price, and
    one whose usage is not known the most that it can have cost.

    Where the full hold is charged since the usage is not known, a purse pays what was counted, input and answer; where
    nothing was counted, the input's part of the hold.
    """
    model = exchange.model
    tries = exchange.route.tries if exchange.route is not None else []
    own = exchange.identity is not None and exchange.identity.provider_credential
    charged, listed = ZERO, ZERO
    priced = True
    outcomes: list[AttemptOutcome] = []
    most = _list_most(exchange, hold, own=own)
    for number, tried in enumerate(tries, start=1):
        cost = list_cost(tried.model or model, tried, most if tried.most is None else tried.most)
        if cost is None:
            priced = False
        else:
            listed = Nano(listed + cost)
        if number == len(tries) and not own and (model is None or model.panel is None):
            charged = _charge(model, tried, hold)
        outcomes.append(AttemptOutcome(tried.attempt, tried.outcome, tried.status, tried.usage, cost, now_ms))
    if model is not None and model.panel is not None:
        fixed = exchange.charge or ZERO
        return Settlement(fixed, listed if priced else None, tuple(outcomes), reason.value, now_ms)
    paid = _paid(model, tries[-1], hold) if tries and hold.request.in_advance else None
    return Settlement(charged, listed if priced else None, tuple(outcomes), reason.value, now_ms, paid)


def _list_most(exchange: Exchange, hold: Hold, *, own: bool) -> Nano:
    """What one attempt can cost at list: the hold's amount covers two where a hedge might have run."""
    held = hold.request.list or ZERO
    model, quote = exchange.model, exchange.quote
    twice = model is not None and model.hedge and quote is not None and len(quote.candidates) > 1 and not own
    return Nano(-(-held // 2)) if twice else held


def _charge(model: Model | None, tried: Try, hold: Hold) -> Nano:
    if model is None or model.rates is None:
        return hold.request.charged
    if (usage := known(tried.usage)) is not None:
        return model.rates.cost(usage)
    return hold.request.charged if may_have_worked(tried) else ZERO


def _paid(model: Model | None, tried: Try, hold: Hold) -> Nano | None:
    """What a purse pays where that is not what is charged."""
    if known(tried.usage) is not None or not may_have_worked(tried) or model is None or model.rates is None:
        return None
    counted = hold.request.input_charged if tried.counted is None else model.rates.cost(tried.counted)
    return Nano(min(counted, hold.request.charged))
