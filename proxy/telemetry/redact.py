"""What may stand in a log line: credentials, proofs of payment and prompts may not.

Two nets. By name: a field that holds a secret or content loses its value, whatever the value looks like. By shape:
every other text is searched for what looks like a credential. Control characters are escaped, so that a value
cannot forge a line or move a terminal's cursor; texts, depth and numbers of items are cut to named limits.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import date
from decimal import Decimal
from enum import Enum
from pathlib import PurePath
from typing import Any, Final
from uuid import UUID

from proxy.telemetry.shapes import CONTENT_FIELDS, CREDENTIALS, SCHEMES, SECRET_FIELDS, USERINFO, VALIDATION_INPUT

REDACTED: Final = "[redacted]"
TEXT_CHARS_MAX: Final = 16_384
DEPTH_MAX: Final = 6
ITEMS_MAX: Final = 100

_SECRET_NAMES: Final = frozenset({
    "authorization", "proxy_authorization", "x_api_key", "api_key", "apikey", "key", "keys", "access_key",
    "secret_key", "private_key", "token", "bearer", "credential", "credentials", "secret", "secrets", "password",
    "passwords", "passwd", "passphrase", "cookie", "set_cookie", "preimage", "r_preimage", "macaroon", "signature",
    "sig", "x_payment", "x_cashu", "x_cashu_change", "proof", "proofs", "seed", "mnemonic", "userinfo", "rune",
    "signer_key", "blinding", "claim", "ecash", "rpc", "rpc_url", "connection_uri", "facilitator_headers",
})  # fmt: skip
_SECRET_ENDINGS: Final = (
    "_secret", "_password", "_token", "_api_key", "_private_key", "_secret_key", "_access_key", "_preimage",
    "_signature", "_macaroon", "_credential", "_credentials", "_authorization", "_cookie",
)  # fmt: skip
_CONTENT_NAMES: Final = frozenset({
    "prompt", "prompts", "content", "contents", "messages", "input", "inputs", "input_value", "input_text",
    "output_text", "text", "completion", "completions", "instructions", "system", "arguments", "tool_calls", "body",
    "request_body", "response_body", "document", "data", "query", "raw", "chunk", "payload", "delta", "thinking",
    "image", "image_url", "audio",
})  # fmt: skip

_CONTROLS: Final = {
    code: f"\\x{code:02x}" if code < 256 else f"\\u{code:04x}"
    for code in (*range(0x20), *range(0x7F, 0xA0), 0x2028, 0x2029, *range(0x202A, 0x202F), *range(0x2066, 0x206A))
} | {0x0A: "\\n", 0x0D: "\\r", 0x09: "\\t"}
_CONTROLS_OF_TRACEBACKS: Final = {code: text for code, text in _CONTROLS.items() if code != 0x0A}


def redact_text(text: str) -> str:
    """The text without anything that looks like a credential or content, cut to `TEXT_CHARS_MAX`."""
    if len(text) > TEXT_CHARS_MAX:
        text = text[:TEXT_CHARS_MAX] + "…"
    text = VALIDATION_INPUT.sub(f"input_value={REDACTED}", text)
    text = CONTENT_FIELDS.sub(rf'\1"{REDACTED}"', text)
    text = SCHEMES.sub(rf"\1 {REDACTED}", text)
    text = SECRET_FIELDS.sub(rf"\1{REDACTED}", text)
    text = USERINFO.sub(f"{REDACTED}@", text)
    return CREDENTIALS.sub(REDACTED, text)


def escape(text: str, *, lines: bool = False) -> str:
    """Control characters, line and paragraph separators and direction marks made visible; `lines` keeps LF."""
    return text.translate(_CONTROLS_OF_TRACEBACKS if lines else _CONTROLS)


def withheld(name: str) -> bool:
    """Whether a field of this name is never logged."""
    plain = name.lower().replace("-", "_")
    return plain in _SECRET_NAMES or plain in _CONTENT_NAMES or plain.endswith(_SECRET_ENDINGS)


def redact(value: Any, depth: int = 0) -> Any:
    """A JSON-ready copy of a value, redacted. Objects of unknown types are shown by the name of their type alone."""
    if value is None or isinstance(value, (bool, int, float)):
        return value
    if isinstance(value, str):
        return escape(redact_text(value))
    if isinstance(value, (bytes, bytearray, memoryview)):
        return f"<{len(value)} bytes>"
    if depth >= DEPTH_MAX:
        return "<deeper>"
    if isinstance(value, Mapping):
        return _redact_mapping(value, depth)
    if isinstance(value, (list, tuple, set, frozenset)):
        items = [redact(item, depth + 1) for _, item in zip(range(ITEMS_MAX), value, strict=False)]
        return items if len(value) <= ITEMS_MAX else [*items, f"<{len(value) - ITEMS_MAX} more>"]
    if isinstance(value, BaseException):
        return escape(redact_text(f"{type(value).__name__}: {value}"))
    if isinstance(value, (Decimal, PurePath, UUID, date)):
        return escape(redact_text(str(value)))
    if isinstance(value, Enum):
        return redact(value.value, depth + 1)
    return f"<{type(value).__qualname__}>"


def _redact_mapping(value: Mapping[Any, Any], depth: int) -> dict[str, Any]:
    copy: dict[str, Any] = {}
    for name, item in value.items():
        if len(copy) == ITEMS_MAX:
            copy["…"] = f"<{len(value) - ITEMS_MAX} more>"
            break
        shown = name.decode("latin-1") if isinstance(name, bytes) else str(name)
        copy[escape(redact_text(shown))] = _redact_field(shown, item, depth)
    return copy


def _redact_field(name: str, item: Any, depth: int) -> Any:
    """Counts may stand under a name such as `tokens`: a number is no secret."""
    if withheld(name) and not (item is None or isinstance(item, (bool, int, float))):
        return REDACTED
    return redact(item, depth + 1)


def redact_event(_logger: Any, _method: str, event: Mapping[str, Any]) -> dict[str, Any]:
    """structlog processor: the last one before rendering. The formatted `exception` keeps its line ends."""
    clean: dict[str, Any] = {}
    for name, item in event.items():
        if name == "exception" and isinstance(item, str):
            clean[name] = escape(redact_text(item), lines=True)
        else:
            clean[escape(name)] = _redact_field(name, item, 0)
    return clean
