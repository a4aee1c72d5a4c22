"""Limits by client address for callers without a key, who pay for each request or ask what it costs."""

from __future__ import annotations

from typing import ClassVar, Final

from pydantic import Field

from proxy.client_addresses import Address, key_of, parse
from proxy.config.schema import Bucket, Generation
from proxy.errors import Refusal
from proxy.exchange import Exchange, Response
from proxy.identities import IdentityKind
from proxy.operations import Target
from proxy.payments.credentials import all_presented
from proxy.plugin import Next, Plugin, PluginSettings, Services, Stage
from proxy.state import Claim, Counters, Lease, Rate, SlotsFull

SLOT_RETRY_SECONDS: Final = 1.0
"""Told with too_many_streams: when a running exchange will end is not known."""
_FREE, _INVOICE, _PAID = "free", "invoice", "paid"
_OURS: Final = frozenset({Target.UPSTREAM, Target.LOCAL})
_WORDS: Final = {
    _FREE: "requests without a payment",
    _INVOICE: "requests for a price",
    _PAID: "paid requests",
}


class PayerLimitSettings(PluginSettings):
    """The limits themselves are in policies/limits.yaml under `payers`."""

    exempt_loopback: bool = Field(default=False, description="Do not limit callers on loopback.")
    exempt_paths: frozenset[str] = Field(
        default=frozenset({"/health", "/v1/health"}),
        max_length=16,
        description="Endpoints of our own whose requests are not counted.",
    )


class PayerLimitPlugin(Plugin[PayerLimitSettings]):
    """Three kinds of requests are counted, each by itself: free (our own endpoints), invoice (priced and not paid for,
    so that the answer is a 402) and paid (with a payment or a balance, to our own endpoints, too). A priced one also
    takes a slot, before anything is paid: whoever is refused here has lost nothing. An IPv6 client is counted by its
    /64. Holders of keys have limits of their own, and where nobody is asked to pay there are none here.
    """

    name = "payer_limit"
    stage = Stage.LIMIT
    Settings: ClassVar[type[PluginSettings]] = PayerLimitSettings
    requires = frozenset({"identity"})

    def __init__(self, settings: PayerLimitSettings, services: Services) -> None:
        super().__init__(settings, services)
        self._counters: Counters = services.counters
        self.follow(services.generation)

    def follow(self, generation: Generation) -> None:
        """Work out the limits of a configuration."""
        limits = generation.limits.payers
        self._generation = generation
        self._streams = limits.streams
        self._buckets: dict[str, Bucket | None] = {_FREE: limits.free, _INVOICE: limits.invoice, _PAID: limits.paid}
        self._rates = {kind: Rate.of(bucket, None) for kind, bucket in self._buckets.items()}

    async def __call__(self, exchange: Exchange, call_next: Next) -> Response:
        kind = self._kind(exchange)
        address = exchange.client_address or parse(exchange.origin.peer)
        if kind is None or self._exempt(exchange, address):
            return await call_next(exchange)
        if exchange.generation is not self._generation:
            self.follow(exchange.generation)
        key = key_of(address)
        lease = self._lease(key) if exchange.operation.priced and self._streams is not None else None
        rate = self._rates[kind]
        if rate is not None:
            denied = self._counters.buckets.take((Claim(self._counters.payers, f"{kind}:{key}", rate),))
            if denied is not None:
                if lease is not None:
                    lease.release()
                raise self._rate_limited(kind, denied.retry_after_seconds)
        if lease is not None:
            exchange.on_finish(lambda _: lease.release())
        return await call_next(exchange)

    def _kind(self, exchange: Exchange) -> str | None:
        """None: not limited here."""
        identity, operation = exchange.identity, exchange.operation
        if exchange.generation.payments is None or identity is None or operation.target not in _OURS:
            return None
        asks = identity.kind is IdentityKind.ANONYMOUS and not operation.priced
        if not asks and identity.kind is not IdentityKind.PAYER:
            return None
        if operation.priced:
            return _INVOICE if exchange.presented is None else _PAID
        return _PAID if all_presented(exchange.request.headers) else _FREE

    def _exempt(self, exchange: Exchange, address: Address | None) -> bool:
        if self.settings.exempt_loopback and address is not None and address.is_loopback:
            return True
        return not exchange.operation.priced and exchange.request.path in self.settings.exempt_paths

    def _lease(self, key: str) -> Lease:
        try:
            return self._counters.streams.acquire(((f"payer:{key}", self._streams or 0),))
        except SlotsFull as full:
            raise Refusal(
                "too_many_streams",
                f"Your address already has {full.limit} requests under way. Wait for one to end. "
                "Nothing was taken for this one: send it again as it is.",
                retry_after_seconds=SLOT_RETRY_SECONDS,
            ) from full

    def _rate_limited(self, kind: str, wait: float) -> Refusal:
        bucket = self._buckets[kind]
        limit = "" if bucket is None else f" ({bucket.per_minute} a minute, {bucket.burst} in {bucket.burst_seconds} s)"
        kept = " Nothing was taken for it: send it again as it is." if kind == _PAID else ""
        return Refusal(
            "rate_limited",
            f"Your address has used up its {_WORDS[kind]}{limit}. Try again in {max(wait, 0.1):.1f} s.{kept}",
            retry_after_seconds=wait,
        )


PLUGIN = PayerLimitPlugin
