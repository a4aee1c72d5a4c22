"""Panels that are sold by the request: a whole proxy with scripted members, and wallets."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import httpx

from tests.support.paid import PAID_CHAIN, PaidWorld
from tests.support.panel_world import DEADLINES, NAMES, Cast, Member, PanelWorld, consensus_file, panel_models
from tests.support.raw import Raw, request
from tests.support.ways_to_pay import Paid, Way, books, selling
from tests.support.world import MODELS

ORCHESTRATE: Final = "/v1/orchestrate"
QUESTION: Final = "What is six times seven?"
PRICES: Final = {"fast": 50_000_000, "balanced": 350_000_000, "deep": 4_500_000_000}
"""Of the shipped modes, in nano-dollars."""
SAT_PRICE: Final = 680_000
"""Nano-dollars a satoshi, at the development node's 68,000 dollars a bitcoin."""


def paid_panel_chain() -> list[str | dict[str, Any]]:
    """The shipped one without dedup."""
    made = list(PAID_CHAIN)
    made.insert(made.index("catalogue") + 1, "conversations")
    made.insert(made.index("cost_preview"), "idempotency")
    made.insert(made.index("payment") + 1, "consensus")
    return made


@dataclass(slots=True)
class PanelShop:
    """A running proxy that sells panels."""

    shop: PaidWorld
    panels: PanelWorld

    def reset(self, members: Mapping[str, Member] | None = None) -> None:
        """Another cast, and a provider without a past."""
        provider = self.shop.world.provider
        provider.reset()
        self.panels.cast = provider.answering = Cast(members or {})


@contextmanager
def selling_panels(
    folder: Path,
    *ways: Way,
    consensus: Mapping[str, Any] | None = None,
    policies: Mapping[str, Mapping[str, Any]] | None = None,
    config: Mapping[str, Any] | None = None,
    chain: list[str | dict[str, Any]] | None = None,
    **options: Any,
) -> Iterator[PanelShop]:
    """A proxy with panels of scripted members that is paid in these ways."""
    files = {"models": {"models": {**MODELS, **panel_models()}}, "consensus": consensus or consensus_file()}
    with selling(
        folder,
        *ways,
        chain=chain or paid_panel_chain(),
        policies={**files, **(policies or {})},
        config={"heartbeat_seconds": 1, **(config or {})},
        deadlines=DEADLINES,
        **options,
    ) as shop:
        cast = Cast({name: Member() for name in NAMES})
        shop.world.provider.answering = cast
        yield PanelShop(shop, PanelWorld(shop.world, cast))


def asked(label: str, **more: Any) -> dict[str, Any]:
    """A question for /v1/orchestrate, each of its own."""
    return {"prompt": QUESTION, "mode": "fast", "metadata": {"label": label}, **more}


def chat(label: str, mode: str = "fast", **more: Any) -> dict[str, Any]:
    """The same for chat completions."""
    return {"model": f"consensus-{mode}", "messages": [{"role": "user", "content": f"{QUESTION} {label}"}], **more}


def post(house: PanelShop, body: dict[str, Any], paid: Paid | None, path: str = ORCHESTRATE) -> httpx.Response:
    """Send it, paid for or not."""
    with house.shop.client() as client:
        return client.post(path, json=body, headers=None if paid is None else paid.headers)


def calls(house: PanelShop) -> int:
    """How many the provider got."""
    return len(house.shop.world.provider.requests)


def hold(house: PanelShop, answer: httpx.Response) -> Any:
    """(charged, list, held_charged, held_list, outcome) of its exchange, ended."""
    books(house.shop).until_ended()
    return house.panels.hold(answer.headers["x-tollway-request-id"])


def newest(house: PanelShop) -> Any:
    """(charged, outcome) of the hold made last, ended."""
    books(house.shop).until_ended()
    (row,) = house.panels.rows("SELECT charged, outcome FROM holds ORDER BY id DESC LIMIT 1")
    return row


def leave(house: PanelShop, body: dict[str, Any], paid: Paid, ready: Any) -> None:
    """Send it, wait until `ready`, be gone."""
    headers = tuple(f"{name}: {value}" for name, value in paid.headers.items())
    with Raw(house.shop.world.gateway.address("api")) as connection:
        connection.send(request(body, path=ORCHESTRATE, headers=headers))
        ready(connection)
        connection.reset()
