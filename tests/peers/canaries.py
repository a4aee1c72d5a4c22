"""Marks everything in an answer that is the provider's own, so that a test can look for it in what a client got.

Ids, fingerprints, the model's name, members that no format documents, headers by name and value, errors to the last
word, comments, ids and names of events, events of no known kind, reason phrase and trailers. What a model wrote, and
the words that the formats themselves define, stay as they are.
"""

from __future__ import annotations

import itertools
import json
from typing import Any

from tests.peers.answers import Answer, encode

MARK = "cnry"
_serial = itertools.count(1)
_OWN = frozenset({"id", "model", "system_fingerprint", "service_tier", "request_id", "owned_by", "stop_details"})
_WRITTEN = frozenset({"input", "arguments", "embedding", "logprobs"})
"""What a model wrote, or what the client may ask for: not marked, whatever is in it."""


def canary(place: str) -> str:
    """A token that says where it was planted."""
    return f"{MARK}-{place}-{next(_serial)}"


def plant(answer: Answer) -> None:
    """Mark the whole answer."""
    answer.reason = canary("reason")
    answer.content_type += f"; {MARK}=1"
    answer.headers = [
        (name, value if name == "retry-after" else f"{value} {canary(name)}") for name, value in answer.headers
    ]
    for name in (f"x-{MARK}", "x-request-id", "request-id", "x-groq-region", "via", "server", "link", "nel",
                 "x-route-model", "content-language", "openai-processing-ms", "access-control-expose-headers",
                 "x-powered-by", "www-authenticate", "location", "set-cookie", "etag"):  # fmt: skip
        answer.headers.append((name, canary(name)))
    answer.trailers = [(f"x-{MARK}-trailer", canary("trailer"))]
    events = answer.content_type.startswith("text/event-stream")
    answer.pieces = [(_event if events else _document)(piece) for piece in answer.pieces]
    if answer.error_event:
        answer.error_event = _event(answer.error_event)


def _event(event: bytes) -> bytes:
    """One event marked, with a comment, an unknown event and one that is no JSON before it."""
    name, data = b"", b""
    for line in event.splitlines():
        if line.startswith(b"event: error"):
            name = b"event: error\n"
        elif line.startswith(b"data: "):
            data = line[6:]
    own = name or b"event: %b\n" % canary("event").encode()
    before = (
        f": OPENROUTER PROCESSING {canary('comment')}\n\n"
        f'event: {canary("event")}\ndata: {{"type":"{canary("type")}","{canary("member")}":1}}\n\n'
        f"data: {canary('data')}\n\n"
    )
    marks = f"id: {canary('id')}\nretry: 12345\n{canary('field')}: {canary('field')}\n"
    return before.encode() + marks.encode() + own + b"data: " + _document(data) + b"\n\n"


def _document(piece: bytes) -> bytes:
    try:
        document = json.loads(piece)
    except ValueError:
        return piece
    return encode(_marked(document))


def _marked(value: Any) -> Any:
    if isinstance(value, list):
        return [_marked(one) for one in value]
    if not isinstance(value, dict):
        return value
    ours: dict[str, Any] = {}
    for key, one in value.items():
        if key == "error" and isinstance(one, dict):
            ours[key] = {name: canary(f"error-{name}") for name in ("message", "type", "code", "param", "metadata")}
        elif key in _OWN and isinstance(one, str):
            ours[key] = one + MARK  # the same wherever the provider says it again
        else:
            ours[key] = one if key in _WRITTEN else _marked(one)
    return ours | {
        canary("member"): canary("value"),
        "provider": canary("provider"),
        "system_fingerprint": canary("fingerprint"),
        "x_groq": {"id": canary("groq")},
        "native_finish_reason": canary("native"),
        "cost_details": {canary("cost"): 1},
        "prompt_filter_results": [{canary("filter"): True}],
        "obfuscation": canary("obfuscation"),
        "container": {"id": canary("container")},
    }
