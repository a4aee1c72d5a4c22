"""What a real proxy records of partners' machines."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import httpx

from tests.peers.provider import ScriptedProvider
from tests.support.books import Books
from tests.support.world import MODELS, World, world

PRICE = {"price": {"input": "1", "output": "2"}, "context": 8192, "output_max": 100}
HELLO = {"messages": [{"role": "user", "content": "Say hello."}], "max_tokens": 50}


def ask(running: World, key: str, model: str) -> int:
    answer = httpx.post(
        f"{running.base_url}/chat/completions",
        json={**HELLO, "model": model},
        headers={"authorization": f"Bearer {key}"},
    )
    return answer.status_code


def statement(running: World) -> dict[str, Any]:
    told: dict[str, Any] = json.loads(
        running.gateway.cli("partners", "statement", "--partner", "coop", "--json").stdout
    )
    return told


def test_a_partner_is_told_what_its_machines_served(tmp_path: Path) -> None:
    """Its own exchanges only, one that fell back to it included; pruning changes nothing of it."""
    models = {
        **MODELS,
        "gpu-model": {**PRICE, "candidates": ["gpu"]},
        "falls-back": {**PRICE, "candidates": ["dead", "gpu"]},
    }
    with ScriptedProvider() as machine:
        gpu = {"base_url": f"{machine.url}/v1", "key": "${OPENAI_API_KEY}", "partner": "coop"}
        with world(
            tmp_path,
            config={"partners": {"coop": {"share_percent": 50}}},
            policies={"models": {"models": models}},
            more_upstreams={"gpu": gpu},
        ) as running:
            key = running.gateway.make_key()
            assert [ask(running, key, name) for name in ("gpu-model", "falls-back", "gpt-4o")] == [200, 200, 200]
            holds = Books(running.gateway.folder / "var" / "tollway.db").since(0, 3)
            revenue = sum(hold.charged for hold in holds[:2])
            told = statement(running)
            assert (told["total"]["requests"], told["share_percent"]) == (2, "50")
            assert told["total"]["revenue_usd"] == f"{revenue / 1e9:.9f}".rstrip("0")
            assert told["share_usd"] == f"{(revenue // 2) / 1e9:.9f}".rstrip("0")
            running.gateway.cli("ledger", "prune", "--before", "2099-01-01")
            assert statement(running) == told
            assert json.loads(running.gateway.cli("ledger", "audit", "--json").stdout)["clean"]
