"""A whole proxy that sells by the request, and the wallet of its development node."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import httpx

from proxy.clock import SystemClock
from proxy.payments.keys import DerivedKeys
from proxy.payments.lightning.dev import DevWallet
from tests.support.world import CHAIN, LIMITS, ROUTING, World, world

SECRET: Final = "5e" * 32
CHAT: Final = "/v1/chat/completions"
WIDE: Final = {"per_minute": 1_000_000, "burst": 100_000}
PAYERS: Final = {"free": WIDE, "invoice": WIDE, "paid": WIDE, "streams": 1000}
LIGHTNING: Final = {"backend": "dev", "development": True}
PAID_CHAIN: Final[list[str | dict[str, Any]]] = [
    "audit", "cors", "ip_limit", "identity", "catalogue", "team_policy", "content_rules", "key_limit", "payer_limit",
    "cost_preview", "payer_api", "balance", "pricing", "challenge", "spend_caps", "payment", {"routing": ROUTING},
    "metering",
]  # fmt: skip
"""The shipped one without dedup, which would answer a twin before its payment is looked at."""


def with_dedup() -> list[str | dict[str, Any]]:
    """The chain with the plugin that answers twins from memory."""
    at = PAID_CHAIN.index("cost_preview")
    return [*PAID_CHAIN[:at], "dedup", *PAID_CHAIN[at:]]


def body(text: str = "hi", *, model: str = "gpt-4o", max_tokens: int = 50, **more: Any) -> dict[str, Any]:
    """A small chat request."""
    return {"model": model, "messages": [{"role": "user", "content": text}], "max_tokens": max_tokens, **more}


@dataclass(slots=True)
class PaidWorld:
    """The proxy, the provider, and a wallet."""

    world: World
    wallet: DevWallet

    @property
    def url(self) -> str:
        """Of the reverse listener."""
        return self.world.gateway.url("api")

    def client(self, **options: Any) -> httpx.Client:
        """A plain client of it."""
        return httpx.Client(base_url=self.url, timeout=20, **options)

    def l402(self, challenge: httpx.Response) -> str:
        """`Authorization` for a 402, its invoice paid."""
        macaroon, invoice = offered(challenge)
        return f"L402 {macaroon}:{self.wallet.pay(invoice)}"


def offered(challenge: httpx.Response) -> tuple[str, str]:
    """Macaroon and invoice of the L402 challenge."""
    line = next(value for value in challenge.headers.get_list("www-authenticate") if value.startswith("L402 "))
    found = dict(re.findall(r'(\w+)="([^"]*)"', line))
    return found["macaroon"], found["invoice"]


@contextmanager
def paid_world(
    folder: Path,
    *,
    payments: Mapping[str, Any] | None = None,
    chain: list[str | dict[str, Any]] | None = None,
    limits: Mapping[str, Any] | None = None,
    **options: Any,
) -> Iterator[PaidWorld]:
    """A proxy whose rails are L402, MPP and balances of the development node, and what `payments` adds."""
    folder.mkdir(parents=True, exist_ok=True)
    settings = {"secret": SECRET, "lightning": LIGHTNING, **(payments or {})}
    policies = {"limits": {**LIMITS, "payers": PAYERS, **(limits or {})}, **options.pop("policies", {})}
    config = {"payments": settings, "chain": chain or PAID_CHAIN, **options.pop("config", {})}
    with world(folder, config=config, policies=policies, **options) as made:
        wallet = DevWallet(DerivedKeys(bytes.fromhex(SECRET)), folder / "var", SystemClock())
        yield PaidWorld(made, wallet)


__all__ = ["CHAIN", "PaidWorld", "body", "offered", "paid_world", "with_dedup"]
