"""Where a webhook may go: parsed once, guarded against our own inside when it is named and at every delivery."""

from __future__ import annotations

import ipaddress
import re
from dataclasses import dataclass
from typing import Final

from proxy.addresses import is_public, resolve_public
from proxy.webhooks.settings import WebhookRules

URL_CHARS_MAX: Final = 2048
_LABEL: Final = r"[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?"
_URL: Final = re.compile(
    rf"(?P<origin>(?P<scheme>https?)://(?P<host>{_LABEL}(?:\.{_LABEL})*|\[[0-9a-f:.]+\])(?::(?P<port>[1-9][0-9]{{0,4}}))?)"
    r"(?P<target>(?:/[A-Za-z0-9._~!$&'()*+,;=:@%-]*)*(?:\?[A-Za-z0-9._~!$&'()*+,;=:@%/?-]*)?)"
)
"""No user, fragment, upper-case host, trailing dot or zone: one spelling, so one reading."""
PORT_MAX: Final = 65_535


class BadTarget(Exception):
    """A URL that no webhook goes to. The message says what would do, and repeats nothing of the URL."""


@dataclass(frozen=True, slots=True)
class Target:
    """A parsed URL."""

    origin: str
    """Scheme, host and port as they are in the URL."""
    host: str
    """Without brackets."""
    port: int
    target: str
    """Path and query, beginning with a slash."""
    private: bool
    """The operator lets this very host and port be private; everybody else's must be public."""


def parse(url: str, rules: WebhookRules) -> Target:
    """Nothing is looked up. Raises BadTarget."""
    found = _URL.fullmatch(url) if len(url) <= URL_CHARS_MAX else None
    if found is None:
        raise BadTarget(
            "Write it plainly, as https://hooks.example.com/path: lower-case host, no user and no fragment, "
            f"{URL_CHARS_MAX} characters at most."
        )
    secure = found["scheme"] == "https"
    port = int(found["port"] or (443 if secure else 80))
    if port > PORT_MAX:
        raise BadTarget(f"A port is {PORT_MAX} at most.")
    host = found["host"]
    private = f"{host}:{port}" in rules.allow_private or (rules.development and _is_loopback(host))
    if not private:
        if not secure:
            raise BadTarget("A webhook's URL begins with https://.")
        _check_literal(host)
    target = found["target"]
    return Target(found["origin"], host.strip("[]"), port, target if target[:1] == "/" else f"/{target}", private)


async def check(url: str, rules: WebhookRules) -> Target:
    """The target, if its host is public at this moment. Raises BadTarget, with one answer for all reasons of a host."""
    found = parse(url, rules)
    if not found.private:
        try:
            await resolve_public(found.host, found.port)
        except (OSError, UnicodeError, TimeoutError) as error:
            raise _not_public() from error
    return found


def _is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


def _check_literal(host: str) -> None:
    """Raises BadTarget for an address that is not public, or that is written so that parsers differ."""
    if host.startswith("["):
        try:
            address = ipaddress.ip_address(host[1:-1])
        except ValueError as error:
            raise _not_public() from error
        if not is_public(address):
            raise _not_public()
        return
    last = host.rpartition(".")[2]
    if last.isdigit() or last.startswith("0x"):
        try:
            if not is_public(ipaddress.ip_address(host)):
                raise _not_public()
        except ValueError as error:
            raise _not_public() from error


def _not_public() -> BadTarget:
    return BadTarget("Its host has to resolve to public addresses, and to no others.")
