"""From a call, chat completion or orchestration, to the question that a panel is asked."""

from __future__ import annotations

from proxy.consensus.api import Question
from proxy.dialects.base import Call


def question_of(call: Call, output_tokens: int) -> Question:
    """The question, with an output limit that was set or clamped before.

    Raises Refusal `invalid_request` for what a panel cannot do, saying what to do instead.
    """
    raise NotImplementedError
