"""Hold what the exchange can cost under every cap concerned and from its purse, settle what it did cost."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Final
from zoneinfo import ZoneInfo

from pydantic import Field

from plugins.spend_caps.refusal import empty, exhausted
from plugins.spend_caps.settlement import settlement_of
from plugins.spend_caps.tenders import balance_refused, paid_for, sold, taken_answer
from proxy.cap_windows import caps_of, present
from proxy.catalogue import Model
from proxy.dialects.base import Call
from proxy.errors import Refusal
from proxy.exchange import Exchange, Finish, Response
from proxy.identities import CapSetting, Identity, IdentityKind
from proxy.ledger.api import Basis, Cap, CapExceeded, CapState, Hold, HoldRequest, Purse, PurseExceeded
from proxy.ledger.payment_api import BalanceExceeded, PaymentTaken
from proxy.payments.free import is_free
from proxy.plugin import Next, Plugin, PluginSettings, Stage
from proxy.prepaid import purse_of
from proxy.pricing import tokens
from proxy.pricing.money import ZERO
from proxy.pricing.quote import Quote
from proxy.quoting import priced

CLOSED_SECONDS: Final = 60
"""Told to payers where a cap of the operator's is reached."""
FIXED: Final = "policies/consensus.yaml"
"""Where the prices of panels come from, as holds keep it."""
CLAMPS_MAX: Final = 2
"""Once to the caps that are short, once more to a purse that is shorter still."""


@dataclass(frozen=True, slots=True)
class Asked:
    """What a hold is asked for."""

    exchange: Exchange
    identity: Identity
    model: Model
    call: Call
    caps: dict[Cap, CapSetting]
    purse: Purse | None


class SpendCapsSettings(PluginSettings):
    """How near a cap is handled."""

    clamp_tokens_min: int = Field(
        default=16, ge=1, description="Where a cap clamps, an answer shorter than this is refused instead."
    )
    clamp_purse: bool = Field(
        default=False, description="Lower the output limit to what a prepaid purse has left, in place of refusing."
    )


