"""The text of a chat completion, whole or as it comes, and what the headers say of the payment."""

from __future__ import annotations

import base64
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Final

import orjson

from proxy.payments.client import ecash
from proxy.payments.client.amounts import Amount
from proxy.payments.client.errors import BadOffer, Unreachable
from proxy.payments.client.offers import Headers
from proxy.payments.client.transport import Arriving

LINE_BYTES_MAX: Final = 1 << 20
_ECASH: Final = "cashuB"


@dataclass(slots=True)
class Receipt:
    """What the answer says of its payment."""

    transaction: str = ""
    """x402: hash of the transfer."""
    reference: str = ""
    """mpp: of the `Payment-Receipt`."""
    change: str = field(default="", repr=False)
    """A Cashu token that came back. Bearer money of the payer's."""
    change_sats: int = 0


def receipt_of(headers: Headers) -> Receipt:
    """What cannot be read is left out."""
    fields = dict(headers)
    settled = _decoded(fields.get("payment-response"))
    charged = _decoded(fields.get("payment-receipt"))
    receipt = Receipt(str(settled.get("transaction") or ""), str(charged.get("reference") or ""))
    for name in ("x-cashu-change", "x-cashu"):
        token = fields.get(name, "")
        if token.startswith(_ECASH):
            receipt.change, receipt.change_sats = token, _sats(token)
            break
    return receipt


def _sats(token: str) -> int:
    """0: it cannot be read here, and is the payer's all the same."""
    try:
        return ecash.worth_of(token).amount
    except BadOffer:
        return 0


def _decoded(value: str | None) -> dict[str, Any]:
    if value is None:
        return {}
    text = value.rstrip("=").replace("-", "+").replace("_", "/")
    try:
        content = orjson.loads(base64.b64decode(text + "=" * (-len(text) % 4)))
    except ValueError:
        return {}
    return content if isinstance(content, dict) else {}


@dataclass(slots=True)
class Answer:
    """What was bought."""

    text: str = ""
    model: str = ""
    finish_reason: str = ""
    usage: dict[str, Any] | None = None
    paid: Amount | None = None
    """What went out, change not counted; None: it was free, or a balance paid."""
    rail: str = ""
    receipt: Receipt = field(default_factory=Receipt)
    request_id: str = ""
    payment_id: str = ""


async def read_answer(arriving: Arriving, show: Callable[[str], None]) -> Answer:
    """Read to its end; `show` gets the text as it comes. Raises Unreachable where it breaks off."""
    fields = dict(arriving.headers)
    answer = Answer(
        receipt=receipt_of(arriving.headers),
        request_id=fields.get("x-tollway-request-id", ""),
        payment_id=fields.get("x-payment-id", ""),
    )
    if fields.get("content-type", "").startswith("text/event-stream"):
        await _stream(arriving, answer, show)
    else:
        content = (await arriving.whole()).json()
        _take(content, "message", answer, show)
    return answer


async def _stream(arriving: Arriving, answer: Answer, show: Callable[[str], None]) -> None:
    rest, ended = b"", False
    async for chunk in arriving.chunks:
        *lines, rest = (rest + chunk).split(b"\n")
        if len(rest) > LINE_BYTES_MAX:
            raise Unreachable("The stream has a line that is too long.", sent=True)
        for line in lines:
            data = line.strip().removeprefix(b"data:").strip() if line.startswith(b"data:") else b""
            if data == b"[DONE]":
                ended = True
            elif data:
                _event(data, answer, show)
    if not ended:
        raise Unreachable("The stream ended before its end: what came is above.", sent=True)


def _event(data: bytes, answer: Answer, show: Callable[[str], None]) -> None:
    try:
        content = orjson.loads(data)
    except orjson.JSONDecodeError as error:
        raise Unreachable("The stream holds something that is no JSON.", sent=True) from error
    if isinstance(content, dict):
        if content.get("error"):
            raise Unreachable(f"The stream ended with an error: {message_of(content)}", sent=True)
        _take(content, "delta", answer, show)


def _take(content: dict[str, Any], member: str, answer: Answer, show: Callable[[str], None]) -> None:
    choices = content.get("choices")
    first = choices[0] if isinstance(choices, list) and choices and isinstance(choices[0], dict) else {}
    part = first.get(member)
    text = part.get("content") if isinstance(part, dict) else None
    if isinstance(text, str) and text:
        answer.text += text
        show(text)
    answer.model = str(content.get("model") or answer.model)
    answer.finish_reason = str(first.get("finish_reason") or answer.finish_reason)
    usage = content.get("usage")
    answer.usage = usage if isinstance(usage, dict) else answer.usage


def message_of(content: dict[str, Any]) -> str:
    """Of an error's body, in either of its shapes."""
    error = content.get("error")
    told = error.get("message") if isinstance(error, dict) else error
    return str(told or content.get("detail") or content.get("title") or "")


def code_of(content: dict[str, Any]) -> str:
    """Of an error's body; "" where it has none."""
    error = content.get("error")
    return str(error.get("code") or "") if isinstance(error, dict) else ""
