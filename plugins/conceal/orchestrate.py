"""Orchestrations: the format is ours, so that nothing has to go but the names of the models that answered."""

from __future__ import annotations

from typing import Any, Final

from plugins.conceal import panels
from plugins.conceal.names import Names
from plugins.conceal.openai_chat import USAGE
from plugins.conceal.shapes import Shape, count, echoed, flag, listed, member, number, objects, projected, text, word
from proxy.dialects.orchestrate_answers import OBJECT, VERSION

_FINISH: Final = word("stop", "length", "tool_calls", "content_filter", other="stop")
_USAGE: Final = member({**USAGE, "calls": panels.CALLS})
_RESULT: Final[Shape] = {
    **panels.HEAD,
    "answer": text,
    "finish_reason": _FINISH,
    **panels.VERDICT,
    **panels.COURSE,
    "conversation_id": text,
    "usage": _USAGE,
    **panels.CHARGE,
    "metadata": echoed("metadata", {}),
}


def whole(document: dict[str, Any], names: Names) -> dict[str, Any] | None:
    """See Format."""
    if document.get("object") != OBJECT:
        return None
    created = document.get("created")
    head = {
        "id": names.answer_id,
        "object": OBJECT,
        "created": created if type(created) is int and created > 0 else names.created,
    }
    return head | projected(document, _RESULT, names)


def _whole(value: Any, names: Names) -> Any:
    return whole(value, names) if isinstance(value, dict) else None


_RANKED: Final[Shape] = {"label": panels.label, "score": number}
_EVENTS: Final[dict[str, Shape]] = {
    "accepted": {"mode": text, "created": count, "conversation_id": text},
    "detected": {"domain": panels.domain, "confidence": number, "language": panels.plain},
    "member.started": {"label": panels.label, "hedge": flag},
    "member.completed": {"label": panels.label, "seconds": number},
    "member.failed": {"label": panels.label, "reason": panels.reason, "replaced": flag, "seconds": number},
    "quorum": {"seconds": number, "quorum": count, "members": count},
    "evaluation": {"round": count, "judges": count, "ballots": count, "ranking": objects(_RANKED)},
    "round": {
        "round": count,
        "converged": flag,
        "reason": panels.plain,
        "agreement": number,
        "contested_share": number,
    },
    "claim.checked": {"claim": text, "verdicts": listed(panels.plain), "holds": flag},
    "synthesis.started": {},
    "token": {"text": text},
    "quality": panels.VERDICT,
    "usage": {"usage": _USAGE, **panels.CHARGE},
    "done": {"result": _whole},
}


def event(document: dict[str, Any], names: Names) -> tuple[bytes, dict[str, Any]] | None:
    """See Format."""
    kind = document.get("type")
    shape = _EVENTS.get(kind) if isinstance(kind, str) else None
    if shape is None or not isinstance(kind, str):
        return None
    head = {"v": VERSION, "id": names.answer_id}
    numbers = projected(document, {"seq": count, "ts": count}, names)
    return kind.encode(), head | numbers | {"type": kind} | projected(document, shape, names)
