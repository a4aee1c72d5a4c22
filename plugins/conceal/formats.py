"""What a dialect's answers may hold: an allow-list of documented members for whole answers and for events."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

from plugins.conceal import anthropic_messages, openai_chat, openai_embeddings, openai_responses, orchestrate
from plugins.conceal.names import Names


@dataclass(frozen=True, slots=True)
class Format:
    """How one dialect's answers are concealed."""

    id_prefix: str
    """Of an answer's id."""
    request_id_header: str
    """In which the dialect's SDK looks for the id to report."""
    whole: Callable[[dict[str, Any], Names], dict[str, Any] | None]
    """A whole answer of ours; None where the document is no answer."""
    event: Callable[[dict[str, Any], Names], tuple[bytes, dict[str, Any]] | None]
    """Name and data of an event of ours; None where it is none of the format's, and nothing is sent for it."""
    done: bytes = b""
    """The data that ends a stream, where it is no JSON."""


FORMATS: Final[dict[str, Format]] = {
    "openai.chat": Format("chatcmpl-", "x-request-id", openai_chat.whole, openai_chat.event, b"[DONE]"),
    "openai.embeddings": Format("", "x-request-id", openai_embeddings.whole, openai_embeddings.event),
    "openai.responses": Format("resp_", "x-request-id", openai_responses.whole, openai_responses.event),
    "anthropic.messages": Format("msg_", "request-id", anthropic_messages.whole, anthropic_messages.event),
    "tollway.orchestrate": Format("orch_", "x-request-id", orchestrate.whole, orchestrate.event),
}
"""By dialect. An answer in a dialect that is missing here is not sent."""
