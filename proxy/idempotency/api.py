"""What is asked for once, and what is kept of its answer."""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass, field
from typing import Final

from proxy.errors import Refusal
from proxy.headers import Headers

HEADER: Final = "idempotency-key"
REPLAYED: Final = "idempotent-replayed"
"""Header of an answer that was kept: `true`."""
_KEY: Final = re.compile(r"[!-~]{1,255}", re.ASCII)


@dataclass(frozen=True, slots=True)
class Asked:
    """A request under a key of the caller's. Neither the key nor anything of the request is in it."""

    scope: str
    """Whose key it is: the same key of another caller is another one."""
    key: str
    """Digest, hex."""
    request: str
    """Digest, hex, of the path and the body."""
    about: str = ""
    """What the answer belongs to, so that it can be forgotten with it: a conversation's id."""


@dataclass(frozen=True, slots=True)
class Kept:
    """An answer of status 200 that came to its end."""

    headers: tuple[tuple[str, str], ...]
    body: bytes = field(repr=False)
    stream: bool = False
    """The body is server-sent events, all of them."""


@dataclass(slots=True, eq=False)
class Claim:
    """The right to run what was asked for. Ended once: kept, or free again."""

    asked: Asked
    token: int
    ended: bool = False


def key_of(headers: Headers) -> str | None:
    """The caller's key; None where it gave none. Raises Refusal `invalid_header`."""
    keys = headers.getall(HEADER, [])
    if not keys:
        return None
    if len(keys) > 1 or not _KEY.fullmatch(keys[0]):
        raise Refusal(
            "invalid_header",
            "Send one Idempotency-Key of 1 to 255 visible ASCII characters, such as a UUID.",
            param="Idempotency-Key",
        )
    return keys[0]


def asked(scope: str, key: str, path: str, body: bytes, *, about: str = "") -> Asked:
    """What is asked for: the same only where path and body are, byte for byte."""
    request = hashlib.sha256(path.encode("utf-8", "surrogatepass") + b"\n")
    request.update(body)
    return Asked(scope, hashlib.sha256(key.encode()).hexdigest(), request.hexdigest(), about)
