"""What keeps web pages away from the admin listener: a browser next to it carries any page's requests to loopback.

Two ways lead there. A page posts to 127.0.0.1 from its own origin: the browser says so in `Origin`. Or the page's own
name is rebound to 127.0.0.1, and the browser takes us for the page's server: then `Host` has that name.
"""

from __future__ import annotations

from typing import Final

from proxy.client_addresses import parse
from proxy.errors import Refusal
from proxy.headers import Headers

_LOOPBACK_NAME: Final = "localhost"


def refuse_pages(headers: Headers, *, token: bool) -> None:
    """Raises Refusal `target_not_allowed` for what a page sends. `token`: the listener asks for one."""
    if "origin" in headers:
        raise Refusal(
            "target_not_allowed", "The admin listener is for programs, not for web pages: send no Origin header."
        )
    host = headers.get("host")
    if not token and host and not _is_loopback(host):
        raise Refusal(
            "target_not_allowed",
            "An admin listener without a token is called by its address or as localhost only: "
            "send such a Host, or set the listener's 'token'.",
        )


def _is_loopback(host: str) -> bool:
    name, separator, port = host.rpartition(":")
    if (name if separator and port.isdigit() else host).lower().rstrip(".") == _LOOPBACK_NAME:
        return True
    address = parse(host)
    return address is not None and address.is_loopback
