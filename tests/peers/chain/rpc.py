"""The least of JSON-RPC that tests need, over the standard library: blocking, one connection a call."""

from __future__ import annotations

import http.client
import json
from typing import Any
from urllib.parse import urlsplit

SECONDS = 10.0


class NodeError(Exception):
    """The node's own error."""


def call(url: str, method: str, *params: Any) -> Any:
    """The result of one call. Raises NodeError."""
    parts = urlsplit(url)
    connection = http.client.HTTPConnection(parts.hostname or "", parts.port, timeout=SECONDS)
    try:
        body = json.dumps({"jsonrpc": "2.0", "id": 1, "method": method, "params": params})
        connection.request("POST", parts.path or "/", body, {"content-type": "application/json"})
        answer = json.loads(connection.getresponse().read())
    finally:
        connection.close()
    if "error" in answer:
        raise NodeError(answer["error"].get("message", ""))
    return answer["result"]
