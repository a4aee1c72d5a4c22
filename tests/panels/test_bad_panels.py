"""Panels of themselves, webhooks to inside, budgets that are too small."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.faults import books
from tests.support.gateway import GatewayProcess, write_folder
from tests.support.panel_clients import charged, orchestrate, post
from tests.support.panel_world import (
    RATES,
    PanelWorld,
    consensus_file,
    panel_chain,
    panel_models,
    panel_world,
)
from tests.support.world import LIMITS, MODELS, TIERS


@pytest.fixture(scope="module")
def mirrors(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PanelWorld]:
    """One member of `fast`, and all of `balanced`, are this very proxy, whose panel is open to all on loopback."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    entry = {"price": RATES, "context": 128_000, "output_max": 8192}
    loops = {
        name: {**entry, "candidates": [{"upstream": "itself", "model": "consensus-fast"}]}
        for name in ("m1", "m2", "m3")
    }
    seats = [{"model": name, "vendor": f"{name}-inc"} for name in ("one", "two", "m1")]
    modes = {
        "fast": {"members": seats, "open": True, "spares": []},
        "balanced": {
            "members": [{"model": name, "vendor": f"{name}-inc"} for name in loops],
            "synthesisers": seats[:1],
            "spares": [],
        },
    }
    chain = [link for link in panel_chain() if not (isinstance(link, dict) and "webhooks" in link)]
    chain.insert(chain.index("idempotency"), "webhooks")
    with panel_world(
        tmp_path_factory.mktemp("mirrors"),
        consensus=consensus_file(**modes),
        chain=chain,
        policies={"models": {"models": {**MODELS, **panel_models(), **loops}}},
        listeners={"api": {"bind": f"127.0.0.1:{port}"}},
        more_upstreams={"itself": {"base_url": f"http://127.0.0.1:{port}/v1", "keyless": True}},
    ) as running:
        yield running


@pytest.fixture(scope="module")
def mirror_key(mirrors: PanelWorld) -> str:
    return mirrors.world.gateway.make_key()


async def test_a_panel_that_reaches_itself_goes_round_once(mirrors: PanelWorld, mirror_key: str) -> None:
    """The member that is this very proxy is refused by it; the others answer."""
    mirrors.stage()
    answer = await orchestrate(mirrors, mirror_key)
    assert answer.status_code == 200, answer.text
    (looped,) = [one for one in answer.json()["members"] if one["model"] == "m1"]
    assert (looped["status"], looped["reason"]) in (("failed", "refused"), ("late", None))
    assert len(mirrors.world.provider.requests) == 2


async def test_a_panel_of_nothing_but_itself_fails_for_nothing(mirrors: PanelWorld, mirror_key: str) -> None:
    """No run within a run, no charge."""
    mirrors.stage()
    answer = await orchestrate(mirrors, mirror_key, mode="balanced")
    assert answer.status_code == 503
    assert {one["reason"] for one in answer.json()["error"]["members"]} == {"refused"}, answer.text
    assert mirrors.world.provider.requests == []
    assert await charged(mirrors, answer) == 0


@pytest.mark.parametrize(
    "url",
    [
        "https://127.0.0.1/hook",
        "https://10.1.2.3/hook",
        "https://169.254.169.254/latest/meta-data",
        "https://[::1]/hook",
        "https://[::ffff:10.0.0.1]/hook",
        "https://localhost/hook",
        "http://example.com/hook",
        "https://0x7f.1/hook",
        "https://2130706433/hook",
    ],
)
async def test_a_webhook_to_a_private_address_is_refused(mirrors: PanelWorld, mirror_key: str, url: str) -> None:
    """Before anything runs."""
    mirrors.stage()
    status, error = await refused(mirrors, mirror_key, {"prompt": "?", "mode": "fast", "webhook_url": url})
    assert (status, error["param"]) == (400, "webhook_url"), error


async def refused(house: PanelWorld, key: str, body: Any) -> tuple[int, dict[str, Any]]:
    answer = await post(house, key, "orchestrate", body)
    assert house.world.provider.requests == []
    return answer.status_code, answer.json()["error"]


def checked(folder: Path, **modes: Any) -> str:
    """What `tollway check` says to a file with these modes."""
    config = {
        "listeners": [{"name": "api", "kind": "reverse", "bind": "127.0.0.1:0"}],
        "chain": panel_chain(),
        "upstreams": {"openai": {"base_url": "https://api.openai.com/v1", "key": "k"}},
    }
    teams = {"organisations": {"acme": {}}, "teams": {"default": {"organisation": "acme", "tier": "standard"}}}
    files = {
        "models": {"models": panel_models()},
        "consensus": consensus_file(**modes),
        "tiers": {"tiers": TIERS},
        "teams": teams,
        "limits": LIMITS,
        "capture": {"capture": {}},
    }
    write_folder(folder, config=config, policies=files)
    run = GatewayProcess(folder).cli("check", check=False)
    assert run.returncode != 0, run.stdout
    return run.stdout + run.stderr


def test_a_panel_on_a_panel_stops_the_start(tmp_path: Path) -> None:
    """With file and line."""
    said = checked(tmp_path, fast={"members": ["one", "two", "consensus-balanced"]})
    line = (tmp_path / "policies/consensus.yaml").read_text().split("consensus-balanced\n")[0].count("\n") + 1
    assert f"consensus.yaml:{line}" in said and "panel" in said


def test_a_budget_too_small_stops_the_start(tmp_path: Path) -> None:
    """And says what it would take."""
    said = checked(tmp_path, deep={"budget_usd": 0.001})
    assert "consensus.yaml:" in said and "budget_usd" in said
    assert any(figure in said for figure in ("0.0", "0.1", "0.2", "0.3")), said


async def test_a_limit_that_the_budget_cannot_hold_says_which_it_can(
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    """A panel that a policy has shrunk to its dearest members, asked for a long answer."""
    dear = {**panel_models()["one"], "price": {"input": "1", "output": "5"}}
    models = {**MODELS, **panel_models(), "two": dear, "three": dear}
    seats = [{"model": name, "vendor": f"{name}-inc"} for name in ("one", "two", "three")]
    modes = {"fast": {"members": seats, "spares": [], "synthesisers": [seats[0], seats[1]], "budget_usd": 0.06}}
    teams = {
        "organisations": {"acme": {}},
        "teams": {
            "default": {"organisation": "acme", "tier": "standard"},
            "dear": {"organisation": "acme", "tier": "standard", "models": {"deny": ["one"]}},
        },
    }
    with panel_world(
        tmp_path_factory.mktemp("dear"),
        consensus=consensus_file(**modes),
        policies={"models": {"models": models}, "teams": teams},
    ) as running:
        key = running.world.gateway.make_key(team="dear")
        prompt = "The quick brown fox jumps over the lazy dog again. " * 240
        status, error = await refused(running, key, {"prompt": prompt, "mode": "fast", "max_tokens": 2048})
        assert status == 400, error
        assert "$" in error["message"] and float(error["needed_usd"]) > float(error["budget_usd"])


def test_the_books_are_clean(mirrors: PanelWorld) -> None:
    """After all of it."""
    books.assert_clean(mirrors.world.gateway)
