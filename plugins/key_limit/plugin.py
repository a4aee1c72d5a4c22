"""Limits by key, user and team: requests, tokens a minute, exchanges under way."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Final

from pydantic import Field

from proxy.catalogue import Model
from proxy.config.schema import Generation, ScopeLimits
from proxy.dialects.base import Call
from proxy.errors import Refusal
from proxy.exchange import Exchange, Finish, Response
from proxy.identities import Identity, IdentityKind
from proxy.plugin import Next, Plugin, PluginSettings, Services, Stage
from proxy.state import Accounts, Claim, Counters, Denied, Lease, Rate, SlotsFull
from proxy.usage import known

SLOT_RETRY_SECONDS: Final = 1.0
"""Told with too_many_streams: when a running exchange will end is not known."""
_NOTHING_USED: Final = (Finish.REFUSED, Finish.UPSTREAM_FAILED)


class KeyLimitSettings(PluginSettings):
    """The limits themselves are in policies/limits.yaml, by tier in policies/tiers.yaml."""

    bytes_per_token: int = Field(
        default=4, ge=1, le=16, description="Bytes of a request body taken for one token until the usage is known."
    )


@dataclass(frozen=True, slots=True)
class _Scope:
    """One scope's limits, worked out."""

    limits: ScopeLimits
    rate: Rate | None

    @classmethod
    def of(cls, limits: ScopeLimits) -> _Scope:
        return cls(limits, Rate.of(limits.requests, limits.tokens_per_minute))


class KeyLimitPlugin(Plugin[KeyLimitSettings]):
    """A tier's own limits stand in place of `key`'s. All scopes admit a request, or none of them counts it.

    Tokens a minute: no quote is known yet, so the body's bytes / `bytes_per_token` and the output limit for every
    choice, at most the context window, are taken on the way in; the usage replaces them when the exchange ends.
    A caller who is not known by a key of ours is counted by address in place of key and user; one who is not known
    at all has no team either, and is counted for what is priced only. Who pays for each request is `payer_limit`'s;
    their team's limits count here, for what comes with a payment, where teams.yaml has that team.
    """

    name = "key_limit"
    stage = Stage.LIMIT
    Settings: ClassVar[type[PluginSettings]] = KeyLimitSettings
    requires = frozenset({"identity", "call", "model"})
    observes = frozenset({"usage"})

    def __init__(self, settings: KeyLimitSettings, services: Services) -> None:
        super().__init__(settings, services)
        self._counters: Counters = services.counters
        self.follow(services.generation)

    def follow(self, generation: Generation) -> None:
        """Work out the limits of a configuration."""
        limits = generation.limits
        self._generation = generation
        self._key = _Scope.of(limits.key)
        self._user = _Scope.of(limits.user)
        self._team = _Scope.of(limits.team)
        self._tiers = {tier: _Scope.of(scope) for tier, scope in limits.tiers.items()}

    async def __call__(self, exchange: Exchange, call_next: Next) -> Response:
        identity, priced = exchange.identity, exchange.operation.priced
        if identity is None or (identity.kind is IdentityKind.ANONYMOUS and not priced):
            return await call_next(exchange)
        if exchange.generation is not self._generation:
            self.follow(exchange.generation)
        claims: list[Claim] = []
        slots: list[tuple[str, int]] = []
        for name, accounts, key, scope in self._scopes(exchange, identity):
            if scope.rate is not None:
                claims.append(Claim(accounts, key, scope.rate))
            if scope.limits.streams is not None:
                slots.append((f"{name}:{key}", scope.limits.streams))
        model, call = exchange.model, exchange.call
        estimate = 0 if model is None or call is None else self._estimate(model, call)
        lease = self._lease(slots) if slots and priced else None
        denied = self._counters.buckets.take(claims, estimate)
        if denied is not None:
            if lease is not None:
                lease.release()
            raise self._rate_limited(denied)
        if lease is not None or estimate:
            exchange.on_finish(lambda reason: self._finished(exchange, reason, lease, claims, estimate))
        return await call_next(exchange)

    def _scopes(self, exchange: Exchange, identity: Identity) -> tuple[tuple[str, Accounts, str, _Scope], ...]:
        counters, team = self._counters, identity.team
        of_team = ("team", counters.team, team, self._team)
        of_key = self._tiers.get(identity.tier, self._key)
        if identity.kind is IdentityKind.KEY:
            return (
                ("key", counters.key, identity.key_id, of_key),
                ("user", counters.user, f"{team}/{identity.user}", self._user),
                of_team,
            )
        if identity.kind is IdentityKind.PAYER:
            # What comes without a payment must not use up what those share who do pay.
            counted = exchange.presented is not None and team in exchange.generation.teams
            return (of_team,) if counted else ()
        of_address = ("key", counters.key, f"{identity.key_id}/{team}/{exchange.origin.peer}", of_key)
        return (of_address,) if identity.kind is IdentityKind.ANONYMOUS else (of_address, of_team)

    def _estimate(self, model: Model, call: Call) -> int:
        output = model.output_tokens_default if call.output_tokens_max is None else call.output_tokens_max
        tokens = len(call.body) // self.settings.bytes_per_token + output * call.choices + 1
        # No context is known of a provider's own model that is not in the catalogue.
        return min(tokens, model.context_tokens * call.choices) if model.context_tokens else tokens

    def _lease(self, slots: list[tuple[str, int]]) -> Lease:
        try:
            return self._counters.streams.acquire(slots)
        except SlotsFull as full:
            raise Refusal(
                "too_many_streams",
                f"Your {full.key.partition(':')[0]} already has {full.limit} requests under way. Wait for one to end.",
                retry_after_seconds=SLOT_RETRY_SECONDS,
            ) from full

    def _finished(
        self, exchange: Exchange, reason: Finish, lease: Lease | None, claims: list[Claim], estimate: int
    ) -> None:
        """Give the slots back and replace the estimate by what was used; where nobody knows that, it stands."""
        if lease is not None:
            lease.release()
        usage = known(exchange.usage)
        if usage is not None:
            self._counters.buckets.correct(claims, usage.input_tokens + usage.output_tokens - estimate)
        elif not exchange.dispatched or reason in _NOTHING_USED:
            self._counters.buckets.correct(claims, -estimate)

    def _rate_limited(self, denied: Denied) -> Refusal:
        accounts, counters = denied.claim.accounts, self._counters
        whose = "key" if accounts is counters.key else "user" if accounts is counters.user else "team"
        wait = denied.retry_after_seconds
        return Refusal(
            "rate_limited",
            f"Your {whose} has used up its requests or tokens a minute. Try again in {max(wait, 0.1):.1f} s.",
            retry_after_seconds=wait,
        )


PLUGIN = KeyLimitPlugin