class SpendCapsPlugin(Plugin[SpendCapsSettings]):
    """Establishes `hold` and, when the exchange ends, `settlement`.

    The hold is the byte bound; only where that does not fit is the input counted with the model's own tokenizer,
    and only where that does not fit either is the output limit clamped, if every exhausted cap says so. A purse pays
    in advance for teams that are `prepaid`; it clamps only where `clamp_purse` says so.
    """

    name = "spend_caps"
    stage = Stage.PAY
    Settings: ClassVar[type[PluginSettings]] = SpendCapsSettings
    provides = frozenset({"hold"})
    requires = frozenset({"identity", "call", "model", "quote"})
    observes = frozenset({"route", "usage"})

    async def __call__(self, exchange: Exchange, call_next: Next) -> Response:
        identity, model, call, quote = exchange.identity, exchange.model, exchange.call, exchange.quote
        if identity is None or model is None or call is None or quote is None:
            return await call_next(exchange)
        if identity.kind is IdentityKind.PAYER and exchange.tender is None and not is_free(exchange):
            raise Refusal("internal_error", "This priced path is closed: nothing in the chain asked to be paid for it.")
        purse = None if exchange.tender is not None else purse_of(identity, model, exchange.generation)
        caps = self._caps(exchange, identity, model)
        asked = Asked(exchange, identity, model, call, caps, purse)
        if exchange.tender is not None:
            held = await self._paid(asked, quote)
            if isinstance(held, Response):
                return held
            hold = held
        else:
            hold = await self._hold(asked, quote)
        exchange.hold = hold
        exchange.on_finish(lambda reason: self._settle(exchange, hold, reason))
        for state in hold.soft_crossed:
            self._soft(exchange, state)
        return await call_next(exchange)

    def _caps(self, exchange: Exchange, identity: Identity, model: Model) -> dict[Cap, CapSetting]:
        """Those that count it: where the caller pays its provider itself, caps on list cost alone."""
        generation = exchange.generation
        zone = ZoneInfo(generation.file.time_zone)
        at_ms = self.services.clock.now_ms()
        found: dict[Cap, CapSetting] = {}
        for scope, scope_id, setting in caps_of(identity, generation):
            if (identity.provider_credential or model.byo) and setting.basis != Basis.LIST.value:
                continue
            found[present(scope, scope_id, setting, at_ms, zone)] = setting
        return found

    async def _paid(self, asked: Asked, quote: Quote) -> Hold | Response:
        """The hold of who pays for the request, its payment leased with it; or the answer that it has bought before."""
        try:
            ask = asked.exchange.ask
            tried = await self._try(asked, quote if ask is None else sold(quote, ask))
        except PaymentTaken as taken:
            return await taken_answer(asked.exchange, taken, self.services.rails)
        except BalanceExceeded as exceeded:
            raise balance_refused(asked.exchange, exceeded, self.services.rails) from exceeded
        if isinstance(tried, Hold):
            if tried.lease is not None:
                tried.lease.asked = False  # Nobody is asked outside before `payment`, which says so then.
            return tried
        self.services.metrics.hold_failed("quota_exhausted")
        raise Refusal(
            "payment_unavailable",
            "This service has reached a limit of its operator's. Nothing was taken; try again later.",
            retry_after_seconds=CLOSED_SECONDS,
        )

    async def _hold(self, asked: Asked, quote: Quote) -> Hold:
        own = asked.identity.provider_credential or asked.model.byo
        limited = bool(asked.caps) or asked.purse is not None
        if limited and not quote.bounded:
            self.services.metrics.hold_failed("unbounded_cost")
            raise Refusal(
                "unbounded_cost",
                f"This request uses {quote.unbounded_reason}. Its cost cannot be bounded, and a spend cap or a prepaid "
                "balance applies.",
            )
        quote = _enforced(quote, enforced=limited or not own)
        tried = await self._try(asked, quote)
        if not isinstance(tried, Hold) and (counted := await self._counted(asked, quote)) is not None:
            quote = counted
            tried = await self._try(asked, quote)
        for _ in range(CLAMPS_MAX):
            clamped = None if isinstance(tried, Hold) else self._clamped(asked, quote, tried)
            if clamped is None:
                break
            quote = clamped
            tried = await self._try(asked, quote)
        if isinstance(tried, Hold):
            return tried
        self.services.metrics.hold_failed("quota_exhausted")
        raise empty(tried.state, quote) if isinstance(tried, PurseExceeded) else exhausted(tried.states, quote)

    async def _try(self, asked: Asked, quote: Quote) -> Hold | CapExceeded | PurseExceeded:
        identity, model, exchange = asked.identity, asked.model, asked.exchange
        exchange.quote = quote
        request = HoldRequest(
            exchange_id=exchange.request_id,
            key_id=identity.key_id,
            user=identity.user,
            team=identity.team,
            organisation=identity.organisation,
            model=model.name,
            operation=exchange.operation.name,
            charged=quote.charged,
            list=quote.list,
            caps=tuple(asked.caps),
            at_ms=self.services.clock.now_ms(),
            purse=asked.purse,
            input_charged=ZERO if model.panel is not None else min(quote.input_charged, quote.charged),
            price_source=_price_source(model),
            owed=None if model.panel is None else ZERO,
            tender=exchange.tender,
        )
        try:
            hold: Hold = await self.services.ledger.hold(request)
        except (CapExceeded, PurseExceeded) as exceeded:
            return exceeded
        return hold

    async def _counted(self, asked: Asked, quote: Quote) -> Quote | None:
        """The quote with counted input, where the model's vocabulary is known and the count is smaller."""
        model, call = asked.model, asked.call
        if model.encoding is None or quote.counted:
            return None
        count = await tokens.count_call_async(call, model.encoding, image_tokens_max=model.image_tokens_max)
        if count is None or count >= quote.input_tokens:
            return None
        return priced(quote.with_input(count), model, call, provider_credential=asked.identity.provider_credential)

    def _clamped(self, asked: Asked, quote: Quote, short: CapExceeded | PurseExceeded) -> Quote | None:
        """The largest output limit that fits what is short; None where that does not clamp."""
        if not quote.output_tokens or not self._clamps(asked, short):
            return None
        own = asked.identity.provider_credential
        low, high = 0, quote.output_tokens
        while low < high:
            middle = (low + high + 1) // 2
            if _fits(priced(quote.with_output(middle), asked.model, asked.call, provider_credential=own), short):
                low = middle
            else:
                high = middle - 1
        if low < self.settings.clamp_tokens_min:
            return None
        return priced(quote.with_output(low), asked.model, asked.call, provider_credential=own)

    def _clamps(self, asked: Asked, short: CapExceeded | PurseExceeded) -> bool:
        if asked.model.panel is not None:
            return False  # A shorter answer costs the same.
        if isinstance(short, PurseExceeded):
            return self.settings.clamp_purse
        return all(asked.caps[state.cap].clamp for state in short.states)

    def _soft(self, exchange: Exchange, state: CapState) -> None:
        cap = state.cap
        self.services.metrics.soft_cap_crossed(cap.scope, cap.scope_id, cap.window)
        self.services.log.warning(
            "soft_cap_crossed",
            request_id=exchange.request_id,
            scope=cap.scope,
            scope_id=cap.scope_id,
            window=cap.window,
            spent_nano=state.spent,
            held_nano=state.held,
            limit_nano=cap.limit,
        )

    def _settle(self, exchange: Exchange, hold: Hold, reason: Finish) -> None:
        now = self.services.clock.now_ms()
        if not exchange.dispatched:
            self.services.ledger.release(hold, reason=reason.value, at_ms=now)
            return
        settlement = settlement_of(exchange, hold, reason, now)
        if exchange.tender is not None:
            settlement = paid_for(exchange, exchange.tender, settlement, self.services.rails)
        exchange.settlement = settlement
        self.services.ledger.settle(hold, exchange.settlement)
        if exchange.usage is not None and exchange.usage.implausible:
            self.services.log.error("usage_implausible", request_id=exchange.request_id, model=hold.request.model)


def _price_source(model: Model) -> str:
    if model.panel is not None:
        return FIXED
    return "" if model.rates is None else model.rates.source


def _enforced(quote: Quote, *, enforced: bool) -> Quote:
    return quote if quote.enforced == enforced else quote.with_enforced(enforced)


def _fits(quote: Quote, short: CapExceeded | PurseExceeded) -> bool:
    if isinstance(short, PurseExceeded):
        return quote.charged <= short.state.left
    return all(_amount(quote, state) <= state.left for state in short.states)


def _amount(quote: Quote, state: CapState) -> int:
    return (quote.list or ZERO) if state.cap.basis is Basis.LIST else quote.charged


PLUGIN = SpendCapsPlugin
