"""Backends are loaded one by one."""

from __future__ import annotations

import subprocess
import sys

import pytest


@pytest.mark.parametrize("backend", ["lnd", "cln"])
def test_a_proxy_loads_only_what_its_node_needs(backend: str) -> None:
    """Neither Nostr nor BOLT-11 before the first invoice."""
    program = f"""
import asyncio, sys
from pathlib import Path
from proxy.clock import SystemClock
from proxy.payments.keys import DerivedKeys
from proxy.payments.lightning.invoices import Invoices
from proxy.payments.lightning.nodes import build_node
from proxy.payments.settings import Lightning

async def main():
    settings = Lightning("{backend}", url="https://localhost:1", credential="ab" * 32)
    build_node(settings, DerivedKeys(b""), Path(), SystemClock())

asyncio.run(main())
print(*sorted({{"bolt11", "bitstring", "coincurve", "proxy.payments.lightning.nwc"}} & set(sys.modules)))
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=30)
    assert done.stdout.strip() == ""
