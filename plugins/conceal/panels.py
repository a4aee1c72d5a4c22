"""What a panel says beside its answer. Its words are ours already, save for the names of models and vendors."""

from __future__ import annotations

import re
from typing import Any, Final

from plugins.conceal.names import Names
from plugins.conceal.shapes import DROP, Rule, Shape, count, flag, listed, member, number, objects, text, word
from proxy.consensus.api import Role
from proxy.consensus.settings import DIMENSIONS, DOMAINS

_LABEL: Final = re.compile(r"[A-Z]{1,2}", re.ASCII)
_WORD: Final = re.compile(r"[a-z_-]{0,32}", re.ASCII)
_AMOUNT: Final = re.compile(r"\d{1,12}\.\d{2,9}", re.ASCII)


def _matching(pattern: re.Pattern[str]) -> Rule:
    def rule(value: Any, _: Names) -> Any:
        return value if value is None or (isinstance(value, str) and pattern.fullmatch(value)) else DROP

    return rule


label: Final = _matching(_LABEL)
"""A, B, ...: what a member is called where models have no names."""
plain: Final = _matching(_WORD)
"""A word of ours, a language, or nothing."""
amount: Final = _matching(_AMOUNT)
domain: Final = word(*DOMAINS, other="general")
role: Final = word(*[one.value for one in Role])
reason: Final = word(
    "unavailable", "rate_limited", "refused", "timeout", "broken", "garbage", "empty", "content_filter", "declined",
    "partial", "late", "budget", other="failed",
)  # fmt: skip
_STATUS: Final = word(
    "running", "served", "cancelled", "answered", "late", "failed", "replaced", "unavailable", "rate_limited",
    "refused", "timeout", "broken", "garbage", "empty", "content_filter", other="failed",
)  # fmt: skip
_DISSENT: Final[Shape] = {"position": text, "members": count}
_MEMBER: Final[Shape] = {"label": label, "status": _STATUS, "reason": reason, "seconds": number}
_CALL: Final[Shape] = {
    "role": role,
    "round": count,
    "status": _STATUS,
    "prompt_tokens": count,
    "completion_tokens": count,
    "cached_tokens": count,
    "seconds": number,
    "first_seconds": number,
    "estimated": flag,
    "hedge": flag,
    "cost_usd": amount,
}
QUALITY: Final[Shape] = {
    "score": number,
    "basis": word("judges", "agreement", other="agreement"),
    "dimensions": member(dict.fromkeys(DIMENSIONS, number)),
    "calibrated": flag,
}
VERDICT: Final[Shape] = {
    "quality_score": number,
    "quality": member(QUALITY),
    "agreement": number,
    "confidence": word("low", "medium", "high", other="low"),
    "effective_votes": number,
    "dissent": objects(_DISSENT),
    "unverified_claims": listed(text),
    "flags": listed(text),
    "gate": word("passed", "failed", "replaced", other="passed"),
}
MEMBERS: Final = objects(_MEMBER)
CALLS: Final = objects(_CALL)
COURSE: Final[Shape] = {
    "source": word("synthesis", "typed_agreement", "best_member", "sole_survivor", "member_object", other="synthesis"),
    "rounds": count,
    "degraded": flag,
    "escalated": flag,
    "skipped": listed(text),
    "members": MEMBERS,
}
CHARGE: Final[Shape] = {"charged_usd": amount, "credits_charged": number, "cost_usd": amount}
HEAD: Final[Shape] = {"mode": text, "requested_mode": text, "domain": domain, "language": plain}
EXTENSION: Final = member({**HEAD, **VERDICT, **COURSE, "calls": CALLS, **CHARGE})
"""The member `consensus` of a chat completion."""
