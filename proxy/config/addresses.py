"""HOST:PORT in its spellings. Host names are only parsed here, never resolved."""

from __future__ import annotations

import ipaddress
import re
from typing import Final

_HOST = re.compile(r"(?=.{1,253}$)[a-z0-9_](?:[a-z0-9_-]{0,62})(?:\.[a-z0-9_][a-z0-9_-]{0,62})*", re.IGNORECASE)
PORT_MAX: Final = 65535


def host_port(text: str) -> tuple[str, int]:
    """`name:443`, `10.0.0.1:80` or `[::1]:80`, the host without brackets. Raises ValueError with what to write."""
    host, colon, port = text.rpartition(":")
    if not colon or not port.isascii() or not port.isdigit() or int(port) > PORT_MAX:
        raise ValueError(f"'{text}' is not HOST:PORT")
    if host.startswith("[") and host.endswith("]"):
        return str(ipaddress.IPv6Address(host[1:-1])), int(port)
    if ":" in host:
        raise ValueError(f"put the IPv6 address in brackets: [{host}]:{port}")
    if not is_host(host):
        raise ValueError(f"'{host}' is not a host name or address")
    return host, int(port)


def is_host(name: str) -> bool:
    """Whether this can be a DNS name or an IPv4 address."""
    return _HOST.fullmatch(name) is not None


def bind_address(text: str) -> tuple[str, int, bool]:
    """Address, port, and whether it is loopback. Raises ValueError."""
    if text.startswith(":"):
        raise ValueError(f"name the address too: 127.0.0.1{text} (this machine only) or 0.0.0.0{text} (everywhere)")
    host, port = host_port(text)
    if host == "localhost":
        return "127.0.0.1", port, True
    try:
        address = ipaddress.ip_address(host)
    except ValueError as error:
        raise ValueError(f"bind to an IP address, not to the name '{host}'") from error
    return str(address), port, address.is_loopback


def is_target(text: str) -> bool:
    """Whether this can stand in `allow_targets`: HOST:PORT, a bare host or address, or a network."""
    if "/" in text:
        try:
            ipaddress.ip_network(text, strict=False)
        except ValueError:
            return False
        return True
    try:
        host_port(text)
    except ValueError:
        return is_host(text) or is_ipv6(text)
    return True


def is_ipv6(text: str) -> bool:
    """Whether this is an IPv6 address, without brackets."""
    try:
        ipaddress.IPv6Address(text)
    except ValueError:
        return False
    return True
