"""The only module that reads the environment and secret files, and the one comparison for secrets."""

from __future__ import annotations

import hmac
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Final

SECRET_FILE_BYTES_MAX: Final = 64 << 10
FILE_PREFIX: Final = "file:"

_REFERENCE = re.compile(r"\$(?:(?P<escaped>\$)(?=\{)|\{(?P<name>[A-Za-z_][A-Za-z0-9_]*)(?::-(?P<default>[^}]*))?\})")
_MALFORMED = re.compile(r"(?<!\$)\$\{(?![A-Za-z_][A-Za-z0-9_]*(?::-[^}]*)?\})")


class Unset(Exception):
    """A variable without a default is unset or empty. `name` is the variable."""

    def __init__(self, name: str) -> None:
        super().__init__(f"the environment variable {name} is not set")
        self.name = name


class SecretError(Exception):
    """A reference cannot be read; the message says why and never holds the secret."""


def environment() -> Mapping[str, str]:
    """The process environment."""
    return os.environ


def expand(text: str, variables: Mapping[str, str]) -> str:
    """`text` with `${NAME}` and `${NAME:-default}` replaced, once: what comes in is not expanded again.

    `$${` stands for a literal `${`. An empty variable counts as unset, as in `docker compose`. Raises Unset, and
    SecretError for a `${` that is neither form.
    """
    if "${" not in text:
        return text
    if _MALFORMED.search(text):
        raise SecretError("write ${NAME} or ${NAME:-default}, or $${ for a literal ${")

    def value(match: re.Match[str]) -> str:
        if match["escaped"]:
            return "$"
        found = variables.get(match["name"]) or match["default"]
        if found is None:
            raise Unset(match["name"])
        return found

    return _REFERENCE.sub(value, text)


def read_secret_file(path: Path) -> str:
    """The file's text without the line end that editors add. Raises SecretError."""
    try:
        with path.open("rb") as file:
            raw = file.read(SECRET_FILE_BYTES_MAX + 1)
    except OSError as error:
        raise SecretError(f"{path} cannot be read: {error.strerror}") from error
    if len(raw) > SECRET_FILE_BYTES_MAX:
        raise SecretError(f"{path} is larger than {SECRET_FILE_BYTES_MAX} bytes")
    try:
        text = raw.decode().rstrip("\r\n")
    except UnicodeDecodeError as error:
        raise SecretError(f"{path} is not UTF-8 text") from error
    if not text:
        raise SecretError(f"{path} is empty")
    return text


def same_secret(given: str, expected: str) -> bool:
    """Whether two secrets are equal, in a time that does not depend on where they differ."""
    return hmac.compare_digest(given.encode(), expected.encode())
