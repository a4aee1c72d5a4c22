"""A changed configuration under traffic: taken over whole, or not at all; never by an exchange under way."""

from __future__ import annotations

import copy
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import orjson
import pytest
import yaml

from tests.edge.kinds import CHAT, CHAT_STREAM, ask, ended, wait_until
from tests.peers.behaviour import Behaviour
from tests.support.raw import Raw
from tests.support.world import LIMITS, MODELS, World, world

DEARER = {"input": "5.00", "output": "20", "cached_input": "2.50"}
CHARGED_NANO = 2 * 2_500 + 10 * 10_000


@pytest.fixture
def running(tmp_path: Path) -> Iterator[World]:
    """A proxy that looks for changed files all the time."""
    with world(tmp_path, config={"reload_seconds": 0.1}) as started:
        yield started


@pytest.fixture
def quiet(tmp_path: Path) -> Iterator[World]:
    """A proxy that reloads only when told to."""
    with world(tmp_path, config={"reload_seconds": None}) as started:
        yield started


def models_with(**changes: Any) -> dict[str, Any]:
    """The world's models, some of them changed."""
    models = copy.deepcopy(MODELS)
    for name, entry in changes.items():
        models[name] = {**models.get(name, {}), **entry}
    return {"models": models}


def write(running: World, policy: str, content: dict[str, Any]) -> None:
    """Save a policy file as an editor does: a new file in the place of the old one."""
    path = running.gateway.folder / "policies" / f"{policy}.yaml"
    beside = path.with_suffix(".new")
    beside.write_text(yaml.safe_dump(content, sort_keys=False))
    beside.rename(path)


def admin_reload(running: World) -> httpx.Response:
    return httpx.post(f"{running.gateway.url('admin')}/reload")


def logged(running: World, event: str) -> list[dict[str, Any]]:
    lines = [orjson.loads(line) for line in running.gateway.log().splitlines() if line.startswith("{")]
    return [line for line in lines if line.get("event") == event]


def test_edited_price_is_charged_without_a_restart(running: World) -> None:
    """The watch notices the file; the next exchange lives under the new price."""
    key = running.gateway.make_key()
    assert ended(running, ask(running, key, CHAT)).charged == CHARGED_NANO
    write(running, "models", models_with(**{"gpt-4o": {"price": DEARER}}))
    wait_until(lambda: bool(logged(running, "reloaded")))
    assert ended(running, ask(running, key, CHAT)).charged == 2 * CHARGED_NANO


def test_prices_that_change_mid_hold_leave_the_exchange_its_own(quiet: World) -> None:
    """An exchange is settled at the prices that it was held at, whatever is reloaded while its answer runs."""
    key = quiet.gateway.make_key()
    quiet.provider.script(Behaviour(chunks=10, delay_seconds=0.1))
    with Raw(quiet.gateway.address("api")) as raw:
        raw.send(CHAT_STREAM.data(key))
        wait_until(lambda: bool(quiet.provider.requests))
        write(quiet, "models", models_with(**{"gpt-4o": {"price": DEARER}}))
        assert admin_reload(quiet).json()["ok"] is True
        answer = raw.answer()
    row = ended(quiet, answer)
    assert answer.body.endswith(b"data: [DONE]\n\n")
    assert row.charged == CHARGED_NANO
    assert row.charged <= row.held_charged
    assert ended(quiet, ask(quiet, key, CHAT)).charged == 2 * CHARGED_NANO


@pytest.mark.parametrize(
    ("policy", "content", "said"),
    [
        (
            "models",
            "models: {gpt-4o: {candidates: [opnai], context: 9000, price: {input: 1, output: 1}}}",
            "Did you mean 'openai'?",
        ),
        ("models", models_with(**{"gpt-4o": {"price": {"input": "-1", "output": "1"}}}), "a rate is zero or more"),
        ("teams", "teams: [", "teams.yaml"),
        ("tiers", {"tirs": {}}, "tiers"),
    ],
)
def test_broken_file_leaves_the_old_one_in_force(running: World, policy: str, content: Any, said: str) -> None:
    """Nothing of it is taken over; the log has file, line and remedy; mending the file is enough."""
    key = running.gateway.make_key()
    path = running.gateway.folder / "policies" / f"{policy}.yaml"
    before = path.read_text()
    path.write_text(content if isinstance(content, str) else yaml.safe_dump(content))
    wait_until(lambda: bool(logged(running, "reload_refused")))
    problems = " ".join(logged(running, "reload_refused")[0]["problems"])
    assert f"{policy}.yaml:" in problems
    assert said in problems
    assert ended(running, ask(running, key, CHAT)).charged == CHARGED_NANO
    path.write_text(before)
    wait_until(lambda: bool(logged(running, "reloaded")))
    assert ask(running, key, CHAT).status == 200


def test_admin_reload_tells_every_problem(quiet: World) -> None:
    """409 with the places; then 200 with what waits for a restart."""
    write(quiet, "models", models_with(**{"gpt-4o": {"context": 0}, "extra": {"candidates": ["nobody"]}}))
    refused = admin_reload(quiet)
    assert refused.status_code == 409
    error = refused.json()["error"]
    assert error["code"] == "conflict"
    assert len(error["problems"]) >= 2
    assert all("models.yaml:" in problem for problem in error["problems"])
    write(quiet, "models", models_with())
    config = quiet.gateway.folder / "config.yaml"
    changed = yaml.safe_load(config.read_text())
    changed["heartbeat_seconds"] = 3
    config.write_text(yaml.safe_dump(changed, sort_keys=False))
    taken = admin_reload(quiet)
    assert (taken.status_code, taken.json()["needs_restart"]) == (200, ["heartbeat_seconds"])


def test_hangup_reloads(quiet: World) -> None:
    """The signal that operators and systemd know."""
    key = quiet.gateway.make_key()
    write(quiet, "models", models_with(**{"brand-new": MODELS["gpt-4o"]}))
    assert ask(quiet, key, CHAT, model="brand-new").status == 404
    quiet.gateway.signal(signal.SIGHUP)
    wait_until(lambda: bool(logged(quiet, "reloaded")))
    assert ask(quiet, key, CHAT, model="brand-new").status == 200


def test_limits_outlive_a_reload(quiet: World) -> None:
    """What was used of a bucket stays used: a reload is no way to get a fresh one."""
    narrow = {**LIMITS, "user": {"requests": {"per_minute": 2, "burst": 2, "burst_seconds": 60}}}
    write(quiet, "limits", narrow)
    assert admin_reload(quiet).status_code == 200
    key = quiet.gateway.make_key()
    assert [ask(quiet, key, CHAT).status for _ in range(3)] == [200, 200, 429]
    write(quiet, "models", models_with(other=MODELS["gpt-4o"]))
    assert admin_reload(quiet).status_code == 200
    assert ask(quiet, key, CHAT).status == 429


def test_removed_team_closes_its_keys(quiet: World) -> None:
    """A key of a team that no longer exists is refused from the next exchange on."""
    key = quiet.gateway.make_key()
    teams = yaml.safe_load((quiet.gateway.folder / "policies" / "teams.yaml").read_text())
    teams["teams"]["renamed"] = teams["teams"].pop("default")
    write(quiet, "teams", teams)
    assert admin_reload(quiet).status_code == 200
    assert ask(quiet, key, CHAT).status == 401
