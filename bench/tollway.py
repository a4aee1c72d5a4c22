"""Tollway as it is shipped: config.yaml and policies/ of the checkout, limits raised, no plugin removed."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import yaml

from bench.gateway import Gateway
from bench.process import ROOT, BenchError, Server, free_port
from bench.wire import Endpoint, answers
from proxy import __version__
from proxy.clock import SystemClock
from proxy.config.load import load_generation
from proxy.config.problems import ConfigProblems
from proxy.keys import KeyStore
from proxy.ledger.schema import DATABASE_NAME

KEYS: Final = 100
USERS: Final = 10
TEAM: Final = "bench-team"
ORGANISATION: Final = "bench-organisation"
MODEL: Final = "bench-model"
RAISED: Final = 100_000_000
"""In place of every limit of policies/limits.yaml and tiers.yaml."""
CAP: Final = {"usd": 1_000_000, "window": "day"}
"""One such cap in each of the four scopes: far away, but checked and held against for every request."""


type Change = Callable[[dict[str, Any], dict[str, Any]], None]
"""What a part changes in config.yaml and in the models of policies/models.yaml before they are written."""


def _read(name: str) -> Any:
    return yaml.safe_load((ROOT / name).read_text())


def _write(file: Path, data: Any) -> None:
    file.write_text(yaml.safe_dump(data, sort_keys=False))


def _raised(value: Any) -> Any:
    """The limits with every number raised; lengths of windows stay."""
    if isinstance(value, dict):
        return {key: item if key == "burst_seconds" else _raised(item) for key, item in value.items()}
    return RAISED if isinstance(value, int) else value


def write_configuration(folder: Path, port: int, upstream_port: int, *, change: Change | None = None) -> Path:
    """A configuration folder; its config.yaml. The chain is the shipped one, to the letter."""
    policies = folder / "policies"
    shutil.copytree(ROOT / "policies", policies)
    shipped = _read("config.yaml")
    for listener in shipped["listeners"]:
        listener["bind"] = f"127.0.0.1:{port if listener['kind'] == 'reverse' else free_port()}"
    shipped["upstreams"]["bench"] = {"base_url": f"http://127.0.0.1:{upstream_port}/v1", "key": "sk-bench"}
    models = _read("policies/models.yaml")
    models["models"][MODEL] = {
        "candidates": ["bench"],
        "price": {"input": 2.5, "cached_input": 1.25, "output": 10},
        "context": 128_000,
        "output_max": 16_384,
        "operations": ["chat.completions"],
        "encoding": "o200k_base",
    }
    if change is not None:
        change(shipped, models["models"])
    _write(folder / "config.yaml", shipped)
    _write(policies / "models.yaml", models)
    teams = _read("policies/teams.yaml")
    teams["organisations"][ORGANISATION] = {"caps": [{**CAP, "window": "month"}]}
    teams["teams"][TEAM] = {
        "organisation": ORGANISATION,
        "tier": "pro",
        "caps": [CAP],
        "user_caps": [CAP],
        "key_caps": [CAP],
    }
    _write(policies / "teams.yaml", teams)
    for name in ("limits.yaml", "tiers.yaml"):
        _write(policies / name, _raised(_read(f"policies/{name}")))
    return folder / "config.yaml"


def make_keys(config: Path) -> tuple[list[str], Path]:
    """KEYS keys of USERS users, made by the product's own store in the ledger's file; and that file."""
    try:
        generation = load_generation(config)
    except ConfigProblems as problems:
        raise BenchError(f"the bench's configuration of Tollway is refused: {problems}") from problems
    generation.state.mkdir(parents=True, exist_ok=True)
    database = generation.state / DATABASE_NAME
    store = KeyStore(database, SystemClock())
    try:
        keys = [
            store.create(user=f"user-{number % USERS}", team=TEAM, organisation=ORGANISATION)[0]
            for number in range(KEYS)
        ]
    finally:
        store.close()
    return keys, database


def admin_port(config: Path) -> int:
    """Where the admin listener of a configuration written here is bound."""
    listeners = yaml.safe_load(config.read_text())["listeners"]
    return next(int(one["bind"].rpartition(":")[2]) for one in listeners if one["kind"] == "admin")


def start(upstream_port: int, folder: Path, *, streaming: bool, change: Change | None = None) -> Gateway:
    """Tollway with its whole chain, 100 keys, four cap scopes, and the ledger in SQLite."""
    name = f"tollway{'-streams' * streaming}"
    home = folder / name
    home.mkdir()
    port = free_port()
    config = write_configuration(home, port, upstream_port, change=change)
    keys, database = make_keys(config)
    server = Server(name, [sys.executable, "-m", "proxy", "serve", "--config", str(config)], folder, cwd=ROOT)
    headers = tuple((("authorization", f"Bearer {key}"),) for key in keys)
    endpoint = Endpoint("tollway", port, MODEL, headers)
    server.wait_ready(lambda: answers(endpoint))
    return Gateway("tollway", __version__, server, endpoint, database, admin_port(config))
