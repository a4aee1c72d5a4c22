"""What an operator says when putting credit into a purse, checked: whose purse, and how many dollars."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from decimal import Decimal, InvalidOperation
from typing import Any

from proxy.catalogue import Wallet
from proxy.config.problems import near
from proxy.config.schema import Generation
from proxy.keys import KeyStore, UnknownKey
from proxy.ledger.api import Grant, Purse, PurseState
from proxy.pricing.money import Nano, nano_from_usd, usd_text

USD_MAX = 1_000_000_000
WALLETS = tuple(wallet.value for wallet in Wallet)


class BadCredit(ValueError):
    """What was said is not possible; the message says what to write instead. `param` names what is wrong."""

    def __init__(self, param: str, message: str) -> None:
        super().__init__(message)
        self.param = param


@dataclass(frozen=True, slots=True)
class Owner:
    """Whose purse is meant: a team, a user of a team, a key, or an organisation. Exactly one of them."""

    team: str | None = None
    user: str | None = None
    key: str | None = None
    organisation: str | None = None

    def purse(self, generation: Generation, keys: KeyStore, wallet: str) -> Purse:
        """The purse, once it is sure that its owner exists. Raises BadCredit with the near miss."""
        if wallet not in WALLETS:
            raise BadCredit("wallet", _unknown("wallet", wallet, WALLETS))
        given = [name for name in ("team", "key", "organisation") if getattr(self, name) is not None]
        if len(given) != 1 or (self.user is not None and self.team is None):
            raise BadCredit(
                "team", "Say whose purse it is: a team, a user together with its team, a key, or an organisation."
            )
        if self.team is not None:
            return self._of_team(self.team, generation, keys, wallet)
        if self.organisation is not None:
            _known("organisation", self.organisation, generation.organisations)
            return Purse("organisation", self.organisation, wallet)
        try:
            return Purse("key", keys.key_id_of(self.key or ""), wallet)
        except UnknownKey as error:
            raise BadCredit("key", f"{error}. 'tollway keys list' shows them.") from error

    def _of_team(self, name: str, generation: Generation, keys: KeyStore, wallet: str) -> Purse:
        _known("team", name, generation.teams)
        if self.user is None:
            return Purse("team", name, wallet)
        team = generation.teams[name]
        users = {*team.users, *team.user_rules, *(record.user for record in keys.records(team=name))}
        _known("user", self.user, users)
        return Purse("user", f"{name}/{self.user}", wallet)


def parse_usd(text: str) -> Nano:
    """A decimal amount of dollars above 0. Raises BadCredit."""
    try:
        usd = Decimal(text.removeprefix("$"))
        if not usd.is_finite() or not 0 < usd <= USD_MAX:
            raise BadCredit("usd", f"'{text}' is not an amount above 0 and up to {USD_MAX} USD.")
        return nano_from_usd(usd)
    except InvalidOperation as error:
        raise BadCredit("usd", f"'{text}' is not an amount of dollars, as in 25 or 0.50.") from error
    except BadCredit:
        raise
    except ValueError as error:
        raise BadCredit("usd", f"{error}; it counts in nano-dollars.") from error


def not_used(purse: Purse, generation: Generation) -> str:
    """Why nothing will be paid from this purse as teams.yaml is now; "": something will."""
    named = [team for team in generation.teams.values() if _touches(purse, team.name, team.organisation)]
    if any(team.prepaid == purse.scope for team in named):
        return ""
    return f"Nothing is paid from it yet: no team concerned has 'prepaid: {purse.scope}' in policies/teams.yaml."


def _touches(purse: Purse, team: str, organisation: str) -> bool:
    if purse.scope == "organisation":
        return purse.scope_id == organisation
    return purse.scope == "key" or purse.scope_id == team or purse.scope_id.startswith(f"{team}/")


def purse_text(purse: Purse) -> str:
    """For people: `team red`, `user red/ann (frontier)`."""
    return f"{purse.scope} {purse.scope_id}" + ("" if purse.wallet == "balance" else f" ({purse.wallet})")


def plain_state(state: PurseState) -> dict[str, Any]:
    """For programs; amounts are decimal text in USD."""
    purse = state.purse
    return {
        "scope": purse.scope,
        "id": purse.scope_id,
        "wallet": purse.wallet,
        "granted_usd": usd_text(state.granted),
        "spent_usd": usd_text(state.spent),
        "held_usd": usd_text(state.held),
        "left_usd": usd_text(state.left),
    }


def plain_grant(grant: Grant) -> dict[str, Any]:
    """For programs."""
    return {"id": grant.id, "usd": usd_text(grant.amount), "note": grant.note}


def _known(kind: str, name: str, names: Iterable[str]) -> None:
    if name not in (found := set(names)):
        raise BadCredit(kind, _unknown(kind, name, found))


def _unknown(kind: str, name: str, names: Iterable[str]) -> str:
    hint = near(name, names)
    ask = f"Did you mean '{hint}'?" if hint else f"There are: {', '.join(sorted(names)) or 'none'}."
    return f"There is no {kind} '{name}'. {ask}"
