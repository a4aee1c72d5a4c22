"""What the nodes with a REST API have in common: one guarded client, and failures in words."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any, Final

from proxy.egress import Answer, Egress, EgressFailure
from proxy.payments.lightning.api import NodeFailure
from proxy.payments.settings import Lightning

ANSWER_BYTES_MAX: Final = 256 << 10
WORDS_MAX: Final = 200
_PRINTABLE: Final = re.compile(r"[ -~]{1,16384}")


class RestNode:
    """Asks one node; subclasses say what. Raises ValueError for settings that cannot work."""

    name = ""

    def __init__(self, settings: Lightning, headers: Mapping[str, str]) -> None:
        self._secrets = tuple(secret for secret in (settings.credential, *headers.values()) if secret)
        if not all(_PRINTABLE.fullmatch(secret) for secret in self._secrets):
            raise ValueError("the credential has characters that none of its kind has: copy it again")
        self._egress = Egress(
            settings.url,
            private=settings.private,
            timeout_seconds=settings.timeout_seconds,
            headers=headers,
            ca_file=settings.ca_file,
            answer_bytes_max=ANSWER_BYTES_MAX,
        )

    async def aclose(self) -> None:
        """Close its connections."""
        await self._egress.aclose()

    async def ask(self, method: str, path: str, **more: Any) -> dict[str, Any]:
        """The JSON object of a successful answer. Raises NodeFailure."""
        try:
            answer = await self._egress.request(method, path, **more)
            if not 200 <= answer.status < 300:
                raise self.failure(self._said(answer))
            body = answer.json()
        except EgressFailure as error:
            raise self.failure(error.detail) from error
        if not isinstance(body, dict):
            raise self.failure("its answer is no JSON object")
        return body

    def failure(self, words: str) -> NodeFailure:
        """In the node's name, and without its credential, should the node have repeated it."""
        for secret in self._secrets:
            words = words.replace(secret, "...")
        return NodeFailure(f"{self.name}: {words}")

    def text(self, body: dict[str, Any], member: str) -> str:
        """A member that must be text and not empty. Raises NodeFailure."""
        value = body.get(member)
        if not isinstance(value, str) or not value:
            raise self.failure(f"its answer has no '{member}'")
        return value

    def decoded(self, text: str, decode: Callable[[str], bytes]) -> str:
        """32 bytes as hex. Raises NodeFailure."""
        try:
            raw = decode(text)
        except ValueError:
            raw = b""
        if len(raw) != 32:
            raise self.failure("its answer has bytes of a wrong length or form")
        return raw.hex()

    def _said(self, answer: Answer) -> str:
        """The status, and the node's own words where it has some: they tell an operator what to mend."""
        try:
            body = answer.json()
        except EgressFailure:
            body = answer.body[:WORDS_MAX].decode(errors="replace")
        if isinstance(body, dict):
            body = next((body[name] for name in ("message", "detail", "error") if body.get(name)), "")
        words = "".join(char if char.isprintable() else " " for char in str(body))[:WORDS_MAX]
        return f"status {answer.status}" + (f": {words}" if words else "")
