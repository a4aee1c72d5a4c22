"""Ethereum's JSON-RPC over the guarded client: what a node says, parsed once and bounded.

Two ways to fail, and never a third: the node answered with an error of its own (`NodeError`), or there is no answer
that can be used (`NodeFailure`), which says whether the call may have been carried out.
"""

from __future__ import annotations

import itertools
import re
from typing import Any, Final

import orjson

from proxy.egress import Egress, EgressFailure

ANSWER_BYTES_MAX: Final = 4 << 20
"""A block's hashes, or a window of logs."""
MESSAGE_CHARACTERS_MAX: Final = 200
DATA_BYTES_MAX: Final = 4_096
WRITES: Final = frozenset({"eth_sendRawTransaction"})
"""Asked once: a second time could mean something else."""
REVERTED_CODE: Final = 3
"""geth's and anvil's code of an execution that was reverted."""
_QUANTITY: Final = re.compile(r"0x(?:0|[1-9a-f][0-9a-f]{0,63})")
_DATA: Final = re.compile(r"0x(?:[0-9a-fA-F]{2})*")


class NodeError(Exception):
    """The node's own error: it has answered, and says why not."""

    def __init__(self, code: int, message: str, data: bytes = b"") -> None:
        super().__init__(f"{message} ({code})")
        self.code = code
        self.message = message
        self.data = data
        """What a contract that reverted gave back."""

    @property
    def reverted(self) -> bool:
        """The call was executed, and refused by a contract."""
        return self.code == REVERTED_CODE or "revert" in self.message.lower()


class NodeFailure(Exception):
    """No answer that can be used. `sent`: the call may have been carried out."""

    def __init__(self, detail: str, *, sent: bool) -> None:
        super().__init__(detail)
        self.detail = detail
        self.sent = sent


class JsonRpc:
    """Calls to one node. Its URL, which may hold a key, is in no message."""

    def __init__(self, egress: Egress) -> None:
        self._egress = egress
        self._ids = itertools.count(1)

    async def call(self, method: str, *params: Any) -> Any:
        """The `result`. A read that got no answer is asked once more. Raises NodeError and NodeFailure."""
        id_ = next(self._ids)
        call = {"jsonrpc": "2.0", "id": id_, "method": method, "params": params}
        try:
            answer = await self._egress.request("POST", "", json=call)
        except EgressFailure as failure:
            if method in WRITES:
                raise NodeFailure(f"{method}: {failure.detail}", sent=failure.sent) from failure
            try:
                answer = await self._egress.request("POST", "", json=call)
            except EgressFailure as again:
                raise NodeFailure(f"{method}: {again.detail}", sent=again.sent) from again
        document = _document(answer.body)
        if document is None:
            raise NodeFailure(f"{method}: status {answer.status} without a JSON-RPC answer", sent=True)
        if (error := document.get("error")) is not None:
            raise _error(method, error)
        if answer.status != 200 or "result" not in document or document.get("id") != id_:
            raise NodeFailure(f"{method}: an answer (status {answer.status}) to something else", sent=True)
        return document["result"]

    async def aclose(self) -> None:
        """Close its connections."""
        await self._egress.aclose()


def quantity(value: Any) -> int:
    """A number as JSON-RPC writes it. Raises NodeFailure."""
    if not isinstance(value, str) or _QUANTITY.fullmatch(value) is None:
        raise NodeFailure("a number is not written as one", sent=True)
    return int(value, 16)


def data(value: Any) -> bytes:
    """Bytes as JSON-RPC writes them. Raises NodeFailure."""
    if not isinstance(value, str) or _DATA.fullmatch(value) is None:
        raise NodeFailure("bytes are not written as hex", sent=True)
    return bytes.fromhex(value[2:])


def member(value: Any, name: str) -> Any:
    """A member of an object; None where it has none. Raises NodeFailure for what is no object."""
    if not isinstance(value, dict):
        raise NodeFailure(f"an object with '{name}' was expected", sent=True)
    return value.get(name)


def items(value: Any) -> list[Any]:
    """A list. Raises NodeFailure."""
    if not isinstance(value, list):
        raise NodeFailure("a list was expected", sent=True)
    return value


def _document(body: bytes) -> dict[str, Any] | None:
    try:
        parsed = orjson.loads(body)
    except orjson.JSONDecodeError:
        return None
    return parsed if isinstance(parsed, dict) else None


def _error(method: str, error: Any) -> NodeError | NodeFailure:
    if not isinstance(error, dict) or not isinstance(error.get("code"), int):
        return NodeFailure(f"{method}: an error without a code", sent=True)
    message = str(error.get("message", ""))[:MESSAGE_CHARACTERS_MAX]
    given = error.get("data")
    if isinstance(given, dict):  # Some nodes wrap it once more.
        given = given.get("data")
    usable = isinstance(given, str) and len(given) <= 2 * DATA_BYTES_MAX and _DATA.fullmatch(given) is not None
    return NodeError(error["code"], message, bytes.fromhex(given[2:]) if usable and isinstance(given, str) else b"")
