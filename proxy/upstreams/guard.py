"""Where a customer's base URL may lead: public addresses only, judged again for every single connection.

A name is looked up once for each new connection, all its addresses are judged, and one of those very addresses is
dialled: no second lookup can answer otherwise (DNS rebinding). The socket is judged once more as it is made, so that
an address that stood in the URL itself, which nobody looks up, is judged too.
"""

from __future__ import annotations

import asyncio
import ipaddress
import socket
from typing import TYPE_CHECKING, Final

from aiohttp.abc import AbstractResolver, ResolveResult

from proxy import addresses

if TYPE_CHECKING:
    from aiohttp.connector import AddrInfoType


LOOKUPS_AT_ONCE_MAX: Final = 4
"""Of one customer's upstream: one whose name server is slow leaves threads for the others."""


class PublicResolver(AbstractResolver):
    """Resolves to public addresses or fails. One for each customer's upstream."""

    def __init__(self) -> None:
        self._turns = asyncio.Semaphore(LOOKUPS_AT_ONCE_MAX)

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_UNSPEC
    ) -> list[ResolveResult]:
        """Numeric addresses for the connector. Raises NotPublic, OSError, UnicodeError, TimeoutError."""
        async with self._turns:
            found = await addresses.resolve_public(host, port)
        return [_numeric(host, port, address) for address in found]

    async def close(self) -> None:
        """Nothing is kept."""


def public_socket(info: AddrInfoType) -> socket.socket:
    """A socket for one address that is about to be dialled. Raises NotPublic."""
    family, kind, protocol, _, target = info
    host = str(target[0])
    scoped = "%" in host or (len(target) == 4 and target[3] != 0)
    if scoped or not addresses.is_public(ipaddress.ip_address(host)):
        raise addresses.NotPublic("not a public address")
    return socket.socket(family, kind, protocol)


def _numeric(host: str, port: int, address: addresses.Address) -> ResolveResult:
    return ResolveResult(
        hostname=host,
        host=str(address),
        port=port,
        family=socket.AF_INET6 if address.version == 6 else socket.AF_INET,
        proto=0,
        flags=socket.AI_NUMERICHOST | socket.AI_NUMERICSERV,
    )
