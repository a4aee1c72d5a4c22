"""What becomes of a CONNECT target: decrypted, tunnelled to one pinned address, or refused."""

from __future__ import annotations

import ipaddress
from collections.abc import Callable

from proxy.addresses import Address, is_public, resolve
from proxy.capture import CaptureTable
from proxy.config.schema import Generation, Listener
from proxy.errors import Refusal
from proxy.keys import KeyStore
from proxy.listeners.api import ConnectVerdict


class CapturePolicy:
    """Implements ConnectPolicy from the present generation and the key store."""

    def __init__(
        self, generation: Callable[[], Generation], capture: Callable[[], CaptureTable], keys: KeyStore
    ) -> None:
        self._generation = generation
        self._capture = capture
        self._keys = keys

    async def decide(
        self, *, listener: str, peer: str, loopback: bool, host: str, port: int, credential: str | None
    ) -> ConnectVerdict:
        """Off loopback a valid key is required, tunnels included; a wrong one is refused everywhere."""
        valid = credential is not None and self._keys.lookup(credential) is not None
        if not valid and (credential is not None or not loopback):
            return ConnectVerdict(
                "refuse",
                refusal=Refusal(
                    "proxy_authentication_required",
                    "Give a Tollway key as proxy credentials: HTTPS_PROXY=http://KEY@host:port",
                    headers={"proxy-authenticate": 'Basic realm="tollway"'},
                ),
            )
        if self._capture().match(host, port, local=loopback) is not None:
            return ConnectVerdict("capture")
        entry = self._generation().listener(listener)
        if entry.other_targets == "refuse":
            return _refuse(f"{host}:{port} is not a host that this proxy serves.")
        return await _tunnel(entry, host, port)


def _refuse(message: str) -> ConnectVerdict:
    return ConnectVerdict("refuse", refusal=Refusal("target_not_allowed", message))


async def _tunnel(listener: Listener, host: str, port: int) -> ConnectVerdict:
    """Resolve once, test every address, pin the first: the name cannot be rebound between test and connection."""
    try:
        addresses = await resolve(host, port)
    except (OSError, UnicodeError, TimeoutError):
        return _refuse(f"{host} cannot be resolved.")
    if not addresses:
        return _refuse(f"{host} has no address.")
    allowed = _Allowed(listener.allow_targets)
    if not all(is_public(address) or allowed.covers(host, address, port) for address in addresses):
        return _refuse(
            f"{host}:{port} is not a public address. An operator can list it under 'allow_targets' of this listener."
        )
    return ConnectVerdict("tunnel", address=(str(addresses[0]), port))


class _Allowed:
    """`allow_targets`: HOST:PORT, IP:PORT, a bare host or IP (any port), or a CIDR."""

    def __init__(self, entries: tuple[str, ...]) -> None:
        self._names = {entry.lower() for entry in entries}
        self._networks = [network for entry in entries if (network := _network(entry)) is not None]

    def covers(self, host: str, address: Address, port: int) -> bool:
        """Whether this target is listed, by its name or by the address it resolved to."""
        spellings = {f"{host}:{port}", host, f"{address}:{port}", f"[{address}]:{port}", str(address)}
        if self._names & {spelling.lower() for spelling in spellings}:
            return True
        return any(address.version == network.version and address in network for network in self._networks)


def _network(entry: str) -> ipaddress.IPv4Network | ipaddress.IPv6Network | None:
    if "/" not in entry:
        return None
    try:
        return ipaddress.ip_network(entry, strict=False)
    except ValueError:
        return None
