"""Limits by client address, before anybody is known: requests, tokens a minute, exchanges under way."""

from __future__ import annotations

from typing import ClassVar, Final

from pydantic import Field, field_validator

from proxy.client_addresses import Address, client_of, key_of, networks, parse
from proxy.config.schema import Generation
from proxy.errors import Refusal
from proxy.exchange import Exchange, ListenerKind, Response
from proxy.plugin import Next, Plugin, PluginSettings, Services, Stage
from proxy.state import Claim, Counters, Denied, Lease, Rate, SlotsFull
from proxy.usage import known

SLOT_RETRY_SECONDS: Final = 1.0
"""Told with too_many_streams: when a running exchange will end is not known."""
_TOTAL: Final = "total"


class IpLimitSettings(PluginSettings):
    """The limits themselves are in policies/limits.yaml under `ip` and `total_streams`."""

    exempt_loopback: bool = Field(default=False, description="Do not limit clients on loopback by address.")
    exempt_operations: frozenset[str] = Field(
        default=frozenset({"local", "plain"}),
        max_length=16,
        description="Operations whose requests are not counted: 'local' is health and other endpoints of our own, "
        "'plain' is plain HTTP to hosts that are none of ours.",
    )
    trusted_proxies: tuple[str, ...] = Field(
        default=(), max_length=256, description="CIDRs of load balancers that are believed about the client's address."
    )
    forwarded_header: str = Field(
        default="x-forwarded-for",
        pattern=r"^[a-z0-9-]{1,64}$",
        description="Header in which a trusted proxy names the client: a list of addresses, the newest last.",
    )

    @field_validator("trusted_proxies")
    @classmethod
    def _are_networks(cls, texts: tuple[str, ...]) -> tuple[str, ...]:
        networks(texts)
        return texts

    @field_validator("forwarded_header")
    @classmethod
    def _is_a_list(cls, name: str) -> str:
        if name == "forwarded":
            raise ValueError("the syntax of 'forwarded' (RFC 7239) is not read: have the proxy send x-forwarded-for")
        return name


class IpLimitPlugin(Plugin[IpLimitSettings]):
    """Establishes `client_address`.

    An IPv6 client is counted by its /64. Streams count priced exchanges; their total is limited, too.
    """

    name = "ip_limit"
    stage = Stage.GUARD
    Settings: ClassVar[type[PluginSettings]] = IpLimitSettings
    observes = frozenset({"usage"})

    def __init__(self, settings: IpLimitSettings, services: Services) -> None:
        super().__init__(settings, services)
        self._counters: Counters = services.counters
        self._trusted = networks(settings.trusted_proxies)
        self.follow(services.generation)

    def follow(self, generation: Generation) -> None:
        """Work out the limits of a configuration."""
        limits = generation.limits
        self._generation = generation
        self._scope = limits.ip
        self._rate = Rate.of(limits.ip.requests, limits.ip.tokens_per_minute)
        self._total_streams = limits.total_streams

    async def __call__(self, exchange: Exchange, call_next: Next) -> Response:
        if exchange.generation is not self._generation:
            self.follow(exchange.generation)
        address = exchange.client_address = self._client(exchange)
        limited = not (self.settings.exempt_loopback and address is not None and address.is_loopback)
        # An exchange of our own is counted by key, user and team: its address has sent one request for many of them.
        limited = limited and exchange.origin.kind is not ListenerKind.INWARD
        key = key_of(address)
        lease = self._lease(key, limited) if exchange.operation.priced else None
        claim = None
        if limited and self._rate is not None and exchange.operation.name not in self.settings.exempt_operations:
            claim = Claim(self._counters.ip, key, self._rate)
            denied = self._counters.buckets.take((claim,), 1 if lease is not None else 0)
            if denied is not None:
                if lease is not None:
                    lease.release()
                raise self._rate_limited(denied)
        if lease is not None:
            exchange.on_finish(lambda _: self._finished(exchange, lease, claim))
        return await call_next(exchange)

    def _client(self, exchange: Exchange) -> Address | None:
        if not self._trusted:
            return parse(exchange.origin.peer)
        lines = exchange.request.headers.getall(self.settings.forwarded_header, [])
        return client_of(exchange.origin.peer, lines, self._trusted)

    def _lease(self, key: str, limited: bool) -> Lease:
        claims = [(_TOTAL, self._total_streams)]
        if limited and self._scope.streams is not None:
            claims.append((f"ip:{key}", self._scope.streams))
        try:
            return self._counters.streams.acquire(claims)
        except SlotsFull as full:
            whose = "this proxy" if full.key == _TOTAL else "your address"
            raise Refusal(
                "too_many_streams",
                f"{whose.capitalize()} already has {full.limit} requests under way. Wait for one to end.",
                retry_after_seconds=SLOT_RETRY_SECONDS,
            ) from full

    def _finished(self, exchange: Exchange, lease: Lease, claim: Claim | None) -> None:
        """Give the slot back; take the tokens that were used (one was taken on the way in)."""
        lease.release()
        if claim is not None and claim.rate.token_ns:
            usage = known(exchange.usage)
            used = 0 if usage is None else usage.input_tokens + usage.output_tokens
            self._counters.buckets.correct((claim,), used - 1)

    def _rate_limited(self, denied: Denied) -> Refusal:
        parts = []
        if self._scope.requests is not None:
            bucket = self._scope.requests
            parts.append(f"{bucket.per_minute} requests a minute, {bucket.burst} in {bucket.burst_seconds} s")
        if self._scope.tokens_per_minute is not None:
            parts.append(f"{self._scope.tokens_per_minute} tokens a minute")
        wait = denied.retry_after_seconds
        return Refusal(
            "rate_limited",
            f"Your address has used up what it may send ({'; '.join(parts)}). Try again in {max(wait, 0.1):.1f} s.",
            retry_after_seconds=wait,
        )


PLUGIN = IpLimitPlugin
