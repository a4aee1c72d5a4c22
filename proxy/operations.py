"""What a method and path mean. Resolved once, before the chain; plugins never match paths."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import Final


class Target(Enum):
    """Who answers an operation."""

    UPSTREAM = "upstream"
    """A provider, through the whole chain; priced."""
    LOCAL = "local"
    """An endpoint of our own."""
    UNMETERED = "unmetered"
    """Another path of a captured host: streamed both ways, only with the client's own provider key."""
    PLAIN = "plain"
    """Plain HTTP to a host that is not captured: what a tunnel is to HTTPS."""
    WEBSOCKET = "websocket"
    """An upgrade on a captured host, handed to the engine's own upstream side; the same condition."""


@dataclass(frozen=True, slots=True)
class Operation:
    """A known thing to ask for. `dialect` names the wire format of an upstream operation."""

    name: str
    target: Target
    dialect: str | None = None
    body_bytes_max: int = 32 << 20

    @property
    def priced(self) -> bool:
        """Whether serving it costs money: it then needs identity, model, quote, hold and route."""
        return self.target is Target.UPSTREAM


CHAT: Final = Operation("chat.completions", Target.UPSTREAM, "openai.chat")
EMBEDDINGS: Final = Operation("embeddings", Target.UPSTREAM, "openai.embeddings")
MESSAGES: Final = Operation("messages", Target.UPSTREAM, "anthropic.messages")
RESPONSES: Final = Operation("responses", Target.UPSTREAM, "openai.responses")
ORCHESTRATE: Final = Operation("orchestrate", Target.UPSTREAM, "tollway.orchestrate")
"""A question to a panel of models: its calls are chat completions, it is itself none that a provider knows."""
MODELS: Final = Operation("models", Target.LOCAL, body_bytes_max=0)
LOCAL: Final = Operation("local", Target.LOCAL, body_bytes_max=16 << 10)
PREFLIGHT: Final = Operation("preflight", Target.LOCAL, body_bytes_max=0)
"""OPTIONS on a priced path: a browser asks whether it may. `cors` answers; nothing is called for it."""
UNMETERED: Final = Operation("unmetered", Target.UNMETERED)
PLAIN: Final = Operation("plain", Target.PLAIN)
WEBSOCKET: Final = Operation("websocket", Target.WEBSOCKET, body_bytes_max=0)

BY_NAME: Final = {op.name: op for op in (CHAT, EMBEDDINGS, MESSAGES, RESPONSES, MODELS)}
"""The operations a path of policies/capture.yaml may be mapped to."""
