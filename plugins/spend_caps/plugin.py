"""Hold what the exchange can cost under every cap concerned, settle what it did cost."""

from __future__ import annotations

from typing import ClassVar
from zoneinfo import ZoneInfo

from pydantic import Field

from plugins.spend_caps.refusal import exhausted
from plugins.spend_caps.settlement import settlement_of
from proxy.cap_windows import caps_of, present
from proxy.catalogue import Model
from proxy.dialects.base import Call
from proxy.errors import Refusal
from proxy.exchange import Exchange, Finish, Response
from proxy.identities import CapSetting, Identity
from proxy.ledger.api import Basis, Cap, CapExceeded, CapState, Hold, HoldRequest
from proxy.plugin import Next, Plugin, PluginSettings, Stage
from proxy.pricing import tokens
from proxy.pricing.quote import Quote
from proxy.quoting import priced


class SpendCapsSettings(PluginSettings):
    """How near a cap is handled."""

    clamp_tokens_min: int = Field(
        default=16, ge=1, description="Where a cap clamps, an answer shorter than this is refused instead."
    )


class SpendCapsPlugin(Plugin[SpendCapsSettings]):
    """Establishes `hold` and, when the exchange ends, `settlement`.

    The hold is the byte bound; only where that does not fit is the input counted with the model's own tokenizer,
    and only where that does not fit either is the output limit clamped, if every exhausted cap says so.
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
        caps = self._caps(exchange, identity)
        hold = await self._hold(exchange, identity, model, call, quote, caps)
        exchange.hold = hold
        exchange.on_finish(lambda reason: self._settle(exchange, hold, reason))
        for state in hold.soft_crossed:
            self._soft(exchange, state)
        return await call_next(exchange)

    def _caps(self, exchange: Exchange, identity: Identity) -> dict[Cap, CapSetting]:
        generation = exchange.generation
        zone = ZoneInfo(generation.file.time_zone)
        at_ms = self.services.clock.now_ms()
        found: dict[Cap, CapSetting] = {}
        for scope, scope_id, setting in caps_of(identity, generation):
            if identity.provider_credential and setting.basis != Basis.LIST.value:
                continue
            found[present(scope, scope_id, setting, at_ms, zone)] = setting
        return found

    async def _hold(
        self,
        exchange: Exchange,
        identity: Identity,
        model: Model,
        call: Call,
        quote: Quote,
        caps: dict[Cap, CapSetting],
    ) -> Hold:
        own = identity.provider_credential
        if caps and not quote.bounded:
            self.services.metrics.hold_failed("unbounded_cost")
            raise Refusal(
                "unbounded_cost",
                f"This request uses {quote.unbounded_reason}. Its cost cannot be bounded, and a spend cap applies.",
            )
        quote = _enforced(quote, enforced=bool(caps) or not own)
        exchange.quote = quote
        try:
            return await self._try(exchange, identity, model, quote, caps)
        except CapExceeded as full:
            states = full.states
        if (counted := await self._counted(quote, model, call, own)) is not None:
            exchange.quote = quote = counted
            try:
                return await self._try(exchange, identity, model, quote, caps)
            except CapExceeded as full:
                states = full.states
        clamped = self._clamped(quote, model, call, own, states, caps)
        if clamped is not None:
            exchange.quote = quote = clamped
            try:
                return await self._try(exchange, identity, model, quote, caps)
            except CapExceeded as full:
                states = full.states
        self.services.metrics.hold_failed("quota_exhausted")
        raise exhausted(states, quote)

    async def _try(
        self, exchange: Exchange, identity: Identity, model: Model, quote: Quote, caps: dict[Cap, CapSetting]
    ) -> Hold:
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
            caps=tuple(caps),
            at_ms=self.services.clock.now_ms(),
        )
        hold: Hold = await self.services.ledger.hold(request)
        return hold

    async def _counted(self, quote: Quote, model: Model, call: Call, own: bool) -> Quote | None:
        """The quote with counted input, where the model's vocabulary is known and the count is smaller."""
        if model.encoding is None or quote.counted:
            return None
        count = await tokens.count_call_async(call, model.encoding, image_tokens_max=model.image_tokens_max)
        if count is None or count >= quote.input_tokens:
            return None
        return priced(quote.with_input(count), model, call, provider_credential=own)

    def _clamped(
        self,
        quote: Quote,
        model: Model,
        call: Call,
        own: bool,
        states: tuple[CapState, ...],
        caps: dict[Cap, CapSetting],
    ) -> Quote | None:
        """The largest output limit that fits every exhausted cap; None where one of them does not clamp."""
        if not quote.output_tokens or not all(caps[state.cap].clamp for state in states):
            return None
        low, high = 0, quote.output_tokens
        while low < high:
            middle = (low + high + 1) // 2
            tried = priced(quote.with_output(middle), model, call, provider_credential=own)
            if all(_amount(tried, state) <= state.left for state in states):
                low = middle
            else:
                high = middle - 1
        if low < self.settings.clamp_tokens_min:
            return None
        return priced(quote.with_output(low), model, call, provider_credential=own)

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
        exchange.settlement = settlement_of(exchange, hold, reason, now)
        self.services.ledger.settle(hold, exchange.settlement)


def _enforced(quote: Quote, *, enforced: bool) -> Quote:
    return quote if quote.enforced == enforced else quote.with_enforced(enforced)


def _amount(quote: Quote, state: CapState) -> int:
    return (quote.list or 0) if state.cap.basis is Basis.LIST else quote.charged


PLUGIN = SpendCapsPlugin
