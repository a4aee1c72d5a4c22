"""Whose address it is: the peer's, or the one that a trusted front names, as a key to count under."""

from __future__ import annotations

from functools import lru_cache
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from typing import Final

Address = IPv4Address | IPv6Address
Network = IPv4Network | IPv6Network

HOPS_MAX: Final = 32
"""Addresses looked at in a forwarding header, from the right."""
CACHED_MAX: Final = 8192


@lru_cache(maxsize=CACHED_MAX)
def parse(text: str) -> Address | None:
    """An address without zone, port or brackets; IPv4-mapped IPv6 as IPv4. None for anything else."""
    text = text.strip()
    if text.startswith("["):
        text = text[1:].partition("]")[0]
    elif text.count(":") == 1:
        text = text.partition(":")[0]
    try:
        address = ip_address(text.partition("%")[0])
    except ValueError:
        return None
    if isinstance(address, IPv6Address) and address.ipv4_mapped is not None:
        return address.ipv4_mapped
    return address


@lru_cache(maxsize=CACHED_MAX)
def key_of(address: Address | None) -> str:
    """What to count under: an IPv4 address, or the /64 that one IPv6 subscriber has. Unknown ones count together."""
    if address is None:
        return "unknown"
    if isinstance(address, IPv4Address):
        return str(address)
    return str(ip_network((int(address) >> 64 << 64, 64)))


def networks(texts: tuple[str, ...]) -> tuple[Network, ...]:
    """CIDRs or single addresses. Raises ValueError for one with host bits set."""
    return tuple(ip_network(text) for text in texts)


def within(address: Address | None, ranges: tuple[Network, ...]) -> bool:
    """Whether the address is in one of the ranges."""
    return address is not None and any(address.version == network.version and address in network for network in ranges)


def client_of(peer: str, forwarded: list[str], trusted: tuple[Network, ...]) -> Address | None:
    """The rightmost address that no trusted proxy stands at; `forwarded` are the header's lines in order.

    Only a trusted peer is believed. What cannot be read ends the search at the last trusted hop: whoever wrote it is
    counted as that hop, never as an address of its own choice.
    """
    nearest = parse(peer)
    if not within(nearest, trusted):
        return nearest
    hops = [hop for line in forwarded for hop in line.split(",")]
    for hop in reversed(hops[-HOPS_MAX:]):
        address = parse(hop)
        if address is None:
            return nearest
        nearest = address
        if not within(address, trusted):
            return address
    return nearest
