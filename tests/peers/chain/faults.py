"""A JSON-RPC in front of the chain's own, whose answers go wrong as a test says."""

from __future__ import annotations

import http.client
import json
from collections.abc import Callable
from enum import Enum
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from tests.peers.chain.serving import Peer, Reply, Seen

if TYPE_CHECKING:
    from tests.peers.chain.node import Chain

SECONDS = 10.0


class Fault(Enum):
    """What happens to calls of one method."""

    HANGS = "hangs"
    """No answer, and nothing is done."""
    HANGS_AFTER = "hangs_after"
    """It is done, and there is no answer."""
    CUTS_AFTER = "cuts_after"
    """It is done, and the connection is cut."""
    GARBAGE = "garbage"
    """Nothing is done; the answer is no JSON."""
    GARBAGE_AFTER = "garbage_after"
    ERROR = "error"
    """Nothing is done; a JSON-RPC error without meaning."""
    ERROR_AFTER = "error_after"
    """It is done, and the answer is such an error."""
    DOWN = "down"
    """503, and nothing is done."""
    NULL = "null"
    """Nothing is done, and the result is null."""


class FaultyNode(Peer):
    """`faults` by method: of every call from then on. `results` replaces a true result by another."""

    def __init__(self, chain: Chain) -> None:
        super().__init__()
        self.faults: dict[str, Fault] = {}
        self.once: dict[str, Fault] = {}
        """The same, of the next call alone."""
        self.results: dict[str, Callable[[Any], Any]] = {}
        self.before: dict[str, Callable[[], None]] = {}
        """Done just before the next call of that method is passed on."""
        self.methods: list[str] = []
        self._url = urlsplit(chain.url)

    def answer(self, seen: Seen) -> Reply | None:
        method = json.loads(seen.body)["method"]
        self.methods.append(method)
        if (before := self.before.pop(method, None)) is not None:
            before()
        fault = self.once.pop(method, None) or self.faults.get(method)
        match fault:
            case Fault.HANGS:
                self.stopping.wait()
                return None
            case Fault.GARBAGE:
                return Reply(b"<html>")
            case Fault.ERROR:
                return _error()
            case Fault.DOWN:
                return Reply(b"unavailable", 503)
            case Fault.NULL:
                return Reply(b'{"jsonrpc": "2.0", "id": 1, "result": null}')
        true = self._pass_on(seen)
        match fault:
            case Fault.HANGS_AFTER:
                self.stopping.wait()
                return None
            case Fault.CUTS_AFTER:
                return None
            case Fault.GARBAGE_AFTER:
                return Reply(b"<html>")
            case Fault.ERROR_AFTER:
                return _error()
        if method in self.results:
            answer = json.loads(true)
            answer["result"] = self.results[method](answer.get("result"))
            true = json.dumps(answer).encode()
        return Reply(true)

    def _pass_on(self, seen: Seen) -> bytes:
        connection = http.client.HTTPConnection(self._url.hostname or "", self._url.port, timeout=SECONDS)
        try:
            connection.request("POST", "/", seen.body, {"content-type": "application/json"})
            return connection.getresponse().read()
        finally:
            connection.close()


def _error() -> Reply:
    return Reply(b'{"jsonrpc": "2.0", "id": 1, "error": {"code": -32603, "message": "internal error"}}')
