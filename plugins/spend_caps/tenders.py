"""What differs where the request itself is paid for: by a proof, for its price; from a balance, for what it used."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Final

from proxy.errors import Refusal
from proxy.exchange import Exchange, Response
from proxy.headers import Headers
from proxy.ledger.api import Settlement
from proxy.ledger.payment_api import BalanceExceeded, PaymentTaken, Taken, Tender, Unit
from proxy.payments.api import Ask
from proxy.payments.balance.charge import charge_of, floor_of
from proxy.payments.balance.refusals import short
from proxy.payments.prices import surcharged
from proxy.pricing.money import ZERO, Nano
from proxy.pricing.quote import Quote

if TYPE_CHECKING:
    from proxy.payments.rails import Rails

DEDUP: Final = "x-dedup"


def sold(quote: Quote, ask: Ask) -> Quote:
    """The quote at the price that was asked: all that caps count of it."""
    return replace(quote, charged=ask.price.usd, input_charged=ask.price.input_usd, enforced=True)


async def taken_answer(exchange: Exchange, taken: PaymentTaken, rails: Rails) -> Response:
    """The answer that a spent proof has bought before. Raises its rail's own Refusal for everything else."""
    presented, answer = exchange.presented, taken.answer
    rail = None if presented is None else rails.taking(presented.credential)
    if rail is None:
        raise Refusal("internal_error", "This payment belongs to a way to pay that is off.")
    if taken.why is not Taken.SPENT or answer is None:
        raise rail.taken(taken)
    exchange.repeated = True
    response = Response(answer.status, Headers(answer.headers), answer.body)
    response.headers[DEDUP] = "hit"
    for name, value in await rail.served_again(taken.payment):
        response.headers.add(name, value)
    return response


def balance_refused(exchange: Exchange, exceeded: BalanceExceeded, rails: Rails) -> Refusal:
    """401 for a balance that is not there (any more), 402 for one that has too little."""
    needed = 0 if exchange.tender is None else exchange.tender.amount
    return short(exceeded.state, needed, rails.settings)


def paid_for(exchange: Exchange, tender: Tender, settlement: Settlement, rails: Rails) -> Settlement:
    """The settlement of what a tender pays: a proof its price once an answer went out, a balance what was used."""
    ask = exchange.ask
    if ask is None:
        return settlement
    if tender.proof is not None:
        return replace(settlement, charged=ask.price.usd if exchange.paid else ZERO)
    used = settlement.charged if settlement.paid is None else settlement.paid
    if not used and not _answered(exchange):
        charged = _at_most(settlement.charged, ask, rails) if settlement.charged else ZERO
        return replace(settlement, charged=charged, paid=None)
    charged = _at_most(settlement.charged, ask, rails)
    cost, held, fixed = _at_most(used, ask, rails), tender.amount, exchange.charge_msat
    if fixed is not None and tender.unit is Unit.MSAT:
        amount = min(max(fixed, floor_of(tender.unit, rails.settings)), held)
    else:
        amount = charge_of(cost, tender.unit, ask.price.nano_per_btc, rails.settings, held)
    return replace(settlement, charged=charged, paid=None, tendered=amount)


def _answered(exchange: Exchange) -> bool:
    """An answer that costs nothing is still an answer, for which a balance's floor is due."""
    if exchange.model is not None and exchange.model.panel is not None:
        return bool(exchange.charge or exchange.charge_msat)
    return exchange.route is not None and exchange.route.served


def _at_most(cost: Nano, ask: Ask, rails: Rails) -> Nano:
    return min(surcharged(cost, rails.settings), ask.price.usd)
