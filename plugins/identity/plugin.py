"""Who is calling: one of our keys, the client's own provider key, who pays for the request, or nobody."""

from __future__ import annotations

import re
from typing import ClassVar

from pydantic import Field

from proxy.credentials import token_of
from proxy.errors import Refusal
from proxy.exchange import Exchange, ListenerKind, Response
from proxy.identities import Identity, IdentityKind
from proxy.operations import Target
from proxy.payments.api import Credential
from proxy.payments.credentials import BALANCE_PREFIX, presented
from proxy.payments.settings import Payments
from proxy.plugin import Next, Plugin, PluginSettings, Services, Stage
from proxy.policy.callers import identity_of, tier_of

_ANONYMOUS = Identity(IdentityKind.ANONYMOUS, "anonymous", "anonymous", "anonymous", "anonymous", "anonymous")
_OWN_KEY_USER = "own-key"
_PAYER = "payer"
_HEADERS = ("authorization", "x-api-key")


class IdentitySettings(PluginSettings):
    """How our keys look."""

    key_prefix: str = Field(
        default="lld_",
        pattern=r"^[a-z][a-z0-9]{0,15}_$",
        description="Prefix of our keys; 32 lower-case hex digits follow it. What does not begin with it is not ours.",
    )


class IdentityPlugin(Plugin[IdentitySettings]):
    """Establishes `identity`, `our_credentials`, `presented` and `payment_proof`.

    A key of ours may come as Bearer, as X-API-Key, in the provider's own header (captured traffic), or as proxy
    credentials. On captured traffic a provider key in the request beside a key of ours in the proxy credentials
    means: charge nobody, account to our key's team, forward the client's own key. Where rails are on, whoever asks for
    something priced without a key of ours is a payer.
    """

    name = "identity"
    stage = Stage.IDENTIFY
    Settings: ClassVar[type[PluginSettings]] = IdentitySettings
    provides = frozenset({"identity"})

    def __init__(self, settings: IdentitySettings, services: Services) -> None:
        super().__init__(settings, services)
        self._prefix = settings.key_prefix
        self._shape = re.compile(re.escape(settings.key_prefix) + r"[0-9a-f]{32}")

    async def __call__(self, exchange: Exchange, call_next: Next) -> Response:
        exchange.identity = self._identify(exchange)
        return await call_next(exchange)

    def _identify(self, exchange: Exchange) -> Identity:
        origin = exchange.origin
        if origin.kind is ListenerKind.INWARD and origin.acting is not None:
            return origin.acting
        payments = exchange.generation.payments
        for_sale = payments is not None and exchange.operation.priced and origin.captured_host is None
        if for_sale:
            exchange.presented = presented(exchange.request.headers, key_prefix=self._prefix)
        ours, foreign = self._credentials(exchange)
        if payments is not None and for_sale and not ours:
            return self._payer(exchange, payments)
        if origin.proxy_credential is not None and origin.proxy_credential.startswith(self._prefix):
            ours.append(origin.proxy_credential)
        captured = origin.captured_host is not None
        if captured and payments is not None:
            _keep_balances(exchange)
        exchange.our_credentials = tuple(ours) + (self._astray(exchange) if captured else ())
        if ours:
            if any(other != ours[0] for other in ours):
                raise Refusal("invalid_request", "Two different Tollway keys came with this request. Send one.")
            return self._known(exchange, ours[0], provider_credential=captured and foreign)
        target = exchange.operation.target
        if target is Target.PLAIN:
            return _ANONYMOUS
        if captured and foreign:
            return self._own_key(exchange)
        if target is Target.LOCAL:
            return _ANONYMOUS
        if origin.kind is ListenerKind.REVERSE and origin.loopback:
            return _ANONYMOUS
        raise self._unauthorized("No Tollway key came with this request.")

    def _payer(self, exchange: Exchange, payments: Payments) -> Identity:
        """Who pays for each request. A balance is known by its token, as a key is; a proof pays once."""
        paid = exchange.presented
        key_id = _PAYER
        if paid is not None and paid.credential is Credential.BALANCE:
            key_id = f"balance:{paid.digest[:16]}"
        elif paid is not None:
            exchange.payment_proof = paid.digest
        team = exchange.generation.teams.get(payments.team)
        organisation = payments.team if team is None else team.organisation
        return Identity(IdentityKind.PAYER, key_id, _PAYER, payments.team, organisation, payments.tier or "")

    def _credentials(self, exchange: Exchange) -> tuple[list[str], bool]:
        """Our keys in the request's own headers, and whether a credential that is not ours is there too."""
        headers = exchange.request.headers
        names: tuple[str, ...] = _HEADERS
        if exchange.captured is not None:
            names = (*_HEADERS, *(n for n in exchange.captured.credential_headers if n not in _HEADERS))
        ours: list[str] = []
        foreign = False
        for name in names:
            value = headers.get(name)
            if value is None:
                continue
            token = token_of(value)
            if token.startswith(self._prefix):
                ours.append(token)
            elif token:
                foreign = True
        return ours, foreign

    def _astray(self, exchange: Exchange) -> tuple[str, ...]:
        """Keys of ours that stand where nobody looks for one. They identify nobody, and must not reach a provider."""
        request = exchange.request
        if self._prefix in request.query and self._shape.search(request.query):
            raise Refusal("invalid_request", "A Tollway key does not belong in the URL. Send it in a header.")
        values = [value for value in request.headers.values() if self._prefix in value]
        return tuple([key for value in values for key in self._shape.findall(value)])

    def _known(self, exchange: Exchange, key: str, *, provider_credential: bool) -> Identity:
        record = self.services.keys.lookup(key) if self._shape.fullmatch(key) else None
        if record is None:
            raise self._unauthorized("This Tollway key is malformed, unknown, expired or revoked.")
        team = exchange.generation.teams.get(record.team)
        if team is None:
            raise self._unauthorized("This Tollway key belongs to a team that no longer exists.")
        return identity_of(record, team, provider_credential=provider_credential)

    def _own_key(self, exchange: Exchange) -> Identity:
        name = exchange.generation.listener(exchange.origin.listener).default_team
        team = exchange.generation.teams.get(name) if name is not None else None
        if team is None:
            raise self._unauthorized(
                "This proxy does not accept a provider key alone. Give your Tollway key as proxy credentials too: "
                f"HTTPS_PROXY=http://{self._prefix}...@host:port"
            )
        return Identity(
            kind=IdentityKind.OWN_KEY,
            key_id="own",
            user=_OWN_KEY_USER,
            team=team.name,
            organisation=team.organisation,
            tier=tier_of(team, user=_OWN_KEY_USER),
            provider_credential=True,
        )

    def _unauthorized(self, problem: str) -> Refusal:
        return Refusal(
            "invalid_api_key",
            f"{problem} Send 'Authorization: Bearer {self._prefix}<32 hex digits>'; "
            "the operator makes one with 'tollway keys create'.",
        )


def _keep_balances(exchange: Exchange) -> None:
    """A prepaid balance is its holder's money with us: no provider gets to see its token. Raises Refusal."""
    if any(token_of(value).startswith(BALANCE_PREFIX) for value in exchange.request.headers.values()):
        raise Refusal(
            "payment_not_accepted",
            "A prepaid balance pays at this proxy's own address, as base_url, and not at a provider's.",
        )


PLUGIN = IdentityPlugin
