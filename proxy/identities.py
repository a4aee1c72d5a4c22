"""Who pays or answers for an exchange."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum


class IdentityKind(Enum):
    """How the caller is known."""

    KEY = "key"
    """One of our keys: served with the operator's provider keys."""
    OWN_KEY = "own_key"
    """No key of ours, but the client's own provider key on captured traffic: the listener's default team answers."""
    ANONYMOUS = "anonymous"
    """Nobody, on loopback: only models marked open are reachable."""
    PAYER = "payer"
    """Nobody we know, who pays for each request: by proof, from a prepaid balance, or not yet."""


@dataclass(frozen=True, slots=True)
class Identity:
    """Immutable; compared by key digest in caches, never by a prefix of it."""

    kind: IdentityKind
    key_id: str
    """Public id of the key (`key_...`), or "own" / "anonymous"."""
    user: str
    team: str
    organisation: str
    tier: str
    provider_credential: bool = False
    """The client sent its own provider key and it is forwarded: charged 0, list cost recorded."""
    caps: tuple[CapSetting, ...] = ()
    """Caps of the key itself, set when it was made."""
    key_name: str = ""
    """What the key was named when it was made; rules in teams.yaml may name it so."""


@dataclass(frozen=True, slots=True)
class CapSetting:
    """A cap as an operator writes it, for a scope that its place in the file or the key implies."""

    limit_nano: int
    window: str
    """hour | day | month | total"""
    basis: str
    """charged | list: which of the two amounts counts."""
    soft_percent: int | None = None
    """Percentage of the limit past which a log line and a metric warn."""
    clamp: bool = False
    """Clamp the output limit to what is left instead of refusing."""
