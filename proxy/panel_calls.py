"""What a panel of models can be asked, so that a call that it cannot answer is refused before it has a price."""

from __future__ import annotations

from typing import Any, Final

from proxy.consensus.words import AUTO, DOMAINS
from proxy.dialects import chat_options, fields
from proxy.dialects.base import Call
from proxy.errors import Refusal
from proxy.exchange import Exchange
from proxy.forwarding import PANEL_DEPTH
from proxy.identities import IdentityKind
from proxy.operations import CHAT

EXTENSION: Final = "consensus"
"""Member of a chat completion with what only a panel knows: `domain`, `verified`."""
_EXTENDED: Final = ("domain", "verified")
_TAKEN: Final = frozenset(
    {
        "model", "messages", "stream", "stream_options", "max_tokens", "max_completion_tokens", "tools", "tool_choice",
        "parallel_tool_calls", "response_format", *chat_options.SAMPLING, EXTENSION,
    }
)  # fmt: skip
"""Members of a chat completion that reach the question."""
_WITHOUT_EFFECT: Final = frozenset(
    {
        "user", "metadata", "safety_identifier", "prompt_cache_key", "prompt_cache_retention", "reasoning_effort",
        "verbosity", "service_tier", "modalities", "n",
    }
)  # fmt: skip
"""Members that clients send as a matter of course and that change nothing: how hard a panel thinks its mode decides.
What of them could not be bounded was found before."""
_INSTEAD: Final = {
    "logprobs": "No model's tokens stand for a panel's: leave it out.",
    "top_logprobs": "No model's tokens stand for a panel's: leave it out.",
    "logit_bias": "Its token ids mean other words to each of the models: leave it out.",
    "functions": "Use 'tools'.",
    "function_call": "Use 'tool_choice'.",
    "store": "A panel's answer is kept by no provider: leave it out. POST /v1/orchestrate has conversations.",
}


def check_panel_call(call: Call) -> None:
    """Raises Refusal `invalid_request` for what a panel cannot do, saying what to do instead."""
    if call.dialect != CHAT.dialect:
        return
    document = call.document
    if call.choices > 1:
        raise _cannot("n", "A panel gives one answer: leave it out, and ask again for another.")
    if call.unbounded is not None:
        raise Refusal(
            "invalid_request",
            f"A panel of models cannot take {call.unbounded}. Leave it out, or call a single model.",
        )
    for key, value in document.items():
        if value and key not in _TAKEN and key not in _WITHOUT_EFFECT:
            raise _cannot(key, _INSTEAD.get(key, "Leave it out, or call a single model."))
    for index, message in enumerate(document["messages"]):
        if message["role"] == "function":
            fields.wrong(f"messages[{index}].role", "tool: a panel's models know no functions")
    chat_options.sampling_of(document)
    chat_options.response_format_of(document)
    extension_of(document)


def check_panel_asker(exchange: Exchange) -> None:
    """Raises Refusal `invalid_request` for who cannot ask a panel, or not in this way. `call` is known by now."""
    if exchange.request.headers.get(PANEL_DEPTH) is not None:
        raise Refusal(
            "invalid_request",
            "This is asked for by a panel of models, and a panel cannot sit on a panel: seat the models themselves.",
            param="model",
        )
    identity = exchange.identity
    to_a_webhook = exchange.call is not None and exchange.call.document.get("webhook_url") is not None
    if to_a_webhook and (identity is None or identity.kind is not IdentityKind.KEY):
        raise Refusal(
            "invalid_request",
            "A webhook belongs to the holder of a key: send one, or leave 'webhook_url' out.",
            param="webhook_url",
        )


def extension_of(document: dict[str, Any]) -> tuple[str, bool]:
    """Domain and whether the answer is to be verified, of a chat completion. Raises Refusal `invalid_request`."""
    extension = fields.mapping(document, EXTENSION) or {}
    for key in extension:
        if key not in _EXTENDED:
            fields.wrong(f"{EXTENSION}.{key[:64]}", f"left out: '{EXTENSION}' has {' and '.join(_EXTENDED)}")
    domain = extension.get("domain")
    if domain is not None and domain not in (AUTO, *DOMAINS):
        fields.wrong(f"{EXTENSION}.domain", f"one of {', '.join((AUTO, *DOMAINS))}")
    return domain or AUTO, fields.flag(extension, "verified", f"{EXTENSION}.verified")


def _cannot(key: str, instead: str) -> Refusal:
    shown = key[:64]
    return Refusal("invalid_request", f"A panel of models cannot do '{shown}'. {instead}", param=shown)
