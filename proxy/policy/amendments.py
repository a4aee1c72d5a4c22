"""What a policy changes in a request: forced members, the output limit, the system prompt.

Spliced into the client's own bytes; everything else stays as it was sent.
"""

from __future__ import annotations

from typing import Any, Final

import orjson

from proxy.dialects import DIALECTS, changed
from proxy.dialects.anthropic_messages import thinking_budget
from proxy.dialects.base import Call
from proxy.dialects.fields import check_spelling, spellings, wrong
from proxy.dialects.json_scan import first_item, scan, splice
from proxy.errors import Refusal
from proxy.policy.forced_members import CHAT, FORCIBLE, MESSAGES, ORCHESTRATE, RESPONSES
from proxy.policy.rules import PREFIX_SEPARATOR, Policy

_SYSTEM_ROLES: Final = ("system", "developer")

Changes = dict[str, bytes]


def amended(policy: Policy, call: Call, *, limit_field: str | None, output_default: int | None) -> Call:
    """The call as the policy has it: the same object where nothing changes, else the new bytes parsed again.

    Where the client set no output limit and `output_default` (None: nobody else sets one, either) is above the
    policy's, the policy's is put into `limit_field` (None: the dialect's preferred one).
    Raises Refusal `invalid_request` where the amended request would make no sense.
    """
    changes: Changes = {}
    if policy.parameters:
        changes |= _forced(policy.parameters, call)
    if policy.output_tokens_max is not None:
        changes |= _limited(policy.output_tokens_max, call, limit_field, output_default)
    if policy.system_prefix:
        changes |= _prefixed(policy.system_prefix, call)
    if not changes:
        return call
    return changed(call, changes)


def forced_in(parameters: dict[str, Any], dialect: str) -> dict[str, Any]:
    """Those of the forced members that this wire format knows."""
    return {name: value for name, value in parameters.items() if dialect in FORCIBLE[name].dialects}


def _forced(parameters: dict[str, Any], call: Call) -> Changes:
    forced = forced_in(parameters, call.dialect)
    check_spelling(call.document, spellings(*forced))
    changes: Changes = {}
    for name, value in forced.items():
        text = orjson.dumps(value)
        span = call.spans.get(name)
        if span is None or call.body[span[2] : span[3]] != text:
            changes[name] = text
    return changes


def _limited(ceiling: int, call: Call, limit_field: str | None, output_default: int | None) -> Changes:
    fields = DIALECTS[call.dialect].output_fields
    asked = call.output_tokens_max
    if not fields or (asked is not None and asked <= ceiling):
        return {}
    if asked is None and output_default is not None and output_default <= ceiling:
        return {}
    if call.dialect == MESSAGES and (thinking_budget(call.document) or 0) >= ceiling:
        raise Refusal(
            "invalid_request",
            f"Your policy limits the output to {ceiling} tokens, and 'thinking.budget_tokens' must stay below that. "
            "Lower the budget.",
            param="thinking.budget_tokens",
        )
    used = [field for field in fields if call.document.get(field) is not None]
    chosen = limit_field if limit_field in fields else fields[0]
    return dict.fromkeys(used or [chosen], b"%d" % ceiling)


def _prefixed(prefix: str, call: Call) -> Changes:
    if call.dialect == CHAT:
        return {"messages": _messages(prefix, call)}
    if call.dialect == MESSAGES:
        return {"system": _joined(prefix, call, "system")}
    if call.dialect == RESPONSES:
        return {"instructions": _joined(prefix, call, "instructions")}
    if call.dialect == ORCHESTRATE:
        return {"messages": _messages(prefix, call)} if call.document.get("messages") else _prompted(prefix, call)
    return {}


def _prompted(prefix: str, call: Call) -> Changes:
    """A prompt as the messages that it stands for: it has no place for a system's."""
    start, end = call.spans["prompt"][2:]
    system = orjson.dumps({"role": "system", "content": prefix})
    messages = b'[%b,{"role":"user","content":%b}]' % (system, call.body[start:end])
    return {"prompt": b"null", "messages": messages}


def _messages(prefix: str, call: Call) -> bytes:
    """The messages with the prefix in front: in the first of them where that is the system's, else before it."""
    span = call.spans["messages"]
    text = call.body[span[2] : span[3]]
    first = call.document["messages"][0]
    start, end = first_item(text)
    if first.get("role") not in _SYSTEM_ROLES:
        message = orjson.dumps({"role": "system", "content": prefix})
        return text[:start] + message + b"," + text[start:]
    message = text[start:end]
    spans = scan(message).spans
    content = spans.get("content")
    written = b"" if content is None else message[content[2] : content[3]]
    prefixed = _with_prefix(prefix, first.get("content"), written, "messages[0]")
    return text[:start] + splice(message, spans, {"content": prefixed}) + text[end:]


def _joined(prefix: str, call: Call, member: str) -> bytes:
    span = call.spans.get(member)
    written = b"" if span is None else call.body[span[2] : span[3]]
    return _with_prefix(prefix, call.document.get(member), written, member)


def _with_prefix(prefix: str, value: Any, written: bytes, param: str) -> bytes:
    """A text or a list of blocks, which stands in the body as `written`, with the prefix in front."""
    if value is None or value in ("", []):
        return orjson.dumps(prefix)
    if isinstance(value, str):
        return orjson.dumps(prefix + PREFIX_SEPARATOR)[:-1] + written[1:]
    if not isinstance(value, list):
        wrong(param, "a text or a list of blocks")
    block = orjson.dumps({"type": "text", "text": prefix})
    return b"[" + block + b"," + written[1:]
