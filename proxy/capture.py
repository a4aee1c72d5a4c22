"""Which provider hosts are captured, and what their paths mean."""

from __future__ import annotations

import ipaddress
import unicodedata
from collections.abc import Iterable
from typing import Final

from proxy.config.addresses import is_host, is_ipv6
from proxy.config.schema import CapturedHost
from proxy.errors import Refusal
from proxy.operations import Operation
from proxy.paths import MODEL, Template

_DOTS: Final = str.maketrans({"\u3002": ".", "\uff0e": ".", "\uff61": "."})
"""IDNA's other full stops."""


def normal_host(host: str) -> str:
    """The host as a resolver would understand it: lower case, no trailing dot, ASCII, addresses without brackets.

    Raises Refusal `target_not_allowed` for what is not a host name or address.
    """
    name = host
    if not name.isascii():
        try:
            name = unicodedata.normalize("NFKC", name.translate(_DOTS)).encode("idna").decode("ascii")
        except UnicodeError:
            name = ""
    name = name.lower().removesuffix(".")
    if name.startswith("[") and name.endswith("]"):
        name = name[1:-1]
    if not is_host(name) and not is_ipv6(name):
        raise Refusal("target_not_allowed", "The target is not a valid host name.")
    return name


def is_this_machine(name: str) -> bool:
    """Whether a (normal) host name or address means the machine on which it is looked up."""
    if name == "localhost" or name.endswith(".localhost"):
        return True
    try:
        address = ipaddress.ip_address(name)
    except ValueError:
        return False
    return address.is_loopback or address.is_unspecified


class CaptureTable:
    """Finds the captured host behind a target. One per generation."""

    def __init__(self, captured: Iterable[CapturedHost]) -> None:
        self._exact: dict[tuple[str, int], CapturedHost] = {}
        self._suffixes: dict[tuple[str, int], CapturedHost] = {}
        for host in captured:
            for port in host.ports:
                if host.pattern.startswith("*."):
                    self._suffixes[host.pattern[2:], port] = host
                else:
                    self._exact[host.pattern, port] = host

    def match(self, host: str, port: int, *, local: bool) -> CapturedHost | None:
        """The entry for a target, exact names before wildcards, the longest suffix first; None: not captured.

        `local`: the client is on this machine. Somebody else's localhost is not ours, and ours is not for them.
        Raises Refusal `target_not_allowed` for what is not a host name.
        """
        found = self._exact.get((host, port)) or self._normal(host, port)
        return None if found is not None and not local and is_this_machine(found.pattern) else found

    def _normal(self, host: str, port: int) -> CapturedHost | None:
        name = normal_host(host)
        found = self._exact.get((name, port))
        while found is None and "." in name:
            name = name.partition(".")[2]
            found = self._suffixes.get((name, port))
        return found


def match_path(captured: CapturedHost, path: str) -> tuple[Operation, str | None] | None:
    """What exactly this path means on this host, and the model it names; None: none of its listed paths."""
    for template, operation in captured.paths:
        if MODEL not in template:
            if template == path:
                return operation, None
        elif (model := Template(template).value(path)) is not None:
            return operation, model
    return None
