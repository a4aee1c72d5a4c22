"""`tollway pay`, typed as somebody types it; the README's first paid request works as it stands."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.peers.chain import Chain
from tests.support.gateway import ROOT, GatewayProcess
from tests.support.paid import PaidWorld
from tests.support.paid_clients import TEXT

VARIABLES = ("TOLLWAY_PAY_KEY", "TOLLWAY_PAY_CASHU", "TOLLWAY_PAY_BALANCE")
SELLING = {"TOLLWAY_LIGHTNING": "dev", "TOLLWAY_DEVELOPMENT": "true"}
"""The README's."""
FLOOR = 21
Ran = subprocess.CompletedProcess[str]


def pay(*arguments: str, url: str, folder: Path, **environment: str) -> Ran:
    """`tollway pay ...` as somebody types it, with a file of its own for what is kept."""
    options = ("--url", url, "--kept", str(folder / "kept.json"))
    plain = {name: value for name, value in os.environ.items() if name not in VARIABLES}
    return subprocess.run(
        [sys.executable, "-m", "proxy", "pay", *arguments, *options],
        cwd=folder,
        env={**plain, "PYTHONPATH": str(ROOT), **environment},
        capture_output=True,
        text=True,
        timeout=50,
    )


def dev(shop: PaidWorld) -> tuple[str, ...]:
    return ("--dev", "--config", str(shop.world.gateway.folder / "config.yaml"))


def test_every_step_of_a_paid_request_is_shown(shop: PaidWorld, tmp_path: Path) -> None:
    """By the development node's wallet: the request, the offers, what was paid, the answer alone on standard output."""
    ran = pay("--model", "gpt-4o", "--max-tokens", "50", *dev(shop), "By command.", url=shop.url, folder=tmp_path)
    assert (ran.returncode, ran.stdout) == (0, TEXT + "\n"), ran.stderr
    steps = ("POST /v1/chat/completions", "ways to pay", "l402", "mpp", "x402", "21 sats by l402", "paid 21 sats")
    for words in steps:
        assert words in ran.stderr, ran.stderr
    assert not (tmp_path / "kept.json").exists() or json.loads((tmp_path / "kept.json").read_text()) == []


def test_a_stream_is_paid_for_by_mpp(shop: PaidWorld, tmp_path: Path) -> None:
    """--rail mpp --stream"""
    arguments = ("--model", "gpt-4o", "--rail", "mpp", "--stream", *dev(shop), "Streamed by command.")
    ran = pay(*arguments, url=shop.url, folder=tmp_path)
    assert (ran.returncode, ran.stdout) == (0, TEXT + "\n"), ran.stderr
    assert "by mpp" in ran.stderr


def test_dollars_are_signed_for(shop: PaidWorld, base_chain: Chain, tmp_path: Path) -> None:
    """With the key in the environment, which is said nowhere; told to programs as JSON."""
    before = base_chain.balance(base_chain.pay_to)
    key = "0x" + base_chain.payer.key.hex()
    arguments = ("--model", "gpt-4o", "--max-tokens", "50", "--json", "By command, in dollars.")
    ran = pay(*arguments, url=shop.url, folder=tmp_path, TOLLWAY_PAY_KEY=key)
    assert ran.returncode == 0, ran.stderr
    told = json.loads(ran.stdout)
    assert (told["answer"], told["rail"], told["payment_id"][:4]) == (TEXT, "x402", "pay_")
    assert base_chain.balance(base_chain.pay_to) - before == 1000
    assert int(base_chain.receipt(told["transaction"])["status"], 16) == 1
    assert key[2:] not in ran.stdout + ran.stderr


@pytest.fixture(scope="module")
def shipped(tmp_path_factory: pytest.TempPathFactory) -> Iterator[GatewayProcess]:
    """`tollway init`, and the README's two variables."""
    folder = tmp_path_factory.mktemp("shipped")
    command = [sys.executable, "-m", "proxy", "init", str(folder)]
    subprocess.run(command, check=True, capture_output=True, env={**os.environ, "PYTHONPATH": str(ROOT)}, timeout=50)
    anywhere = {f"TOLLWAY_{name}_BIND": "127.0.0.1:0" for name in ("API", "CAPTURE", "ADMIN")}
    with GatewayProcess(folder, environment={**SELLING, **anywhere}) as one:
        yield one
        one.cli("ledger", "audit")


@pytest.mark.parametrize("known", [True, False], ids=["with_its_variables", "without_them"])
def test_the_first_paid_request_of_the_readme(shipped: GatewayProcess, tmp_path: Path, known: bool) -> None:
    """The configuration that ships, as it is: in another terminal, which need not have the proxy's variables."""
    config = ("--config", str(shipped.folder / "config.yaml"))
    variables = SELLING if known else {}
    arguments = ("--dev", "--model", "demo-paid", f"What is a toll? {known}", *config)
    ran = pay(*arguments, url=shipped.url("api"), folder=tmp_path, **variables)
    assert ran.returncode == 0, ran.stderr
    assert ran.stdout.strip()
    assert "21 sats by l402" in ran.stderr
