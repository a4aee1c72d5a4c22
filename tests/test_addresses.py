"""Which addresses are public."""

from __future__ import annotations

import asyncio
import ipaddress
import socket
import threading
from typing import Any

import pytest

from proxy.addresses import is_public, resolve


@pytest.mark.parametrize("text", ["1.1.1.1", "8.8.8.8", "2606:4700::1111", "::ffff:1.1.1.1", "64:ff9b::101:101"])
def test_public_addresses(text: str) -> None:
    """Plain, and wrapped."""
    assert is_public(ipaddress.ip_address(text))


@pytest.mark.parametrize(
    "text",
    [
        "127.0.0.1", "10.0.0.1", "192.168.0.1", "172.16.0.1", "169.254.169.254", "0.0.0.0", "100.64.0.1",
        "224.0.0.1", "::1", "fe80::1", "fc00::1", "ff02::1", "::", "::ffff:127.0.0.1", "64:ff9b::7f00:1",
        "2002:7f00:1::", "2002:a00:1::", "::127.0.0.1", "fec0::1", "64:ff9b:1::7f00:1", "4000::1",
    ],
)  # fmt: skip
def test_inner_addresses_however_wrapped(text: str) -> None:
    """Loopback, private, link-local, multicast; mapped, 6to4 and NAT64 forms of them."""
    assert not is_public(ipaddress.ip_address(text))


async def test_literal_addresses_resolve_to_themselves() -> None:
    """Without asking anybody."""
    assert await resolve("127.0.0.1", 443) == [ipaddress.ip_address("127.0.0.1")]


async def test_slow_names_of_clients_delay_no_other_lookup(monkeypatch: pytest.MonkeyPatch) -> None:
    """The loop's own threads, which providers' names are looked up with, stay free."""
    slow, real = threading.Event(), socket.getaddrinfo

    def lookup(host: str, *arguments: Any, **options: Any) -> Any:
        if host == "slow.test":
            slow.wait(30)
            raise OSError
        return real(host, *arguments, **options)

    monkeypatch.setattr(socket, "getaddrinfo", lookup)
    asked = [asyncio.ensure_future(resolve("slow.test", 443)) for _ in range(100)]
    try:
        async with asyncio.timeout(4):
            await asyncio.sleep(0)
            assert await asyncio.get_running_loop().getaddrinfo("127.0.0.1", 443)
            assert await asyncio.to_thread(lambda: 1) == 1
        assert not any(task.done() for task in asked)
    finally:
        slow.set()
        await asyncio.gather(*asked, return_exceptions=True)
