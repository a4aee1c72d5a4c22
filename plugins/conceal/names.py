"""What stands in an answer in the place of the upstream's own names and ids."""

from __future__ import annotations

import secrets
from base64 import b64encode
from hashlib import blake2b
from typing import Any, Final

from proxy.exchange import Exchange
from proxy.telemetry.request_id import PREFIX

_SECRET: Final = secrets.token_bytes(32)
"""Of this process: both ends of a conversation come back as they were given, so nobody else needs it."""
_LETTERS: Final = b"xy"
"""In the place of the two signs of base64 that are neither letter nor digit."""
CALL_ID_CHARS: Final = 9
"""Letters and digits of a tool call's id: the one form that every provider takes back (Mistral takes no other)."""
BLOCK_ID_CHARS: Final = 24


class Names:
    """The names of one answer: the same wherever in it the upstream repeats its own."""

    __slots__ = ("answer_id", "asked", "created", "model", "panel", "request_id")

    def __init__(self, exchange: Exchange, id_prefix: str, routed: str | None = None) -> None:
        self.request_id = exchange.request_id
        self.answer_id = id_prefix + exchange.request_id.removeprefix(PREFIX)
        self.model = served_model(exchange, routed)
        self.panel = exchange.model is not None and exchange.model.panel is not None
        """Several models answered together: which ones they were is not told."""
        self.asked: dict[str, Any] = {} if exchange.call is None else exchange.call.document
        """The client's own request, for what an answer repeats of it."""
        self.created = exchange.started_ms // 1000
        """Unix seconds, for an upstream that gives none."""

    def hidden(self, theirs: str, chars: int) -> str:
        """An id for `theirs`: the same within this answer, unlike in every other, and not to be guessed back."""
        message = f"{self.request_id}\0{theirs}".encode("utf-8", "surrogatepass")
        digest = blake2b(message, digest_size=BLOCK_ID_CHARS, key=_SECRET).digest()
        return b64encode(digest, _LETTERS)[:chars].decode()


def served_model(exchange: Exchange, routed: str | None = None) -> str:
    """The catalogue's own name of what served.

    `routed` is the name that came with an answer which was kept from an earlier exchange, where nobody was called now.
    """
    model, route = exchange.model, exchange.route
    if model is None:
        return ""
    if model.panel is not None:
        return model.name
    if route is None or not route.tries:
        return routed or model.name
    served = next((one for one in reversed(route.tries) if one.outcome == "served"), route.current)
    return model.served_as(served.candidate)
