"""What programs of others need to pay a whole proxy: a shop on every rail, and Node to run them with."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from decimal import Decimal
from pathlib import Path
from typing import Any, Final

from eth_account.signers.local import LocalAccount
from x402 import x402Client
from x402.mechanisms.evm import EthAccountSigner
from x402.mechanisms.evm.exact.register import register_exact_evm_client

from tests.peers.behaviour import Behaviour
from tests.support.paid import PaidWorld, paid_world, with_dedup
from tests.support.world import GPT_4O_PRICE, MODELS

NODE: Final = Path(__file__).resolve().parents[1] / "clients" / "node"
NODE_SECONDS_MAX: Final = 50
TEXT: Final = Behaviour().text
"""What the provider answers."""
DEAR: Final = "dear"
"""A model whose least request costs more than a dollar."""
LANE: Final = "best"
"""What `auto` stands for."""
SOLD: Final[dict[str, Any]] = {
    **MODELS,
    DEAR: {
        "candidates": [{"upstream": "openai", "model": "gpt-4o"}],
        "price": {"input": "2.50", "output": "30000"},
        "context": 128_000,
        "output_max": 16_384,
        "encoding": "o200k_base",
    },
    LANE: {"lane": ["gpt-4o", "gpt-5"], "aliases": ["auto"], "price": GPT_4O_PRICE},
}
USD_PER_BTC: Final = 68_000
"""As shipped where the node is the development one."""
MSAT_PER_BTC: Final = 100_000_000_000


@contextmanager
def shop_of(folder: Path, **payments: Any) -> Iterator[PaidWorld]:
    """A proxy with the shipped chain, Lightning and balances, and what `payments` adds."""
    settings = {"leases_max": 5, **payments}
    settings.setdefault("lightning", {"backend": "dev", "development": True, "pending_client_max": 10_000})
    with paid_world(folder, payments=settings, chain=with_dedup(), policies={"models": {"models": SOLD}}) as made:
        yield made


def run_node(script: str, url: str, body: Mapping[str, Any], **environment: str) -> subprocess.CompletedProcess[str]:
    """One run of a program of tests/clients/node."""
    return subprocess.run(
        ["node", script],
        cwd=NODE,
        env={**os.environ, "URL": url, "BODY": json.dumps(body), **environment},
        capture_output=True,
        text=True,
        timeout=NODE_SECONDS_MAX,
    )


def node(script: str, url: str, body: Mapping[str, Any], **environment: str) -> dict[str, Any]:
    """What it told, in JSON."""
    ran = run_node(script, url, body, **environment)
    assert ran.returncode == 0, ran.stderr
    told: dict[str, Any] = json.loads(ran.stdout)
    return told


def dollars(payer: LocalAccount, **spend_controls: str) -> x402Client:
    """The x402 SDK's client with this account's key."""
    client = x402Client()
    register_exact_evm_client(client, EthAccountSigner(payer))
    if spend_controls:
        client.set_spend_controls(spend_controls)
    return client


def said(answer: str) -> str:
    """The text of a chat completion, or of the stream of one."""
    if not answer.startswith("data:"):
        return str(json.loads(answer)["choices"][0]["message"]["content"])
    events = [line.removeprefix("data: ") for line in answer.splitlines() if line.startswith("data: ")]
    assert events[-1] == "[DONE]"
    choices = [choice for event in events[:-1] for choice in json.loads(event)["choices"]]
    return "".join(choice["delta"].get("content") or "" for choice in choices)


def gpt_4o_msat(input_tokens: int, output_tokens: int) -> int:
    """What so many tokens cost, by hand."""
    rates = (Decimal(GPT_4O_PRICE["input"]), Decimal(GPT_4O_PRICE["output"]))
    usd = (input_tokens * rates[0] + output_tokens * rates[1]) / 1_000_000
    return int(-(-usd * MSAT_PER_BTC // USD_PER_BTC))
