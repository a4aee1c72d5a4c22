"""Part 6, scale: many keys, teams, models and upstreams. How long a start takes, a look-up, a routing decision."""

from __future__ import annotations

import hashlib
import json
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any, Final

import yaml

from bench import tollway
from bench.figures import median
from bench.process import ROOT, free_port
from proxy.clock import SystemClock
from proxy.config.load import load_generation
from proxy.keys import KeyStore
from proxy.ledger.schema import DATABASE_NAME, connect

KEYS: Final = 10_000
KEYS_FEW: Final = 100
TEAMS: Final = 500
STARTS: Final = 5
LOOKUPS: Final = 20_000


def _organise(folder: Path, teams: int) -> Path:
    """A configuration folder with so many teams, each with caps and rules of its own."""
    config = tollway.write_configuration(folder, free_port(), free_port())
    file = folder / "policies/teams.yaml"
    content = yaml.safe_load(file.read_text())
    for number in range(teams):
        content["teams"][f"team-{number}"] = {
            "organisation": tollway.ORGANISATION,
            "tier": "starter",
            "caps": [tollway.CAP],
            "key_caps": [{"usd": 20, "window": "day", "clamp": True}],
            "models": {"deny": ["gpt-5*"]},
            "max_tokens": 4096,
        }
    file.write_text(yaml.safe_dump(content, sort_keys=False))
    return config


def _add_keys(database: Path, count: int) -> list[str]:
    """Keys as the product's own store makes them, in one transaction."""
    keys = [f"lld_{hashlib.sha256(str(number).encode()).hexdigest()[:32]}" for number in range(count)]
    connection = connect(database)
    connection.execute("BEGIN")
    connection.executemany(
        "INSERT INTO keys (digest, id, hint, name, user, team, organisation, tier, caps, created_ms)"
        " VALUES (?, ?, ?, '', ?, ?, ?, NULL, '[]', 0)",
        [
            (
                hashlib.sha256(key.encode()).digest(), f"key_{number:012x}", key[:8], f"user-{number % 1000}",
                f"team-{number % TEAMS}", tollway.ORGANISATION,
            )
            for number, key in enumerate(keys)
        ],
    )  # fmt: skip
    connection.execute("COMMIT")
    connection.close()
    return keys


def _start_seconds(config: Path) -> float:
    """From the command to the line that tells the bound addresses."""
    begun = time.perf_counter()
    command = [sys.executable, "-m", "proxy", "serve", "--json", "--config", str(config)]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as server:
        line = server.stdout.readline() if server.stdout is not None else ""
        took = time.perf_counter() - begun
        server.terminate()
    json.loads(line)
    return took


def _lookup_us(database: Path, keys: list[str]) -> tuple[float, float]:
    """CPU of a key's first look-up and of every later one, in microseconds."""
    store = KeyStore(database, SystemClock())
    begun = time.process_time()
    for key in keys:
        store.lookup(key)
    first = (time.process_time() - begun) / len(keys)
    begun = time.process_time()
    for number in range(LOOKUPS):
        store.lookup(keys[number * 7 % len(keys)])
    later = (time.process_time() - begun) / LOOKUPS
    store.close()
    return 1e6 * first, 1e6 * later


def measure(folder: Path) -> dict[str, Any]:
    """Figures of this checkout alone."""
    figures: dict[str, Any] = {"errors": 0}
    for name, count, teams in (("few", KEYS_FEW, 1), ("many", KEYS, TEAMS)):
        home = folder / name
        home.mkdir()
        config = _organise(home, teams)
        state = load_generation(config).state
        state.mkdir(parents=True, exist_ok=True)
        keys = _add_keys(state / DATABASE_NAME, count)
        figures[f"start_{name}_seconds"] = round(median([_start_seconds(config) for _ in range(STARTS)]), 3)
        first, later = _lookup_us(state / DATABASE_NAME, keys)
        figures |= {f"first_lookup_{name}_us": round(first, 2), f"lookup_{name}_us": round(later, 2)}
        shutil.rmtree(home)
    figures["lookup_added_us"] = round(figures["lookup_many_us"] - figures["lookup_few_us"], 2)
    figures["first_lookup_ratio"] = round(figures["first_lookup_many_us"] / figures["first_lookup_few_us"], 2)
    print(f"  {figures}", flush=True)
    return {"gateways": {"tollway": figures}}
