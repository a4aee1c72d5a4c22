"""One spelling for each mint: what an allow-list compares."""

from __future__ import annotations

import re
from ipaddress import ip_address
from typing import Final
from urllib.parse import urlsplit

URL_CHARS_MAX: Final = 512
_PORTS: Final = {"https": 443, "http": 80}
_PRINTABLE: Final = re.compile(r"[!-~]+")
_HOST: Final = re.compile(r"[a-z0-9._-]+|[0-9a-f:.]+")


def mint_url(text: str) -> str | None:
    """`scheme://host[:port][/path]`: scheme and host in lower case, no default port, no slash at the end.

    None for everything that is no such URL: other schemes, user names, queries, fragments, `.` or `..` or `%` in the
    path. Nothing is decoded: two paths that are spelled differently are two mints.
    """
    if len(text) > URL_CHARS_MAX or not _PRINTABLE.fullmatch(text) or "\\" in text:
        return None
    try:
        parts = urlsplit(text)
        port = parts.port
    except ValueError:
        return None
    host = (parts.hostname or "").rstrip(".")
    if parts.scheme not in _PORTS or not _HOST.fullmatch(host) or port == 0:
        return None
    if "@" in parts.netloc or "?" in text or "#" in text or "%" in parts.path:
        return None
    path = parts.path.rstrip("/")
    if any(segment in ("", ".", "..") for segment in path.split("/")[1:]):
        return None
    shown = f"[{host}]" if ":" in host else host
    return f"{parts.scheme}://{shown}{'' if port in (None, _PORTS[parts.scheme]) else f':{port}'}{path}"


def is_loopback(url: str) -> bool:
    """The URL, as `mint_url` gives it, names loopback: by the name localhost or by address."""
    host = urlsplit(url).hostname or ""
    try:
        return host == "localhost" or ip_address(host).is_loopback
    except ValueError:
        return False
