"""Which network addresses are public: the one rule behind every guard against requests to our own inside."""

from __future__ import annotations

import asyncio
import ipaddress
import socket
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Final

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
RESOLVE_SECONDS_MAX: Final = 5.0
LOOKUPS_AT_ONCE_MAX: Final = 8
_lookups: Final = ThreadPoolExecutor(LOOKUPS_AT_ONCE_MAX, thread_name_prefix="lookup")
"""Apart from the loop's own few threads: names that a client chose, however slow, must not delay a provider's."""
CUSTOMERS_LOOKUPS_AT_ONCE_MAX: Final = 16
_customers_lookups: Final = ThreadPoolExecutor(CUSTOMERS_LOOKUPS_AT_ONCE_MAX, thread_name_prefix="customers-lookup")
"""Apart from those: base URLs of customers."""
_NAT64: Final = ipaddress.IPv6Network("64:ff9b::/96")
_GLOBAL_UNICAST: Final = ipaddress.IPv6Network("2000::/3")
"""All of IPv6 that is routed (RFC 4291, 2.4); outside of it are ::127.0.0.1, site-local and unassigned addresses."""


def is_public(address: Address) -> bool:
    """Global once IPv4-mapped, 6to4, Teredo and NAT64 wrappings are taken off."""
    if isinstance(address, ipaddress.IPv6Address):
        inner = address.ipv4_mapped or address.sixtofour
        if address.teredo is not None:
            inner = address.teredo[1]
        if address in _NAT64:
            inner = ipaddress.IPv4Address(int(address) & 0xFFFFFFFF)
        if inner is not None:
            return is_public(inner)
        if address not in _GLOBAL_UNICAST:
            return False
    return address.is_global and not address.is_multicast


class NotPublic(OSError):
    """A target that is not wholly public; the message names no address."""


async def resolve_public(host: str, port: int, *, threads: ThreadPoolExecutor = _customers_lookups) -> list[Address]:
    """All addresses of a name, each of them public and without a zone: one that is not spoils the name.

    Raises NotPublic, and what `resolve` raises.
    """
    found = await resolve(host, port, threads=threads)
    if not found or not all(is_public(address) and _zone(address) is None for address in found):
        raise NotPublic(f"{host} is not a public address")
    return found


def _zone(address: Address) -> str | None:
    return address.scope_id if isinstance(address, ipaddress.IPv6Address) else None


async def resolve(host: str, port: int, *, threads: ThreadPoolExecutor = _lookups) -> list[Address]:
    """All addresses of a name, or the address that `host` is. Raises OSError, UnicodeError or TimeoutError."""
    lookup = partial(socket.getaddrinfo, host, port, type=socket.SOCK_STREAM)
    async with asyncio.timeout(RESOLVE_SECONDS_MAX):
        found = await asyncio.get_running_loop().run_in_executor(threads, lookup)
    return [ipaddress.ip_address(info[4][0]) for info in found]
