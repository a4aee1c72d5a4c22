"""Typed access to the members of a request body. Each raises Refusal `invalid_request` naming the member."""

from __future__ import annotations

from typing import Any, Final, NoReturn

from proxy.errors import Refusal

MODEL_CHARS_MAX: Final = 256
TOKENS_MAX: Final = 1 << 31
"""Above any model's limit; keeps products of tokens and rates far from nonsense."""


def wrong(param: str, expected: str) -> NoReturn:
    """The refusal of one member."""
    raise Refusal("invalid_request", f"'{param}' must be {expected}.", param=param)


def model_of(document: dict[str, Any]) -> str | None:
    """The model; None where the body has no such member."""
    if "model" not in document:
        return None
    model = document["model"]
    if not isinstance(model, str) or not 0 < len(model) <= MODEL_CHARS_MAX:
        wrong("model", f"a string of 1 to {MODEL_CHARS_MAX} characters")
    return model


def flag(document: dict[str, Any], key: str, param: str = "") -> bool:
    """A boolean; absent or null is False."""
    value = document.get(key)
    if value is None:
        return False
    if not isinstance(value, bool):
        wrong(param or key, "true or false")
    return value


def integer(document: dict[str, Any], key: str, minimum: int, maximum: int, param: str = "") -> int | None:
    """An integer within bounds; absent or null is None. true is no integer, nor is 1.0."""
    value = document.get(key)
    if value is None:
        return None
    if type(value) is not int or not minimum <= value <= maximum:
        wrong(param or key, f"an integer from {minimum} to {maximum}")
    return value


def objects(document: dict[str, Any], key: str, param: str = "") -> list[dict[str, Any]]:
    """A list of objects; absent or null is an empty one."""
    value = document.get(key)
    if value is None:
        return []
    if not isinstance(value, list):
        wrong(param or key, "a list of objects")
    for index, item in enumerate(value):
        if type(item) is not dict:
            wrong(f"{param or key}[{index}]", "an object")
    return value


def messages_of(document: dict[str, Any]) -> list[dict[str, Any]]:
    """The messages: at least one, each with a role."""
    messages = objects(document, "messages")
    if not messages:
        wrong("messages", "a list of at least one message")
    for index, message in enumerate(messages):
        role = message.get("role")
        if not isinstance(role, str) or not role:
            wrong(f"messages[{index}].role", "a string")
    return messages


def mapping(document: dict[str, Any], key: str, param: str = "") -> dict[str, Any] | None:
    """An object; absent or null is None."""
    value = document.get(key)
    if value is not None and not isinstance(value, dict):
        wrong(param or key, "an object")
    return value


def asked(document: dict[str, Any], key: str) -> bool:
    """Whether a feature is asked for: null, false and empty values do not."""
    return bool(document.get(key))


def spellings(*members: str) -> dict[str, str]:
    """Members by what their other spellings come down to, for `check_spelling`."""
    return {member.replace("_", ""): member for member in members}


def check_spelling(document: dict[str, Any], members: dict[str, str], where: str = "") -> None:
    """Refuse `Max_Tokens` and `maxTokens` where `max_tokens` decides: some servers (Go's JSON, protobuf's) take either.

    They would then go by another value than the one that was priced.
    """
    for key in document:
        if not (key.islower() and key.isascii()):
            member = members.get(key.casefold().replace("_", ""))
            if member is not None:
                wrong(f"{where}{key}", f"spelled '{member}'")


def kind_of(part: Any, param: str, deciding: dict[str, str]) -> str:
    """The type of one part of a message's content, whose members in `deciding` have one spelling."""
    if not isinstance(part, dict):
        wrong(param, "an object")
    check_spelling(part, deciding, f"{param}.")
    kind = part.get("type")
    if not isinstance(kind, str):
        wrong(f"{param}.type", "a string")
    return kind
