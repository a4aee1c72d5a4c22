"""Which members of a request an operator may force, with which values, in which wire formats.

An allow-list: what decides about the cost, the model that serves, or the shape of the answer that a client must be
able to read is not on it. Sources: the request types of OpenAI's and Anthropic's own SDKs.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, Final

CHAT: Final = "openai.chat"
MESSAGES: Final = "anthropic.messages"
RESPONSES: Final = "openai.responses"
EMBEDDINGS: Final = "openai.embeddings"
ORCHESTRATE: Final = "tollway.orchestrate"

TEXT_CHARS_MAX: Final = 512
STOPS_MAX: Final = 16
PAIRS_MAX: Final = 300

Check = Callable[[Any], str | None]
"""What is wanted instead, None where the value will do."""


@dataclass(frozen=True, slots=True)
class Forcible:
    """A member that may be forced: the wire formats that know it, and what its value may be."""

    dialects: frozenset[str]
    check: Check


def _number(low: float, high: float) -> Check:
    def check(value: Any) -> str | None:
        fits = isinstance(value, int | float) and not isinstance(value, bool) and low <= value <= high
        return None if fits else f"a number from {low:g} to {high:g}"

    return check


def _integer(low: int, high: int) -> Check:
    def check(value: Any) -> str | None:
        return None if type(value) is int and low <= value <= high else f"a whole number from {low} to {high}"

    return check


def _flag(value: Any) -> str | None:
    return None if isinstance(value, bool) else "true or false"


def _is_text(value: Any) -> bool:
    return isinstance(value, str) and 0 < len(value) <= TEXT_CHARS_MAX


def _text(value: Any) -> str | None:
    return None if _is_text(value) else f"a text of 1 to {TEXT_CHARS_MAX} characters"


def _one_of(*words: str) -> Check:
    def check(value: Any) -> str | None:
        return None if value in words else f"one of {', '.join(words)}"

    return check


def _texts(value: Any) -> str | None:
    fits = isinstance(value, list) and 0 < len(value) <= STOPS_MAX and all(map(_is_text, value))
    return None if fits else f"a list of 1 to {STOPS_MAX} texts"


def _stop(value: Any) -> str | None:
    return None if _is_text(value) or _texts(value) is None else f"a text or a list of 1 to {STOPS_MAX} texts"


def _strings(value: Any) -> str | None:
    fits = isinstance(value, dict) and len(value) <= PAIRS_MAX and all(map(_is_text, (*value, *value.values())))
    return None if fits else "a mapping from texts to texts"


def _biases(value: Any) -> str | None:
    bias = _number(-100, 100)
    fits = isinstance(value, dict) and len(value) <= PAIRS_MAX and all(bias(item) is None for item in value.values())
    return None if fits else "a mapping from token ids to numbers from -100 to 100"


def _in(check: Check, *dialects: str) -> Forcible:
    return Forcible(frozenset(dialects), check)


FORCIBLE: Final[dict[str, Forcible]] = {
    "temperature": _in(_number(0, 2), CHAT, MESSAGES, RESPONSES, ORCHESTRATE),
    "top_p": _in(_number(0, 1), CHAT, MESSAGES, RESPONSES, ORCHESTRATE),
    "top_k": _in(_integer(0, 1 << 20), MESSAGES),
    "presence_penalty": _in(_number(-2, 2), CHAT),
    "frequency_penalty": _in(_number(-2, 2), CHAT),
    "seed": _in(_integer(-(1 << 63), (1 << 63) - 1), CHAT, ORCHESTRATE),
    "stop": _in(_stop, CHAT, ORCHESTRATE),
    "stop_sequences": _in(_texts, MESSAGES),
    "logit_bias": _in(_biases, CHAT),
    "logprobs": _in(_flag, CHAT),
    "reasoning_effort": _in(_one_of("none", "minimal", "low", "medium", "high", "xhigh"), CHAT),
    "verbosity": _in(_one_of("low", "medium", "high"), CHAT),
    "parallel_tool_calls": _in(_flag, CHAT, RESPONSES),
    "store": _in(_flag, CHAT, RESPONSES),
    "metadata": _in(_strings, CHAT, RESPONSES, ORCHESTRATE),
    "user": _in(_text, CHAT, RESPONSES, EMBEDDINGS),
    "safety_identifier": _in(_text, CHAT, RESPONSES),
    "prompt_cache_key": _in(_text, CHAT, RESPONSES),
}
"""By member. What the reasoning effort costs stays within the output limit."""

REFUSED: Final[dict[str, str]] = {
    **dict.fromkeys(("model", "models", "fallbacks", "provider", "route"), "it decides which model serves"),
    **dict.fromkeys(
        ("max_tokens", "max_completion_tokens", "max_output_tokens"), "use 'max_tokens' beside 'parameters'"
    ),
    **dict.fromkeys(("system", "instructions"), "use 'system_prefix' beside 'parameters'"),
    **dict.fromkeys(("messages", "input", "prompt"), "it is the question itself"),
    **dict.fromkeys(("stream", "stream_options", "response_format", "text"), "clients read the answer by it"),
    **dict.fromkeys(("n", "best_of", "top_logprobs"), "it decides how much is answered"),
    **dict.fromkeys(
        ("tools", "tool_choice", "functions", "function_call", "web_search_options", "plugins", "mcp_servers"),
        "it decides what is called and at which cost",
    ),
    **dict.fromkeys(("service_tier", "speed", "inference_geo"), "it decides about the price"),
    **dict.fromkeys(("thinking", "reasoning", "extra_body", "modalities", "audio"), "it decides about the cost"),
}
"""Members that cannot be forced, and why."""


def plain(value: Any) -> Any:
    """A value of a configuration file as JSON has it: exact decimals become numbers. Bounded by the file's depth."""
    if isinstance(value, Decimal):
        return float(value)
    if isinstance(value, list):
        return [plain(item) for item in value]
    if isinstance(value, dict):
        return {key: plain(item) for key, item in value.items()}
    return value
