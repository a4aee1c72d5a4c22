"""Whose purse pays for an exchange, and which of its purses."""

from __future__ import annotations

from collections.abc import Iterator

from proxy.catalogue import Model, Wallet
from proxy.config.schema import Generation, Team
from proxy.identities import Identity
from proxy.ledger.api import Purse


def purse_of(identity: Identity, model: Model, generation: Generation) -> Purse | None:
    """The purse that the caller's team names; None where nobody pays in advance, or nothing is charged.

    Nothing is: with the caller's own provider key, and for a model behind a customer's own upstream key.
    """
    team = generation.teams.get(identity.team)
    if team is None or team.prepaid is None or identity.provider_credential or model.byo:
        return None
    return Purse(team.prepaid, _scope_id(team.prepaid, identity), model.wallet.value)


def _scope_id(scope: str, identity: Identity) -> str:
    if scope == "team":
        return identity.team
    if scope == "user":
        return f"{identity.team}/{identity.user}"
    return identity.organisation if scope == "organisation" else identity.key_id


def purses_of(team: Team) -> Iterator[Purse]:
    """The purses that pay for all of the team, one a wallet; none where each user or key has its own."""
    owners = {"team": team.name, "organisation": team.organisation}
    if team.prepaid in owners:
        for wallet in Wallet:
            yield Purse(team.prepaid, owners[team.prepaid], wallet.value)
