"""The upstream side is tested on both event loops: the one the gateway runs on, and Python's own.

Where the two differ (resets, half-closes, TLS), the client must not.
"""

from __future__ import annotations

import asyncio

import uvloop


def pytest_asyncio_loop_factories(config, item):
    """Each coroutine test runs once on either."""
    return {"uvloop": uvloop.new_event_loop, "asyncio": asyncio.SelectorEventLoop}
